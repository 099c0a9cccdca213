//! Runs the engine: local actions on the SQLite files, requests through a transport.

use coditect_core::sync::{Action, Engine, Input, Options, Report};
use coditect_local_store::{self as local_store, LocalStore, Random};

use crate::bodies;
use crate::transport::Transport;

/// Why a run broke off. A server that does not answer or refuses is no such reason: the report
/// says so.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// A local database failed.
    #[error(transparent)]
    Store(#[from] local_store::Error),
}

/// What a run has done so far, for people who wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Changes of others that came, own ones included.
    pub received: u64,
    /// Changes that were sent and answered.
    pub sent: u64,
    /// Long values that were fetched after the rows.
    pub bodies: u64,
    /// Their bytes.
    pub body_bytes: u64,
    /// Rows that still lack long values.
    pub bodies_left: u64,
    /// Whether it waits for the server to come back.
    pub waiting: bool,
}

/// Performs one action on the local files.
///
/// # Errors
/// When a database fails; the run cannot go on then.
///
/// # Panics
/// For a request, a wait or the end of the run: those are the caller's.
pub fn perform_local(
    store: &mut LocalStore,
    action: Action,
    now_ms: i64,
) -> Result<Input, local_store::Error> {
    Ok(match action {
        Action::Adopt(file) => {
            store.adopt(file, now_ms)?;
            Input::Adopted
        }
        Action::Positions => {
            let (device, positions) = store.positions()?;
            Input::Positions(device, positions)
        }
        Action::Apply(reply) => Input::Applied(store.apply_reply(&reply)?),
        Action::ListQueued(file) => Input::Queued(store.scopes_with_work(file, now_ms)?),
        Action::NextBatch(file, scope) => {
            Input::Batch(store.next_batch(file, scope, now_ms)?.map(Box::new))
        }
        Action::Settle(batch, reply) => Input::Settled(store.settle(&batch, &reply, now_ms)?),
        Action::Refuse(batch, problem) => Input::Settled(store.refuse(&batch, &problem, now_ms)?),
        Action::NextMove(file) => Input::NextMove(store.next_move(file, now_ms)?.map(Box::new)),
        Action::SettleMove(request, reply) => {
            Input::MoveSettled(store.settle_move(&request, &reply, now_ms)?)
        }
        Action::RefuseMove(request, problem) => {
            Input::MoveSettled(store.refuse_move(&request, &problem, now_ms)?)
        }
        Action::BeginReconcile(epoch) => {
            store.begin_reconcile(epoch)?;
            Input::Stored
        }
        // One folder is one device: all its files take the new identity.
        Action::Fence(_, device) => {
            store.fence(device)?;
            Input::Stored
        }
        Action::FinishReconcile => {
            store.finish_reconcile(now_ms)?;
            Input::Stored
        }
        Action::PlanRepair(heads) => Input::Planned(store.plan_repair(&heads, now_ms)?),
        Action::NoteRepair(helped) => {
            store.note_repair(helped, now_ms)?;
            Input::Stored
        }
        other => unreachable!("{other:?} is no local action"),
    })
}

/// Runs the engine to its end. `clock` returns the time in milliseconds since 1970, `random`
/// spreads retries, `observe` is told after every step that moved something. One process at a
/// time may sync a folder: the caller holds its lease.
///
/// # Errors
/// [`SyncError`] when a local database fails. What was stored before stays; the next run goes on
/// from there.
pub async fn sync<T: Transport>(
    store: &mut LocalStore,
    transport: &mut T,
    options: Options,
    clock: impl Fn() -> i64,
    random: &mut Random,
    observe: impl FnMut(Progress),
) -> Result<Report, SyncError> {
    let engine = Engine::new(options);
    let report = run(store, transport, engine, clock, random, observe, |_| true).await?;
    Ok(report.unwrap_or_default())
}

/// Runs an engine like [`sync`], for as long as `go_on` says so: it is asked before everything
/// that leaves the machine. None when the run was broken off; a batch without its answer stays
/// stored then, and the next run sends it again.
///
/// # Errors
/// As [`sync`].
pub async fn run<T: Transport>(
    store: &mut LocalStore,
    transport: &mut T,
    engine: Engine,
    clock: impl Fn() -> i64,
    random: &mut Random,
    observe: impl FnMut(Progress),
    go_on: impl FnMut(&LocalStore) -> bool,
) -> Result<Option<Report>, SyncError> {
    let ran = step_by_step(store, transport, engine, clock, random, observe, go_on).await;
    let ended = store.end_run();
    let report = ran?;
    ended?;
    Ok(report)
}

async fn step_by_step<T: Transport>(
    store: &mut LocalStore,
    transport: &mut T,
    mut engine: Engine,
    clock: impl Fn() -> i64,
    random: &mut Random,
    mut observe: impl FnMut(Progress),
    mut go_on: impl FnMut(&LocalStore) -> bool,
) -> Result<Option<Report>, SyncError> {
    let mut progress = Progress::default();
    let mut action = engine.start();
    loop {
        let leaves = matches!(action, Action::Pull(_) | Action::Push(_) | Action::Wait(_));
        if leaves && !go_on(store) {
            return Ok(None);
        }
        let input = match action {
            Action::Done(mut report) => {
                // Bodies last: what was said is found and shown already.
                if !report.offline && report.problem.is_none() {
                    let (see, go) = (&mut observe, &mut go_on);
                    let fetched =
                        bodies::fetch_bodies(store, transport, &mut progress, see, go).await?;
                    if fetched.left > 0 && report.converged == Some(true) {
                        report.converged = None;
                    }
                }
                log_report(&report);
                return Ok(Some(*report));
            }
            Action::Pull(request) => Input::Pulled(transport.pull(&request).await.map(Box::new)),
            Action::Push(batch) => {
                let pushed = match bodies::without_known(transport, &batch).await {
                    Ok(body) => transport.push(&body).await,
                    Err(failure) => Err(failure),
                };
                Input::Pushed(pushed.map(Box::new))
            }
            Action::Move(request) => {
                Input::Moved(transport.move_rows(&request).await.map(Box::new))
            }
            Action::Authenticate => Input::Authenticated(transport.authenticate().await),
            Action::Wait(delay_ms) => {
                progress.waiting = true;
                observe(progress);
                tokio::time::sleep(std::time::Duration::from_millis(delay_ms)).await;
                progress.waiting = false;
                Input::Woken(random.bits())
            }
            local => {
                match &local {
                    Action::Apply(reply) => {
                        let changes = reply.pages.iter().map(|page| page.changes.len() as u64);
                        progress.received += changes.sum::<u64>();
                    }
                    Action::Settle(batch, _) => {
                        progress.sent += batch.request.changes.len() as u64;
                    }
                    _ => {}
                }
                let input = perform_local(store, local, clock())?;
                observe(progress);
                input
            }
        };
        action = engine.handle(input);
    }
}

fn log_report(report: &Report) {
    let problem = report.problem.as_ref().map(|problem| problem.code.as_str());
    tracing::info!(
        target: "coditect::sync",
        pushed = report.pushed,
        pulled = report.pulled,
        duplicates = report.duplicates,
        conflicts = report.conflicts,
        rejected = report.rejected,
        reconciled = report.reconciled,
        converged = report.converged,
        offline = report.offline,
        problem,
        "run ended"
    );
    if report.converged == Some(false) {
        for stream in report
            .comparisons
            .iter()
            .flat_map(|comparison| comparison.streams())
        {
            if stream.local != stream.server {
                let table = stream.local.table.as_str();
                tracing::warn!(
                    target: "coditect::sync", table, local = stream.local.count,
                    server = stream.server.count, "digests differ"
                );
            }
        }
    }
    if let Some(problem) = &report.problem {
        let detail = problem.detail.as_deref();
        tracing::error!(
            target: "coditect::sync", code = problem.code.as_str(), detail,
            request_id = problem.request_id.as_deref(), "the server refused"
        );
    } else if report.rejected > 0 {
        tracing::warn!(target: "coditect::sync", rejected = report.rejected, "changes refused");
    }
}
