//! A window of time in which many connections work, and what it cost.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::rig::cpu::Cpu;
use crate::rig::server::Server;

/// Time before the window, in which everything gets going.
pub(crate) const WARM: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(20);

/// What workers and the window share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    done: AtomicU64,
    stop: AtomicBool,
    /// A worker has nothing left to do.
    exhausted: AtomicBool,
    measuring: AtomicBool,
}

impl Shared {
    /// Counts what was done.
    pub(crate) fn add(&self, number: usize) {
        self.done.fetch_add(number as u64, Ordering::Relaxed);
    }

    /// Returns whether the worker has to end.
    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Says that a worker ran out of work, which ends the window.
    pub(crate) fn exhaust(&self) {
        self.exhausted.store(true, Ordering::Relaxed);
    }

    /// Returns whether the window has begun.
    pub(crate) fn measuring(&self) -> bool {
        self.measuring.load(Ordering::Relaxed)
    }
}

/// What happened in a window.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// What the workers counted.
    pub(crate) done: f64,
    pub(crate) seconds: f64,
    pub(crate) cpu: Cpu,
    /// Milliseconds of each request that began in the window.
    pub(crate) latencies_ms: Vec<f64>,
}

impl Measured {
    /// Returns how much was done in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.done / self.seconds
    }

    /// Returns how much was done for a second of processor time of server and database.
    pub(crate) fn per_cpu_second(&self) -> f64 {
        self.done / self.cpu.total().max(0.01)
    }
}

/// Runs the workers until the window ends; returns them with what happened.
pub(crate) async fn run<W, F, Fut>(
    server: &Server,
    workers: Vec<W>,
    length: Duration,
    work: F,
) -> anyhow::Result<(Vec<W>, Measured)>
where
    W: Send + 'static,
    F: Fn(W, Arc<Shared>) -> Fut,
    Fut: Future<Output = anyhow::Result<(W, Vec<f64>)>> + Send + 'static,
{
    let shared = Arc::new(Shared::default());
    let tasks: Vec<_> = workers
        .into_iter()
        .map(|worker| tokio::spawn(work(worker, Arc::clone(&shared))))
        .collect();
    wait(&shared, WARM).await;
    let (started, cpu) = (Instant::now(), Cpu::read(server)?);
    let before = shared.done.load(Ordering::Relaxed);
    shared.measuring.store(true, Ordering::Relaxed);
    wait(&shared, length).await;
    let (seconds, after) = (started.elapsed().as_secs_f64(), Cpu::read(server)?);
    let done = shared.done.load(Ordering::Relaxed) - before;
    shared.stop.store(true, Ordering::Relaxed);
    let mut measured = Measured {
        done: done as f64,
        seconds,
        cpu: after - cpu,
        latencies_ms: Vec::new(),
    };
    let mut back = Vec::new();
    for task in tasks {
        let (worker, latencies_ms) = task.await??;
        back.push(worker);
        measured.latencies_ms.extend(latencies_ms);
    }
    if seconds < 0.3 || done == 0 {
        bail!("the work ran out after {seconds:.2} s of the window");
    }
    Ok((back, measured))
}

async fn wait(shared: &Shared, length: Duration) {
    let started = Instant::now();
    while started.elapsed() < length && !shared.exhausted.load(Ordering::Relaxed) {
        tokio::time::sleep(STEP).await;
    }
}
