//! What must hold when everything has healed. Rows are compared, not digests.

use super::{Token, World};
use crate::model::{Kept, Key};
use coditect_core::canonical;
use coditect_protocol::catalogue::{Direction, File, Merge, TABLES, Table, by_cloud_name};
use coditect_protocol::wire::Row;
use coditect_protocol::{DeviceId, RowId, Scope, UserId};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Tables that people write to in a run.
const TRIED: [&str; 9] = [
    "org_decisions",
    "org_skill_learnings",
    "org_kg_nodes",
    "context_messages",
    "context_sessions",
    "context_task_tracking",
    "context_token_economics",
    "platform_usage_stats",
    "projects_sprints",
];

/// A row as it is compared.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    version: i64,
    device: String,
    hash: String,
    row: Row,
}

type Replica = BTreeMap<(Scope, &'static str, String), Seen>;

impl World {
    /// Judges the state after healing.
    pub(super) fn judge(&mut self) -> Result<(), String> {
        for number in 0..self.devices.len() {
            self.judge_replica(number)?;
            self.judge_dump(number)?;
            self.judge_queue(number)?;
        }
        self.judge_identities()?;
        self.judge_classes()?;
        self.judge_maxima()?;
        self.judge_deletes()?;
        self.judge_counters()?;
        self.judge_texts()?;
        self.judge_losers()
    }

    /// Every device holds what it should, row for row, and nothing else.
    fn judge_replica(&self, number: usize) -> Result<(), String> {
        let device = &self.devices[number];
        let local = self.local_rows(number)?;
        let identity = device.store.device();
        let mut expected = Replica::new();
        for key in self.server.database.rows.keys() {
            if let Some(seen) = self.expected(key, device.user, identity) {
                expected.insert((key.scope, key.table, key.id.to_string()), seen);
            }
        }
        let mut differences = String::new();
        let twin = self.has_twin_rows(number);
        for (key, row) in &expected {
            let up = by_cloud_name(key.1).is_some_and(|table| !table.comes_down());
            if local.get(key) != Some(row) && !(twin && up) {
                let _ = writeln!(
                    differences,
                    "{key:?}: server {row:?} device {:?}",
                    local.get(key)
                );
            }
        }
        for (key, row) in local.iter().filter(|(key, _)| !expected.contains_key(*key)) {
            if !self.may_be_extra(number, key) {
                let _ = writeln!(differences, "{key:?}: server has none, device {row:?}");
            }
        }
        if differences.is_empty() {
            return Ok(());
        }
        Err(format!(
            "replica {number} differs from the server:\n{differences}"
        ))
    }

    /// The device's own dump, tombstones and origins included, is the server's.
    fn judge_dump(&self, number: usize) -> Result<(), String> {
        let device = &self.devices[number];
        let identity = device.store.device();
        let counts = |table: &str, origin: &str| {
            let up = by_cloud_name(table).is_some_and(|table| !table.comes_down());
            !up || (origin == identity.to_string() && !self.has_twin_rows(number))
        };
        let mut local = BTreeSet::new();
        for file in File::ALL {
            let dump = device
                .store
                .canonical_dump(file)
                .map_err(|error| error.to_string())?;
            for row in dump.iter().filter(|row| counts(&row.table, &row.origin)) {
                let place = format!("{} {} {}", row.scope, row.table, row.id);
                let made = format!("{} by {} from {}", row.version, row.device, row.origin);
                let columns = Value::Object(row.row.clone().unwrap_or_default());
                local.insert(format!(
                    "{place}: {made} {} {} {columns}",
                    row.hash, row.deleted
                ));
            }
        }
        let mut server = BTreeSet::new();
        for (key, kept) in &self.server.database.rows {
            let visible = self.server.scopes(device.user).contains(&key.scope);
            if visible && counts(key.table, &kept.origin.to_string()) {
                let place = format!("{} {} {}", key.scope, key.table, key.id);
                let made = format!("{} by {} from {}", kept.version, kept.device, kept.origin);
                let row = self.server.database.shown(key);
                let columns = Value::Object(row.clone().unwrap_or_default());
                server.insert(format!(
                    "{place}: {made} {} {} {columns}",
                    kept.hash,
                    row.is_none()
                ));
            }
        }
        if local == server {
            return Ok(());
        }
        let missing: Vec<_> = server.difference(&local).collect();
        let extra: Vec<_> = local.difference(&server).collect();
        Err(format!(
            "the dump of {number} lacks {missing:#?} and has {extra:#?}"
        ))
    }

    /// What a device should hold of a row; of an `up` table only what it was first to push.
    fn expected(&self, key: &Key, user: UserId, identity: DeviceId) -> Option<Seen> {
        let kept: &Kept = self.server.database.rows.get(key)?;
        let row = self.server.database.shown(key)?;
        let up = key.table().direction == Direction::Up;
        let visible = self.server.scopes(user).contains(&key.scope);
        if !visible || (up && kept.origin != identity) {
            return None;
        }
        Some(Seen {
            version: kept.version.to_i64(),
            device: kept.device.to_string(),
            hash: kept.hash.clone(),
            row,
        })
    }

    /// A row of an `up` table that another device was first to push, or an earlier identity of
    /// this one, stays where it is; the server has its own.
    fn may_be_extra(
        &self,
        number: usize,
        (scope, table, id): &(Scope, &'static str, String),
    ) -> bool {
        let up = by_cloud_name(table).is_some_and(|table| table.direction == Direction::Up);
        let id = id.parse().ok().map(RowId::new);
        let key = id.map(|id| Key {
            scope: *scope,
            table,
            id,
        });
        let known = key.is_some_and(|key| self.server.database.rows.contains_key(&key));
        up && (known || self.is_parked(number, table))
    }

    fn is_parked(&self, number: usize, table: &str) -> bool {
        let file = by_cloud_name(table).map_or(File::Org, |table| table.file);
        let sql = format!(
            "select count(*) from sync_queue where table_name = '{table}' and state = 'parked'"
        );
        self.devices[number].number(file, &sql) > 0
    }

    fn local_rows(&self, number: usize) -> Result<Replica, String> {
        let mut replica = Replica::new();
        for table in tried() {
            let names: Vec<_> = table.columns.iter().map(|column| column.name).collect();
            let sql = format!(
                "select id, scope, version, device_id, content_hash, {} from {}",
                names.join(", "),
                table.local
            );
            for values in self.devices[number].rows(table.file, &sql) {
                let (key, seen) = self.local_row(number, table, &names, &values)?;
                if replica.insert(key.clone(), seen).is_some() {
                    return Err(format!("device {number} holds {key:?} twice"));
                }
            }
        }
        Ok(replica)
    }

    fn local_row(
        &self,
        number: usize,
        table: &'static Table,
        names: &[&str],
        values: &[Value],
    ) -> Result<((Scope, &'static str, String), Seen), String> {
        let text = |at: usize| values[at].as_str().unwrap_or_default().to_owned();
        let scope = Scope::from_local(&text(1), self.devices[number].user.get())
            .map_err(|error| format!("device {number}: {error}"))?;
        let columns = names.iter().zip(&values[5..]);
        let raw = columns.map(|(name, value)| ((*name).to_owned(), value.clone()));
        let seen = Seen {
            version: values[2].as_i64().unwrap_or(0),
            device: text(3),
            hash: text(4),
            row: canonical::row(table, raw.collect()),
        };
        Ok(((scope, table.cloud, text(0)), seen))
    }

    /// Nothing is queued any more; what is parked belongs to another device.
    fn judge_queue(&self, number: usize) -> Result<(), String> {
        for file in File::ALL {
            let sql = "select n, table_name, row_id, action, state, code from sync_queue
                       where state <> 'parked'
                         or code not in ('direction_refused', 'key_mismatch')";
            let rows = self.devices[number].rows(file, sql);
            if !rows.is_empty() {
                return Err(format!("device {number} still has in {file}: {rows:?}"));
            }
            let sql = "select row_id, code from sync_queue
                       where table_name = 'platform_usage_stats'";
            if let Some(row) = self.devices[number].rows(file, sql).first() {
                return Err(format!(
                    "{number} cannot send what it counted itself: {row:?}"
                ));
            }
            let batch = self.devices[number].number(file, "select count(*) from sync_batch");
            if batch > 0 {
                return Err(format!("device {number} still has a batch in {file}"));
            }
        }
        Ok(())
    }

    /// One identity is one row, everywhere.
    fn judge_identities(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for (key, kept) in &self.server.database.rows {
            let names = key.table().identity.columns();
            let Some(fields) = kept.fields.as_ref().filter(|_| !names.is_empty()) else {
                continue;
            };
            // The device is part of this one's identity.
            let device = (key.table == "platform_usage_stats").then_some(kept.origin);
            let natural: Vec<_> = names
                .iter()
                .map(|name| fields.get(*name).cloned())
                .collect();
            if !seen.insert((key.scope, key.table, device, format!("{natural:?}"))) {
                return Err(format!("the server has {natural:?} of {} twice", key.table));
            }
        }
        for number in 0..self.devices.len() {
            for table in tried().filter(|table| !table.identity.columns().is_empty()) {
                self.judge_local_identities(number, table)?;
            }
        }
        Ok(())
    }

    fn judge_local_identities(&self, number: usize, table: &Table) -> Result<(), String> {
        let names = table.identity.columns().join(", ");
        let sql = format!(
            "select scope, {names}, count(*) from {} group by scope, {names} having count(*) > 1",
            table.local
        );
        let twice = self.devices[number].rows(table.file, &sql);
        // A copy counts usage under its own identity beside what it was copied with.
        if twice.is_empty()
            || (table.local == "component_usage_stats" && self.devices[number].copied)
        {
            return Ok(());
        }
        Err(format!(
            "device {number} has an identity of {} twice: {twice:?}",
            table.local
        ))
    }

    /// Counters are the exact sum of what everybody added.
    fn judge_counters(&mut self) -> Result<(), String> {
        let mut exact = 0;
        for key in self.server.database.rows.keys() {
            let Some(row) = self.server.database.shown(key) else {
                continue;
            };
            let name = row
                .get("skill_name")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let Some(sum) = self.ledger.sum(name) else {
                continue;
            };
            for column in key.table().columns_by(Merge::Counter) {
                exact += 1;
                if row.get(column.name).and_then(Value::as_i64) != Some(sum) {
                    let found = row.get(column.name);
                    return Err(format!(
                        "{name} was used {sum} times, its counter says {found:?}"
                    ));
                }
            }
        }
        self.log.count("counters exact", exact);
        Ok(())
    }

    /// Every text that somebody wrote, and did not replace himself, was taken by the server or is
    /// kept as the losing side of a conflict; and everything that the server ever took is stored,
    /// was replaced by one who knew it, or is kept.
    fn judge_texts(&mut self) -> Result<(), String> {
        let kept = self.kept_texts();
        let mut accepted = BTreeSet::new();
        // What was replaced knowingly the people know, not the server: it might be wrong.
        let replaced = self.ledger.steps();
        for row in &self.server.trace {
            accepted.extend(Token::of(row));
        }
        let tokens: Vec<_> = self.ledger.owed().collect();
        for token in tokens {
            if !accepted.contains(&token) && !kept.contains(&token) {
                return Err(format!("{} was never taken and is nowhere", token.text()));
            }
        }
        for token in &accepted {
            // The server and its writer's file were both set back to before it.
            let gone = self.set_backs > 0 && self.ledger.is_excused(*token);
            if !gone && !is_safe(*token, &kept, replaced, &mut BTreeSet::new()) {
                return Err(format!(
                    "{} was taken by the server and is lost",
                    token.text()
                ));
            }
        }
        self.log.count("texts accounted for", accepted.len() as u64);
        Ok(())
    }

    /// Texts in rows and conflicts of the server and of the devices.
    fn kept_texts(&self) -> BTreeSet<Token> {
        let database = &self.server.database;
        let losers = database
            .conflicts
            .iter()
            .filter_map(|conflict| conflict.loser.row.as_ref());
        let fields = database
            .rows
            .values()
            .filter_map(|kept| kept.fields.as_ref());
        let mut kept: BTreeSet<_> = losers.chain(fields).filter_map(Token::of).collect();
        for number in 0..self.devices.len() {
            kept.extend(self.local_losers(number));
        }
        kept
    }

    fn local_losers(&self, number: usize) -> BTreeSet<Token> {
        let mut losers = BTreeSet::new();
        for file in [File::Org, File::Sessions, File::Projects] {
            let sql = "select row from sync_conflicts where row is not null order by n";
            let rows = self.devices[number].rows(file, sql);
            losers.extend(
                rows.iter()
                    .filter_map(|row| Token::of_json(row[0].as_str()?)),
            );
        }
        losers
    }

    /// Who lost a conflict can find the own version on the own device.
    fn judge_losers(&self) -> Result<(), String> {
        let history = self.server.database.history.values().flatten();
        for (number, row) in &self.lost {
            let Some(token) = row.as_ref().and_then(Token::of) else {
                continue;
            };
            // Sent again to a server that was set back, it may have won.
            let won = history.clone().any(|row| Token::of(row) == Some(token));
            let found = won || self.local_losers(*number).contains(&token);
            // A file that was put back forgot what it had learned since.
            if !found && !self.devices[*number].copied {
                return Err(format!(
                    "{} lost a conflict and {number} cannot show it",
                    token.text()
                ));
            }
        }
        Ok(())
    }
}

fn tried() -> impl Iterator<Item = &'static Table> {
    TABLES
        .iter()
        .copied()
        .filter(|table| TRIED.contains(&table.cloud))
}

/// Whether a text is kept, or was deleted or replaced knowingly by something that is safe.
fn is_safe(
    token: Token,
    safe: &BTreeSet<Token>,
    replaced: &BTreeMap<Token, Vec<Option<Token>>>,
    seen: &mut BTreeSet<Token>,
) -> bool {
    if safe.contains(&token) {
        return true;
    }
    if !seen.insert(token) {
        return false;
    }
    let by = replaced.get(&token).into_iter().flatten();
    by.into_iter()
        .any(|by| by.is_none_or(|by| is_safe(by, safe, replaced, seen)))
}
