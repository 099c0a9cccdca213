//! What the kernel says about the processes that a rig watches (Linux).

use std::path::Path;

/// Returns a field of a process's status, such as `VmHWM:` in KiB; none once it is gone.
#[must_use]
pub fn status(pid: u32, field: &str) -> Option<u64> {
    number(format!("/proc/{pid}/status"), field)
}

/// Returns a process's proportional share of memory in KiB; none once it is gone.
#[must_use]
pub fn share_kib(pid: u32) -> Option<u64> {
    number(format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

/// Returns the processor time of a process so far, in hundredths of a second; none once it is
/// gone.
#[must_use]
pub fn processor(pid: u32) -> Option<u64> {
    Some(times(pid)?[..2].iter().sum())
}

/// The same with that of its children that ended.
#[must_use]
pub fn processor_with_ended(pid: u32) -> Option<u64> {
    Some(times(pid)?.iter().sum())
}

/// Returns a process and its children.
#[must_use]
pub fn family(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    let is_child = |pid: &u32| status(*pid, "PPid:") == Some(u64::from(parent));
    std::iter::once(parent)
        .chain(pids.filter(is_child))
        .collect()
}

/// User and system time of a process, then those of its children that ended.
fn times(pid: u32) -> Option<[u64; 4]> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything; the times are 12 to 15 behind it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let mut next = || times.next()?.parse().ok();
    Some([next()?, next()?, next()?, next()?])
}

fn number(path: impl AsRef<Path>, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}
