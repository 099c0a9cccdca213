//! `coditect conflict resolve` and `restore`: a version that lost, or fields of it, as a new edit.

use coditect_local_store::{LocalStore, RowView};
use coditect_protocol::RowId;
use coditect_protocol::catalogue::{Class, Merge, Table, by_cloud_name};
use coditect_protocol::wire::{Op, Row};
use serde_json::{Value, json};

use super::{Lost, find, settle_all};
use crate::clock;
use crate::commands::records;
use crate::context::Context;
use crate::exit::{CommandError, Exit};

/// One of the two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Lost,
    Stored,
}

/// What was chosen: for the whole row, and for single fields.
#[derive(Debug)]
struct Choice {
    whole: Side,
    fields: Vec<(String, Side)>,
}

/// Runs the command.
pub(super) fn run(context: &Context, id: &str, take: &[String]) -> anyhow::Result<Exit> {
    let mut store = context.store()?;
    let found = find(context, &store, id)?;
    // The latest of several of one row; the others are older still.
    let Some(lost) = found.last() else {
        return Err(CommandError::new(Exit::NotFound, "there is no such conflict").into());
    };
    let table = by_cloud_name(&lost.table).ok_or_else(|| {
        let message = format!("this version does not know the table {}", lost.table);
        CommandError::new(Exit::Failure, message)
    })?;
    let own = store.device().to_string();
    let mine = match lost.device.as_deref() == Some(own.as_str()) {
        true => Side::Lost,
        false => Side::Stored,
    };
    let choice = choice(table, take, mine)?;
    let takes_lost =
        choice.whole == Side::Lost || choice.fields.iter().any(|(_, side)| *side == Side::Lost);
    if takes_lost && table.class == Class::Fact {
        let message = "a fact is written once: what was put aside cannot take its place";
        let error = CommandError::new(Exit::Refused, message);
        return Err(error
            .hint("coditect conflict settle keeps what is stored")
            .into());
    }
    let changed = apply(&mut store, table, lost, &choice)?;
    let settled = settle_all(context, &mut store, &found)?;
    let stored = store.get(&lost.table, &lost.id)?;
    let document = json!({
        "changed": changed, "settled": settled,
        "stored": stored.as_ref().map(records::document),
    });
    context.printer.either(&document, |printer| {
        printer.line(match changed {
            true => "written as a new edit, which the next sync sends",
            false => "what is stored stays",
        })
    })?;
    Ok(Exit::Ok)
}

fn choice(table: &Table, take: &[String], mine: Side) -> anyhow::Result<Choice> {
    let side = |text: &str| -> anyhow::Result<Side> {
        let theirs = match mine {
            Side::Lost => Side::Stored,
            Side::Stored => Side::Lost,
        };
        match text {
            "mine" => Ok(mine),
            "theirs" => Ok(theirs),
            "lost" => Ok(Side::Lost),
            "stored" => Ok(Side::Stored),
            other => {
                let message = format!("'{other}' is none of mine, theirs, lost, stored");
                Err(CommandError::new(Exit::Usage, message).into())
            }
        }
    };
    let mut choice = Choice {
        whole: Side::Stored,
        fields: Vec::new(),
    };
    for text in take {
        let Some((name, chosen)) = text.split_once('=') else {
            choice.whole = side(text)?;
            continue;
        };
        if !fields(table).any(|field| field == name) {
            let names: Vec<&str> = fields(table).collect();
            let message = format!(
                "'{name}' is no field of this; they are {}",
                names.join(", ")
            );
            return Err(CommandError::new(Exit::Usage, message).into());
        }
        choice.fields.push((name.to_owned(), side(chosen)?));
    }
    Ok(choice)
}

/// Fields that can be in conflict. What grows or is counted merges by itself.
fn fields(table: &Table) -> impl Iterator<Item = &'static str> {
    let key = table.identity.columns();
    table
        .columns_by(Merge::Lww)
        .map(|column| column.name)
        .filter(move |name| !key.contains(name))
}

impl Choice {
    fn of(&self, field: &str) -> Side {
        let named = self.fields.iter().rev().find(|(name, _)| name == field);
        named.map_or(self.whole, |(_, side)| *side)
    }
}

/// Makes the choice hold. Returns whether something was written.
fn apply(
    store: &mut LocalStore,
    table: &'static Table,
    lost: &Lost,
    choice: &Choice,
) -> anyhow::Result<bool> {
    let now_ms = clock::now_ms();
    let stored = store
        .get(&lost.table, &lost.id)?
        .filter(|view| view.scope == lost.scope);
    match (lost.op, stored) {
        (Op::Delete, Some(_)) if choice.whole == Side::Lost => {
            Ok(store.delete(&lost.table, &lost.scope, &lost.id, now_ms)?)
        }
        (Op::Delete, _) => Ok(false),
        (Op::Upsert, None) if choice.whole == Side::Stored && choice.fields.is_empty() => Ok(false),
        (Op::Upsert, None) => {
            let id: RowId = lost.id.parse()?;
            let row = lost.row.clone().unwrap_or_default();
            Ok(store.insert_as(&lost.table, &lost.scope, id, row, now_ms)?)
        }
        (Op::Upsert, Some(stored)) => {
            let patch = patch(table, lost, &stored, choice);
            if patch.is_empty() {
                return Ok(false);
            }
            Ok(store.update(&lost.table, &lost.scope, &lost.id, &patch, now_ms)?)
        }
    }
}

/// Returns what changes in the stored row.
fn patch(table: &Table, lost: &Lost, stored: &RowView, choice: &Choice) -> Row {
    let mut patch = Row::new();
    for field in fields(table).filter(|field| choice.of(field) == Side::Lost) {
        let value = |row: &Row| row.get(field).cloned().unwrap_or(Value::Null);
        let put_aside = lost.row.as_ref().map_or(Value::Null, value);
        if put_aside != value(&stored.row) {
            patch.insert(field.to_owned(), put_aside);
        }
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_chosen_for_all_and_for_single_fields() {
        let table = by_cloud_name("org_decisions").unwrap();
        let words = |words: &[&str]| {
            words
                .iter()
                .map(|&word| word.to_owned())
                .collect::<Vec<_>>()
        };
        let chosen = choice(table, &words(&["theirs", "title=mine"]), Side::Lost).unwrap();
        assert_eq!(
            (chosen.of("rationale"), chosen.of("title")),
            (Side::Stored, Side::Lost)
        );
        let chosen = choice(table, &words(&["title=theirs"]), Side::Stored).unwrap();
        assert_eq!(
            (chosen.of("rationale"), chosen.of("title")),
            (Side::Stored, Side::Lost)
        );
        assert!(choice(table, &words(&["both"]), Side::Lost).is_err());
        assert!(choice(table, &words(&["nothing=mine"]), Side::Lost).is_err());
    }
}
