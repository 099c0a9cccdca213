//! A look at every row: whether its bytes are those that its hash was made from, and its base is
//! the one that its fingerprint was made from. In slices, so that a whole store is looked at once
//! a day, or all at once.
//!
//! What is wrong waits in `sync_suspect` until a run reads it again from the server.

use coditect_core::digest::term;
use coditect_protocol::RowId;
use coditect_protocol::catalogue::{Direction, File, Table};
use coditect_protocol::wire::descent::NamedRows;
use rusqlite::{OptionalExtension as _, params};
use serde::Serialize;

use crate::LocalStore;
use crate::base::Base;
use crate::database::{meta, set_meta};
use crate::error::{InFile as _, Result};
use crate::statements;
use crate::work::Work;

/// Bases looked at in one transaction.
const CHUNK_ROWS: usize = 200;
/// Time in which the whole store is looked at, in milliseconds.
const ROUND_MS: i64 = 86_400_000;
/// Shortest pause between two slices, in milliseconds.
const PAUSE_MS: i64 = 60_000;
/// Fewest and most rows of a file in one slice.
const SLICE_ROWS: std::ops::RangeInclusive<i64> = 100..=5_000;

/// What is wrong with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Damage {
    /// Its bytes are not those that were acknowledged.
    Content,
    /// It is gone, and nobody deleted it.
    Missing,
    /// What is remembered of its last acknowledged state contradicts itself.
    Base,
}

impl Damage {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Missing => "missing",
            Self::Base => "base",
        }
    }
}

/// A row that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wrong {
    /// Cloud name of the table.
    pub table: String,
    /// Scope, as the file stores it.
    pub scope: String,
    /// Row id.
    pub id: String,
    /// What is wrong.
    pub damage: Damage,
}

/// What a check of a file found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Acknowledged rows and tombstones that were looked at.
    pub rows: u64,
    /// Those that are wrong; they are read again by the next run that repairs.
    pub wrong: Vec<Wrong>,
}

/// Where a slice ended: the key of the last base, or the end of the file.
type Place = Option<(String, String, String)>;

impl LocalStore {
    /// Looks at every acknowledged row of a file, and notes those that are wrong. Rows with an
    /// edit that is not sent yet are left out.
    ///
    /// # Errors
    /// When the database fails.
    pub fn check_rows(&mut self, file: File) -> Result<Checked> {
        let mut checked = Checked::default();
        let mut place = None;
        loop {
            place = self.check_slice(file, place, CHUNK_ROWS, &mut checked)?;
            if place.is_none() {
                return Ok(checked);
            }
        }
    }

    /// Looks once more at rows that were wrong, and returns those that still are.
    ///
    /// # Errors
    /// As [`LocalStore::check_rows`].
    pub fn check_again(&mut self, file: File, wrong: &[Wrong]) -> Result<Vec<Wrong>> {
        let mut still = Vec::new();
        for chunk in wrong.chunks(CHUNK_ROWS) {
            self.write(file, |work| {
                for wrong in chunk {
                    let (scope, id) = (wrong.scope.as_str(), wrong.id.as_str());
                    let Some(table) = statements::table_in(file, &wrong.table) else {
                        continue;
                    };
                    let Some(known) = fingerprint(work, table, scope, id).in_file(file)? else {
                        continue;
                    };
                    if let Some(damage) = damage_of(work, table, scope, id, known)? {
                        still.push(Wrong {
                            damage,
                            ..wrong.clone()
                        });
                    }
                }
                Ok(())
            })?;
        }
        Ok(still)
    }

    /// Looks at the next slice of every file, if it is time: as much as a whole round a day
    /// needs, within bounds. The position is kept in the file.
    pub(crate) fn scrub(&mut self, now_ms: i64) -> Result<()> {
        for file in File::ALL {
            let number = |key| -> Result<i64> {
                let text = meta(self.read(file)?, key).in_file(file)?;
                Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
            };
            let passed_ms = now_ms.saturating_sub(number("scrubbed_ms")?);
            if (0..PAUSE_MS).contains(&passed_ms) {
                continue;
            }
            let all: i64 = self
                .read(file)?
                .query_row(
                    "select coalesce(sum(count), 0) from sync_digest",
                    [],
                    |row| row.get(0),
                )
                .in_file(file)?;
            if all == 0 {
                continue;
            }
            let due = all.saturating_mul(passed_ms.clamp(0, ROUND_MS)) / ROUND_MS;
            self.scrub_file(
                file,
                due.clamp(*SLICE_ROWS.start(), *SLICE_ROWS.end()),
                now_ms,
            )?;
        }
        Ok(())
    }

    fn scrub_file(&mut self, file: File, rows: i64, now_ms: i64) -> Result<()> {
        let at = meta(self.read(file)?, "scrubbed_to").in_file(file)?;
        let mut place: Place = at
            .and_then(|text| serde_json::from_str(&text).ok())
            .flatten();
        let mut checked = Checked::default();
        loop {
            let left = usize::try_from(rows)
                .unwrap_or(0)
                .saturating_sub(checked.rows as usize);
            if left == 0 {
                break;
            }
            place = self.check_slice(file, place, left.min(CHUNK_ROWS), &mut checked)?;
            if place.is_none() {
                break;
            }
        }
        self.write(file, |work| {
            let note = || -> rusqlite::Result<()> {
                let place = serde_json::to_string(&place).unwrap_or_default();
                set_meta(work.tx, "scrubbed_to", &place)?;
                set_meta(work.tx, "scrubbed_ms", &now_ms.to_string())
            };
            note().in_file(file)
        })
    }

    /// Looks at the bases behind a place and returns the next place; none at the end.
    fn check_slice(
        &mut self,
        file: File,
        place: Place,
        rows: usize,
        checked: &mut Checked,
    ) -> Result<Place> {
        self.write(file, |work| {
            let keys = bases_behind(work, place.as_ref(), rows).in_file(file)?;
            for (table, scope, id, fingerprint) in &keys {
                checked.rows += 1;
                let Some(table) = statements::table_in(file, table) else {
                    continue;
                };
                let Some(damage) = damage_of(work, table, scope, id, *fingerprint)? else {
                    continue;
                };
                note_suspect(work, table, scope, id, damage.as_str())?;
                checked.wrong.push(Wrong {
                    table: table.cloud.to_owned(),
                    scope: scope.clone(),
                    id: id.clone(),
                    damage,
                });
            }
            let full = keys.len() == rows;
            let last = keys.into_iter().next_back().filter(|_| full);
            Ok(last.map(|(table, scope, id, _)| (table, scope, id)))
        })
    }
}

impl Work<'_> {
    /// Notes rows that the server's scrub found damaged there and of which this device holds the
    /// bytes that fit the hash: the next run that repairs reads them again, sees that they are
    /// damaged, and sends them.
    pub(crate) fn note_damaged_there(&self, scope: &str, named: &[NamedRows]) -> Result<()> {
        for named in named {
            let Some(table) = statements::table_in(self.file, &named.table) else {
                continue;
            };
            for id in named.ids.iter().map(ToString::to_string) {
                let Some(base) = self.base(table, scope, &id)? else {
                    continue;
                };
                let live = statements::by_key(self.tx, table, scope, &id).in_file(self.file)?;
                let holds = crate::descent::holds(table, &base, live.as_ref());
                // What is queued already is on its way.
                let busy = self.is_busy(table, scope, &id, live.as_ref())?;
                if live.is_some() && holds && !busy {
                    note_suspect(self, table, scope, &id, DAMAGED_THERE)?;
                }
            }
        }
        Ok(())
    }
}

/// Why a row waits that is right here.
const DAMAGED_THERE: &str = "server";

type Key = (String, String, String, i64);

fn bases_behind(
    work: &Work<'_>,
    place: Option<&(String, String, String)>,
    rows: usize,
) -> rusqlite::Result<Vec<Key>> {
    let empty = (String::new(), String::new(), String::new());
    let (table, scope, id) = place.unwrap_or(&empty);
    let mut statement = work.tx.prepare_cached(
        "select table_name, scope, id, fingerprint from sync_base
         where (table_name, scope, id) > (?1, ?2, ?3)
         order by table_name, scope, id limit ?4",
    )?;
    let keys = statement.query_map(params![table, scope, id, rows as i64], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    })?;
    keys.collect()
}

/// Returns the fingerprint of a base.
fn fingerprint(
    work: &Work<'_>,
    table: &Table,
    scope: &str,
    id: &str,
) -> rusqlite::Result<Option<i64>> {
    work.tx
        .prepare_cached(
            "select fingerprint from sync_base where table_name = ?1 and scope = ?2 and id = ?3",
        )?
        .query_row([table.cloud, scope, id], |row| row.get(0))
        .optional()
}

fn damage_of(
    work: &Work<'_>,
    table: &'static Table,
    scope: &str,
    id: &str,
    fingerprint: i64,
) -> Result<Option<Damage>> {
    // A base that does not read back is damage, too, and no reason to stop.
    let base = match work.base(table, scope, id) {
        Ok(Some(base)) => base,
        Ok(None) => return Ok(None),
        Err(crate::Error::Corrupt { .. }) => return Ok(Some(Damage::Base)),
        Err(error) => return Err(error),
    };
    let live = statements::by_key(work.tx, table, scope, id).in_file(work.file)?;
    if work.is_busy(table, scope, id, live.as_ref())? {
        return Ok(None);
    }
    if term_of(table, id, &base) != Some(fingerprint.cast_unsigned()) {
        return Ok(Some(Damage::Base));
    }
    let up = table.direction == Direction::Up;
    Ok(match live {
        _ if crate::descent::holds(table, &base, live.as_ref()) => None,
        // A deleted row that somebody inserted again is found by the search for unmarked rows.
        Some(_) if base.deleted => None,
        Some(_) => Some(Damage::Content),
        // What an earlier identity of this device pushed stays on the server only.
        None if up && base.origin != work.device => None,
        None => Some(Damage::Missing),
    })
}

fn term_of(table: &Table, id: &str, base: &Base) -> Option<u64> {
    let id: RowId = id.parse().ok()?;
    let (version, device, deleted) = (base.version, base.device, base.deleted);
    Some(term(table.cloud, id, version, device, &base.hash, deleted))
}

fn note_suspect(work: &Work<'_>, table: &Table, scope: &str, id: &str, reason: &str) -> Result<()> {
    work.tx
        .prepare_cached(
            "insert into sync_suspect (table_name, scope, id, reason) values (?1, ?2, ?3, ?4)
             on conflict (table_name, scope, id) do update set reason = ?4",
        )
        .and_then(|mut statement| statement.execute([table.cloud, scope, id, reason]))
        .map(drop)
        .in_file(work.file)
}
