//! `coditect error`.

use clap::{Args, Subcommand};

use super::records::{self, Delete, Fields, Kind, List, Scoped, Show, fields};
use crate::context::Context;
use crate::exit::Exit;

/// What the generic code needs to know about error solutions.
pub(super) const KIND: Kind = Kind {
    noun: "error solution",
    plural: "errors",
    table: "org_error_solutions",
    title: "error_pattern",
    list: &["error_pattern", "solution"],
};

const EXAMPLES: &str = "\
Examples:
  coditect error add \"database is locked\" \"set busy_timeout\" --language python
  coditect error edit 0199 --worked         count that the solution helped once more
  coditect search locked --kind error";

/// Works on error solutions.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum ErrorSolution {
    /// Write one down
    Add(Add),
    /// List them, newest first
    List(List),
    /// Show one in full
    Show(Show),
    /// Change one
    Edit(Edit),
    /// Delete one, here and on every device
    Delete(Delete),
}

/// A new error solution.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// The error, or the part of its message that stays the same
    pattern: String,
    /// What fixed it
    solution: String,
    #[command(flatten)]
    scoped: Scoped,
    #[command(flatten)]
    values: Values,
}

/// Changes of an error solution.
#[derive(Debug, Args)]
pub(crate) struct Edit {
    /// Its id, or the beginning of it
    id: String,
    /// The error
    #[arg(long)]
    pattern: Option<String>,
    /// What fixed it
    #[arg(long)]
    solution: Option<String>,
    /// Count that it helped once more
    #[arg(long)]
    worked: bool,
    #[command(flatten)]
    values: Values,
}

/// What can be said about an error besides its solution.
#[derive(Debug, Args)]
struct Values {
    /// Programming language
    #[arg(long)]
    language: Option<String>,
    /// Kind of error
    #[arg(long)]
    category: Option<String>,
    /// Project that it comes from
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
    /// Session that it comes from
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
}

impl Values {
    fn into_fields(self, pattern: Option<String>, solution: Option<String>) -> Fields {
        fields([
            ("error_pattern", pattern.map(Into::into)),
            ("solution", solution.map(Into::into)),
            ("language", self.language.map(Into::into)),
            ("category", self.category.map(Into::into)),
            ("project_id", self.project.map(Into::into)),
            ("session_id", self.session.map(Into::into)),
        ])
    }
}

/// Runs the command.
pub(crate) fn run(context: &mut Context, command: ErrorSolution) -> anyhow::Result<Exit> {
    match command {
        ErrorSolution::Add(add) => {
            let fields = add
                .values
                .into_fields(Some(add.pattern), Some(add.solution));
            records::add(context, &KIND, add.scoped.scope, fields)
        }
        ErrorSolution::List(list) => records::list(context, &KIND, &list),
        ErrorSolution::Show(show) => records::show(context, &KIND, &show),
        ErrorSolution::Edit(edit) => {
            let fields = edit.values.into_fields(edit.pattern, edit.solution);
            let count = edit.worked.then_some("success_count");
            records::edit_and_count(context, &KIND, &edit.id, fields, count)
        }
        ErrorSolution::Delete(delete) => records::delete(context, &KIND, &delete),
    }
}
