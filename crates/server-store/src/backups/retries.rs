//! When a job that failed is tried again: after a pause that grows, up to a number of failures. A
//! job whose server died has not failed, and does not wait.

use chrono::{DateTime, Duration, Utc};

/// Failures after which a job is given up.
pub const FAILURES_MAX: i32 = 6;
/// Pause after the first failure; each further one waits four times as long.
const FIRST_PAUSE: Duration = Duration::seconds(30);
const GROWTH: i32 = 4;
/// Longest pause.
const PAUSE_MAX: Duration = Duration::minutes(15);

/// Returns the moment before which a job is not tried again that has failed so often; none when it
/// is given up.
#[must_use]
pub fn not_before(failures: i32, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if failures >= FAILURES_MAX {
        return None;
    }
    let times = GROWTH.saturating_pow(failures.saturating_sub(1).max(0).unsigned_abs());
    let pause = FIRST_PAUSE.checked_mul(times).unwrap_or(PAUSE_MAX);
    Some(now + pause.min(PAUSE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_highest_and_end() {
        let now = DateTime::UNIX_EPOCH;
        let pause = |failures| not_before(failures, now).map(|at| (at - now).num_seconds());
        let pauses: Vec<_> = (1..=FAILURES_MAX).map(pause).collect();
        let expected = [30, 120, 480, 900, 900].map(Some);
        assert_eq!(pauses, [&expected[..], &[None]].concat());
    }
}
