//! `coditect project rule`: where new decisions and learnings of a project go by themselves.

use clap::{Args, Subcommand};
use coditect_local_store::{LocalStore, RULE, RowFilter, RowView, Rule, can_have_rule};
use coditect_protocol::Scope;
use coditect_protocol::catalogue::{File, TABLES, Table as Synced, by_cloud_name};
use coditect_protocol::wire::Row;
use coditect_protocol::wire::membership::{Project as Published, ProjectList};
use serde_json::{Value, json};

use super::super::membership::{PROJECTS, Server};
use super::super::records::text;
use crate::clock;
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::names::{self, ScopeName};
use crate::table::Table;

const HELP: &str = "\
A rule is yours: it is kept with your own record of the project, on all your machines, and is about
what you write. Rows that are there already stay where they are: coditect share.

Examples:
  coditect project rule add                         the current folder's project, to the members of
                                                    the published project with its repository
  coditect project rule add --project app --to team:core --table decisions
  coditect project rule list
  coditect project rule remove --project app";

/// What to do with rules.
#[derive(Debug, Subcommand)]
#[command(after_help = HELP)]
pub(crate) enum Rules {
    /// Let new decisions and learnings of a project go to a shared scope
    Add(Add),
    /// List the rules
    List,
    /// Remove a project's rule; what was shared stays shared
    Remove(Remove),
}

/// What to share.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// The project; that of the current folder if none is given
    #[arg(long)]
    project: Option<String>,
    /// Who shall see them: project:NAME, team:NAME or org
    #[arg(long, value_name = "SCOPE")]
    to: Option<ScopeName>,
    /// Table; may be given several times [default: decisions, skill_learnings]
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<String>,
}

/// Whose rule to remove.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The project; that of the current folder if none is given
    #[arg(long)]
    project: Option<String>,
}

/// Runs the command.
pub(super) fn run(context: &Context, command: &Rules) -> anyhow::Result<Exit> {
    match command {
        Rules::Add(command) => add(context, command),
        Rules::List => list(context),
        Rules::Remove(command) => remove(context, command),
    }
}

fn add(context: &Context, command: &Add) -> anyhow::Result<Exit> {
    let mut store = context.adopted_store(&[File::Projects])?;
    let record = own_record(context, &store, command.project.as_deref())?;
    let tables = tables(&command.tables)?;
    let to = match &command.to {
        Some(ScopeName::User) => {
            let message = "private is what rows are without a rule";
            let error = CommandError::new(Exit::Usage, message);
            return Err(error.hint("coditect project rule remove").into());
        }
        Some(to) => to.local(&store)?,
        None => published(context, &record)?.to_string(),
    };
    let rule = json!({ "to": to, "tables": tables });
    write(&mut store, &record, Some(rule))?;
    let project = text(&record.row, "project_id");
    let label = names::scope_label(&store, &to);
    let document = json!({ "project_id": project, "to": to, "tables": tables });
    context.printer.either(&document, |printer| {
        printer.line(&format!("{project}: {} to {label}", tables.join(", ")))
    })?;
    Ok(Exit::Ok)
}

fn list(context: &Context) -> anyhow::Result<Exit> {
    let store = context.adopted_store(&[File::Projects])?;
    let rules: Vec<Rule> = store.rules()?;
    context
        .printer
        .either(&json!({ "rules": rules }), |printer| {
            if rules.is_empty() {
                printer.note("no rules");
                return Ok(());
            }
            let mut table = Table::new(&["project", "to", "tables"]);
            for rule in &rules {
                let tables = rule.tables.iter().map(|cloud| {
                    by_cloud_name(cloud).map_or(cloud.clone(), |table| table.local.to_owned())
                });
                table.row([
                    rule.project_id.clone(),
                    names::scope_label(&store, &rule.to),
                    tables.collect::<Vec<_>>().join(", "),
                ]);
            }
            table.print(printer)
        })?;
    Ok(Exit::Ok)
}

fn remove(context: &Context, command: &Remove) -> anyhow::Result<Exit> {
    let mut store = context.adopted_store(&[File::Projects])?;
    let record = own_record(context, &store, command.project.as_deref())?;
    let had = metadata(&record).contains_key(RULE);
    write(&mut store, &record, None)?;
    let project = text(&record.row, "project_id");
    let text = match had {
        true => format!("{project}: the rule is removed"),
        false => format!("{project} has no rule"),
    };
    context.printer.either(
        &json!({ "project_id": project, "removed": had }),
        |printer| printer.line(&text),
    )?;
    Ok(Exit::Ok)
}

/// Returns the owner's own record of the project.
fn own_record(
    context: &Context,
    store: &LocalStore,
    name: Option<&str>,
) -> anyhow::Result<RowView> {
    let project = match name {
        Some(name) => super::named(store, name)?,
        None => super::here(context, store)?,
    };
    let filter = RowFilter {
        scope: Some("user".to_owned()),
        equals: vec![("project_id".to_owned(), Value::from(project.as_str()))],
        limit: 1,
        ..RowFilter::default()
    };
    let mut found = store.list("projects_projects", &filter)?;
    found.pop().ok_or_else(|| {
        let message = format!("there is no project '{project}'");
        let error = CommandError::new(Exit::NotFound, message);
        error.hint("coditect project scan").into()
    })
}

fn tables(names: &[String]) -> anyhow::Result<Vec<&'static str>> {
    if names.is_empty() {
        return Ok(vec!["org_decisions", "org_skill_learnings"]);
    }
    let one = |name: &String| -> anyhow::Result<&'static str> {
        let table = names::table(name)?;
        if can_have_rule(table) {
            return Ok(table.cloud);
        }
        let known = TABLES.iter().filter(|table| can_have_rule(table));
        let known: Vec<&str> = known.map(|table: &&'static Synced| table.local).collect();
        let message = format!("there are no rules about {name}: {}", known.join(", "));
        Err(CommandError::new(Exit::Usage, message).into())
    };
    names.iter().map(one).collect()
}

/// Returns the scope of the published project that has the record's repository.
fn published(context: &Context, record: &RowView) -> anyhow::Result<Scope> {
    let remote = coditect_core::repository::remote(&text(&record.row, "repository_url"))
        .or_else(|| Some(text(&record.row, "repository_url")).filter(|it| !it.is_empty()));
    let commit = coditect_core::repository::commit(&text(&record.row, "root_commit"));
    let all: ProjectList = Server::of(context)?.get(PROJECTS)?;
    let same = |project: &&Published| {
        remote
            .as_ref()
            .is_some_and(|it| project.remotes.contains(it))
            || commit
                .as_ref()
                .is_some_and(|it| project.root_commits.contains(it))
    };
    let found: Vec<&Published> = all.projects.iter().filter(same).collect();
    match found.as_slice() {
        [project] => Ok(Scope::Project(project.id)),
        [] => {
            let message = "no published project has this repository";
            let error = CommandError::new(Exit::NotFound, message);
            Err(error
                .hint("coditect project publish NAME --remote URL; or give --to")
                .into())
        }
        several => {
            let names: Vec<&str> = several.iter().map(|it| it.name.as_str()).collect();
            let message = format!("the repository is that of {}", names.join(", "));
            let error = CommandError::new(Exit::NotFound, message);
            Err(error.hint("say which one: --to project:NAME").into())
        }
    }
}

fn metadata(record: &RowView) -> Row {
    let known = record.row.get("metadata").and_then(Value::as_object);
    known.cloned().unwrap_or_default()
}

fn write(store: &mut LocalStore, record: &RowView, rule: Option<Value>) -> anyhow::Result<()> {
    let mut metadata = metadata(record);
    match rule {
        Some(rule) => metadata.insert(RULE.to_owned(), rule),
        None => metadata.remove(RULE),
    };
    let mut patch = Row::new();
    let value = match metadata.is_empty() {
        true => Value::Null,
        false => Value::Object(metadata),
    };
    patch.insert("metadata".to_owned(), value);
    let id = record.id.clone().unwrap_or_default();
    store.update(
        "projects_projects",
        &record.scope,
        &id,
        &patch,
        clock::now_ms(),
    )?;
    Ok(())
}
