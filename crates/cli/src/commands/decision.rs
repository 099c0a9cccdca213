//! `coditect decision`.

use clap::{Args, Subcommand};

use super::records::{self, Delete, Fields, Kind, List, Scoped, Show, fields};
use crate::context::Context;
use crate::exit::Exit;

/// What the generic code needs to know about decisions.
pub(super) const KIND: Kind = Kind {
    noun: "decision",
    plural: "decisions",
    table: "org_decisions",
    title: "title",
    list: &["status", "title"],
};

const EXAMPLES: &str = "\
Examples:
  coditect decision add \"Use row-level security\" --rationale \"one place to check\"
  coditect decision add \"Ship weekly\" --scope org --tag process --status accepted
  coditect decision edit 0199 --status superseded
  coditect decision list --json | jq -r '.decisions[].title'";

/// Works on decisions.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Decision {
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

/// A new decision.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// What was decided
    title: String,
    #[command(flatten)]
    scoped: Scoped,
    #[command(flatten)]
    values: Values,
}

/// Changes of a decision.
#[derive(Debug, Args)]
pub(crate) struct Edit {
    /// Its id, or the beginning of it
    id: String,
    /// What was decided
    #[arg(long)]
    title: Option<String>,
    #[command(flatten)]
    values: Values,
}

/// What can be said about a decision besides its title.
#[derive(Debug, Args)]
struct Values {
    /// Why
    #[arg(long)]
    rationale: Option<String>,
    /// proposed, accepted, superseded, …
    #[arg(long)]
    status: Option<String>,
    /// architecture, process, …
    #[arg(long = "type", value_name = "TYPE")]
    decision_type: Option<String>,
    /// A name that people use, such as D-17
    #[arg(long, value_name = "NAME")]
    decision_id: Option<String>,
    /// Project that it is about
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
    /// Session that it was made in
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
    /// A tag; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// How sure it is, 0 to 1
    #[arg(long, value_parser = records::share)]
    confidence: Option<f64>,
}

impl Values {
    fn into_fields(self, title: Option<String>) -> Fields {
        fields([
            ("title", title.map(Into::into)),
            ("rationale", self.rationale.map(Into::into)),
            ("status", self.status.map(Into::into)),
            ("decision_type", self.decision_type.map(Into::into)),
            ("decision_id", self.decision_id.map(Into::into)),
            ("project_id", self.project.map(Into::into)),
            ("session_id", self.session.map(Into::into)),
            ("tags", (!self.tags.is_empty()).then(|| self.tags.into())),
            ("confidence", self.confidence.map(Into::into)),
        ])
    }
}

/// Runs the command.
pub(crate) fn run(context: &mut Context, command: Decision) -> anyhow::Result<Exit> {
    match command {
        Decision::Add(add) => {
            let fields = add.values.into_fields(Some(add.title));
            records::add(context, &KIND, add.scoped.scope, fields)
        }
        Decision::List(list) => records::list(context, &KIND, &list),
        Decision::Show(show) => records::show(context, &KIND, &show),
        Decision::Edit(edit) => {
            let fields = edit.values.into_fields(edit.title);
            records::edit(context, &KIND, &edit.id, fields)
        }
        Decision::Delete(delete) => records::delete(context, &KIND, &delete),
    }
}
