//! The way to the server: client, tokens, and a run of the engine with what people see of it.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use coditect_client::transport::Fallback;
use coditect_client::{
    Compared, Credentials, Http, HttpOptions, HttpTransport, Progress, Traffic, Transport as _,
    erasure, membership,
};
use coditect_core::sync::{Options, Report};
use coditect_local_store::{Error, LackingRow, Lease, LocalStore, Owner, Random};
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::auth::{DeviceInfo, PasswordLogin};
use coditect_protocol::wire::membership::{ProjectList, TeamList};
use coditect_protocol::{DeviceId, ErrorCode, Scope};
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
            erasure_key: None,
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
            erasure_key: None,
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
    let line = SyncLine::new(context, queued(store)?);
    let traffic = transport.http().counters();
    let report = block_on(coditect_client::sync(
        store,
        &mut transport,
        options,
        clock::now_ms,
        &mut random,
        |progress| line.show(progress, traffic.read()),
    ))??;
    line.clear();
    obey_erasure(context, store, &transport)?;
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

/// Removes what the account has left here, where the server proves that it was erased. What ends
/// the command either way.
fn obey_erasure(
    context: &Context,
    store: &LocalStore,
    transport: &HttpTransport,
) -> anyhow::Result<()> {
    let owner = store.owner_of_folder();
    match owner.and_then(|owner| transport.erasure(owner)) {
        None => Ok(()),
        Some(Ok(notice)) => {
            erasure::carry_out(&context.paths, &notice)?;
            let at = clock::rfc3339(notice.erased_at_ms);
            tracing::warn!(target: "coditect::sync", at, "the account was erased");
            let archive = context.paths.data_dir().join("archive");
            let error = CommandError::new(
                Exit::Refused,
                format!(
                    "the account was erased at {at}; its databases, their backups and the login \
                     were removed from this machine ({})",
                    ErrorCode::AccountErased
                ),
            );
            Err(error
                .hint(format!(
                    "transcripts that never left this machine are in {}; coditect login begins \
                     anew",
                    archive.display()
                ))
                .into())
        }
        Some(Err(reason)) => Err(CommandError::new(
            Exit::Refused,
            format!(
                "the server says that the account was erased, but {reason}: nothing was removed"
            ),
        )
        .hint("ask the organisation; coditect uninstall --data removes everything")
        .into()),
    }
}

/// Removes what an account has left here that was just erased on the server, once the server proves
/// it; returns why that was not done. The caller holds the folder's lease.
pub(crate) fn erase_folder(
    context: &Context,
    owner: Owner,
    transport: &mut HttpTransport,
) -> anyhow::Result<Option<String>> {
    // The first time may find tokens that another process has renewed before.
    for _ in 0..2 {
        if transport.erasure(owner).is_none() {
            block_on(transport.authenticate())?;
        }
    }
    match transport.erasure(owner) {
        Some(Ok(notice)) => {
            erasure::carry_out(&context.paths, &notice)?;
            Ok(None)
        }
        Some(Err(reason)) => Ok(Some(reason.to_string())),
        None => Ok(Some("the server has not proved it".to_owned())),
    }
}

/// Returns how many changes wait, over all files.
pub(crate) fn queued(store: &LocalStore) -> anyhow::Result<u64> {
    let mut sum = 0;
    for file in File::ALL {
        sum += store.queue_state(file)?.queued;
    }
    Ok(sum)
}

/// Fetches the long texts of rows; says whether the server answered.
pub(crate) fn fetch_bodies(
    context: &Context,
    store: &mut LocalStore,
    rows: &[LackingRow],
) -> anyhow::Result<bool> {
    let mut transport = transport(context, store)?;
    let fetched = block_on(coditect_client::bodies::fetch(store, &mut transport, rows))??;
    Ok(fetched.is_some())
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
pub(crate) fn lease(store: &LocalStore) -> anyhow::Result<Lease> {
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
struct SyncLine {
    bar: Option<ProgressBar>,
    started: Instant,
    /// Changes that were queued when it began.
    queued: u64,
}

impl SyncLine {
    fn new(context: &Context, queued: u64) -> Self {
        let started = Instant::now();
        if !context.printer.is_interactive() || context.printer.is_json() {
            return Self {
                bar: None,
                started,
                queued,
            };
        }
        let bar = ProgressBar::new_spinner().with_message("connecting");
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self {
            bar: Some(bar),
            started,
            queued,
        }
    }

    fn show(&self, progress: Progress, traffic: Traffic) {
        if let Some(bar) = &self.bar {
            let seconds = self.started.elapsed().as_secs_f64();
            bar.set_message(message(progress, traffic, self.queued, seconds));
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Says rows, bytes, rate and the time that is left, as far as these are known.
fn message(progress: Progress, traffic: Traffic, queued: u64, seconds: f64) -> String {
    if progress.waiting {
        return "waiting for the server".to_owned();
    }
    let (received, sent) = (grouped(progress.received), grouped(progress.sent));
    let mib = (traffic.sent + traffic.received) as f64 / f64::from(1 << 20);
    let rows = progress.received + progress.sent + progress.bodies;
    let rate = rows as f64 / seconds.max(0.001);
    let (what, to_go) = if progress.bodies > 0 || progress.bodies_left > 0 {
        let left = grouped(progress.bodies_left);
        (
            format!("; {left} long texts to fetch"),
            progress.bodies_left,
        )
    } else {
        let of = match queued > progress.sent {
            true => format!(" of {}", grouped(queued)),
            false => String::new(),
        };
        (of, queued.saturating_sub(progress.sent))
    };
    let moved = if progress.bodies > 0 || progress.bodies_left > 0 {
        progress.bodies
    } else {
        progress.sent
    };
    let left = match moved {
        0 => String::new(),
        moved => time_left(to_go as f64 * seconds / moved as f64),
    };
    format!("{received} received, {sent} sent{what} ({mib:.1} MiB, {rate:.0}/s{left})")
}

fn time_left(seconds: f64) -> String {
    match seconds as u64 {
        0 => String::new(),
        seconds @ 1..120 => format!(", {seconds} s left"),
        seconds => format!(", {} min left", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_rows_bytes_rate_and_time_left() {
        let mut progress = Progress {
            received: 1_000,
            sent: 2_500,
            ..Progress::default()
        };
        let traffic = Traffic {
            sent: 3 << 20,
            received: 1 << 20,
        };
        assert_eq!(
            message(progress, traffic, 10_000, 10.0),
            "1,000 received, 2,500 sent of 10,000 (4.0 MiB, 350/s, 30 s left)"
        );
        (progress.bodies, progress.bodies_left) = (10, 1_000);
        assert_eq!(
            message(progress, traffic, 0, 10.0),
            "1,000 received, 2,500 sent; 1,000 long texts to fetch (4.0 MiB, 351/s, 16 min left)"
        );
        progress.waiting = true;
        assert_eq!(
            message(progress, traffic, 0, 10.0),
            "waiting for the server"
        );
    }
}
