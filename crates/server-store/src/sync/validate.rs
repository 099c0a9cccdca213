//! Checks one pushed change by itself: what can be refused without looking into the database,
//! and all that PostgreSQL could refuse (PROTOCOL 31). Pure.

use std::borrow::Cow;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coditect_core::body;
use coditect_core::canonical::{self, EXTRA};
use coditect_core::hash::{self, ContentHash};
use coditect_protocol::catalogue::{self, ColumnType, Direction, File, Identity, Merge, Table};
use coditect_protocol::limits::{INTEGER_MAX, ROW_BYTES_MAX};
use coditect_protocol::wire::bodies::Body;
use coditect_protocol::wire::push::Change;
use coditect_protocol::wire::{Op, Row};
use coditect_protocol::{DeviceId, ErrorCode};
use serde_json::Value;

use super::guards::Guard;

/// A change that may go on to the database.
#[derive(Clone, Debug)]
pub(super) struct Valid<'a> {
    /// Its table.
    pub(super) table: &'static Table,
    /// The change; its row is canonical.
    pub(super) change: Cow<'a, Change>,
    /// Its content hash, recomputed where there is a row.
    pub(super) hash: ContentHash,
    /// Its long values, which the row names only.
    pub(super) bodies: Vec<Body>,
    /// Bytes of the row's JSON; 0 without a row.
    pub(super) bytes: usize,
}

/// Why a change is refused. The reason never holds content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: ErrorCode,
    pub(super) reason: String,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }

    fn malformed(reason: impl Into<String>) -> Self {
        Self::new(ErrorCode::MalformedRow, reason)
    }
}

/// Checks a change of `file` that `device` pushes.
pub(super) fn change(change: &Change, file: File, device: DeviceId) -> Result<Valid<'_>, Refusal> {
    let table = table(&change.table, file)?;
    for (name, text) in [
        ("created_at", &change.created_at),
        ("updated_at", &change.updated_at),
    ] {
        if !canonical::is_time(text) {
            return Err(Refusal::malformed(format!(
                "{name} is no time in canonical form"
            )));
        }
    }
    let hash: ContentHash = change
        .hash
        .parse()
        .map_err(|_| Refusal::new(ErrorCode::HashMismatch, "the content hash is none"))?;
    let mut change = Cow::Borrowed(change);
    let mut bodies = Vec::new();
    let mut size = 0;
    match (change.op, &change.row) {
        (Op::Upsert, Some(row)) => {
            size = bytes(row);
            if size > ROW_BYTES_MAX {
                let reason = format!("{size} bytes; a row has at most {ROW_BYTES_MAX}");
                return Err(Refusal::new(ErrorCode::RowTooLarge, reason));
            }
            if let Some(canonical) = self::row(table, row)? {
                size = bytes(&canonical);
                change.to_mut().row = Some(canonical);
            }
        }
        (Op::Delete, None) => {}
        (Op::Upsert, None) => return Err(Refusal::malformed("an upsert has a row")),
        (Op::Delete, Some(_)) => return Err(Refusal::malformed("a delete has no row")),
    }
    if let Some((parted, apart)) = change.row.as_ref().and_then(|row| body::part(table, row)) {
        size = bytes(&parted);
        change.to_mut().row = Some(parted);
        bodies = apart;
    }
    if let Some(row) = &change.row {
        key(table, row, &change, device)?;
        if hash::content(table, row) != hash && Guard::RowHash.is_on() {
            let reason = "the content hash is not that of the row";
            return Err(Refusal::new(ErrorCode::HashMismatch, reason));
        }
    }
    counters(table, &change)?;
    Ok(Valid {
        table,
        change,
        hash,
        bodies,
        bytes: size,
    })
}

fn table(name: &str, file: File) -> Result<&'static Table, Refusal> {
    let table = catalogue::by_cloud_name(name).filter(|table| table.file == file);
    let table = table.ok_or_else(|| {
        Refusal::new(
            ErrorCode::UnknownTable,
            format!("the file {file} has no such table"),
        )
    })?;
    if table.direction == Direction::Down {
        let reason = format!("{} is written by the platform's operator", table.cloud);
        return Err(Refusal::new(ErrorCode::DirectionRefused, reason));
    }
    Ok(table)
}

/// Returns the canonical row when the one given writes a number in another way.
pub(super) fn row(table: &Table, row: &Row) -> Result<Option<Row>, Refusal> {
    let canonical =
        (!canonical::is_plainly_canonical(table, row)).then(|| canonical::row(table, row.clone()));
    let odd = canonical.as_ref().and_then(|canonical| {
        let differs = |(name, value): &(&String, &Value)| {
            let canonical = canonical.get(*name);
            !canonical.is_some_and(|canonical| same(canonical, value))
        };
        row.iter().find(differs)
    });
    if let Some((name, _)) = odd {
        // Only names of columns are ours to print; others may be content.
        let name = table.column(name).map_or("a value", |column| column.name);
        return Err(Refusal::malformed(format!(
            "{name} is not in canonical form"
        )));
    }
    let extra = row.get(EXTRA);
    let missing = table.columns.iter().find(|column| {
        let misfit = || extra.is_some_and(|extra| extra.get(column.name).is_some());
        column.required && !row.contains_key(column.name) && !misfit()
    });
    if let Some(column) = missing {
        return Err(Refusal::malformed(format!("{} is required", column.name)));
    }
    let blobs = table
        .columns
        .iter()
        .filter(|column| column.ty == ColumnType::Blob);
    for (column, value) in blobs.filter_map(|column| Some((column, row.get(column.name)?))) {
        let text = value.as_str();
        if text.is_none_or(|text| STANDARD.decode(text).is_err()) {
            return Err(Refusal::malformed(format!("{} is no base64", column.name)));
        }
    }
    Ok(canonical.filter(|canonical| canonical != row))
}

/// Returns whether two values differ in the writing of numbers at most: JSON from JavaScript
/// says `1` where ours says `1.0`.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let matches = |(name, value)| b.get(name).is_some_and(|other| same(value, other));
            a.len() == b.len() && a.iter().all(matches)
        }
        _ => a == b,
    }
}

fn key(table: &Table, row: &Row, change: &Change, device: DeviceId) -> Result<(), Refusal> {
    let derived = hash::derived_id(table, row, device).map_err(|missing| {
        Refusal::new(
            ErrorCode::KeyMismatch,
            format!("the key column {} is no text", missing.0),
        )
    })?;
    if derived.is_some_and(|id| id != change.id) {
        let columns = table.identity.columns().join(", ");
        let device = match table.identity {
            Identity::DerivedPerDevice(_) => " and the pushing device",
            Identity::Derived(_) | Identity::Random => "",
        };
        let reason = format!("the id is not that of {columns}{device}");
        return Err(Refusal::new(ErrorCode::KeyMismatch, reason));
    }
    Ok(())
}

fn counters(table: &Table, change: &Change) -> Result<(), Refusal> {
    for (name, part) in &change.counters {
        let is_counter = table
            .column(name)
            .is_some_and(|column| column.merge == Merge::Counter);
        if !is_counter {
            return Err(Refusal::malformed("a counter part names no counter column"));
        }
        if part.seq < 0 || part.total.unsigned_abs() > INTEGER_MAX.unsigned_abs() {
            return Err(Refusal::malformed(format!(
                "the part of {name} is out of range"
            )));
        }
    }
    Ok(())
}

/// Returns the number of bytes of the row's JSON, without writing it anywhere.
pub(super) fn bytes(row: &Row) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Counting cannot fail, and neither can JSON with text keys.
    serde_json::to_writer(&mut count, row).map_or(usize::MAX, |()| count.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coditect_protocol::wire::push::CounterPart;
    use coditect_protocol::{RowId, Version};
    use serde_json::json;
    use std::collections::BTreeMap;
    use uuid::Uuid;

    const DEVICE: DeviceId = DeviceId::new(Uuid::from_u128(1));
    const TIME: &str = "2026-01-02T03:04:05.000000Z";

    fn upsert(table: &str, row: Value) -> Change {
        let entry = catalogue::by_cloud_name(table).unwrap();
        let row = row.as_object().unwrap().clone();
        let derived = hash::derived_id(entry, &row, DEVICE).ok().flatten();
        Change {
            table: table.to_owned(),
            id: derived.unwrap_or(RowId::new(Uuid::from_u128(9))),
            op: Op::Upsert,
            base: None,
            follows: None,
            base_hash: None,
            proposed: Version::from_parts(1, 0),
            register: true,
            hash: hash::content(entry, &row).to_string(),
            created_at: TIME.to_owned(),
            updated_at: TIME.to_owned(),
            row: Some(row),
            counters: BTreeMap::new(),
        }
    }

    fn code(change: &Change, file: File) -> Option<ErrorCode> {
        super::change(change, file, DEVICE)
            .err()
            .map(|refusal| refusal.code)
    }

    #[test]
    fn a_canonical_row_passes() {
        assert_eq!(
            code(&upsert("org_decisions", json!({"title": "t"})), File::Org),
            None
        );
        let whole = upsert("org_decisions", json!({"title": "t", "confidence": 1}));
        let valid = super::change(&whole, File::Org, DEVICE).unwrap();
        assert_eq!(valid.change.row.as_ref().unwrap()["confidence"], json!(1.0));
        let misfit = json!({"skill_name": "s", "extra": {"learning": "5"}});
        assert_eq!(
            code(&upsert("org_skill_learnings", misfit), File::Org),
            None
        );
    }

    #[test]
    fn tables_of_other_files_and_of_the_platform_are_refused() {
        let decision = upsert("org_decisions", json!({"title": "t"}));
        assert_eq!(
            code(&decision, File::Sessions),
            Some(ErrorCode::UnknownTable)
        );
        let mut unknown = decision;
        unknown.table = "pg_class".to_owned();
        assert_eq!(code(&unknown, File::Org), Some(ErrorCode::UnknownTable));
        let component = json!({"component_id": "c", "component_type": "agent", "name": "n"});
        let down = upsert("platform_components", component);
        assert_eq!(
            code(&down, File::Platform),
            Some(ErrorCode::DirectionRefused)
        );
    }

    #[test]
    fn malformed_rows_are_refused() {
        for row in [
            json!({}),
            json!({"title": null}),
            json!({"title": "t", "unheard_of": 1}),
            json!({"title": "t", "confidence": "high"}),
            json!({"title": 5}),
        ] {
            let change = upsert("org_decisions", row.clone());
            assert_eq!(
                code(&change, File::Org),
                Some(ErrorCode::MalformedRow),
                "{row}"
            );
        }
        let mut late = upsert("org_decisions", json!({"title": "t"}));
        late.updated_at = "2026-01-02".to_owned();
        assert_eq!(code(&late, File::Org), Some(ErrorCode::MalformedRow));
        let mut without_row = upsert("org_decisions", json!({"title": "t"}));
        without_row.row = None;
        assert_eq!(code(&without_row, File::Org), Some(ErrorCode::MalformedRow));
    }

    #[test]
    fn hash_and_key_must_be_those_of_the_row() {
        let mut change = upsert("org_decisions", json!({"title": "t"}));
        change.hash = "00".repeat(32);
        assert_eq!(code(&change, File::Org), Some(ErrorCode::HashMismatch));
        let mut task = upsert(
            "context_task_tracking",
            json!({"session_id": "s", "task_id": "1"}),
        );
        assert_eq!(code(&task, File::Sessions), None);
        task.id = RowId::new(Uuid::from_u128(9));
        assert_eq!(code(&task, File::Sessions), Some(ErrorCode::KeyMismatch));
        let usage = upsert("platform_usage_stats", json!({"component_id": "c"}));
        assert_eq!(code(&usage, File::Platform), None);
        let other = DeviceId::new(Uuid::from_u128(2));
        let refusal = super::change(&usage, File::Platform, other).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::KeyMismatch);
    }

    #[test]
    fn rows_and_counters_have_limits() {
        let text = "x".repeat(ROW_BYTES_MAX);
        let large = upsert("org_decisions", json!({"title": text}));
        assert_eq!(code(&large, File::Org), Some(ErrorCode::RowTooLarge));
        let mut change = upsert(
            "org_skill_learnings",
            json!({"skill_name": "s", "learning": "l"}),
        );
        change
            .counters
            .insert("usage_count".to_owned(), CounterPart { seq: 1, total: 3 });
        assert_eq!(code(&change, File::Org), None);
        change
            .counters
            .insert("learning".to_owned(), CounterPart { seq: 1, total: 3 });
        assert_eq!(code(&change, File::Org), Some(ErrorCode::MalformedRow));
    }
}
