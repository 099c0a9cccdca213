//! Records that people write down, all alike: add, list, show, edit, delete. A [`Kind`] says what
//! is special about one; the command line is made from it.

pub(crate) mod commands;
mod fields;
pub(crate) mod kinds;

use clap::{ArgMatches, Command, FromArgMatches, Subcommand};
use coditect_local_store::{RowFilter, RowView};
use coditect_protocol::catalogue::{Class, Table, by_cloud_name};
use coditect_protocol::wire::Row;
use serde_json::{Value, json};
use std::marker::PhantomData;

use crate::context::Context;
use crate::exit::Exit;
use crate::names::ScopeName;

pub(crate) use commands::{Delete, List, Show, print_entry};
pub(crate) use fields::{Field, since};

/// Columns and the values to set; null clears one.
pub(crate) type Fields = Row;

/// A kind of record.
#[derive(Debug)]
pub(crate) struct Kind {
    /// In messages.
    pub(crate) noun: &'static str,
    /// Key of the list in JSON.
    pub(crate) plural: &'static str,
    /// Cloud name of the table.
    pub(crate) table: &'static str,
    /// Column that names a record to people.
    pub(crate) title: &'static str,
    /// Columns of the list.
    pub(crate) list: &'static [&'static str],
    /// What can be said about one.
    pub(crate) fields: &'static [Field],
    /// Columns that a new record's id is made from, where they say what it is; else it is random.
    pub(crate) known_by: &'static [&'static str],
    /// Option of `edit` that adds one to a counter: its name, the column, its help.
    pub(crate) count: Option<(&'static str, &'static str, &'static str)>,
}

impl Kind {
    pub(crate) fn table(&self) -> &'static Table {
        // Each kind names a table of the catalogue; a test goes through all of them.
        by_cloud_name(self.table).unwrap_or_else(|| unreachable!("{}", self.table))
    }

    /// Facts are written once.
    fn can_change(&self) -> bool {
        self.table().class == Class::Record
    }
}

/// Ties a kind to a type, so that the command line can be made from it.
pub(crate) trait Described: std::fmt::Debug {
    /// The kind.
    const KIND: &'static Kind;
}

/// What to do with records of a kind.
#[derive(Debug)]
pub(crate) enum Verb<K> {
    /// Write one down.
    Add {
        /// Who sees it.
        scope: ScopeName,
        /// What it says.
        fields: Fields,
    },
    /// List them.
    List(List),
    /// Show one in full.
    Show(Show),
    /// Change one.
    Edit {
        /// Its id, or the beginning of it.
        id: String,
        /// What changes.
        fields: Fields,
        /// Whether to count.
        count: bool,
    },
    /// Delete one.
    Delete(Delete),
    /// Never made: holds the type.
    #[expect(dead_code, reason = "a type parameter must be used")]
    Of(PhantomData<K>, std::convert::Infallible),
}

impl<K: Described> Subcommand for Verb<K> {
    fn augment_subcommands(command: Command) -> Command {
        fields::commands(command, K::KIND)
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        ["add", "list", "show", "edit", "delete"].contains(&name)
    }
}

impl<K: Described> FromArgMatches for Verb<K> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let Some((name, matches)) = matches.subcommand() else {
            return Err(clap::Error::new(clap::error::ErrorKind::MissingSubcommand));
        };
        Ok(match name {
            "add" => Self::Add {
                scope: matches.get_one("scope").cloned().unwrap_or(ScopeName::User),
                fields: fields::given(matches, K::KIND),
            },
            "list" => Self::List(fields::list(matches, K::KIND)?),
            "show" => Self::Show(Show::from_arg_matches(matches)?),
            "edit" => Self::Edit {
                id: matches.get_one::<String>("id").cloned().unwrap_or_default(),
                fields: fields::given(matches, K::KIND),
                count: K::KIND
                    .count
                    .is_some_and(|(flag, ..)| matches.get_flag(flag)),
            },
            _ => Self::Delete(Delete::from_arg_matches(matches)?),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Runs a command about records of a kind.
pub(crate) fn run<K: Described>(context: &Context, verb: Verb<K>) -> anyhow::Result<Exit> {
    match verb {
        Verb::Add { scope, fields } => commands::add(context, K::KIND, scope, fields),
        Verb::List(list) => commands::list(context, K::KIND, &list),
        Verb::Show(show) => commands::show(context, K::KIND, &show),
        Verb::Edit { id, fields, count } => commands::edit(context, K::KIND, &id, fields, count),
        Verb::Delete(delete) => commands::delete(context, K::KIND, &delete),
        Verb::Of(_, never) => match never {},
    }
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

/// Returns the filter for columns that were asked for by value.
pub(crate) fn filter(given: &[(&str, Option<&str>)], limit: u32) -> RowFilter {
    let equals = given.iter().filter_map(|(name, value)| {
        let value = Value::from((*value)?);
        Some(((*name).to_owned(), value))
    });
    RowFilter {
        equals: equals.collect(),
        limit,
        ..RowFilter::default()
    }
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
