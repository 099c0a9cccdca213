//! `coditect learning`.

use clap::{Args, Subcommand};

use super::records::{self, Delete, Fields, Kind, List, Scoped, Show, fields};
use crate::context::Context;
use crate::exit::Exit;

/// What the generic code needs to know about learnings.
pub(super) const KIND: Kind = Kind {
    noun: "learning",
    plural: "learnings",
    table: "org_skill_learnings",
    title: "learning",
    list: &["skill_name", "learning"],
};

const EXAMPLES: &str = "\
Examples:
  coditect learning add sqlx \"named statements break behind a pooler\" --category database
  coditect learning edit 0199 --used        count that it was of use once more
  coditect learning list --limit 5";

/// Works on learnings.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Learning {
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

/// A new learning.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// What it is about: a tool, a library, a skill
    skill: String,
    /// What was learned
    learning: String,
    #[command(flatten)]
    scoped: Scoped,
    #[command(flatten)]
    values: Values,
}

/// Changes of a learning.
#[derive(Debug, Args)]
pub(crate) struct Edit {
    /// Its id, or the beginning of it
    id: String,
    /// What it is about
    #[arg(long)]
    skill: Option<String>,
    /// What was learned
    #[arg(long)]
    learning: Option<String>,
    /// Count one more use
    #[arg(long)]
    used: bool,
    #[command(flatten)]
    values: Values,
}

/// What can be said about a learning besides itself.
#[derive(Debug, Args)]
struct Values {
    /// Kind of learning
    #[arg(long)]
    category: Option<String>,
    /// How sure it is, 0 to 1
    #[arg(long, value_parser = records::share)]
    confidence: Option<f64>,
    /// Project that it comes from
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
    /// Session that it comes from
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
    /// What came of it
    #[arg(long)]
    outcome: Option<String>,
}

impl Values {
    fn into_fields(self, skill: Option<String>, learning: Option<String>) -> Fields {
        fields([
            ("skill_name", skill.map(Into::into)),
            ("learning", learning.map(Into::into)),
            ("category", self.category.map(Into::into)),
            ("confidence", self.confidence.map(Into::into)),
            ("project_id", self.project.map(Into::into)),
            ("session_id", self.session.map(Into::into)),
            ("outcome", self.outcome.map(Into::into)),
        ])
    }
}

/// Runs the command.
pub(crate) fn run(context: &mut Context, command: Learning) -> anyhow::Result<Exit> {
    match command {
        Learning::Add(add) => {
            let fields = add.values.into_fields(Some(add.skill), Some(add.learning));
            records::add(context, &KIND, add.scoped.scope, fields)
        }
        Learning::List(list) => records::list(context, &KIND, &list),
        Learning::Show(show) => records::show(context, &KIND, &show),
        Learning::Edit(edit) => {
            let fields = edit.values.into_fields(edit.skill, edit.learning);
            let count = edit.used.then_some("usage_count");
            records::edit_and_count(context, &KIND, &edit.id, fields, count)
        }
        Learning::Delete(delete) => records::delete(context, &KIND, &delete),
    }
}
