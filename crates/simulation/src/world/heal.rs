//! The end of a run: everything works again, and every device syncs until nothing moves.

use super::device::summary;
use super::{World, people};
use coditect_core::sync::{Report, StreamState};
use coditect_protocol::catalogue::{File, by_cloud_name};

/// Rounds of syncs after which nothing may move any more.
const ROUNDS_MAX: usize = 12;
/// Rounds in which people ask for parked rows again.
const RETRY_ROUNDS: usize = 2;
/// How often a run may be killed before it comes to its end.
const KILLS_MAX: usize = 20;
/// Steps after which a run must have ended.
const STEPS_MAX: usize = 3_000;

impl World {
    /// Heals the network and syncs all devices until quiet.
    pub(super) fn heal(&mut self) -> Result<(), String> {
        self.judge_parked()?;
        self.log.event("everything heals".to_owned());
        self.weather.loss_per_mille = 0;
        self.weather.slow_per_mille = 0;
        self.healed = true;
        self.server.refused_word = None;
        for number in 0..self.devices.len() {
            self.make_whole(number)?;
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
                let report = self.sync(number)?;
                quiet &= is_still(&report) && self.is_converged(number, &report);
            }
            if quiet {
                self.log.count("rounds until quiet", round as u64);
                return Ok(());
            }
        }
        let mut last: Vec<_> = self.reports.iter().flatten().map(summary).collect();
        last.extend(
            self.reports
                .iter()
                .enumerate()
                .flat_map(|(number, report)| {
                    let heads = report.iter().flat_map(|report| &report.comparisons);
                    let streams = heads.flat_map(|head| head.streams());
                    let unequal = streams.filter(|stream| stream.local != stream.server);
                    unequal.map(move |stream| {
                        format!(
                            "{number}: {} {:?} {:?}",
                            stream.scope, stream.local, stream.server
                        )
                    })
                }),
        );
        let state = self.judge().err().unwrap_or_default();
        let last = last.join("\n");
        Err(format!(
            "not quiet after {ROUNDS_MAX} rounds: {state}\n{last}"
        ))
    }

    /// A device gets network, space and time again, and ends what it began.
    pub(super) fn make_whole(&mut self, number: usize) -> Result<(), String> {
        let device = &mut self.devices[number];
        device.online = true;
        device.pause = 0;
        device.fuse = None;
        if device.disk_full {
            self.flip_disk(number);
        }
        self.finish(number)?;
        let device = &mut self.devices[number];
        std::mem::swap(&mut device.run, &mut device.other_run);
        self.finish(number)?;
        let mut writer = self.writer(number);
        super::program::read_transcript(&mut writer);
        Ok(())
    }

    /// Whether all digests are equal, but for what no sync can mend: rows of an `up` table that a
    /// copy pushed as its original, before both began anew with a server that was set back. They
    /// count for the original, which does not get rows of such tables.
    fn is_converged(&self, number: usize, report: &Report) -> bool {
        let up = |stream: &StreamState| {
            by_cloud_name(&stream.local.table).is_some_and(|table| !table.comes_down())
        };
        let streams = report.comparisons.iter().flat_map(|head| head.streams());
        let mut unequal = streams.filter(|stream| stream.local != stream.server);
        report.converged == Some(true) || (self.has_twin_rows(number) && unequal.all(|s| up(&s)))
    }

    /// Whether a copy of the device may have pushed rows that count for the device.
    pub(super) fn has_twin_rows(&self, number: usize) -> bool {
        self.devices[number].copied && self.set_backs > 0
    }

    /// Lets a device run once, from start to end.
    pub(super) fn sync(&mut self, number: usize) -> Result<Report, String> {
        self.now_ms += 3_600_000;
        for device in &mut self.devices {
            device.now_ms = self.now_ms + device.skew_ms;
        }
        self.reports[number] = None;
        for _ in 0..KILLS_MAX {
            self.devices[number].begin();
            self.finish(number)?;
            // A process that was killed has none; the next one goes on.
            if let Some(report) = &self.reports[number] {
                return Ok(report.clone());
            }
        }
        Err("a run has no report".to_owned())
    }

    pub(super) fn finish(&mut self, number: usize) -> Result<(), String> {
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

fn is_still(report: &Report) -> bool {
    let moved = report.pushed + report.pulled + report.conflicts + report.rejected;
    moved == 0 && report.reconciled == 0
}
