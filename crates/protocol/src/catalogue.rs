//! The one description of every synced table. Both schemas, change capture, push, pull, merge,
//! digests and the reference page are made from it (DESIGN 3.1).

mod org;
mod platform;
mod projects;
mod sessions;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// One of the four SQLite files of a device; also the part of a stream that a cursor follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum File {
    /// Tier 1, the component catalogue.
    Platform,
    /// Tier 2, the critical knowledge.
    Org,
    /// Tier 3, sessions and what is derived from them.
    Sessions,
    /// Tier 4, projects on disk.
    Projects,
}

impl File {
    /// All files; critical ones first, which is the order of pushes (DESIGN 4).
    pub const ALL: [Self; 4] = [Self::Org, Self::Sessions, Self::Projects, Self::Platform];

    /// Returns the name without `.db`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Org => "org",
            Self::Sessions => "sessions",
            Self::Projects => "projects",
        }
    }

    /// Returns the tables of the file, parents first.
    pub fn tables(self) -> impl Iterator<Item = &'static Table> {
        TABLES
            .iter()
            .copied()
            .filter(move |table| table.file == self)
    }
}

impl fmt::Display for File {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl FromStr for File {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|file| file.as_str() == text)
            .ok_or_else(|| format!("'{text}' is none of platform, org, sessions, projects"))
    }
}

/// Which way a table's rows travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Server to devices; a push is refused.
    Down,
    /// Device to server; other devices get it only by `coditect pull --table`.
    Up,
    /// Up, and down to the author's other devices; only the author's devices write.
    Mirror,
    /// Any holder may write.
    Both,
}

/// How a table's rows live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Written by the platform's operator only.
    Catalogue,
    /// Append-only: the first accepted row of an identity stays.
    Fact,
    /// Changes; concurrent edits are merged and the losing one is kept.
    Record,
}

/// Type of a column: SQLite on the device, JSON on the wire, PostgreSQL on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// TEXT, string, text.
    Text,
    /// INTEGER, number up to 2^53, bigint.
    Integer,
    /// REAL, number, double precision.
    Real,
    /// INTEGER 0 or 1, boolean, boolean.
    Boolean,
    /// TEXT, RFC 3339 UTC with microseconds, timestamptz.
    Timestamp,
    /// TEXT, any JSON, jsonb.
    Json,
    /// BLOB, base64, bytea.
    Blob,
}

/// How concurrent values of a column become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Merge {
    /// Part of the row's register: the higher version wins, the other is kept as a conflict.
    Lww,
    /// The greater value wins; integers, reals and timestamps.
    Max,
    /// The sum of what each device added; integers.
    Counter,
    /// Only the row's own device writes it. Used where the device is part of the identity, so
    /// it cannot conflict; it belongs to the register there.
    Owner,
}

/// What a column has to do with bodies: long values that the server keeps apart from their rows
/// (DESIGN 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Apart {
    /// Its values stay in the row.
    Never,
    /// A long value is kept apart; text or JSON.
    Body,
    /// It names the bodies of the row whose values are not in it: JSON, an object of
    /// [`crate::wire::bodies::BodyName`] by column. At most one column of a table.
    Names,
}

/// A column of a synced table, besides the common ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Name on both sides and on the wire.
    pub name: &'static str,
    /// Type on both sides.
    #[serde(rename = "type")]
    pub ty: ColumnType,
    /// Whether a row without it is malformed.
    pub required: bool,
    /// SQL literal that both schemas use as default.
    pub default: Option<&'static str>,
    /// Rule for concurrent values.
    pub merge: Merge,
    /// What it has to do with bodies that are kept apart from their row.
    pub apart: Apart,
}

impl Column {
    /// Returns whether the column is part of the content hash: the register's columns are
    /// (PROTOCOL 7, 15).
    #[must_use]
    pub const fn hashed(&self) -> bool {
        matches!(self.merge, Merge::Lww | Merge::Owner) && !matches!(self.apart, Apart::Names)
    }

    const fn new(name: &'static str, ty: ColumnType) -> Self {
        Self {
            name,
            ty,
            required: false,
            default: None,
            merge: Merge::Lww,
            apart: Apart::Never,
        }
    }

    const fn body(mut self) -> Self {
        self.apart = Apart::Body;
        self
    }

    const fn names(mut self) -> Self {
        self.apart = Apart::Names;
        self
    }

    const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    const fn default(mut self, literal: &'static str) -> Self {
        self.default = Some(literal);
        self
    }

    const fn merge(mut self, merge: Merge) -> Self {
        self.merge = merge;
        self
    }
}

const fn text(name: &'static str) -> Column {
    Column::new(name, ColumnType::Text)
}

const fn integer(name: &'static str) -> Column {
    Column::new(name, ColumnType::Integer)
}

const fn real(name: &'static str) -> Column {
    Column::new(name, ColumnType::Real)
}

const fn boolean(name: &'static str) -> Column {
    Column::new(name, ColumnType::Boolean)
}

const fn timestamp(name: &'static str) -> Column {
    Column::new(name, ColumnType::Timestamp)
}

const fn json(name: &'static str) -> Column {
    Column::new(name, ColumnType::Json)
}

/// Where a row's id comes from (PROTOCOL 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "columns", rename_all = "snake_case")]
pub enum Identity {
    /// UUIDv7, made where the row is made.
    Random,
    /// UUIDv8 from the natural key, so that two devices make the same one.
    Derived(&'static [&'static str]),
    /// UUIDv8 from the device and the natural key.
    DerivedPerDevice(&'static [&'static str]),
}

impl Identity {
    /// Returns the natural key's columns; none for random ids.
    #[must_use]
    pub const fn columns(&self) -> &'static [&'static str] {
        match self {
            Self::Random => &[],
            Self::Derived(columns) | Self::DerivedPerDevice(columns) => columns,
        }
    }
}

/// One synced table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Table {
    /// The device's database that holds it.
    pub file: File,
    /// Its name there.
    pub local: &'static str,
    /// Its name on the server, on the wire and in digests.
    pub cloud: &'static str,
    /// Which way its rows travel.
    pub direction: Direction,
    /// How its rows live.
    pub class: Class,
    /// Where its ids come from.
    pub identity: Identity,
    /// Its own columns, in the order of both schemas.
    pub columns: &'static [Column],
    /// Indexes that the seeds name, without the tenant that precedes them on the server.
    pub indexes: &'static [&'static [&'static str]],
    /// Columns that local full-text search covers; none if it is not searched.
    pub search: &'static [&'static str],
    /// What the table holds, for the reference page.
    pub doc: &'static str,
}

impl Table {
    /// Returns the column of that name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&'static Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Returns the columns that merge by `rule`.
    pub fn columns_by(&self, rule: Merge) -> impl Iterator<Item = &'static Column> {
        self.columns
            .iter()
            .filter(move |column| column.merge == rule)
    }

    /// Returns the columns whose long values are kept apart.
    pub fn bodies(&self) -> impl Iterator<Item = &'static Column> {
        self.columns
            .iter()
            .filter(|column| column.apart == Apart::Body)
    }

    /// Returns the column that names the bodies which are not in their row; none for a table
    /// without bodies.
    #[must_use]
    pub fn body_names(&self) -> Option<&'static Column> {
        self.columns
            .iter()
            .find(|column| column.apart == Apart::Names)
    }

    /// Returns whether rows of other devices come down in an ordinary page.
    #[must_use]
    pub const fn comes_down(&self) -> bool {
        !matches!(self.direction, Direction::Up)
    }
}

/// All synced tables: critical file first, and within a file parents first, which is the order
/// in which a batch pushes them.
pub const TABLES: &[&Table] = &[
    &org::PROJECTS,
    &org::PROJECT_TRACKS,
    &org::DECISIONS,
    &org::SKILL_LEARNINGS,
    &org::ERROR_SOLUTIONS,
    &org::KG_NODES,
    &org::KG_EDGES,
    &org::CALIBRATION_HISTORY,
    &org::QUALITY_METRICS,
    &sessions::SESSIONS,
    &sessions::MESSAGES,
    &sessions::TASK_TRACKING,
    &sessions::TASK_MESSAGES,
    &sessions::CHECKPOINTS,
    &sessions::TOOL_ANALYTICS,
    &sessions::TOKEN_ECONOMICS,
    &sessions::ACTIVITY_ASSOCIATIONS,
    &projects::PROJECTS,
    &projects::SUB_PROJECTS,
    &projects::CONTENT_HASHES,
    &projects::PROJECT_EMBEDDINGS,
    &projects::EXCLUDE_PATTERNS,
    &projects::SPRINTS,
    &platform::COMPONENTS,
    &platform::CAPABILITIES,
    &platform::TRIGGERS,
    &platform::COMPONENT_RELATIONSHIPS,
    &platform::COMPONENT_USAGE_STATS,
];

/// Returns the table with that cloud name.
#[must_use]
pub fn by_cloud_name(cloud: &str) -> Option<&'static Table> {
    TABLES.iter().copied().find(|table| table.cloud == cloud)
}

/// Returns the table with that name in that file.
#[must_use]
pub fn by_local_name(file: File, local: &str) -> Option<&'static Table> {
    TABLES
        .iter()
        .copied()
        .find(|table| table.file == file && table.local == local)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn all_28_tables_have_names_of_their_own() {
        assert_eq!(TABLES.len(), 28);
        let cloud: HashSet<_> = TABLES.iter().map(|table| table.cloud).collect();
        let local: HashSet<_> = TABLES
            .iter()
            .map(|table| (table.file, table.local))
            .collect();
        assert_eq!((cloud.len(), local.len()), (28, 28));
    }

    #[test]
    fn columns_named_elsewhere_in_an_entry_exist() {
        for table in TABLES {
            let indexed = table.indexes.iter().copied().flatten();
            let named = table
                .identity
                .columns()
                .iter()
                .chain(table.search)
                .chain(indexed);
            for name in named {
                assert!(table.column(name).is_some(), "{}.{name}", table.cloud);
            }
        }
    }

    #[test]
    fn key_columns_are_required_and_in_the_register() {
        for table in TABLES {
            for name in table.identity.columns() {
                let column = table.column(name).unwrap();
                assert!(column.required && column.hashed(), "{}.{name}", table.cloud);
            }
        }
    }

    #[test]
    fn no_column_is_called_like_a_common_one() {
        let common = [
            "seq",
            "id",
            "scope",
            "tenant_id",
            "scope_id",
            "user_id",
            "device_id",
            "origin_device",
            "content_hash",
            "version",
            "cursor",
            "created_at",
            "updated_at",
            "deleted_at",
            "extra",
        ];
        for table in TABLES {
            let mut seen = HashSet::new();
            for column in table.columns {
                assert!(
                    !common.contains(&column.name),
                    "{}.{}",
                    table.cloud,
                    column.name
                );
                assert!(
                    seen.insert(column.name),
                    "{}.{} twice",
                    table.cloud,
                    column.name
                );
            }
        }
    }

    #[test]
    fn a_table_with_bodies_can_name_them() {
        for table in TABLES {
            let names: Vec<_> = table
                .columns
                .iter()
                .filter(|column| column.apart == Apart::Names)
                .collect();
            let some = table.bodies().next().is_some();
            assert_eq!(names.len(), usize::from(some), "{}", table.cloud);
            assert!(
                names
                    .iter()
                    .all(|column| column.ty == ColumnType::Json && !column.hashed())
            );
            for column in table.bodies() {
                let long = matches!(column.ty, ColumnType::Text | ColumnType::Json);
                assert!(
                    long && column.hashed() && !column.required,
                    "{}",
                    column.name
                );
            }
        }
    }

    #[test]
    fn merge_rules_fit_their_types() {
        for table in TABLES {
            for column in table.columns {
                let fits = match column.merge {
                    Merge::Lww | Merge::Owner => true,
                    Merge::Counter => column.ty == ColumnType::Integer,
                    Merge::Max => matches!(
                        column.ty,
                        ColumnType::Integer | ColumnType::Real | ColumnType::Timestamp
                    ),
                };
                assert!(fits, "{}.{}", table.cloud, column.name);
            }
        }
    }
}
