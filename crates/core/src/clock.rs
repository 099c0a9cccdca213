//! Hybrid clocks: what a device proposes and what the server makes of it.

use coditect_protocol::Version;
use coditect_protocol::limits::CLOCK_SKEW_MS_MAX;

/// Returns the version that a device proposes for an edit: the time of the edit, and a counter
/// that keeps edits of one millisecond in order.
#[must_use]
pub fn propose(edited_ms: i64, order: u16) -> Version {
    Version::from_parts(edited_ms.max(0) as u64, order)
}

/// The server's view of one request's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skew {
    now_ms: i64,
    shift_ms: i64,
}

impl Skew {
    /// Measures the device's clock by the time it put on the request. Up to
    /// [`CLOCK_SKEW_MS_MAX`] its stamps are taken as they are.
    #[must_use]
    pub const fn measure(server_now_ms: i64, device_sent_ms: i64) -> Self {
        let ahead = device_sent_ms.saturating_sub(server_now_ms);
        let near = ahead >= -CLOCK_SKEW_MS_MAX && ahead <= CLOCK_SKEW_MS_MAX;
        Self {
            now_ms: server_now_ms,
            shift_ms: if near { 0 } else { ahead.saturating_neg() },
        }
    }

    /// Returns the proposal of a change that was made from `base`, corrected. A proposal that is
    /// the base itself was minted by a server and holds no device's clock: a reconciliation sends
    /// the row again. It is capped only.
    #[must_use]
    pub fn correct_from(&self, proposed: Version, base: Option<Version>) -> Version {
        let unshifted = Self {
            now_ms: self.now_ms,
            shift_ms: 0,
        };
        match base {
            Some(base) if base == proposed => unshifted.correct(proposed),
            _ => self.correct(proposed),
        }
    }

    /// Returns a time that the device put on a row, by the server's clock and not after it. A
    /// clock thousands of years fast would put it where no calendar text can: a shift ends at 1970.
    #[must_use]
    pub fn correct_ms(&self, device_ms: i64) -> i64 {
        let shifted = device_ms.saturating_add(self.shift_ms);
        shifted.max(device_ms.min(0)).min(self.now_ms)
    }

    /// Returns the proposal shifted to the server's clock and capped at its time.
    #[must_use]
    pub const fn correct(&self, proposed: Version) -> Version {
        let shifted = (proposed.unix_ms() as i64).saturating_add(self.shift_ms);
        if shifted > self.now_ms {
            let now = if self.now_ms < 0 { 0 } else { self.now_ms };
            return Version::from_parts(now as u64, 0);
        }
        let shifted = if shifted < 0 { 0 } else { shifted };
        Version::from_parts(shifted as u64, proposed.counter())
    }
}

/// Returns a version above everything stored: the corrected proposal, or one step above what
/// is stored, whichever is higher.
#[must_use]
pub fn mint(corrected: Version, stored: Option<Version>) -> Version {
    match stored {
        Some(stored) if stored >= corrected => stored.next(),
        _ => corrected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    #[test]
    fn a_clock_a_day_fast_gains_nothing() {
        let day = 86_400_000;
        let skew = Skew::measure(NOW, NOW + day);
        let edited_a_minute_ago = propose(NOW + day - 60_000, 3);
        assert_eq!(skew.correct(edited_a_minute_ago), propose(NOW - 60_000, 3));
    }

    #[test]
    fn a_slow_clock_loses_nothing() {
        let skew = Skew::measure(NOW, NOW - 3_600_000);
        assert_eq!(skew.correct(propose(NOW - 3_600_000, 0)), propose(NOW, 0));
    }

    #[test]
    fn a_version_of_the_server_is_not_shifted_by_a_device_that_sends_it_again() {
        let minted = propose(NOW - 60_000, 3);
        let skew = Skew::measure(NOW, NOW - 86_400_000);
        assert_eq!(skew.correct_from(minted, Some(minted)), minted);
        assert_eq!(skew.correct_from(minted, None), propose(NOW, 0));
        assert_eq!(
            skew.correct_from(propose(NOW + 5, 0), Some(propose(NOW + 5, 0))),
            propose(NOW, 0)
        );
        assert_eq!(skew.correct_ms(NOW - 86_400_000), NOW);
        assert_eq!(skew.correct_ms(NOW), NOW);
        let sent_in_4893 = Skew::measure(NOW, 92_240_000_000_000);
        assert_eq!(sent_in_4893.correct_ms(NOW), 0);
        assert_eq!(sent_in_4893.correct_ms(-5), -5);
    }

    #[test]
    fn small_skew_is_left_alone_but_capped() {
        let skew = Skew::measure(NOW, NOW + 4_000);
        assert_eq!(skew.correct(propose(NOW + 4_000, 7)), propose(NOW, 0));
        assert_eq!(skew.correct(propose(NOW - 10, 7)), propose(NOW - 10, 7));
    }

    #[test]
    fn minted_versions_only_grow() {
        let stored = propose(NOW, 5);
        assert_eq!(mint(propose(NOW - 1, 0), Some(stored)), propose(NOW, 6));
        assert_eq!(mint(propose(NOW + 1, 0), Some(stored)), propose(NOW + 1, 0));
        assert_eq!(mint(propose(NOW, 0), None), propose(NOW, 0));
    }
}
