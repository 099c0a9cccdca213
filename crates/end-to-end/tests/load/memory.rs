//! What the server and its PostgreSQL hold in memory: the proportional share of each process, so
//! that what they share counts once.

use coditect_end_to_end::Server;

/// The processes of a server.
#[derive(Debug)]
pub(crate) struct Memory {
    server: u32,
    postmaster: Option<u32>,
}

impl Memory {
    pub(crate) fn of(server: &Server) -> Self {
        Self {
            server: server.pid().unwrap(),
            postmaster: server.postgres_pid(),
        }
    }

    /// Returns a line of figures in MiB.
    pub(crate) fn line(&self, when: &str) -> String {
        let postgres = self.postmaster.map_or_else(Vec::new, family);
        let of_postgres: u64 = postgres.iter().map(|pid| share_kb(*pid)).sum();
        let mib = |kb: u64| kb as f64 / 1024.0;
        format!(
            "memory at {when:<10} server {:6.1} MiB (highest {:6.1}), postgresql {:6.1} MiB in {} \
             processes",
            mib(share_kb(self.server)),
            mib(status_kb(self.server, "VmHWM:")),
            mib(of_postgres),
            postgres.len()
        )
    }
}

/// Returns a process and its children.
fn family(parent: u32) -> Vec<u32> {
    let mut found = vec![parent];
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        if status_kb(pid, "PPid:") == u64::from(parent) {
            found.push(pid);
        }
    }
    found
}

/// Returns the proportional set size; 0 for a process that has ended.
fn share_kb(pid: u32) -> u64 {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

fn status_kb(pid: u32, name: &str) -> u64 {
    field(&format!("/proc/{pid}/status"), name)
}

fn field(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
