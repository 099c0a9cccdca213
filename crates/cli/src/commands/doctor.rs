//! `coditect doctor`.

mod files;
mod repair;
mod server;

use clap::Args;
use coditect_local_store::LocalStore;
use coditect_protocol::catalogue::File;
use serde::Serialize;

use super::status;
use crate::context::Context;
use crate::exit::Exit;
use repair::Repaired;

const HELP: &str = "\
Looks at the four databases (SQLite's integrity check, and every row against its hash), who may
read the files, free space, the age of the queue, parked changes, the login, the server and the
clock. It changes nothing, except that rows whose content was changed behind the program's back are
queued again. Exit code 7 when something needs attention.

--repair mends what can be mended without losing anything: it takes the others' rights from files,
moves files that are no databases of this program aside (it says where, and how to put them back),
makes damaged indexes anew, and ends the wait of refused changes. It asks nobody about that.
A database that is damaged is put aside, never deleted, and made anew: from the newest backup that
is as it was written, from the server, and sessions.db from the archived transcripts where no server
is asked. Rows that were not sent and can still be read are saved from it. Before that it asks,
unless --yes is given or the file cannot be opened at all.

Examples:
  coditect doctor
  coditect doctor --repair
  coditect doctor --json | jq -r '.checks[] | select(.ok | not) | .detail'

--json: {healthy, checks [{name, ok, level (ok, warning, error), detail, hint}],
repairs [{what, undo}]}.";

/// Looks for what is wrong.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Doctor {
    /// Mend what can be mended without losing anything
    #[arg(long)]
    repair: bool,
    /// With --repair: do not ask
    #[arg(long, requires = "repair")]
    yes: bool,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// It works, and a person should look.
    Warning,
    Error,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    ok: bool,
    level: Level,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Check {
    fn new(name: &str, level: Level, detail: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            ok: level == Level::Ok,
            level,
            detail: detail.into(),
            hint: None,
        }
    }

    fn ok(name: &str, detail: impl Into<String>) -> Self {
        Self::new(name, Level::Ok, detail)
    }

    fn warning(name: &str, detail: impl Into<String>) -> Self {
        Self::new(name, Level::Warning, detail)
    }

    fn error(name: &str, detail: impl Into<String>) -> Self {
        Self::new(name, Level::Error, detail)
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Returns the check that was made, or the error that kept it from being made.
    fn of(name: &str, made: anyhow::Result<Self>) -> Self {
        made.unwrap_or_else(|error| Self::error(name, format!("{error:#}")))
    }
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Doctor) -> anyhow::Result<Exit> {
    let repaired = if command.repair {
        repair::run(context, command.yes)?
    } else {
        Vec::new()
    };
    let mut checks = files::unusable(context);
    if checks.is_empty() {
        match context.store() {
            Ok(mut store) => {
                for file in File::ALL {
                    checks.push(files::database(&mut store, file));
                }
                checks.push(check_queue(context, &mut store));
                checks.push(check_conflicts(&store));
                checks.push(server::login(context, &store));
            }
            Err(error) => checks.push(
                Check::error("databases", format!("{error:#}"))
                    .hint("the files were left as they are"),
            ),
        }
    }
    checks.extend(files::strangers(context));
    checks.push(files::permissions(context));
    checks.push(files::space(context));
    checks.push(files::archive(context));
    checks.push(files::backups(context));
    checks.extend(server::checks(context));
    let healthy = checks.iter().all(|check| check.ok);
    let document = serde_json::json!({
        "healthy": healthy, "checks": checks, "repairs": repaired,
    });
    context
        .printer
        .either(&document, |_| print(context, &checks, &repaired))?;
    Ok(if healthy { Exit::Ok } else { Exit::Unhealthy })
}

fn print(context: &Context, checks: &[Check], repaired: &[Repaired]) -> anyhow::Result<()> {
    let printer = &context.printer;
    for repair in repaired {
        let style = console::Style::new().cyan();
        let word = printer.style(&style, "mended");
        printer.line(&format!("{word}  {}", repair.what))?;
        if let Some(undo) = &repair.undo {
            printer.hint(&format!("undo: {undo}"));
        }
    }
    for check in checks {
        let (style, word) = match check.level {
            Level::Ok => (console::Style::new().green(), "ok  "),
            Level::Warning => (console::Style::new().yellow(), "WARN"),
            Level::Error => (console::Style::new().red(), "FAIL"),
        };
        let word = printer.style(&style, word);
        printer.line(&format!("{word} {:<12} {}", check.name, check.detail))?;
        if let Some(hint) = &check.hint {
            printer.hint(hint);
        }
    }
    Ok(())
}

fn check_queue(context: &Context, store: &mut LocalStore) -> Check {
    let mut check = || -> anyhow::Result<Check> {
        let (mut queued, mut parked, mut others, mut oldest) = (0, 0, 0, None::<i64>);
        for file in File::ALL {
            context.adopt(store, file)?;
            let state = store.queue_state(file)?;
            queued += state.queued;
            parked += state.parked;
            others += state.others;
            oldest = oldest.max(state.oldest.as_deref().and_then(status::age_hours));
        }
        let age = oldest.unwrap_or(0);
        let limit = context.cloud.queue_max_age_hours;
        let mut detail = format!("{queued} changes wait, {parked} are parked");
        if others > 0 {
            detail.push_str(&format!(
                ", {others} entries of other programs are left alone"
            ));
        }
        if parked > 0 {
            let check = Check::error("queue", detail);
            return Ok(check.hint(
                "coditect queue list --parked says why; then coditect process-queue --retry",
            ));
        }
        if age > limit && context.cloud.server.is_some() {
            detail.push_str(&format!(
                ", the oldest for {age} hours (limit {limit}, queue_max_age_hours)"
            ));
            let check = Check::warning("queue", detail);
            return Ok(check.hint("coditect process-queue; nothing is dropped, however old"));
        }
        Ok(Check::ok("queue", detail))
    };
    Check::of("queue", check())
}

fn check_conflicts(store: &LocalStore) -> Check {
    let check = || -> anyhow::Result<Check> {
        let mut count = 0;
        for file in File::ALL {
            count += store.conflicts(file, false)?.len();
        }
        // A conflict is no fault: both versions are kept.
        let detail = format!("{count} to look at (coditect conflict list)");
        Ok(Check::ok("conflicts", detail))
    };
    Check::of("conflicts", check())
}
