//! Many daemons in this process: those that are measured on threads of their own.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use coditect_client::transport::Fallback;
use coditect_client::{CredentialFile, Http, HttpOptions, HttpTransport, Paths};
use coditect_daemon::control::{Request, ask};
use coditect_daemon::{Settings, run};
use coditect_end_to_end::Device;
use tokio::sync::watch;
use tokio::task::LocalSet;

/// Threads that the daemons share which are not measured.
const THREADS: usize = 4;

/// Running daemons.
pub(crate) struct Running {
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn stop(self) {
        self.stop.send_replace(true);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

/// Starts the daemons of all devices and waits until they are connected and at rest.
pub(crate) fn start(measured: &[Device], others: &[Device]) -> Running {
    let (stop, stopped) = watch::channel(false);
    let homes = |devices: &[Device]| -> Vec<PathBuf> {
        devices
            .iter()
            .map(|device| device.home().to_owned())
            .collect()
    };
    let mut groups: Vec<(String, Vec<PathBuf>)> = homes(measured)
        .into_iter()
        .enumerate()
        .map(|(n, home)| (format!("device-{n}"), vec![home]))
        .collect();
    let rest = homes(others);
    for (n, homes) in rest.chunks(rest.len().div_ceil(THREADS).max(1)).enumerate() {
        groups.push((format!("crowd-{n}"), homes.to_vec()));
    }
    let (ready, readies) = mpsc::channel();
    let threads = groups.into_iter().map(|(name, homes)| {
        let (stopped, ready) = (stopped.clone(), ready.clone());
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let tasks = LocalSet::new();
            for home in homes {
                let (stopped, ready) = (stopped.clone(), ready.clone());
                tasks.spawn_local(async move {
                    let tell = || ready.send(()).unwrap();
                    run(settings(&home), stopped, tell).await.unwrap();
                });
            }
            runtime.block_on(tasks);
        };
        std::thread::Builder::new().name(name).spawn(work).unwrap()
    });
    let threads: Vec<_> = threads.collect();
    let all: Vec<&Device> = measured.iter().chain(others).collect();
    for _ in &all {
        readies.recv().unwrap();
    }
    for device in all {
        wait_for_rest(device);
    }
    Running { stop, threads }
}

/// Waits until a device's daemon hears hints and has nothing left to do.
pub(crate) fn wait_for_rest(device: &Device) {
    let data = device.home().join(".coditect-data");
    loop {
        let status = ask(&data, Request::Status).unwrap_or_default();
        if status["connected"] == true && status["last_sync_at"].is_string() {
            return;
        }
        // tidy: may sleep: a rig, which must not take the machine from what it measures
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn settings(home: &Path) -> Settings {
    let paths = Paths::new(home, None).unwrap();
    let tokens = paths.credentials_file();
    Settings {
        paths,
        agents: Vec::new(),
        clock: now_ms,
        link: Box::new(move |store| {
            let file = CredentialFile::new(&tokens);
            let credentials = file.load().ok().flatten().ok_or("not logged in")?;
            let options = HttpOptions {
                device: Some(store.device()),
                ..HttpOptions::new(&credentials.server)
            };
            let http = Http::new(&options).map_err(|error| error.to_string())?;
            let fallback = Fallback::default();
            Ok(HttpTransport::new(http, credentials, Some(file), fallback))
        }),
        version: "rig".to_owned(),
    }
}

/// Returns the time in milliseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the rig is a program: this is its clock"
)]
pub(crate) fn now_ms() -> i64 {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}
