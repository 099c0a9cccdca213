//! Answers to a descent, computed over all rows each time (DESIGN 4, "Reconciliation").

use super::digest::fingerprint;
use super::{Database, Kept, Key};
use coditect_protocol::catalogue::{Direction, Merge, by_cloud_name};
use coditect_protocol::wire::descent::{
    Descended, Descent, Divided, Listed, NamedRows, OwnPart, Part,
};
use coditect_protocol::{DeviceId, Scope};

/// Rows up to which a range is listed; few, so that small worlds have something to descend.
const LISTED_MAX: usize = 3;
/// Parts of a range.
const PARTS: usize = 3;

pub(super) fn answer(
    database: &Database,
    scope: Scope,
    reader: DeviceId,
    descent: &Descent,
) -> Descended {
    let mut descended = Descended::default();
    for range in &descent.ranges {
        let counts = |key: &Key, kept: &Kept| {
            let up = key.table().direction == Direction::Up;
            let within = range.first <= key.id && key.id <= range.last;
            let here = key.scope == scope && key.table == range.table;
            here && within && (!up || kept.origin == reader)
        };
        let rows = database.rows.iter();
        let rows: Vec<_> = rows.filter(|(key, kept)| counts(key, kept)).collect();
        let few = rows.len() <= LISTED_MAX;
        let size = rows.len().div_ceil(PARTS).max(1);
        let mut parts: Vec<Part> = Vec::new();
        for some in rows.chunks(size).filter(|_| !few) {
            let terms = some.iter().map(|(key, kept)| fingerprint(key, kept));
            let xor = terms.fold(0, |xor, term| xor ^ term);
            parts.push(Part {
                last: some[some.len() - 1].0.id,
                count: some.len() as i64,
                xor,
            });
        }
        if let Some(part) = parts.last_mut() {
            part.last = range.last;
        }
        let listed = rows.iter().map(|(key, kept)| Listed {
            id: key.id,
            version: kept.version,
            term: fingerprint(key, kept),
        });
        descended.ranges.push(Divided {
            table: range.table.clone(),
            first: range.first,
            last: range.last,
            listed: few.then(|| listed.collect()),
            parts,
        });
    }
    for named in &descent.rows {
        read_again(database, scope, reader, named, &mut descended);
    }
    descended
}

fn read_again(
    database: &Database,
    scope: Scope,
    reader: DeviceId,
    named: &NamedRows,
    descended: &mut Descended,
) {
    let Some(table) = by_cloud_name(&named.table) else {
        return;
    };
    let mut absent = NamedRows {
        table: named.table.clone(),
        ids: Vec::new(),
    };
    for id in &named.ids {
        let key = Key {
            scope,
            table: table.cloud,
            id: *id,
        };
        for column in table.columns_by(Merge::Counter) {
            let parts = database.parts.get(&(key, column.name));
            if let Some(part) = parts.and_then(|parts| parts.get(&reader)) {
                descended.parts.push(OwnPart {
                    table: named.table.clone(),
                    id: *id,
                    column: column.name.to_owned(),
                    total: part.total,
                });
            }
        }
        match database.stored(&key) {
            Some(stored) => descended.rows.push(stored),
            None => absent.ids.push(*id),
        }
    }
    if !absent.ids.is_empty() {
        descended.absent.push(absent);
    }
}
