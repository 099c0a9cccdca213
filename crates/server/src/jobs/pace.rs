//! How fast a job in the background may go, so that those who wait for an answer do not notice it.

use std::time::{Duration, Instant};

/// Holds a job to so many bytes a second, counted from its beginning.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes a second; without a limit none.
    limit: Option<u64>,
    started: Instant,
}

impl Pace {
    /// Begins to count.
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self {
            limit,
            started: Instant::now(),
        }
    }

    /// Waits until a job that has done `bytes` in all is no faster than it may be.
    pub(super) async fn keep(&self, bytes: u64) {
        let ahead = self.ahead(bytes, self.started.elapsed());
        // tidy: may sleep: that is what a limit is
        tokio::time::sleep(ahead).await;
    }

    /// Returns how long the job has to wait that has done `bytes` in the time.
    fn ahead(&self, bytes: u64, elapsed: Duration) -> Duration {
        let Some(limit) = self.limit else {
            return Duration::ZERO;
        };
        Duration::from_secs_f64(bytes as f64 / limit as f64).saturating_sub(elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_job_waits_and_a_slow_one_does_not() {
        let pace = Pace::new(Some(1_000));
        let second = Duration::from_secs(1);
        assert_eq!(pace.ahead(3_000, second), 2 * second);
        assert_eq!(pace.ahead(1_000, second), Duration::ZERO);
        assert_eq!(pace.ahead(1_000, 60 * second), Duration::ZERO);
        assert_eq!(Pace::new(None).ahead(u64::MAX, second), Duration::ZERO);
    }
}
