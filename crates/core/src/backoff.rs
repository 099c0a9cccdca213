//! Delays between retries: exponential with full jitter (seed `002`, RETRY_CONFIG).

use coditect_protocol::limits::{RETRY_BASE_MS, RETRY_CAP_MS};

/// Returns the delay in milliseconds before retry number `attempt` (the first is 0): a value
/// from 0 to base × 2^attempt, at most the cap. `random` is the caller's, any 64 bits.
#[must_use]
pub const fn delay_ms(attempt: u32, random: u64) -> u64 {
    let shift = if attempt > 16 { 16 } else { attempt };
    let full = RETRY_BASE_MS << shift;
    let ceiling = if full > RETRY_CAP_MS {
        RETRY_CAP_MS
    } else {
        full
    };
    random % (ceiling + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_stay_between_zero_and_the_cap() {
        assert_eq!(delay_ms(0, RETRY_BASE_MS), RETRY_BASE_MS);
        assert_eq!(
            delay_ms(3, u64::MAX) % (8 * RETRY_BASE_MS + 1),
            delay_ms(3, u64::MAX)
        );
        for attempt in [0, 5, 6, 30, u32::MAX] {
            assert!(delay_ms(attempt, 0x1234_5678_9abc_def0) <= RETRY_CAP_MS);
        }
    }
}
