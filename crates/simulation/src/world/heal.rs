//! The end of a run: everything works again, and every device syncs until nothing moves.

use super::{World, people};
use coditect_core::sync::Report;
use coditect_protocol::catalogue::File;

/// Rounds of syncs after which nothing may move any more.
const ROUNDS_MAX: usize = 12;
/// Round after which somebody looks at what does not converge.
const BUMP_ROUND: usize = 3;
/// Rounds in which people ask for parked rows again.
const RETRY_ROUNDS: usize = 2;
/// Steps after which a run must have ended.
const STEPS_MAX: usize = 3_000;

impl World {
    /// Heals the network and syncs all devices until quiet.
    pub(super) fn heal(&mut self) -> Result<(), String> {
        self.log.event("everything heals".to_owned());
        self.weather.loss_per_mille = 0;
        self.weather.slow_per_mille = 0;
        self.server.refused_word = None;
        for number in 0..self.devices.len() {
            self.devices[number].online = true;
            self.finish(number)?;
            if self.devices[number].copied {
                // A copy is noticed when it sends something.
                people::write_everywhere(&mut self.writer(number));
                self.log.event(format!("{number}: is used in every file"));
            }
        }
        for round in 0..ROUNDS_MAX {
            self.log.event(format!("round {round}"));
            let mut quiet = true;
            for number in 0..self.devices.len() {
                if round < RETRY_ROUNDS {
                    self.retry_parked(number);
                }
                quiet &= still(&self.sync(number)?);
            }
            if round == BUMP_ROUND {
                self.bump_epoch();
            }
            if quiet {
                self.log.count("rounds until quiet", round as u64);
                return Ok(());
            }
        }
        let last = self.reports.iter().flatten().map(super::device::summary);
        let last: Vec<_> = last.collect();
        Err(format!(
            "not quiet after {ROUNDS_MAX} rounds:\n{}",
            last.join("\n")
        ))
    }

    /// Somebody who sees that devices do not converge after the server was set back, and that it
    /// did not find out, begins a new epoch by hand (PROTOCOL 25).
    fn bump_epoch(&mut self) {
        let apart = |report: &Report| report.converged == Some(false);
        let unnoticed = self.unnoticed == Some(self.server.database.epoch);
        if unnoticed && self.reports.iter().flatten().any(apart) {
            self.server.bump_epoch();
            self.log.event("the epoch is changed by hand".to_owned());
            self.log.count("epochs changed by hand", 1);
        }
    }

    /// Lets a device run once, from start to end.
    fn sync(&mut self, number: usize) -> Result<Report, String> {
        self.now_ms += 3_600_000;
        for device in &mut self.devices {
            device.now_ms = self.now_ms + device.skew_ms;
        }
        self.devices[number].begin();
        self.finish(number)?;
        self.reports[number]
            .clone()
            .ok_or_else(|| "a run has no report".to_owned())
    }

    fn finish(&mut self, number: usize) -> Result<(), String> {
        for _ in 0..STEPS_MAX {
            if self.devices[number].run.is_none() {
                return Ok(());
            }
            self.advance_all(number)?;
        }
        Err(format!("device {number} does not come to an end"))
    }

    /// A device that waits for a stream's lock needs the one that holds it.
    fn advance_all(&mut self, number: usize) -> Result<(), String> {
        self.advance(number)?;
        for other in 0..self.devices.len() {
            if other != number && self.devices[other].run.is_some() {
                self.advance(other)?;
            }
        }
        Ok(())
    }

    /// Asks for parked rows again, as `process-queue --retry` does.
    fn retry_parked(&mut self, number: usize) {
        for file in File::ALL {
            let retried = self.devices[number].store.retry_parked(file);
            retried.expect("parked rows can be queued again");
        }
    }
}

fn still(report: &Report) -> bool {
    let moved = report.pushed + report.pulled + report.conflicts + report.rejected;
    moved == 0 && report.reconciled == 0 && report.converged == Some(true)
}
