//! A clock that stands still until it is told otherwise.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};

/// A shared clock under the test's control. Starts on 2026-01-01.
#[derive(Debug, Clone)]
pub struct FakeClock(Arc<Mutex<DateTime<Utc>>>);

impl Default for FakeClock {
    fn default() -> Self {
        let start = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        Self(Arc::new(Mutex::new(start)))
    }
}

impl FakeClock {
    /// Returns the time.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }

    /// Moves the time on, or back when `by` is negative.
    pub fn advance(&self, by: TimeDelta) {
        *self.0.lock().unwrap() += by;
    }
}
