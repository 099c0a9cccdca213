//! What can be said about a record, and the command line that is made from it.

use clap::{Arg, ArgAction, ArgMatches, Args as _, Command, FromArgMatches as _, value_parser};
use serde_json::Value;

use super::{Delete, Fields, Kind, List, Show};
use crate::names::ScopeName;

/// Something that can be said about a record: an option, or a word in its place.
#[derive(Debug)]
pub(crate) struct Field {
    /// Column.
    pub(crate) column: &'static str,
    /// Name of the option, and in capitals of its value.
    pub(crate) flag: &'static str,
    /// Whether `add` takes it as a word without a name.
    pub(crate) positional: bool,
    /// What may be given.
    pub(crate) form: Form,
    /// Whether `list` takes it as a filter.
    pub(crate) filter: bool,
    /// One line of help.
    pub(crate) help: &'static str,
}

/// What a field's value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Any text.
    Text,
    /// Several texts; the option is repeated.
    Texts,
    /// A number from 0 to 1.
    Share,
    /// Any number.
    Number,
    /// A whole number.
    Integer,
    /// A day or a moment.
    Time,
    /// Yes or no.
    Switch,
    /// A JSON object.
    Json,
}

impl Field {
    /// A text given by an option.
    pub(crate) const fn option(
        column: &'static str,
        flag: &'static str,
        help: &'static str,
    ) -> Self {
        Self {
            column,
            flag,
            positional: false,
            form: Form::Text,
            filter: false,
            help,
        }
    }

    /// A text that `add` takes without a name.
    pub(crate) const fn word(column: &'static str, flag: &'static str, help: &'static str) -> Self {
        Self {
            positional: true,
            ..Self::option(column, flag, help)
        }
    }

    /// Says what the value looks like.
    pub(crate) const fn form(self, form: Form) -> Self {
        Self { form, ..self }
    }

    /// Makes `list` take it, too.
    pub(crate) const fn filter(self) -> Self {
        Self {
            filter: true,
            ..self
        }
    }

    fn argument(&self) -> Arg {
        // Made once a run; clap wants names that live as long as the program.
        let name: &'static str = self.flag.to_ascii_uppercase().replace('-', "_").leak();
        let argument = Arg::new(self.flag).help(self.help).value_name(name);
        match self.form {
            Form::Text => argument,
            Form::Texts => argument.action(ArgAction::Append),
            Form::Share => argument.value_parser(share).allow_negative_numbers(true),
            Form::Number => argument.value_parser(number).allow_negative_numbers(true),
            Form::Integer => argument
                .value_parser(value_parser!(i64))
                .allow_negative_numbers(true),
            Form::Time => argument.value_parser(since),
            Form::Switch => argument.value_parser(value_parser!(bool)),
            Form::Json => argument.value_parser(object),
        }
    }

    /// Returns the value that was given.
    fn read(&self, matches: &ArgMatches) -> Option<Value> {
        let flag = self.flag;
        let value = match self.form {
            Form::Text | Form::Time => Value::from(matches.get_one::<String>(flag)?.as_str()),
            Form::Texts => {
                let given: Vec<&String> = matches.get_many(flag)?.collect();
                // One empty text clears the column.
                if given.iter().all(|text| text.is_empty()) {
                    return Some(Value::Null);
                }
                Value::from_iter(given.into_iter().cloned())
            }
            Form::Share | Form::Number => Value::from(*matches.get_one::<f64>(flag)?),
            Form::Integer => Value::from(*matches.get_one::<i64>(flag)?),
            Form::Switch => Value::from(*matches.get_one::<bool>(flag)?),
            Form::Json => matches.get_one::<Value>(flag)?.clone(),
        };
        // An empty text clears a column.
        Some(if value == "" { Value::Null } else { value })
    }
}

/// Adds the commands of a kind.
pub(super) fn commands(command: Command, kind: &'static Kind) -> Command {
    let id = || {
        Arg::new("id")
            .required(true)
            .help("Its id, or the beginning of it")
    };
    let scope = Arg::new("scope")
        .long("scope")
        .value_parser(value_parser!(ScopeName))
        .default_value("user")
        .help("Who sees it");
    let required = |field: &Field| {
        kind.table()
            .column(field.column)
            .is_some_and(|c| c.required)
    };
    let mut add = Command::new("add").about("Write one down").arg(scope);
    let mut list = List::augment_args(Command::new("list").about("List them, newest first"));
    let mut edit = Command::new("edit").about("Change one").arg(id());
    for field in kind.fields {
        add = add.arg(if field.positional {
            field.argument().required(required(field))
        } else {
            let is_needed = required(field) && field.column != "project_id";
            field.argument().long(field.flag).required(is_needed)
        });
        let key = kind.table().identity.columns().contains(&field.column);
        if !key && !kind.known_by.contains(&field.column) {
            edit = edit.arg(field.argument().long(field.flag));
        }
        if field.filter {
            list = list.arg(field.argument().long(field.flag));
        }
    }
    if let Some((flag, _, help)) = kind.count {
        let count = Arg::new(flag).long(flag).help(help);
        edit = edit.arg(count.action(ArgAction::SetTrue));
    }
    let show = Show::augment_args(Command::new("show").about("Show one in full"));
    let about = if kind.table().comes_down() {
        "Delete one, here and on every device"
    } else {
        "Delete one, here and on the server"
    };
    let delete = Delete::augment_args(Command::new("delete").about(about));
    let command = command
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([add, list, show, delete]);
    if kind.can_change() {
        command.subcommand(edit)
    } else {
        command
    }
}

/// Returns the values that were given.
pub(super) fn given(matches: &ArgMatches, kind: &Kind) -> Fields {
    // `edit` has no arguments for what a record is known by.
    let has = |field: &&Field| matches.try_contains_id(field.flag).unwrap_or(false);
    let read = |field: &Field| Some((field.column.to_owned(), field.read(matches)?));
    kind.fields.iter().filter(has).filter_map(read).collect()
}

/// Returns the arguments of `list`.
pub(super) fn list(matches: &ArgMatches, kind: &Kind) -> Result<List, clap::Error> {
    let mut list = List::from_arg_matches(matches)?;
    let filters = kind.fields.iter().filter(|field| field.filter);
    let read = |field: &Field| Some((field.column.to_owned(), field.read(matches)?));
    list.equals = filters.filter_map(read).collect();
    Ok(list)
}

/// Reads a number from 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

fn number(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err("expected a number".to_owned()),
    }
}

fn object(text: &str) -> Result<Value, String> {
    match serde_json::from_str::<Value>(text) {
        Ok(value) if value.is_object() => Ok(value),
        _ => Err("expected a JSON object such as {\"key\": \"value\"}".to_owned()),
    }
}

/// Reads a time and returns it as it is stored.
pub(crate) fn since(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    coditect_core::canonical::time(text)
        .ok_or_else(|| "expected a time such as 2026-02-03 or 2026-02-03T10:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_numbers_times_and_objects_are_checked_when_they_are_read() {
        assert_eq!(share("0.25"), Ok(0.25));
        assert!(share("1.5").is_err() && share("NaN").is_err() && share("x").is_err());
        assert_eq!(number("-2.5"), Ok(-2.5));
        assert!(number("inf").is_err() && number("x").is_err());
        assert_eq!(
            since("2026-02-03").as_deref(),
            Ok("2026-02-03T00:00:00.000000Z")
        );
        assert!(since("yesterday").is_err());
        assert!(object("{\"a\": 1}").is_ok() && object("[1]").is_err());
    }
}
