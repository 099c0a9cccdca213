//! Reading and writing rows by our own program. What is written here is adopted and marked at
//! once; the result is the same as that of SQL and a later adoption.

use coditect_core::canonical::EXTRA;
use coditect_core::{canonical, hash};
use coditect_protocol::catalogue::{Class, File, Merge, Table, by_cloud_name};
use coditect_protocol::wire::Row;
use coditect_protocol::{RowId, Scope};
use rusqlite::types::Value as Sql;
use serde::Serialize;
use serde_json::Value;

use crate::LocalStore;
use crate::adopt::prepare;
use crate::error::{Error, InFile as _, Result};
use crate::import_state::{self, ImportState};
use crate::marks;
use crate::statements::{self, LocalRow};
use crate::value;
use crate::work::Work;

/// `metadata.source` of a fact that only a hook has told about; the transcript tells it better.
const PROVISIONAL_SOURCE: &str = "hook";

/// A row with what is known about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RowView {
    /// Row id; none before adoption.
    pub id: Option<String>,
    /// Scope, as the file stores it.
    pub scope: String,
    /// Author; none before the first login.
    pub user_id: Option<String>,
    /// Device that wrote it last.
    pub device_id: Option<String>,
    /// Acknowledged version; none before the first push.
    pub version: Option<i64>,
    /// When it was made.
    pub created_at: Option<String>,
    /// When it was last changed.
    pub updated_at: Option<String>,
    /// Whether it has a change that the server has not acknowledged.
    pub pending: bool,
    /// Its columns in canonical form.
    pub row: Row,
}

/// Which rows to list, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowFilter {
    /// Only rows of this scope, as the file stores it.
    pub scope: Option<String>,
    /// Only rows with these values.
    pub equals: Vec<(String, Value)>,
    /// Only rows whose id starts so.
    pub id_prefix: Option<String>,
    /// Oldest first instead.
    pub oldest_first: bool,
    /// Rows at most.
    pub limit: u32,
    /// Rows to skip.
    pub offset: u32,
}

/// What [`LocalStore::ingest`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ingested {
    /// New rows.
    pub inserted: u64,
    /// Rows that took a new or greater value.
    pub updated: u64,
    /// Rows that were there already.
    pub unchanged: u64,
    /// Rows that were deleted and stay so.
    pub kept_out: u64,
}

enum Put {
    Inserted(RowId),
    Updated,
    Unchanged,
    KeptOut,
}

impl LocalStore {
    /// Stores a person's new row, with the schema's defaults for what is missing. For a table
    /// with natural keys an existing row of the same key takes the given values.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::MissingColumn`], or when the database fails.
    pub fn insert(&mut self, table: &str, scope: &str, row: Row, now_ms: i64) -> Result<RowId> {
        let table = named(table)?;
        self.write(table.file, |work| {
            let mut row = row;
            value::fill_defaults(table, &mut row);
            let scope = work.normal_scope(scope).ok_or(Error::NotBound)?;
            let row = prepare(table, row);
            let id = new_id(work, table, &row, now_ms)?;
            match work.put(table, &scope, id, &row, now_ms, true)? {
                Put::Inserted(id) => Ok(id),
                Put::Updated | Put::Unchanged | Put::KeptOut => Ok(id),
            }
        })
    }

    /// Stores a row under an id that the caller knows: one that is made from what the row is
    /// about, or that of a row that was deleted and comes back. An existing record takes the
    /// given values; a fact stays as it is. Returns whether something was stored.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::MissingColumn`], or when the database fails.
    pub fn insert_as(
        &mut self,
        table: &str,
        scope: &str,
        id: RowId,
        row: Row,
        now_ms: i64,
    ) -> Result<bool> {
        let table = named(table)?;
        self.write(table.file, |work| {
            let scope = work.normal_scope(scope).ok_or(Error::NotBound)?;
            let known = statements::by_key(work.tx, table, &scope, &id.to_string());
            let mut row = row;
            if known.in_file(work.file)?.is_none() {
                value::fill_defaults(table, &mut row);
            }
            let row = prepare(table, row);
            new_id(work, table, &row, now_ms)?;
            let put = work.put(table, &scope, id, &row, now_ms, true)?;
            Ok(matches!(put, Put::Inserted(_) | Put::Updated))
        })
    }

    /// Changes columns of a row; a null clears its column. Returns whether there is such a row.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::UnknownColumn`], [`Error::MissingColumn`] for a key or
    /// a required column that would be cleared, or when the database fails.
    pub fn update(
        &mut self,
        table: &str,
        scope: &str,
        id: &str,
        patch: &Row,
        now_ms: i64,
    ) -> Result<bool> {
        let table = named(table)?;
        for name in patch.keys() {
            let column = table.column(name).ok_or_else(|| Error::UnknownColumn {
                table: table.local,
                column: name.clone(),
            })?;
            let keeps = table.identity.columns().contains(&column.name);
            if keeps || column.required && patch[name].is_null() {
                return Err(Error::MissingColumn {
                    table: table.local,
                    column: name.clone(),
                });
            }
        }
        self.write(table.file, |work| {
            let Some(live) = statements::by_key(work.tx, table, scope, id).in_file(work.file)?
            else {
                return Ok(false);
            };
            let before = live.canonical(table);
            let mut after = before.clone();
            for (name, value) in patch {
                after.remove(name);
                if let Some(Value::Object(extra)) = after.get_mut(EXTRA) {
                    extra.remove(name);
                }
                after.insert(name.clone(), value.clone());
            }
            let after = prepare(table, after);
            if after != before {
                work.rewrite(table, live, &after, now_ms)?;
            }
            Ok(true)
        })
    }

    /// Deletes a row. Returns whether there was one.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], or when the database fails.
    pub fn delete(&mut self, table: &str, scope: &str, id: &str, now_ms: i64) -> Result<bool> {
        let table = named(table)?;
        self.write(table.file, |work| {
            let Some(live) = statements::by_key(work.tx, table, scope, id).in_file(work.file)?
            else {
                return Ok(false);
            };
            statements::remove(work.tx, table, live.seq).in_file(work.file)?;
            work.unindex(table, live.seq)?;
            let seq = Some(live.seq);
            // Clears the row's mark by its number; the new mark is by key only.
            let n = work.put_mark(table, seq, scope, Some(id), "delete", now_ms, false)?;
            work.aim_mark(n, scope, id)?;
            Ok(true)
        })
    }

    /// Returns a row by its id, in whatever scope; the owner's own first.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], or when the database fails.
    pub fn get(&self, table: &str, id: &str) -> Result<Option<RowView>> {
        let table = named(table)?;
        let connection = self.read(table.file)?;
        let find = || {
            let own = coditect_protocol::scope::LOCAL_USER;
            match statements::by_key(connection, table, own, id)? {
                Some(live) => Ok(Some(live)),
                None => statements::by_id(connection, table, id),
            }
        };
        let found = find().in_file(table.file)?;
        found.map(|live| self.view(table, live)).transpose()
    }

    /// Lists rows. What was written by SQL appears at once; its id only after adoption.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::UnknownColumn`], or when the database fails.
    pub fn list(&self, table: &str, filter: &RowFilter) -> Result<Vec<RowView>> {
        let table = named(table)?;
        let mut clause = String::from("where true");
        let mut parameters = Vec::new();
        if let Some(scope) = &filter.scope {
            clause.push_str(" and scope = ?");
            parameters.push(Sql::Text(scope.clone()));
        }
        if let Some(prefix) = &filter.id_prefix {
            clause.push_str(" and substr(id, 1, length(?)) = ?");
            parameters.extend([Sql::Text(prefix.clone()), Sql::Text(prefix.clone())]);
        }
        for (name, wanted) in &filter.equals {
            let column = table.column(name).ok_or_else(|| Error::UnknownColumn {
                table: table.local,
                column: name.clone(),
            })?;
            clause.push_str(&format!(" and \"{name}\" is ?"));
            parameters.push(value::to_sql(column, Some(wanted)));
        }
        let order = if filter.oldest_first {
            "seq"
        } else {
            "seq desc"
        };
        clause.push_str(&format!(" order by {order} limit ? offset ?"));
        parameters.push(Sql::Integer(i64::from(filter.limit)));
        parameters.push(Sql::Integer(i64::from(filter.offset)));
        let found = statements::select(self.read(table.file)?, table, &clause, parameters)
            .in_file(table.file)?;
        found
            .into_iter()
            .map(|live| self.view(table, live))
            .collect()
    }

    /// Returns how many live rows a table has, by scope.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], or when the database fails.
    pub fn count(&self, table: &str) -> Result<Vec<(String, u64)>> {
        let table = named(table)?;
        let sql = format!(
            "select scope, count(*) from \"{}\" group by scope order by scope",
            table.local
        );
        let connection = self.read(table.file)?;
        let count = || -> rusqlite::Result<Vec<(String, u64)>> {
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        };
        count().in_file(table.file)
    }

    /// Stores rows that an importer read, by cloud name of their table, all in one transaction
    /// with the importer's state. Rows of a known identity join the stored ones: facts stay as
    /// they are, records take given and greater values; deleted ones stay out. The caller keeps
    /// the transaction short by giving a few hundred rows at a time.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] for a table of another file, [`Error::MissingColumn`], or when
    /// the database fails. Then nothing was stored.
    pub fn ingest(
        &mut self,
        file: File,
        rows: Vec<(&str, Row)>,
        state: Option<&ImportState>,
        now_ms: i64,
    ) -> Result<Ingested> {
        if let Some(state) = state.filter(|_| !self.guards.import_with_rows) {
            self.write(file, |work| import_state::put(work.tx, state, now_ms))?;
        }
        self.write(file, |work| {
            let mut ingested = Ingested::default();
            for (name, row) in rows {
                let table = statements::table_in(file, name)
                    .ok_or_else(|| Error::UnknownTable(name.to_owned()))?;
                ingest_row(work, table, row, now_ms, &mut ingested)?;
            }
            if let Some(state) = state {
                import_state::put(work.tx, state, now_ms)?;
            }
            Ok(ingested)
        })
    }

    /// Stores rows that an importer read under ids that it knows, made from what the rows are
    /// about, all in one transaction. Otherwise as [`LocalStore::ingest`].
    ///
    /// # Errors
    /// As [`LocalStore::ingest`].
    pub fn ingest_as(
        &mut self,
        file: File,
        rows: Vec<(RowId, &str, Row)>,
        now_ms: i64,
    ) -> Result<Ingested> {
        self.write(file, |work| {
            let mut ingested = Ingested::default();
            for (id, name, row) in rows {
                let table = statements::table_in(file, name)
                    .ok_or_else(|| Error::UnknownTable(name.to_owned()))?;
                put_new(work, table, id, row, now_ms, &mut ingested)?;
            }
            Ok(ingested)
        })
    }

    pub(crate) fn view(&self, table: &Table, live: LocalRow) -> Result<RowView> {
        let id = live.id.clone().unwrap_or_default();
        let connection = self.read(table.file)?;
        let mark = marks::of_row(connection, table, &live.scope, &id, Some(live.seq));
        Ok(RowView {
            pending: mark.in_file(table.file)?.is_some(),
            row: live.canonical(table),
            id: live.id,
            scope: live.scope,
            user_id: live.user_id,
            device_id: live.device_id,
            version: live.version,
            created_at: live.created_at,
            updated_at: live.updated_at,
        })
    }

    /// Returns the scope as the files store it: the owner's own is `user`.
    ///
    /// # Errors
    /// [`Error::NotBound`] before the first login.
    pub fn local_scope(&self, scope: Scope) -> Result<String> {
        Ok(scope.to_local(self.owner()?.user.get()))
    }
}

fn named(cloud: &str) -> Result<&'static Table> {
    by_cloud_name(cloud).ok_or_else(|| Error::UnknownTable(cloud.to_owned()))
}

/// Stores one row in the owner's own scope and counts what became of it.
pub(crate) fn ingest_row(
    work: &mut Work<'_>,
    table: &'static Table,
    row: Row,
    now_ms: i64,
    ingested: &mut Ingested,
) -> Result<()> {
    let row = prepare(table, row);
    let id = new_id(work, table, &row, now_ms)?;
    put_counted(work, table, id, &row, now_ms, ingested).map(drop)
}

/// Stores a row under a given id in the owner's own scope, unless it was deleted; returns whether
/// it did.
pub(crate) fn put_new(
    work: &mut Work<'_>,
    table: &'static Table,
    id: RowId,
    row: Row,
    now_ms: i64,
    ingested: &mut Ingested,
) -> Result<bool> {
    put_counted(work, table, id, &prepare(table, row), now_ms, ingested)
}

/// Puts a prepared row and counts what became of it; returns whether it is new.
fn put_counted(
    work: &mut Work<'_>,
    table: &'static Table,
    id: RowId,
    row: &Row,
    now_ms: i64,
    ingested: &mut Ingested,
) -> Result<bool> {
    let scope = work.session_scope(table, row)?;
    let put = work.put(table, &scope, id, row, now_ms, false)?;
    let counter = match put {
        Put::Inserted(_) => &mut ingested.inserted,
        Put::Updated => &mut ingested.updated,
        Put::Unchanged => &mut ingested.unchanged,
        Put::KeptOut => &mut ingested.kept_out,
    };
    *counter += 1;
    Ok(matches!(put, Put::Inserted(_)))
}

/// Returns whether only a hook has told about a row: `metadata.source` says so.
fn is_provisional(row: &Row) -> bool {
    let metadata = row.get("metadata");
    metadata.and_then(|metadata| metadata.get("source")?.as_str()) == Some(PROVISIONAL_SOURCE)
}

fn new_id(work: &mut Work<'_>, table: &'static Table, row: &Row, now_ms: i64) -> Result<RowId> {
    let extra = row.get(EXTRA);
    let given =
        |name: &str| row.contains_key(name) || extra.is_some_and(|extra| extra.get(name).is_some());
    if let Some(column) = table.columns.iter().find(|c| c.required && !given(c.name)) {
        return Err(Error::MissingColumn {
            table: table.local,
            column: column.name.to_owned(),
        });
    }
    match hash::derived_id(table, row, work.device) {
        Ok(Some(id)) => Ok(id),
        Ok(None) => Ok(RowId::new(work.random.id(now_ms))),
        Err(missing) => Err(Error::MissingColumn {
            table: table.local,
            column: missing.0.to_owned(),
        }),
    }
}

impl Work<'_> {
    fn put(
        &mut self,
        table: &'static Table,
        scope: &str,
        id: RowId,
        row: &Row,
        now_ms: i64,
        by_person: bool,
    ) -> Result<Put> {
        let text = id.to_string();
        let ruled = self.scope_of_new(table, scope, &text, row)?;
        let scope = ruled.as_deref().unwrap_or(scope);
        if let Some(live) = statements::by_key(self.tx, table, scope, &text).in_file(self.file)? {
            let foreign = crate::adopt::is_foreign(self, table, scope, &text)?;
            if table.class == Class::Fact && !foreign && self.gives_way(table, &live, row)? {
                self.rewrite(table, live, row, now_ms)?;
                return Ok(Put::Updated);
            }
            if table.class == Class::Fact || foreign {
                return Ok(Put::Unchanged);
            }
            let before = live.canonical(table);
            let after = prepare(table, with(table, &before, row));
            if after == before {
                return Ok(Put::Unchanged);
            }
            self.rewrite(table, live, &after, now_ms)?;
            return Ok(Put::Updated);
        }
        let keeps_out = !by_person && self.guards.kept_out;
        if keeps_out && self.was_deleted(table, scope, &text)? {
            return Ok(Put::KeptOut);
        }
        let live = LocalRow {
            id: Some(text),
            scope: scope.to_owned(),
            created_at: Some(canonical::time_from_ms(now_ms)),
            ..LocalRow::default()
        };
        if keeps_out {
            // No mark has the row's key, and none its new number.
            let (seq, live) = self.store_row(table, live, row, now_ms)?;
            let id = live.id.as_deref();
            self.add_mark(table, Some(seq), scope, id, "insert", now_ms, true)?;
        } else {
            self.rewrite(table, live, row, now_ms)?;
        }
        Ok(Put::Inserted(id))
    }

    /// Returns where a rule wants a private row that is not there yet.
    fn scope_of_new(
        &self,
        table: &'static Table,
        scope: &str,
        id: &str,
        row: &Row,
    ) -> Result<Option<String>> {
        if self.rules.is_empty() || scope != coditect_protocol::scope::LOCAL_USER {
            return Ok(None);
        }
        let known = statements::by_key(self.tx, table, scope, id).in_file(self.file)?;
        match known {
            Some(_) => Ok(None),
            None => self.ruled_scope(table, row),
        }
    }

    /// Returns whether a stored fact is one that only a hook has told about, now the transcript
    /// tells it better, and nobody else has been sent it.
    fn gives_way(&self, table: &Table, live: &LocalRow, row: &Row) -> Result<bool> {
        if is_provisional(row) || !is_provisional(&live.canonical(table)) {
            return Ok(false);
        }
        let Some(id) = &live.id else { return Ok(false) };
        let sent = self.base(table, &live.scope, id)?.is_some()
            || self.may_be_stored(table, &live.scope, id)?;
        Ok(!sent)
    }

    /// Returns whether the row is a tombstone, or its delete waits to be sent.
    fn was_deleted(&self, table: &Table, scope: &str, id: &str) -> Result<bool> {
        if self
            .base(table, scope, id)?
            .is_some_and(|base| base.deleted)
        {
            return Ok(true);
        }
        let mark = marks::of_row(self.tx, table, scope, id, None).in_file(self.file)?;
        Ok(mark.is_some())
    }

    /// Writes a row's new content with a mark of its own.
    fn rewrite(
        &mut self,
        table: &'static Table,
        live: LocalRow,
        row: &Row,
        now_ms: i64,
    ) -> Result<()> {
        let action = if live.seq == 0 { "insert" } else { "update" };
        let (seq, live) = self.store_row(table, live, row, now_ms)?;
        let id = live.id.as_deref();
        self.put_mark(table, Some(seq), &live.scope, id, action, now_ms, true)?;
        Ok(())
    }

    /// Writes a row's new content without a mark; returns its number and what was written beside
    /// the content.
    fn store_row(
        &mut self,
        table: &'static Table,
        mut live: LocalRow,
        row: &Row,
        now_ms: i64,
    ) -> Result<(i64, LocalRow)> {
        live.content_hash = Some(hash::content(table, row).to_string());
        live.device_id = Some(self.device.to_string());
        live.updated_at = Some(canonical::time_from_ms(now_ms));
        if live.user_id.is_none() {
            live.user_id = self.owner.map(|owner| owner.user.to_string());
        }
        let seq = statements::write(self.tx, table, &live, row).in_file(self.file)?;
        self.index(table, seq, row)?;
        Ok((seq, live))
    }
}

/// Returns the stored row with what an import knows more: given values, and of `max` columns
/// the greater ones. Counters are not an import's to set.
fn with(table: &Table, before: &Row, new: &Row) -> Row {
    let mut after = before.clone();
    for column in table.columns {
        let Some(value) = new.get(column.name) else {
            continue;
        };
        let takes = match column.merge {
            Merge::Lww | Merge::Owner => true,
            Merge::Max => value::is_greater(column, Some(value), before.get(column.name)),
            Merge::Counter => false,
        };
        if takes {
            after.insert(column.name.to_owned(), value.clone());
        }
    }
    after
}
