//! `coditect doctor`.

use std::path::Path;

use clap::Args;
use coditect_local_store::LocalStore;
use coditect_protocol::catalogue::File;
use serde::Serialize;

use super::status;
use crate::clock;
use crate::context::Context;
use crate::exit::Exit;
use crate::remote;

const HELP: &str = "\
Checks the four databases (SQLite's integrity check, and every row against its hash), who may read
the files, the age of the queue, parked changes, the server and the login. Changes nothing except
that rows whose content does not match are queued again. Exit code 7 when something needs
attention.

--json: {healthy, checks [{name, ok, detail, hint}]}.";

/// Looks for what is wrong.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Doctor {}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    ok: bool,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// Runs the command.
pub(crate) fn run(context: &Context) -> anyhow::Result<Exit> {
    let mut checks = Vec::new();
    match context.store() {
        Ok(mut store) => {
            for file in File::ALL {
                checks.push(check_file(&mut store, file));
            }
            checks.push(check_queue(context, &mut store));
            checks.push(check_conflicts(&store));
            checks.push(check_permissions(context));
            checks.push(check_server(context));
        }
        Err(error) => checks.push(Check {
            name: "databases".to_owned(),
            ok: false,
            detail: format!("{error:#}"),
            hint: Some("the files were left as they are".to_owned()),
        }),
    }
    let healthy = checks.iter().all(|check| check.ok);
    let document = serde_json::json!({"healthy": healthy, "checks": checks});
    context.printer.either(&document, |printer| {
        for check in &checks {
            let (style, word) = if check.ok {
                (console::Style::new().green(), "ok  ")
            } else {
                (console::Style::new().red(), "FAIL")
            };
            let word = printer.style(&style, word);
            printer.line(&format!("{word} {:<12} {}", check.name, check.detail))?;
            if let Some(hint) = &check.hint {
                printer.hint(hint);
            }
        }
        Ok(())
    })?;
    Ok(if healthy { Exit::Ok } else { Exit::Unhealthy })
}

fn finish(name: &str, result: anyhow::Result<(bool, String)>, hint: &str) -> Check {
    let (ok, detail) = result.unwrap_or_else(|error| (false, format!("{error:#}")));
    Check {
        name: name.to_owned(),
        ok,
        detail,
        hint: (!ok).then(|| hint.to_owned()),
    }
}

fn check_file(store: &mut LocalStore, file: File) -> Check {
    let mut check = || -> anyhow::Result<(bool, String)> {
        let problems = store.integrity_check(file)?;
        if let Some(first) = problems.first() {
            let more = problems.len() - 1;
            return Ok((false, format!("damaged: {first} ({more} more problems)")));
        }
        let rows = store.check_rows(file, clock::now_ms())?;
        let ok = rows.changed == 0 && rows.missing == 0;
        let detail = if ok {
            format!("{} rows", rows.rows)
        } else {
            let (changed, missing) = (rows.changed, rows.missing);
            format!("{changed} rows changed and {missing} gone without a mark")
        };
        Ok((ok, detail))
    };
    let hint = match file {
        File::Sessions => "coditect sync; or remove sessions.db and import again",
        _ => "coditect sync; or restore the file from a copy",
    };
    finish(&format!("{file}.db"), check(), hint)
}

fn check_queue(context: &Context, store: &mut LocalStore) -> Check {
    let mut check = || -> anyhow::Result<(bool, String)> {
        let (mut queued, mut parked, mut oldest) = (0, 0, None::<i64>);
        for file in File::ALL {
            status::adopt(store, file)?;
            let state = store.queue_state(file)?;
            queued += state.queued;
            parked += state.parked;
            oldest = oldest.max(state.oldest.as_deref().and_then(status::age_hours));
        }
        let age = oldest.unwrap_or(0);
        let old = age > context.cloud.queue_max_age_hours && context.cloud.server.is_some();
        let mut detail = format!("{queued} changes wait, {parked} are parked");
        if old {
            detail.push_str(&format!(", the oldest since {age} hours"));
        }
        Ok((parked == 0 && !old, detail))
    };
    let hint = "coditect queue list --parked; coditect process-queue --retry";
    finish("queue", check(), hint)
}

fn check_conflicts(store: &LocalStore) -> Check {
    let check = || -> anyhow::Result<(bool, String)> {
        let mut count = 0;
        for file in File::ALL {
            count += store.conflicts(file, false)?.len();
        }
        // A conflict is no fault: both versions are kept.
        Ok((true, format!("{count} to look at (coditect conflict list)")))
    };
    finish("conflicts", check(), "coditect conflict list")
}

fn check_server(context: &Context) -> Check {
    let Some(server) = context.cloud.server.clone() else {
        let result = Ok((true, "none; everything works without one".to_owned()));
        return finish("server", result, "");
    };
    if context.is_offline() {
        let result = Ok((true, "offline mode is on".to_owned()));
        return finish("server", result, "");
    }
    let check = || -> anyhow::Result<(bool, String)> {
        let http = remote::http(context, &server, None, false)?;
        let health = remote::block_on(http.get::<serde_json::Value>("/health/", None))?;
        if let Err(failure) = health {
            return Ok((false, coditect_client::http::describe(&failure)));
        }
        Ok(match super::test::check(context) {
            Ok(()) => (true, format!("{server} answers and knows this login")),
            Err(error) => (false, error.message),
        })
    };
    finish("server", check(), "coditect test; coditect login")
}

fn check_permissions(context: &Context) -> Check {
    let check = || -> anyhow::Result<(bool, String)> {
        let mut open = Vec::new();
        let folders = [context.paths.data_dir(), context.paths.context_storage()];
        for folder in &folders {
            open.extend(others_may_read(folder));
        }
        for file in [
            context.paths.config_file(),
            context.paths.credentials_file(),
        ] {
            open.extend(others_may_read(&file));
        }
        for file in File::ALL {
            let path = context.paths.context_storage().join(format!("{file}.db"));
            open.extend(others_may_read(&path));
        }
        Ok(match open.as_slice() {
            [] => (true, "only you can read the files".to_owned()),
            paths => (false, format!("others can read {}", paths.join(", "))),
        })
    };
    let hint = "chmod -R go= ~/.coditect ~/.coditect-data";
    finish("permissions", check(), hint)
}

#[cfg(unix)]
fn others_may_read(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o077 != 0).then(|| path.display().to_string())
}

#[cfg(not(unix))]
fn others_may_read(_: &Path) -> Option<String> {
    None
}
