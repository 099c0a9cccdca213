//! `coditect daemon`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use coditect_daemon::control::{self, ControlError, Request};
use coditect_daemon::service::{Action, Manager, Service};
use coditect_daemon::{DaemonError, Linker, Settings};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::clock;
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::printer::Printer;
use crate::remote;
use crate::table::grouped;

const HELP: &str = "\
Without it, commands and hooks sync when they run. With it, transcripts are imported while agents
write them, decisions are on your other machines in a moment, and what others change comes at once.

Examples:
  coditect daemon install            have the system start it, now and at every login
  coditect daemon install --dry-run  show what that would do
  coditect daemon status
  coditect daemon run                run it here, until Ctrl-C";

const STATUS_HELP: &str = "\
--json: running, pid, version, started_at, server, idle_because, connected, last_sync_at,
last_error, queued, parked, runs, hints, imported, rss_bytes. Exit code 7 when none runs.";

/// Keeps this machine in step by itself.
#[derive(Debug, Subcommand)]
#[command(after_help = HELP)]
pub(crate) enum Daemon {
    /// Run in the foreground until SIGTERM or Ctrl-C
    Run(Run),
    /// Have the system start it at login
    Install(Install),
    /// Stop it and remove what install made
    Uninstall(Uninstall),
    /// Say whether one runs, and how it is
    Status(Status),
    /// Tell it that an agent's session began or ended; for hooks
    #[command(hide = true)]
    Event(Event),
}

/// Runs in the foreground.
#[derive(Debug, Args)]
pub(crate) struct Run {}

/// Has the system start it.
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

/// Removes what install made.
#[derive(Debug, Args)]
pub(crate) struct Uninstall {
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

/// Says how it is.
#[derive(Debug, Args)]
#[command(after_help = STATUS_HELP)]
pub(crate) struct Status {}

/// Tells it what an agent did.
#[derive(Debug, Args)]
pub(crate) struct Event {
    name: EventName,
}

/// What an agent did.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum EventName {
    /// It began a session.
    SessionStart,
    /// It ended one.
    SessionEnd,
    /// Somebody wants everything synced.
    Sync,
}

/// Runs the command.
pub(crate) fn run(context: &Context, daemon: &Daemon) -> anyhow::Result<Exit> {
    match daemon {
        Daemon::Run(_) => run_daemon(context),
        Daemon::Install(install) => {
            let (manager, active) = manager()?;
            let service = service(context)?;
            let actions = service.install(manager, active);
            carry_out(context, &actions, install.dry_run)?;
            if !active && !install.dry_run {
                context
                    .printer
                    .note("no systemd for this user answers; start it at login with:");
                context.printer.note("  coditect daemon run");
            }
            Ok(Exit::Ok)
        }
        Daemon::Uninstall(uninstall) => {
            let (manager, active) = manager()?;
            let actions = service(context)?.uninstall(manager, active);
            carry_out(context, &actions, uninstall.dry_run)?;
            Ok(Exit::Ok)
        }
        Daemon::Status(_) => status(context),
        Daemon::Event(event) => tell(context, event.name),
    }
}

fn run_daemon(context: &Context) -> anyhow::Result<Exit> {
    let settings = Settings {
        paths: context.paths.clone(),
        agents: context.environment.agents(),
        clock: clock::now_ms,
        link: linker(context),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let printer = context.printer.clone();
    remote::block_on(async move {
        let (stop, stopped) = watch::channel(false);
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stop.send_replace(true);
        });
        // For whoever started it and waits; a closed output is no failure.
        let ready = || {
            let _ = printer.line("ready");
        };
        coditect_daemon::run(settings, stopped, ready)
            .await
            .map_err(explain)
    })??;
    Ok(Exit::Ok)
}

/// Reads the configuration anew each time: it changes while the daemon runs.
fn linker(context: &Context) -> Linker {
    let environment = context.environment.clone();
    let profile = context.paths.profile().map(str::to_owned);
    let printer = context.printer.clone();
    Box::new(move |store| {
        let name = Some(profile.as_deref().unwrap_or("default"));
        let context = Context::new(environment.clone(), name, printer.clone());
        let context = context.map_err(|error| format!("{error:#}"))?;
        if context.is_offline() {
            return Err("offline mode is on".to_owned());
        }
        remote::transport(&context, store).map_err(|error| format!("{error:#}"))
    })
}

fn explain(error: DaemonError) -> anyhow::Error {
    match error {
        DaemonError::Control(ControlError::Running { pid }) => {
            let message = format!("a daemon runs already (process {pid})");
            let error = CommandError::new(Exit::Refused, message);
            error.hint("coditect daemon status").into()
        }
        DaemonError::Store(error) => error.into(),
        error => error.into(),
    }
}

/// Returns who looks after services here, and whether it answers.
fn manager() -> anyhow::Result<(Manager, bool)> {
    if cfg!(target_os = "macos") {
        return Ok((Manager::Launchd, true));
    }
    if cfg!(target_os = "linux") {
        let answers = quiet("systemctl", &["--user", "show-environment"]);
        return Ok((Manager::Systemd, answers));
    }
    let error = CommandError::new(Exit::Failure, "services of this system are not known");
    Err(error.hint("start at login: coditect daemon run").into())
}

fn quiet(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn service(context: &Context) -> anyhow::Result<Service> {
    let environment = &context.environment;
    let home = environment.user_home.clone().ok_or_else(|| {
        CommandError::new(Exit::Usage, "HOME is not set").hint("export HOME=/your/home")
    })?;
    let program = std::env::current_exe().context("cannot find this program's file")?;
    let config_home = environment.config_home.clone();
    let mut variables = Vec::new();
    if context.paths.home() != home {
        variables.push(("CODITECT_HOME", context.paths.home().to_owned()));
    }
    let of_agents = [
        ("CLAUDE_CONFIG_DIR", &environment.claude_dir, ".claude"),
        ("CODEX_HOME", &environment.codex_dir, ".codex"),
    ];
    for (name, folder, usual) in of_agents {
        if let Some(folder) = folder
            .as_ref()
            .filter(|folder| **folder != home.join(usual))
        {
            variables.push((name, folder.clone()));
        }
    }
    // The variable names the folder above.
    let above = environment.gemini_dir.as_deref().and_then(Path::parent);
    if let Some(folder) = above.filter(|folder| *folder != home) {
        variables.push(("GEMINI_CLI_HOME", folder.to_owned()));
    }
    let text = |(name, path): (&str, PathBuf)| (name.to_owned(), path.display().to_string());
    Ok(Service {
        program,
        profile: context.paths.profile().map(str::to_owned),
        config_home: config_home.unwrap_or_else(|| home.join(".config")),
        home,
        environment: variables.into_iter().map(text).collect(),
    })
}

/// Does, or only shows, what installing takes.
fn carry_out(context: &Context, actions: &[Action], dry_run: bool) -> anyhow::Result<()> {
    let mut done = Vec::new();
    for action in actions {
        let changed = dry_run || perform(action)?;
        let (what, detail) = words(action);
        if changed {
            done.push(json!({"action": what, "detail": detail}));
        }
    }
    let document = json!({"dry_run": dry_run, "done": done});
    context.printer.either(&document, |printer: &Printer| {
        if done.is_empty() {
            printer.line("nothing to do")?;
        }
        for action in &done {
            let text = |name: &str| action[name].as_str().unwrap_or_default().to_owned();
            printer.line(&format!("{} {}", text("action"), text("detail")))?;
        }
        if dry_run {
            for action in actions {
                if let Action::Write(path, text) = action {
                    printer.line(&format!("\n{}:\n{text}", path.display()))?;
                }
            }
        }
        Ok(())
    })
}

fn words(action: &Action) -> (&'static str, String) {
    match action {
        Action::Write(path, _) => ("write", path.display().to_string()),
        Action::Remove(path) => ("remove", path.display().to_string()),
        Action::Run(command) | Action::TryRun(command) => ("run", command.join(" ")),
    }
}

/// Carries one action out; says whether there was anything to do.
fn perform(action: &Action) -> anyhow::Result<bool> {
    match action {
        Action::Write(path, text) => {
            if std::fs::read_to_string(path).is_ok_and(|present| present == *text) {
                return Ok(false);
            }
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("cannot make {}", folder.display()))?;
            }
            std::fs::write(path, text)
                .with_context(|| format!("cannot write {}", path.display()))?;
            Ok(true)
        }
        Action::Remove(path) => remove(path),
        Action::Run(command) => {
            if start(command) {
                return Ok(true);
            }
            anyhow::bail!("{} failed", command.join(" "))
        }
        Action::TryRun(command) => Ok(start(command)),
    }
}

fn remove(path: &Path) -> anyhow::Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
    }
}

fn start(command: &[String]) -> bool {
    let Some((program, arguments)) = command.split_first() else {
        return false;
    };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    quiet(program, &arguments)
}

fn status(context: &Context) -> anyhow::Result<Exit> {
    let asked = control::ask(&context.paths.data_dir(), Request::Status);
    let (running, mut document) = match asked {
        Ok(document) => (true, document),
        Err(ControlError::NotRunning) => (false, json!({})),
        Err(error) => return Err(error.into()),
    };
    document["running"] = running.into();
    context.printer.either(&document, |printer: &Printer| {
        if !running {
            return printer.line("no daemon runs");
        }
        print(printer, &document)
    })?;
    if running {
        return Ok(Exit::Ok);
    }
    context.printer.hint("coditect daemon install");
    Ok(Exit::Unhealthy)
}

fn print(printer: &Printer, document: &Value) -> anyhow::Result<()> {
    let text = |name: &str| document[name].as_str().unwrap_or("-").to_owned();
    let number = |name: &str| grouped(document[name].as_u64().unwrap_or(0));
    let hints = if document["connected"] == true {
        "hears hints"
    } else {
        "hears no hints, looks now and then"
    };
    let state = match document["idle_because"].as_str() {
        Some(reason) => format!("does not sync: {reason}"),
        None => hints.to_owned(),
    };
    let megabytes = document["rss_bytes"].as_u64().unwrap_or(0) as f64 / 1048576.0;
    printer.line(&format!(
        "process      {} ({megabytes:.1} MB)",
        number("pid")
    ))?;
    printer.line(&format!("server       {}", text("server")))?;
    printer.line(&format!("state        {state}"))?;
    printer.line(&format!("last sync    {}", text("last_sync_at")))?;
    let (queued, parked) = (number("queued"), number("parked"));
    printer.line(&format!("queued {queued}, parked {parked}"))?;
    if let Some(error) = document["last_error"].as_str() {
        printer.warning(&format!("the last sync broke off: {error}"));
    }
    Ok(())
}

fn tell(context: &Context, name: EventName) -> anyhow::Result<Exit> {
    let request = match name {
        EventName::SessionStart => Request::SessionStarted,
        EventName::SessionEnd => Request::SessionEnded,
        EventName::Sync => Request::Sync,
    };
    match control::ask(&context.paths.data_dir(), request) {
        Ok(_) => Ok(Exit::Ok),
        // Nobody to tell is no fault of the agent's hook.
        Err(ControlError::NotRunning) => Ok(Exit::Unhealthy),
        Err(error) => Err(error.into()),
    }
}
