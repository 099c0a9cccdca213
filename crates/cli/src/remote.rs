//! The way to the server: client, tokens, and a run of the engine with what people see of it.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use coditect_client::transport::Fallback;
use coditect_client::{
    Compared, Credentials, Http, HttpOptions, HttpTransport, Progress, Traffic, membership,
};
use coditect_core::sync::{Options, Report};
use coditect_local_store::{Error, Lease, LocalStore, Random};
use coditect_protocol::wire::auth::{DeviceInfo, PasswordLogin};
use coditect_protocol::wire::membership::{ProjectList, TeamList};
use coditect_protocol::{DeviceId, Scope};
use indicatif::{ProgressBar, ProgressStyle};

use crate::clock;
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::table::grouped;

/// How often a request without an answer is sent again before a command gives up.
const RETRIES: u32 = 2;
/// Time for which a command waits for another process that syncs.
const LEASE_WAIT: Duration = Duration::from_secs(10);
/// Time between two looks whether it is done.
const LEASE_LOOK_EVERY: Duration = Duration::from_millis(10);
/// Time between two pictures of a progress line.
const TICK: Duration = Duration::from_millis(120);

/// A run of the engine and what it cost.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) report: Report,
    pub(crate) traffic: Traffic,
    pub(crate) duration_ms: u64,
}

/// Runs a future on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the network")?;
    Ok(runtime.block_on(future))
}

/// Makes a client for a server. Opens no connection.
pub(crate) fn http(
    context: &Context,
    server: &str,
    device: Option<DeviceId>,
    allow_plain_http: bool,
) -> anyhow::Result<Http> {
    let options = HttpOptions {
        device,
        allow_plain_http: allow_plain_http || context.cloud.allow_plain_http,
        ca_cert: context.cloud.ca_cert.clone(),
        clock: Some(clock::now_ms),
        ..HttpOptions::new(server)
    };
    Ok(Http::new(&options)?)
}

/// Makes a transport with the tokens of the profile, or the one that the environment gives.
///
/// # Errors
/// When the profile is not logged in.
pub(crate) fn transport(context: &Context, store: &LocalStore) -> anyhow::Result<HttpTransport> {
    let server = context.cloud.server.clone();
    let server = server.ok_or_else(CommandError::not_logged_in)?;
    let http = http(context, &server, Some(store.device()), false)?;
    let file = context.credentials();
    let environment = &context.environment;
    if let Some(token) = environment.access_token.clone() {
        let credentials = Credentials {
            server,
            access_token: token,
            refresh_token: None,
        };
        return Ok(HttpTransport::new(
            http,
            credentials,
            None,
            Fallback::default(),
        ));
    }
    let stored = file.load()?.filter(|stored| stored.server == server);
    let fallback = Fallback {
        password: password_login(context, Some(store.device())),
    };
    let credentials = match stored {
        Some(stored) => stored,
        // With e-mail and password at hand, the first request's refusal leads to a login.
        None if fallback.password.is_some() => Credentials {
            server,
            access_token: String::new(),
            refresh_token: None,
        },
        None => return Err(CommandError::not_logged_in().into()),
    };
    Ok(HttpTransport::new(http, credentials, Some(file), fallback))
}

/// Returns the login that the environment's e-mail and password make.
pub(crate) fn password_login(context: &Context, device: Option<DeviceId>) -> Option<PasswordLogin> {
    let environment = &context.environment;
    let tenant = environment.tenant_id.as_deref();
    Some(PasswordLogin {
        email: environment.email.clone()?,
        password: environment.password.clone()?,
        tenant_id: tenant
            .and_then(|id| id.parse().ok())
            .or(context.cloud.tenant_id),
        device: Some(device_info(context, device)),
    })
}

/// Returns what the server is told about this machine.
pub(crate) fn device_info(context: &Context, device: Option<DeviceId>) -> DeviceInfo {
    DeviceInfo {
        id: device,
        name: context.environment.host.clone(),
        hardware_id: None,
    }
}

/// What a run shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Pull, push, compare and repair.
    Whole,
    /// Push what is queued.
    PushOnly,
    /// Pull and compare.
    VerifyOnly,
}

/// Runs the engine under the folder's lease and remembers what it saw.
pub(crate) fn sync(context: &Context, store: &mut LocalStore, kind: Kind) -> anyhow::Result<Run> {
    let mut transport = transport(context, store)?;
    if store.owner_of_folder().is_none() {
        return Err(CommandError::not_logged_in().into());
    }
    let _lease = lease(store)?;
    let started = Instant::now();
    let mut random = Random::System;
    let options = Options {
        push_only: kind == Kind::PushOnly,
        verify_only: kind == Kind::VerifyOnly,
        retries: RETRIES,
        random: random.bits(),
    };
    let line = SyncLine::new(context);
    let report = block_on(coditect_client::sync(
        store,
        &mut transport,
        options,
        clock::now_ms,
        &mut random,
        |progress| line.show(progress),
    ))??;
    line.clear();
    learn_names(store, &mut transport)?;
    let mut state = context.state();
    state.note(&report, &clock::rfc3339(clock::now_ms()));
    state.store(&context.paths.state_file())?;
    Ok(Run {
        report,
        traffic: transport.http().traffic(),
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// Asks what teams and projects are called that came with this run. Without an answer their ids
/// have to do.
fn learn_names(store: &mut LocalStore, transport: &mut HttpTransport) -> anyhow::Result<()> {
    let known = store.scope_names()?;
    if known.iter().all(|(_, name)| name.is_some()) {
        return Ok(());
    }
    let asked = block_on(async {
        let teams: TeamList = membership::get(transport, "/api/v1/teams/").await?;
        let projects: ProjectList = membership::get(transport, "/api/v1/projects/").await?;
        Ok::<_, coditect_core::sync::Failure>((teams.teams, projects.projects))
    })?;
    let Ok((teams, projects)) = asked else {
        return Ok(());
    };
    let teams = teams
        .into_iter()
        .map(|team| (Scope::Team(team.id), team.name));
    let projects = projects
        .into_iter()
        .map(|project| (Scope::Project(project.id), project.name));
    store.name_scopes(&teams.chain(projects).collect::<Vec<_>>())?;
    Ok(())
}

/// Compares all rows with the server's by sums that both sides make at this moment.
pub(crate) fn compare_rows(context: &Context, store: &mut LocalStore) -> anyhow::Result<Compared> {
    let mut transport = transport(context, store)?;
    let _lease = lease(store)?;
    Ok(block_on(coditect_client::compare_rows(
        store,
        &mut transport,
    ))??)
}

/// Takes the folder's lease; waits a moment for a daemon that is about to be done.
fn lease(store: &LocalStore) -> anyhow::Result<Lease> {
    let started = Instant::now();
    loop {
        match store.lease() {
            Err(Error::Leased) if started.elapsed() < LEASE_WAIT => {
                std::thread::sleep(LEASE_LOOK_EVERY);
            }
            lease => return Ok(lease?),
        }
    }
}

/// Returns how a run ends the program.
pub(crate) fn exit_of(report: &Report) -> Exit {
    match &report.problem {
        Some(problem) => CommandError::from_problem(problem).exit,
        None if report.offline => Exit::Offline,
        None => Exit::Ok,
    }
}

/// One line on a terminal that says how far a run is.
struct SyncLine(Option<ProgressBar>);

impl SyncLine {
    fn new(context: &Context) -> Self {
        if !context.printer.is_interactive() || context.printer.is_json() {
            return Self(None);
        }
        let bar = ProgressBar::new_spinner().with_message("connecting");
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self(Some(bar))
    }

    fn show(&self, progress: Progress) {
        let Some(bar) = &self.0 else { return };
        let (received, sent) = (grouped(progress.received), grouped(progress.sent));
        bar.set_message(if progress.waiting {
            "waiting for the server".to_owned()
        } else {
            format!("{received} received, {sent} sent")
        });
    }

    fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
