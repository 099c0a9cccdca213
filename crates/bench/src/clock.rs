//! The one place that reads the wall clock.

use std::time::UNIX_EPOCH;

/// Returns milliseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "requests carry the time at which they are made"
)]
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
