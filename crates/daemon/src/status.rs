//! What the daemon says about itself.

use serde::Serialize;

/// State of a daemon, for people and scripts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Process.
    pub pid: u32,
    /// Version of the program.
    pub version: String,
    /// When it started, RFC 3339 UTC.
    pub started_at: String,
    /// Server that it syncs with.
    pub server: Option<String>,
    /// Why it does not sync, when it does not.
    pub idle_because: Option<String>,
    /// Whether hints come.
    pub connected: bool,
    /// End of the last run that reached the server.
    pub last_sync_at: Option<String>,
    /// Why the last run ended early.
    pub last_error: Option<String>,
    /// Changes that wait to be sent.
    pub queued: u64,
    /// Changes that were refused too often.
    pub parked: u64,
    /// Runs so far.
    pub runs: u64,
    /// Hints so far.
    pub hints: u64,
    /// Rows imported from transcripts so far.
    pub imported: u64,
    /// Resident memory of the process, in bytes; none where the system does not say.
    pub rss_bytes: Option<u64>,
}

impl Status {
    /// Fills in what the system knows about this process.
    pub(crate) fn look_at_process(&mut self) {
        self.pid = std::process::id();
        self.rss_bytes = std::fs::read_to_string("/proc/self/status")
            .ok()
            .and_then(|text| resident(&text));
    }
}

fn resident(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read() {
        assert_eq!(
            resident("Name:\tx\nVmRSS:\t  2048 kB\n"),
            Some(2 * 1024 * 1024)
        );
        assert_eq!(resident("Name:\tx\n"), None);
    }
}
