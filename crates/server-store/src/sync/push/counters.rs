//! Counter columns: what each device added so far, and the sums of it (PROTOCOL 16).

use std::collections::HashMap;

use coditect_protocol::DeviceId;
use coditect_protocol::RowId;
use coditect_protocol::catalogue::{Merge, Table, by_cloud_name};
use coditect_protocol::limits::INTEGER_MAX;
use coditect_protocol::wire::Row;
use coditect_protocol::wire::push::{Change, CounterPart};
use serde_json::Value;
use tokio_postgres::Row as DbRow;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::apply::Key;
use super::{Batch, Numbered};
use crate::StoreError;
use crate::db::Statement;

const SELECT: &str = "select table_name, row_id, column_name, device_id, seq, total
    from counter_parts where tenant_id = $1 and scope_id = $2 and table_name = any ($3)
    and row_id = any ($4)";
const UPSERT: &str = "insert into counter_parts
    (tenant_id, scope_id, table_name, row_id, column_name, device_id, seq, total)
    select $1, $2, table_name, row_id, column_name, $7, seq, total
    from unnest($3::text[], $4::uuid[], $5::text[], $6::bigint[], $8::bigint[])
    as given (table_name, row_id, column_name, seq, total)
    on conflict (tenant_id, scope_id, table_name, row_id, column_name, device_id)
    do update set seq = excluded.seq, total = excluded.total";

/// The parts that have to be read for some changes; owns the parameters.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    tables: Vec<&'static str>,
    rows: Vec<Uuid>,
}

impl Wanted {
    pub(super) fn of(changes: &[&Numbered<'_>]) -> Self {
        let counted = changes.iter().filter(|change| {
            let mut columns = change.valid.table.columns_by(Merge::Counter);
            columns.next().is_some()
        });
        let keys = counted.map(|change| (change.valid.table.cloud, change.valid.change.id));
        Self::of_rows(&keys.collect::<Vec<_>>())
    }

    /// Asks for the parts of rows in tables with counters.
    pub(super) fn of_rows(keys: &[Key]) -> Self {
        let mut wanted = Self::default();
        for (table, id) in keys {
            if !wanted.tables.contains(table) {
                wanted.tables.push(table);
            }
            wanted.rows.push(id.get());
        }
        wanted
    }

    pub(super) fn statement<'a>(&'a self, batch: &'a Batch<'_>) -> Option<Statement<'a>> {
        let params = vec![
            (&batch.tenant as _, Type::UUID),
            (&batch.scope as _, Type::UUID),
            (&self.tables as _, Type::TEXT_ARRAY),
            (&self.rows as _, Type::UUID_ARRAY),
        ];
        (!self.rows.is_empty()).then_some(Statement {
            sql: SELECT,
            params,
        })
    }
}

/// All devices' parts of the counters of some rows.
#[derive(Debug, Default)]
pub(super) struct Counters {
    parts: HashMap<Key, HashMap<(&'static str, DeviceId), CounterPart>>,
    /// Parts of the pushing device that have to be written.
    dirty: HashMap<(Key, &'static str), CounterPart>,
}

impl Counters {
    pub(super) fn read(rows: &[DbRow]) -> Result<Self, StoreError> {
        let mut counters = Self::default();
        for row in rows {
            let (table, id, column): (&str, Uuid, &str) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            // A column that a newer version of the catalogue had counts nowhere here.
            let Some(table) = by_cloud_name(table) else {
                continue;
            };
            let Some(column) = table.column(column) else {
                continue;
            };
            let device = DeviceId::new(row.try_get(3)?);
            let part = CounterPart {
                seq: row.try_get(4)?,
                total: row.try_get(5)?,
            };
            let key = (table.cloud, RowId::new(id));
            counters
                .parts
                .entry(key)
                .or_default()
                .insert((column.name, device), part);
        }
        Ok(counters)
    }

    /// Takes the parts of a change and returns the sums of the row's counters. `exists` says
    /// whether the row is stored already; when it is not, a value without a part counts as one.
    pub(super) fn take(
        &mut self,
        table: &'static Table,
        change: &Change,
        device: DeviceId,
        exists: bool,
    ) -> Row {
        for column in table.columns_by(Merge::Counter) {
            let key = (table.cloud, change.id);
            let parts = self.parts.entry(key).or_default();
            let none = !parts.keys().any(|(name, _)| *name == column.name);
            let implied = change
                .row
                .as_ref()
                .and_then(|row| row.get(column.name)?.as_i64());
            let implied = implied.filter(|_| none && !exists);
            let given = change.counters.get(column.name).copied();
            let part = given.or(implied.map(|total| CounterPart { seq: 0, total }));
            if let Some(part) = part {
                let known = parts.get(&(column.name, device));
                if known.is_none_or(|known| part.seq > known.seq) {
                    parts.insert((column.name, device), part);
                    self.dirty.insert((key, column.name), part);
                }
            }
        }
        self.sums(table, change.id)
    }

    /// Returns the sums of the row's counters, of those that have a part.
    pub(super) fn sums(&self, table: &'static Table, id: RowId) -> Row {
        let mut sums = Row::new();
        let parts = self.parts.get(&(table.cloud, id));
        for column in table.columns_by(Merge::Counter) {
            let mut of_column = parts
                .into_iter()
                .flatten()
                .filter(|((name, _), _)| *name == column.name)
                .peekable();
            if of_column.peek().is_some() {
                let sum = of_column.fold(0_i64, |sum, (_, part)| sum.saturating_add(part.total));
                let sum = sum.clamp(-INTEGER_MAX, INTEGER_MAX);
                sums.insert(column.name.to_owned(), Value::from(sum));
            }
        }
        sums
    }

    /// Returns the parts to write, as arrays.
    pub(super) fn dirty(&self) -> Dirty {
        let mut dirty = Dirty::default();
        for (((table, row), column), part) in &self.dirty {
            dirty.tables.push(table);
            dirty.rows.push(row.get());
            dirty.columns.push(column);
            dirty.seqs.push(part.seq);
            dirty.totals.push(part.total);
        }
        dirty
    }
}

/// Parts of the pushing device to write; owns the parameters.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    tables: Vec<&'static str>,
    rows: Vec<Uuid>,
    columns: Vec<&'static str>,
    seqs: Vec<i64>,
    totals: Vec<i64>,
}

impl Dirty {
    pub(super) fn statement<'a>(
        &'a self,
        batch: &'a Batch<'_>,
        device: &'a Uuid,
    ) -> Option<Statement<'a>> {
        let params = vec![
            (&batch.tenant as _, Type::UUID),
            (&batch.scope as _, Type::UUID),
            (&self.tables as _, Type::TEXT_ARRAY),
            (&self.rows as _, Type::UUID_ARRAY),
            (&self.columns as _, Type::TEXT_ARRAY),
            (&self.seqs as _, Type::INT8_ARRAY),
            (device as _, Type::UUID),
            (&self.totals as _, Type::INT8_ARRAY),
        ];
        (!self.rows.is_empty()).then_some(Statement {
            sql: UPSERT,
            params,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coditect_protocol::Version;
    use coditect_protocol::wire::Op;
    use serde_json::json;
    use std::collections::BTreeMap;

    fn increment(seq: i64, total: i64) -> Change {
        let part = CounterPart { seq, total };
        Change {
            table: "org_skill_learnings".to_owned(),
            id: RowId::new(Uuid::from_u128(1)),
            op: Op::Upsert,
            base: None,
            follows: None,
            base_hash: None,
            proposed: Version::from_parts(1, 0),
            register: true,
            hash: String::new(),
            created_at: String::new(),
            updated_at: String::new(),
            row: None,
            counters: BTreeMap::from([("usage_count".to_owned(), part)]),
        }
    }

    #[test]
    fn parts_add_up_and_an_older_part_changes_nothing() {
        let table = by_cloud_name("org_skill_learnings").unwrap();
        let mut counters = Counters::default();
        let device = |n: u128| DeviceId::new(Uuid::from_u128(n));
        let mut take = |change, device| counters.take(table, &change, device, true);
        assert_eq!(take(increment(1, 4), device(1))["usage_count"], 4);
        assert_eq!(take(increment(1, 5), device(2))["usage_count"], 9);
        assert_eq!(take(increment(3, 7), device(1))["usage_count"], 12);
        assert_eq!(take(increment(2, 100), device(1))["usage_count"], 12);
        assert_eq!(take(increment(3, 100), device(1))["usage_count"], 12);
    }

    #[test]
    fn a_value_without_a_part_counts_on_a_new_row_only() {
        let table = by_cloud_name("org_skill_learnings").unwrap();
        let mut change = increment(1, 1);
        change.counters.clear();
        change.row = json!({"skill_name": "s", "usage_count": 6})
            .as_object()
            .cloned();
        let device = DeviceId::new(Uuid::from_u128(1));
        assert!(
            Counters::default()
                .take(table, &change, device, true)
                .is_empty()
        );
        let mut counters = Counters::default();
        assert_eq!(
            counters.take(table, &change, device, false)["usage_count"],
            6
        );
        assert_eq!(counters.dirty().totals, [6]);
    }
}
