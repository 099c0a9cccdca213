//! The one place of the program that reads the clock.

/// Returns the time in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the program's own clock; everything below is given the time"
    )]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}

/// Returns a time as RFC 3339 UTC with microseconds.
pub(crate) fn rfc3339(unix_ms: i64) -> String {
    coditect_core::canonical::time_from_ms(unix_ms)
}
