//! What decisions, learnings and error solutions have in common: add, list, show, edit, delete.

use clap::Args;
use coditect_local_store::{LocalStore, RowFilter, RowView};
use coditect_protocol::catalogue::{Table, by_cloud_name};
use coditect_protocol::wire::Row;
use serde_json::{Value, json};

use crate::clock;
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::names::{self, ScopeName};
use crate::prompt;
use crate::table::{self, one_line, short_time};

/// Rows that are looked at in one go.
const PAGE_ROWS: u32 = 500;

/// Columns and the values to set; null clears one.
pub(super) type Fields = Row;

/// A kind of record.
pub(super) struct Kind {
    /// In messages.
    pub(super) noun: &'static str,
    /// Key of the list in JSON.
    pub(super) plural: &'static str,
    /// Cloud name of the table.
    pub(super) table: &'static str,
    /// Column that names a record to people.
    pub(super) title: &'static str,
    /// Columns of the list.
    pub(super) list: &'static [&'static str],
}

impl Kind {
    fn table(&self) -> &'static Table {
        // Each kind names a table of the catalogue; a test goes through all of them.
        by_cloud_name(self.table).unwrap_or_else(|| unreachable!("{}", self.table))
    }
}

/// Whose a new record is.
#[derive(Debug, Args)]
pub(crate) struct Scoped {
    /// Who sees it
    #[arg(long, value_enum, default_value = "user")]
    pub(super) scope: ScopeName,
}

/// Which records to list.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// At most so many
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: u32,
    /// Only those of one scope
    #[arg(long, value_enum)]
    scope: Option<ScopeName>,
    /// Only those of this project
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
    /// Only those made since, such as 2026-02-03 or 2026-02-03T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<String>,
}

/// Which record to show.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Its id, or the beginning of it
    id: String,
}

/// Which record to delete.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Its id, or the beginning of it
    id: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Collects the values that were given.
pub(super) fn fields<const N: usize>(given: [(&str, Option<Value>); N]) -> Fields {
    let set = given
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    // An empty text clears a column.
    set.map(|(name, value)| (name, if value == "" { Value::Null } else { value }))
        .collect()
}

/// Reads a number from 0 to 1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

/// Reads a time and returns it as it is stored.
pub(crate) fn since(text: &str) -> Result<String, String> {
    coditect_core::canonical::time(text)
        .ok_or_else(|| "expected a time such as 2026-02-03 or 2026-02-03T10:00:00Z".to_owned())
}

/// Adds a record and prints its id.
pub(super) fn add(
    context: &Context,
    kind: &Kind,
    scope: ScopeName,
    fields: Fields,
) -> anyhow::Result<Exit> {
    let mut store = context.store()?;
    let scope = scope.local(&store)?;
    let id = store.insert(kind.table, &scope, fields, clock::now_ms())?;
    let entry = stored(&store, kind, &id.to_string())?;
    context.printer.either(&document(&entry), |printer| {
        printer.line(entry.id.as_deref().unwrap_or_default())
    })?;
    if !context.printer.is_json() {
        context.printer.note(&format!("{} added", kind.noun));
    }
    Ok(Exit::Ok)
}

/// Lists records, newest first.
pub(super) fn list(context: &Context, kind: &Kind, list: &List) -> anyhow::Result<Exit> {
    let store = context.adopted_store(&[kind.table().file])?;
    let entries = select(&store, kind, list)?;
    let documents: Vec<Value> = entries.iter().map(document).collect();
    context
        .printer
        .either(&json!({ kind.plural: documents }), |printer| {
            if entries.is_empty() {
                printer.note(&format!("no {} yet", kind.plural));
                return Ok(());
            }
            let mut heads = vec!["id", "made", "scope"];
            heads.extend(kind.list);
            let mut table = table::Table::new(&heads);
            for entry in &entries {
                let fixed = [
                    names::short_id(entry.id.as_deref().unwrap_or("-")),
                    short_time(entry.created_at.as_deref()),
                    scope_word(&entry.scope),
                ];
                let columns = kind.list.iter().map(|name| text(&entry.row, name));
                table.row(fixed.into_iter().chain(columns));
            }
            table.print(printer)
        })?;
    Ok(Exit::Ok)
}

/// Returns the newest records that fit.
fn select(store: &LocalStore, kind: &Kind, list: &List) -> anyhow::Result<Vec<RowView>> {
    let project = list.project.as_deref();
    let project = project.map(|project| ("project_id".to_owned(), Value::from(project)));
    let mut filter = RowFilter {
        scope: list.scope.map(|scope| scope.local(store)).transpose()?,
        equals: project.into_iter().collect(),
        limit: list.limit.max(PAGE_ROWS),
        ..RowFilter::default()
    };
    let mut found = Vec::new();
    loop {
        let page = store.list(kind.table, &filter)?;
        let is_last = page.len() < filter.limit as usize;
        filter.offset += filter.limit;
        let since = list.since.as_deref();
        let fits =
            |row: &RowView| since.is_none_or(|since| row.created_at.as_deref() >= Some(since));
        found.extend(page.into_iter().filter(fits));
        if is_last || found.len() >= list.limit as usize {
            found.truncate(list.limit as usize);
            return Ok(found);
        }
    }
}

/// Returns the record of an id that was just written or found.
fn stored(store: &LocalStore, kind: &Kind, id: &str) -> anyhow::Result<RowView> {
    store.get(kind.table, id)?.ok_or_else(|| {
        let message = format!("the {} was deleted meanwhile", kind.noun);
        CommandError::new(Exit::NotFound, message).into()
    })
}

/// Shows one record.
pub(super) fn show(context: &Context, kind: &Kind, show: &Show) -> anyhow::Result<Exit> {
    let store = context.adopted_store(&[kind.table().file])?;
    let entry = names::row(&store, kind.table(), kind.noun, &show.id, None)?;
    print_entry(context, kind.table(), &entry)?;
    Ok(Exit::Ok)
}

/// Changes a record.
pub(super) fn edit(
    context: &Context,
    kind: &Kind,
    id: &str,
    fields: Fields,
) -> anyhow::Result<Exit> {
    edit_and_count(context, kind, id, fields, None)
}

/// Changes a record and adds one to a counter.
pub(super) fn edit_and_count(
    context: &Context,
    kind: &Kind,
    id: &str,
    fields: Fields,
    counter: Option<&'static str>,
) -> anyhow::Result<Exit> {
    if fields.is_empty() && counter.is_none() {
        let error = CommandError::new(Exit::Usage, "nothing to change was given");
        return Err(error.hint(format!("coditect help {}", kind.noun)).into());
    }
    let mut store = context.adopted_store(&[kind.table().file])?;
    let found = names::row(&store, kind.table(), kind.noun, id, None)?;
    let id = found.id.unwrap_or_default();
    let mut fields = fields;
    if let Some(counter) = counter {
        let count = found.row.get(counter).and_then(Value::as_i64).unwrap_or(0);
        fields.insert(counter.to_owned(), Value::from(count + 1));
    }
    store.update(kind.table, &found.scope, &id, &fields, clock::now_ms())?;
    let entry = stored(&store, kind, &id)?;
    context
        .printer
        .either(&document(&entry), |printer| printer.line(&id))?;
    Ok(Exit::Ok)
}

/// Deletes a record, after asking; prints what was removed, so that it can be made again.
pub(super) fn delete(context: &Context, kind: &Kind, delete: &Delete) -> anyhow::Result<Exit> {
    let mut store = context.adopted_store(&[kind.table().file])?;
    let entry = names::row(&store, kind.table(), kind.noun, &delete.id, None)?;
    let title = one_line(&text(&entry.row, kind.title));
    let short: String = title.chars().take(60).collect();
    if !delete.yes && !prompt::confirm(&format!("delete the {} \"{short}\"?", kind.noun))? {
        context.printer.note("nothing was deleted");
        return Ok(Exit::Failure);
    }
    let id = entry.id.clone().unwrap_or_default();
    let deleted = store.delete(kind.table, &entry.scope, &id, clock::now_ms())?;
    context.printer.either(
        &json!({"deleted": deleted, "row": document(&entry)}),
        |printer| printer.line(&serde_json::to_string_pretty(&document(&entry))?),
    )?;
    if !context.printer.is_json() {
        let note = format!(
            "{} deleted here, and on the other devices with the next sync; the lines above are \
             what it said, `add` makes it again",
            kind.noun
        );
        context.printer.note(&note);
    }
    Ok(Exit::Ok)
}

/// Returns a row as JSON: its columns, with the common ones beside them.
pub(crate) fn document(entry: &RowView) -> Value {
    let mut document = entry.row.clone();
    let mut put = |name: &str, value: Value| {
        document.insert(name.to_owned(), value);
    };
    put("id", json!(entry.id));
    put("scope", json!(entry.scope));
    put("user_id", json!(entry.user_id));
    put("device_id", json!(entry.device_id));
    put("created_at", json!(entry.created_at));
    put("updated_at", json!(entry.updated_at));
    put("pending", json!(entry.pending));
    Value::Object(document)
}

/// Prints a row: every column that has a value.
pub(crate) fn print_entry(context: &Context, table: &Table, entry: &RowView) -> anyhow::Result<()> {
    context.printer.either(&document(entry), |printer| {
        let common = [
            ("id", entry.id.clone()),
            ("scope", Some(scope_word(&entry.scope))),
            ("created_at", entry.created_at.clone()),
            ("updated_at", entry.updated_at.clone()),
        ];
        let columns = table
            .columns
            .iter()
            .filter(|column| entry.row.contains_key(column.name));
        let columns = columns.map(|column| (column.name, Some(text(&entry.row, column.name))));
        for (name, value) in common.into_iter().chain(columns) {
            let Some(value) = value else { continue };
            let label = printer.style(&console::Style::new().bold(), &format!("{name:<16}"));
            let mut lines = printable(&value);
            let first = lines.next().unwrap_or_default();
            printer.line(&format!("{label} {first}"))?;
            for line in lines {
                printer.line(&format!("{:<16} {line}", ""))?;
            }
        }
        Ok(())
    })
}

/// Returns the lines of a text without what would control the terminal.
fn printable(text: &str) -> impl Iterator<Item = String> {
    let clean = |line: &str| {
        line.chars()
            .filter(|c| !c.is_control() || *c == '\t')
            .collect()
    };
    text.lines().map(clean)
}

/// Returns a column's value as text.
pub(crate) fn text(row: &Row, column: &str) -> String {
    match row.get(column) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Returns a stored scope in one word where there is one.
pub(crate) fn scope_word(scope: &str) -> String {
    scope.split(':').next().unwrap_or(scope).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_name_tables_and_columns_of_the_catalogue() {
        for kind in [
            super::super::decision::KIND,
            super::super::learning::KIND,
            super::super::error::KIND,
        ] {
            let table = kind.table();
            assert!(kind.list.contains(&kind.title));
            assert!(kind.list.iter().all(|name| table.column(name).is_some()));
        }
    }

    #[test]
    fn only_given_values_are_set_and_an_empty_one_clears() {
        let given = fields([
            ("a", Some("x".into())),
            ("b", None),
            ("c", Some(String::new().into())),
        ]);
        assert_eq!(Value::Object(given), json!({"a": "x", "c": null}));
    }

    #[test]
    fn shares_and_times_are_checked_when_they_are_read() {
        assert_eq!(share("0.25"), Ok(0.25));
        assert!(share("1.5").is_err() && share("NaN").is_err() && share("x").is_err());
        assert_eq!(
            since("2026-02-03").as_deref(),
            Ok("2026-02-03T00:00:00.000000Z")
        );
        assert!(since("yesterday").is_err());
    }

    #[test]
    fn what_would_control_the_terminal_is_left_out() {
        let lines: Vec<String> = printable("a\u{1b}[31m\nb\tc\u{7}").collect();
        assert_eq!(lines, ["a[31m", "b\tc"]);
    }
}
