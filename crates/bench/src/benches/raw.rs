//! The raw side of a push: the statement that a push runs, with literals for its parameters, by
//! pgbench as the app's role. One statement is one transaction; the context of row security is
//! set once per session; nothing is locked, counted or hashed.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use coditect_protocol::UserId;
use coditect_protocol::catalogue::ColumnType;
use coditect_protocol::wire::Row;
use coditect_server_store::sync::insert_text;
use serde_json::Value;
use tempfile::TempDir;

use crate::messages::{self, Pool, REPEATED_EVERY};
use crate::random::Random;
use crate::rig::server::Server;

/// Scripts of a case; pgbench takes at most 128.
const SCRIPTS: usize = 40;
const DEVICE: &str = "00000000-0000-4000-8000-000000000001";
const STAMP: &str = "2026-11-20 09:30:00+00";

/// The scripts of one batch size.
#[derive(Debug)]
pub(crate) struct Scripts {
    _folder: TempDir,
    files: Vec<PathBuf>,
    batch: usize,
    settings: Vec<(String, String)>,
    /// The statement, with the parameters' numbers in place of the literals.
    pub(crate) text: String,
}

/// What pgbench did, in rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    pub(crate) rate: f64,
    pub(crate) per_cpu_second: f64,
}

/// Returns the statement that a push of new messages runs.
pub(crate) fn our_text() -> &'static str {
    insert_text(messages::table())
}

impl Scripts {
    /// Writes the scripts for a person's scope.
    pub(crate) fn write(
        server: &Server,
        batch: usize,
        pool: &Pool,
        user: UserId,
    ) -> anyhow::Result<Self> {
        let folder = crate::rig::server::new_folder()?;
        let text = raw_text(our_text()).context("the statement has another form")?;
        let mut random = Random::new(batch as u64);
        let mut files = Vec::new();
        for number in 0..SCRIPTS {
            let rows: Vec<Row> = (0..batch)
                .map(|position| pool.message(number * batch + position, &mut random))
                .collect();
            let literals = literals(server, user, &rows, &mut random);
            let path = folder.path().join(format!("{number}.sql"));
            std::fs::write(&path, format!("{};\n", with_literals(&text, &literals)))?;
            files.push(path);
        }
        Ok(Self {
            _folder: folder,
            files,
            batch,
            settings: settings(server, user)?,
            text,
        })
    }

    /// Returns the settings of the raw sessions.
    pub(crate) fn context(&self) -> String {
        let settings = self.settings.iter();
        let settings: Vec<String> = settings
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        format!(
            "pgbench --protocol=simple as coditect_app, {}",
            settings.join(" ")
        )
    }

    /// Runs them for so many seconds.
    pub(crate) fn run(
        &self,
        server: &Server,
        connections: usize,
        seconds: u64,
    ) -> anyhow::Result<Rows> {
        server.postgres.run("checkpoint")?;
        let raw = server
            .postgres
            .bench(&self.files, connections, seconds, &self.settings)?;
        Ok(Rows {
            rate: raw.rate * self.batch as f64,
            per_cpu_second: raw.per_cpu_second * self.batch as f64,
        })
    }
}

/// Returns the settings that the policies over messages read, for a person of the tenant.
pub(crate) fn settings(server: &Server, user: UserId) -> anyhow::Result<Vec<(String, String)>> {
    let sql = "select distinct m[1] from pg_policies,
        regexp_matches(coalesce(qual, '') || coalesce(with_check, ''), '(app\\.\\w+)', 'g') m
        where tablename = 'context_messages'";
    let names = server
        .postgres
        .query(crate::rig::postgres::SUPERUSER, sql)?;
    let tenant = server.tenant;
    let value = |name: &str| match name {
        "app.current_tenant" => tenant.to_string(),
        name if name.ends_with("scopes") => format!("{{{user},{tenant}}}"),
        _ => user.to_string(),
    };
    Ok(names
        .into_iter()
        .flatten()
        .map(|name| (name.clone(), value(&name)))
        .collect())
}

/// Returns our statement as one that can run again and again: new messages get a new id, and
/// cursors grow with the time instead of with the stream.
fn raw_text(ours: &str) -> Option<String> {
    let (head, rest) = ours.split_once("select $1, $2, ")?;
    let (list, tail) = rest.split_once(" from unnest(")?;
    let list = list.strip_prefix("id, ")?;
    let cursor = "cursor + (extract(epoch from now()) * 1000000)::bigint, ";
    let list = list.replacen("cursor, ", cursor, 1);
    let id = "coalesce(id, gen_random_uuid())";
    Some(format!(
        "{head}select $1, $2, {id}, {list} from unnest({tail}"
    ))
}

fn with_literals(text: &str, literals: &[String]) -> String {
    let numbered = literals.iter().enumerate().rev();
    // From the last on, because $1 is also the beginning of $10.
    let places: Vec<(String, &String)> = numbered
        .map(|(number, literal)| (format!("${}", number + 1), literal))
        .collect();
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at..];
        let place = places
            .iter()
            .find(|(place, _)| rest.starts_with(place.as_str()));
        let Some((place, literal)) = place else { break };
        result.push_str(literal);
        rest = &rest[place.len()..];
    }
    result.push_str(rest);
    result
}

/// Returns the parameters of the statement, in their order.
fn literals(server: &Server, user: UserId, rows: &[Row], random: &mut Random) -> Vec<String> {
    let same = |value: &str| array(rows.iter().map(|_| Some(value.to_owned())));
    let none = || array(rows.iter().map(|_| None));
    let ids = rows.iter().enumerate().map(|(number, _)| {
        let repeated = (number + 1) % REPEATED_EVERY == 0;
        // A script runs many times: a fixed id is new in its first run only. For single rows
        // every tenth script has one.
        let repeated = repeated || rows.len() == 1 && random.below(REPEATED_EVERY) == 0;
        repeated.then(|| random.uuid().to_string())
    });
    let ids = array(ids);
    let hashes = rows.iter().map(|row| {
        let hash = coditect_core::hash::content(messages::table(), row);
        Some(format!("\\x{hash}"))
    });
    let cursors = (0..rows.len()).map(|number| Some(number.to_string()));
    let mut all = vec![
        format!("'{}'::uuid", server.tenant),
        format!("'{user}'::uuid"),
        ids,
        same(&user.to_string()),
        same(DEVICE),
        same(DEVICE),
        array(hashes),
        same("123456789012345678"),
        array(cursors),
        same(STAMP),
        same(STAMP),
        none(),
        none(),
    ];
    for column in messages::table().columns {
        let values = rows.iter().map(|row| {
            row.get(column.name).map(|value| match (column.ty, value) {
                (ColumnType::Json, value) => value.to_string(),
                (_, Value::String(text)) => text.clone(),
                (_, value) => value.to_string(),
            })
        });
        all.push(array(values));
    }
    all
}

/// Returns a quoted array literal.
fn array(values: impl Iterator<Item = Option<String>>) -> String {
    let mut text = String::from("'{");
    for (number, value) in values.enumerate() {
        if number > 0 {
            text.push(',');
        }
        let Some(value) = value else {
            text.push_str("NULL");
            continue;
        };
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        // Writing to a string cannot fail.
        let _ = write!(text, "\"{}\"", value.replace('\'', "''"));
    }
    text.push_str("}'");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_statement_becomes_one_that_runs_again() {
        let text = raw_text(our_text()).unwrap();
        assert!(text.contains("select $1, $2, coalesce(id, gen_random_uuid()), user_id"));
        assert!(text.contains("version, cursor + (extract(epoch from now())"));
        assert!(text.contains("on conflict (tenant_id, scope_id, id) do nothing"));
    }

    #[test]
    fn literals_take_the_places_of_the_parameters() {
        let literals: Vec<String> = (1..=12).map(|number| format!("<{number}>")).collect();
        let text = with_literals("f($1, $2, $12::text[], $11)", &literals);
        assert_eq!(text, "f(<1>, <2>, <12>::text[], <11>)");
    }

    #[test]
    fn arrays_are_quoted() {
        let values = [Some("it's \"so\" \\ a"), None];
        let text = array(values.into_iter().map(|value| value.map(str::to_owned)));
        assert_eq!(text, r#"'{"it''s \"so\" \\ a",NULL}'"#);
    }
}
