//! What happened, in the order of time.

use coditect_protocol::catalogue::{Table, by_cloud_name};
use rusqlite::params_from_iter;
use rusqlite::types::Value as Sql;

use super::origin::time_sql;
use super::{Origin, Which};
use crate::error::{Error, InFile as _, Result};
use crate::statements;
use crate::{LocalStore, RowView};

/// What to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimelineQuery {
    /// Cloud names of the tables; of the knowledge graph only commits are moments.
    pub tables: Vec<String>,
    /// Which rows.
    pub which: Which,
    /// Moments around this time instead of the newest ones: half of them before it.
    pub around: Option<String>,
    /// Moments at most.
    pub limit: u32,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    /// Cloud name of its table.
    pub table: &'static str,
    /// The row.
    pub view: RowView,
    /// Where it comes from, and when it was.
    pub origin: Origin,
}

/// Which side of a time.
#[derive(Clone, Copy)]
enum Side {
    Before,
    From,
}

impl LocalStore {
    /// Returns what happened, newest first.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], or when a database fails.
    pub fn timeline(&self, query: &TimelineQuery) -> Result<Vec<Moment>> {
        let mut tables = Vec::new();
        for name in &query.tables {
            let table = by_cloud_name(name).ok_or_else(|| Error::UnknownTable(name.clone()))?;
            tables.push(table);
        }
        let Some(around) = &query.around else {
            return self.moments(&tables, &query.which, None, query.limit);
        };
        let before = Some((Side::Before, around.as_str()));
        let half = query.limit / 2;
        let mut before = self.moments(&tables, &query.which, before, half)?;
        let rest = query.limit - u32::try_from(before.len()).unwrap_or(half);
        let after = Some((Side::From, around.as_str()));
        let mut all = self.moments(&tables, &query.which, after, rest)?;
        all.append(&mut before);
        Ok(all)
    }

    fn moments(
        &self,
        tables: &[&'static Table],
        which: &Which,
        side: Option<(Side, &str)>,
        limit: u32,
    ) -> Result<Vec<Moment>> {
        let resolved = self.resolve(which)?;
        let mut found: Vec<(String, &'static Table, i64)> = Vec::new();
        for table in tables {
            let Some(mut clause) = resolved.clause(table) else {
                continue;
            };
            let time = time_sql(table);
            if table.cloud == "org_kg_nodes" {
                clause.sql.push_str(" and t.node_type = 'commit'");
            }
            let order = match side {
                Some((Side::From, at)) => {
                    clause.sql.push_str(&format!(" and {time} >= ?"));
                    clause.parameters.push(Sql::Text(at.to_owned()));
                    "asc"
                }
                Some((Side::Before, at)) => {
                    clause.sql.push_str(&format!(" and {time} < ?"));
                    clause.parameters.push(Sql::Text(at.to_owned()));
                    "desc"
                }
                None => "desc",
            };
            let sql = format!(
                "select t.seq, {time} from \"{}\" t where {time} is not null{}
                 order by 2 {order}, 1 {order} limit ?",
                table.local, clause.sql
            );
            clause.parameters.push(Sql::Integer(i64::from(limit)));
            let connection = self.read(table.file)?;
            let list = || -> rusqlite::Result<Vec<(i64, String)>> {
                let mut statement = connection.prepare_cached(&sql)?;
                let rows = statement.query_map(params_from_iter(&clause.parameters), |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
                rows.collect()
            };
            let rows = list().in_file(table.file)?;
            found.extend(rows.into_iter().map(|(seq, time)| (time, *table, seq)));
        }
        // Newest first; of those after a time, the nearest are taken.
        found.sort_by(|a, b| (&b.0, b.1.cloud, b.2).cmp(&(&a.0, a.1.cloud, a.2)));
        if matches!(side, Some((Side::From, _))) {
            let skip = found.len().saturating_sub(limit as usize);
            found.drain(..skip);
        }
        found.truncate(limit as usize);
        let mut moments = Vec::new();
        for (_, table, seq) in found {
            let live = statements::by_seq(self.read(table.file)?, table, seq);
            if let Some(live) = live.in_file(table.file)? {
                let view = self.view(table, live)?;
                moments.push(self.moment(table, view)?);
            }
        }
        Ok(moments)
    }

    /// Returns a row as a moment.
    ///
    /// # Errors
    /// When a database fails.
    pub fn moment(&self, table: &'static Table, view: RowView) -> Result<Moment> {
        let (created, user) = (view.created_at.as_deref(), view.user_id.as_deref());
        Ok(Moment {
            table: table.cloud,
            origin: self.origin(table, &view.row, created, user)?,
            view,
        })
    }
}
