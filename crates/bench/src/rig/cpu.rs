//! Processor time and memory of processes, from `/proc`.

use std::fs;
use std::io::Write as _;
use std::ops::Sub;
use std::process::Command;

use anyhow::Context as _;

use super::server::Server;

/// Linux counts processor time in hundredths of a second, on every architecture that we serve.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of processor time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cpu {
    pub(crate) server: f64,
    /// The postmaster and all its processes, those that ended included.
    pub(crate) postgres: f64,
}

impl Cpu {
    /// Reads what the server and its PostgreSQL have used so far.
    pub(crate) fn read(server: &Server) -> anyhow::Result<Self> {
        let own = stat(server.pid()).context("the server has ended")?;
        Ok(Self {
            server: own.own_ticks as f64 / TICKS_PER_SECOND,
            postgres: family_seconds(server.postgres.pid)?,
        })
    }

    pub(crate) fn total(self) -> f64 {
        self.server + self.postgres
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            server: self.server - earlier.server,
            postgres: self.postgres - earlier.postgres,
        }
    }
}

/// Returns the seconds that a process and its children have used, those that ended included.
pub(crate) fn family_seconds(pid: u32) -> anyhow::Result<f64> {
    loop {
        let before = stat(pid).context("the process has ended")?;
        let children: u64 = children(pid).map(|(_, stat)| stat.all_ticks()).sum();
        let after = stat(pid).context("the process has ended")?;
        // A child that ended in between would be counted twice or not at all.
        if before.children_ticks == after.children_ticks {
            return Ok((after.all_ticks() + children) as f64 / TICKS_PER_SECOND);
        }
    }
}

fn children(pid: u32) -> impl Iterator<Item = (u32, Stat)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let child = entry.file_name().to_string_lossy().parse().ok()?;
        let stat = stat(child)?;
        (stat.parent == pid).then_some((child, stat))
    })
}

/// Returns the seconds of a process's children that ended and were waited for.
pub(crate) fn children_seconds(pid: u32) -> Option<f64> {
    Some(stat(pid)?.children_ticks as f64 / TICKS_PER_SECOND)
}

/// Returns the memory in MB that a process and its children hold, shared pages by their part.
pub(crate) fn family_megabytes(pid: u32) -> f64 {
    std::iter::once(pid)
        .chain(children(pid).map(|(child, _)| child))
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok())
        .filter_map(|text| kilobytes(&text, "Pss:"))
        .sum::<f64>()
        / 1024.0
}

/// Returns a field of `/proc/PID/status` in MB, such as `VmRSS:` or `VmHWM:`.
pub(crate) fn status_megabytes(pid: u32, field: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(kilobytes(&text, field)? / 1024.0)
}

/// Runs of a command whose memory is looked at: one that takes two milliseconds may be over before
/// this process is asked again.
const LOOKS: usize = 20;

/// Runs a command with that input some times and returns the most memory in MB that it was seen to
/// hold; none is an error.
pub(crate) fn peak_megabytes(command: impl Fn() -> Command, input: &str) -> anyhow::Result<f64> {
    let mut peak = 0.0_f64;
    for _ in 0..LOOKS {
        peak = peak.max(seen_megabytes(command(), input)?);
    }
    anyhow::ensure!(peak > 0.0, "it always ended before it was looked at");
    Ok(peak)
}

fn seen_megabytes(mut command: Command, input: &str) -> anyhow::Result<f64> {
    let mut child = command.spawn().context("starting a program")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let mut peak = 0.0_f64;
    while child.try_wait()?.is_none() {
        peak = peak.max(status_megabytes(child.id(), "VmHWM:").unwrap_or(0.0));
    }
    Ok(peak)
}

fn kilobytes(text: &str, field: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// What is needed of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stat {
    parent: u32,
    own_ticks: u64,
    /// Of children that ended and were waited for.
    children_ticks: u64,
}

impl Stat {
    const fn all_ticks(self) -> u64 {
        self.own_ticks + self.children_ticks
    }
}

fn stat(pid: u32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads a line of `/proc/PID/stat`. The second field is the program's name in parentheses, and
/// may itself hold blanks and parentheses.
fn parse(line: &str) -> Option<Stat> {
    let behind_name = &line[line.rfind(')')? + 1..];
    let fields: Vec<&str> = behind_name.split_whitespace().collect();
    // Field 3 of the line, the state, is the first here.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(field(4)?).ok()?,
        own_ticks: field(14)? + field(15)?,
        children_ticks: field(16)? + field(17)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "4711 (postgres: a) b (x) S 42 4711 4711 0 -1 4194560 2265 0 0 0 \
        130 27 5 6 20 0 1 0 123456 227196928 3581 18446744073709551615 1 1 0 0 0 0 0";

    #[test]
    fn names_with_parentheses_do_not_shift_the_fields() {
        let stat = parse(LINE).unwrap();
        let expected = Stat {
            parent: 42,
            own_ticks: 157,
            children_ticks: 11,
        };
        assert_eq!(stat, expected);
        assert_eq!(stat.all_ticks(), 168);
    }

    #[test]
    fn half_a_line_is_none() {
        assert_eq!(parse(&LINE[..60]), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn fields_of_status_are_in_kilobytes() {
        let text = "VmPeak:\t  9 kB\nVmRSS:\t    2048 kB\n";
        assert_eq!(kilobytes(text, "VmRSS:"), Some(2048.0));
        assert_eq!(kilobytes(text, "VmSwap:"), None);
    }

    #[test]
    fn own_process_is_found() {
        let own = std::process::id();
        assert!(stat(own).is_some());
        assert!(family_seconds(own).unwrap() >= 0.0);
        assert!(status_megabytes(own, "VmRSS:").unwrap() > 0.0);
    }
}
