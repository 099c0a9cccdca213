//! What the commands do, whatever the kind.

use clap::Args;
use coditect_core::hash;
use coditect_local_store::{LocalStore, RowFilter, RowView, can_have_rule};
use coditect_protocol::catalogue::Table;
use serde_json::{Value, json};

use super::{Fields, Kind, document, fields, scope_word, text};
use crate::clock;
use crate::commands::project;
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::names::{self, ScopeName};
use crate::prompt;
use crate::table::{self, one_line, short_time};

/// Rows that are looked at in one go.
const PAGE_ROWS: u32 = 500;

/// Which records to list.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// At most so many
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) limit: u32,
    /// Only those of one scope
    #[arg(long = "scope")]
    pub(crate) of_scope: Option<ScopeName>,
    /// Only those made since, such as 2026-02-03 or 2026-02-03T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = fields::since)]
    pub(crate) since: Option<String>,
    /// Only those whose columns have these values.
    #[arg(skip)]
    pub(crate) equals: Vec<(String, Value)>,
}

/// Which record to show.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Its id, or the beginning of it
    pub(crate) id: String,
}

/// Which record to delete.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Its id, or the beginning of it
    pub(crate) id: String,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Adds a record and prints its id.
pub(crate) fn add(
    context: &Context,
    kind: &Kind,
    scope: ScopeName,
    mut fields: Fields,
) -> anyhow::Result<Exit> {
    let mut store = context.store()?;
    let scope = scope.local(&store)?;
    let table = kind.table();
    if let Some(column) = table.column("project_id") {
        let given = fields.get("project_id").and_then(Value::as_str);
        let found = match given {
            Some(name) => Some(project::named(&store, name)?),
            None if column.required => Some(project::here(context, &store)?),
            // What is written in a project's folder is about the project.
            None if can_have_rule(table) => {
                let folder = context.folder()?;
                project::of_path(&store, &folder).ok().flatten()
            }
            None => None,
        };
        if let Some(project) = found {
            fields.insert("project_id".to_owned(), project.into());
        }
    }
    let id = match kind.known_by {
        [] => store.insert(kind.table, &scope, fields, clock::now_ms())?,
        columns => {
            let parts: Vec<String> = columns.iter().map(|name| text(&fields, name)).collect();
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let id = hash::named_id(table, &parts);
            store.insert_as(kind.table, &scope, id, fields, clock::now_ms())?;
            id
        }
    };
    let entry = stored(&store, kind, &id.to_string())?;
    context.printer.either(&document(&entry), |printer| {
        printer.line(entry.id.as_deref().unwrap_or_default())
    })?;
    if !context.printer.is_json() {
        let scope = names::scope_label(&store, &entry.scope);
        let place = match scope.as_str() {
            "user" => "only you see it".to_owned(),
            scope => format!("in {scope}"),
        };
        context
            .printer
            .note(&format!("{} added; {place}", kind.noun));
    }
    Ok(Exit::Ok)
}

/// Lists records, newest first.
pub(crate) fn list(context: &Context, kind: &Kind, list: &List) -> anyhow::Result<Exit> {
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
                    names::scope_label(&store, &entry.scope),
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
    let mut equals = list.equals.clone();
    for (column, value) in &mut equals {
        if column == "project_id"
            && let Some(name) = value.as_str()
        {
            *value = project::named(store, name)?.into();
        }
    }
    let mut filter = RowFilter {
        scope: list
            .of_scope
            .as_ref()
            .map(|scope| scope.local(store))
            .transpose()?,
        equals,
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
pub(crate) fn show(context: &Context, kind: &Kind, show: &Show) -> anyhow::Result<Exit> {
    let store = context.adopted_store(&[kind.table().file])?;
    let entry = names::row(&store, kind.table(), kind.noun, &show.id, None)?;
    print_entry(context, kind.table(), &entry)?;
    Ok(Exit::Ok)
}

/// Changes a record, and adds one to its counter if asked to.
pub(crate) fn edit(
    context: &Context,
    kind: &Kind,
    id: &str,
    fields: Fields,
    count: bool,
) -> anyhow::Result<Exit> {
    if fields.is_empty() && !count {
        let error = CommandError::new(Exit::Usage, "nothing to change was given");
        return Err(error.hint(format!("coditect help {}", kind.noun)).into());
    }
    let mut store = context.adopted_store(&[kind.table().file])?;
    let found = names::row(&store, kind.table(), kind.noun, id, None)?;
    let id = found.id.unwrap_or_default();
    let mut fields = fields;
    if let Some(name) = fields.get("project_id").and_then(Value::as_str) {
        let project = project::named(&store, name)?;
        fields.insert("project_id".to_owned(), project.into());
    }
    if let (true, Some((_, counter, _))) = (count, kind.count) {
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
pub(crate) fn delete(context: &Context, kind: &Kind, delete: &Delete) -> anyhow::Result<Exit> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_control_the_terminal_is_left_out() {
        let lines: Vec<String> = printable("a\u{1b}[31m\nb\tc\u{7}").collect();
        assert_eq!(lines, ["a[31m", "b\tc"]);
    }
}
