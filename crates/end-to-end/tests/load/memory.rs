//! What the server and its PostgreSQL hold in memory: the proportional share of each process, so
//! that what they share counts once.

use coditect_end_to_end::{Server, process};

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
        let postgres = self.postmaster.map_or_else(Vec::new, process::family);
        // A process that has ended has none.
        let share = |pid: u32| process::share_kib(pid).unwrap_or(0);
        let of_postgres: u64 = postgres.iter().map(|pid| share(*pid)).sum();
        let mib = |kib: u64| kib as f64 / 1024.0;
        format!(
            "memory at {when:<10} server {:6.1} MiB (highest {:6.1}), postgresql {:6.1} MiB in {} \
             processes",
            mib(share(self.server)),
            mib(process::status(self.server, "VmHWM:").unwrap_or(0)),
            mib(of_postgres),
            postgres.len()
        )
    }
}
