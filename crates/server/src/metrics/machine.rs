//! What the machine says about itself; nothing where it does not.

use std::path::Path;

/// Returns the used share of the disk that has `folder`, as its unprivileged users see it.
pub(super) fn disk_used(folder: &Path) -> Option<f64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    let used = disk.f_blocks.checked_sub(disk.f_bfree)?;
    let usable = used.checked_add(disk.f_bavail)?;
    (usable > 0).then(|| used as f64 / usable as f64)
}

/// Returns the used share of memory, where the kernel tells it as Linux does.
pub(super) fn memory_used() -> Option<f64> {
    share_used(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

/// Returns the memory of this process in bytes, as above.
pub(super) fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    Some(kib(&status, "VmRSS:")? * 1024.0)
}

fn share_used(meminfo: &str) -> Option<f64> {
    let total = kib(meminfo, "MemTotal:")?;
    let available = kib(meminfo, "MemAvailable:")?;
    (total > 0.0).then(|| 1.0 - available / total)
}

/// Returns the figure of a line such as `MemTotal:   1024 kB`.
fn kib(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let meminfo = "MemTotal:       4000 kB\nMemFree:  100 kB\nMemAvailable:   1000 kB\n";
        assert_eq!(share_used(meminfo), Some(0.75));
        for odd in [
            "",
            "MemTotal: 4000 kB",
            "MemTotal: x kB\nMemAvailable: 1 kB",
        ] {
            assert_eq!(share_used(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_disk_is_between_empty_and_full() {
        let folder = tempfile::tempdir().unwrap();
        let used = disk_used(folder.path()).unwrap();
        assert!((0.0..=1.0).contains(&used), "{used}");
        assert_eq!(disk_used(&folder.path().join("none")), None);
    }
}
