//! Descent: finding the rows in which two replicas differ by comparing ranges of ids, from coarse
//! to fine (DESIGN 4, "Reconciliation"). It travels inside a pull, so that both sides compare the
//! same moment: the page brings the device to the head at which the server took its sums.

use super::Stored;
use crate::{RowId, Version};
use serde::{Deserialize, Serialize};

/// What a device asks about one stream and file, beside the changes behind its position. It is
/// answered by the page that reaches the head.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Descent {
    /// Ranges to compare; at most [`crate::limits::DESCENT_RANGES_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(max_items = 64))]
    pub ranges: Vec<Range>,
    /// Rows to read again; at most [`crate::limits::DESCENT_ROWS_MAX`] ids in all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(max_items = 64))]
    pub rows: Vec<NamedRows>,
}

impl Descent {
    /// Returns whether nothing is asked.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.rows.is_empty()
    }
}

/// A range of a table's ids, both ends included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Cloud name of the table.
    pub table: String,
    /// Lowest id.
    pub first: RowId,
    /// Highest id.
    pub last: RowId,
    /// How many rows and tombstones the server said are in it; decides how it is divided.
    pub count: i64,
}

impl Range {
    /// Returns the range of all ids of a table.
    #[must_use]
    pub fn whole(table: &str, count: i64) -> Self {
        Self {
            table: table.to_owned(),
            first: RowId::new(uuid::Uuid::nil()),
            last: RowId::new(uuid::Uuid::max()),
            count,
        }
    }
}

/// Rows of a table, by id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NamedRows {
    /// Cloud name of the table.
    pub table: String,
    /// Their ids.
    #[cfg_attr(feature = "openapi", schema(max_items = 500))]
    pub ids: Vec<RowId>,
}

/// The answer to a [`Descent`], of the same moment as the page's digests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Descended {
    /// One for each range asked, in that order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<Divided>,
    /// The rows that were asked for and are there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<Stored>,
    /// Rows asked for that are not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<NamedRows>,
}

/// A range divided by the server, or its rows when they are few.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Divided {
    /// Cloud name of the table.
    pub table: String,
    /// Lowest id of the range.
    pub first: RowId,
    /// Highest id of the range.
    pub last: RowId,
    /// Its parts in order, without gaps; none when the rows are listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// Its rows in order; none when it was divided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed: Option<Vec<Listed>>,
}

/// A part of a range: from behind the part before it up to `last`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Part {
    /// Highest id of the part.
    pub last: RowId,
    /// Rows and tombstones.
    pub count: i64,
    /// XOR of their terms, 16 hexadecimal digits.
    pub xor: String,
}

/// A row in a list: enough to tell whether, and which way, it differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Listed {
    /// Its id.
    pub id: RowId,
    /// Its version.
    pub version: Version,
    /// Its term in the digest, 16 hexadecimal digits.
    pub term: String,
}
