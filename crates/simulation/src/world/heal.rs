//! The end of a run: everything works again, and every device syncs until nothing moves.

use super::device::summary;
use super::{World, people};
use coditect_core::sync::{Report, StreamState};
use coditect_protocol::catalogue::{File, by_cloud_name};

/// Simulated time within which everything must be at rest after it healed.
const REST_MS_MAX: i64 = 30_000;
/// The way of a message between a device and the server.
const WAY_MS: i64 = 50;
/// From the end of a run to the next one that a hint, a change or a timer begins.
pub(super) const PAUSE_MS: i64 = 500;
/// The pause between two looks of a small store's scrub at all of its rows.
const SCRUB_MS: i64 = 60_000;
/// Rounds in which people ask for parked rows again.
const RETRY_ROUNDS: usize = 2;
/// How often a run may be killed before it comes to its end.
const KILLS_MAX: usize = 20;
/// Steps after which a run must have ended.
const STEPS_MAX: usize = 3_000;
/// Lines of the histogram: how long it took from healing to rest.
const TIMES: [(i64, &str); 7] = [
    (1_000, "at rest within 1 s"),
    (2_000, "at rest within 2 s"),
    (3_000, "at rest within 3 s"),
    (5_000, "at rest within 5 s"),
    (10_000, "at rest within 10 s"),
    (20_000, "at rest within 20 s"),
    (REST_MS_MAX, "at rest within 30 s"),
];

impl World {
    /// Heals everything, lets all devices sync at the same time until nothing moves, and measures
    /// how long that takes.
    pub(super) fn heal(&mut self) -> Result<(), String> {
        self.judge_parked()?;
        self.log.event("everything heals".to_owned());
        self.weather.loss_per_mille = 0;
        self.weather.slow_per_mille = 0;
        self.healed = true;
        if !self.refuses_for_good {
            self.server.refused_word = None;
        }
        if self.flipped {
            // No digest shows it, and no sync looks for it: the scrub does, once in a while.
            self.pass(SCRUB_MS);
        }
        let healed_ms = self.now_ms;
        for number in 0..self.devices.len() {
            self.make_usable(number);
            if self.devices[number].copied {
                // A copy is noticed when it sends something.
                people::write_everywhere(&mut self.writer(number));
                self.log.event(format!("{number}: is used in every file"));
            }
        }
        self.together()?;
        for number in 0..self.devices.len() {
            self.make_whole(number)?;
        }
        for round in 0.. {
            self.log.event(format!("round {round}"));
            let retries = round < RETRY_ROUNDS;
            if self.round(retries)? {
                return self.note_rest(self.now_ms - healed_ms);
            }
            self.pass(PAUSE_MS);
            if self.now_ms - healed_ms > REST_MS_MAX {
                break;
            }
        }
        let seconds = REST_MS_MAX / 1_000;
        let (state, last) = (self.judge().err().unwrap_or_default(), self.unequal());
        Err(format!(
            "not quiet after {seconds} seconds: {state}\n{last}"
        ))
    }

    fn note_rest(&mut self, rest_ms: i64) -> Result<(), String> {
        let line = TIMES.iter().find(|(most_ms, _)| rest_ms <= *most_ms);
        let Some((_, line)) = line else {
            return Err(format!("not quiet after {rest_ms} ms"));
        };
        self.log.event(format!("at rest after {rest_ms} ms"));
        self.log.count(line, 1);
        Ok(())
    }

    /// Lets every device run once, all at the same time. Returns whether nothing moved.
    fn round(&mut self, retries: bool) -> Result<bool, String> {
        for number in 0..self.devices.len() {
            if retries {
                self.retry_parked(number);
            }
            self.reports[number] = None;
        }
        for _ in 0..KILLS_MAX {
            // A process that was killed has no report; the next one goes on.
            let mut ended = true;
            for number in 0..self.devices.len() {
                if self.reports[number].is_none() {
                    ended = false;
                    self.devices[number].begin();
                }
            }
            if ended {
                break;
            }
            self.together()?;
        }
        let mut quiet = true;
        for number in 0..self.devices.len() {
            let report = self.reports[number].clone().ok_or("a run has no report")?;
            quiet &= is_still(&report) && self.is_converged(number, &report);
            quiet &= self.queued(number) == 0 || self.refuses_for_good;
        }
        Ok(quiet)
    }

    /// Lets all runs in progress go on at the same time, to their ends.
    pub(super) fn together(&mut self) -> Result<(), String> {
        for _ in 0..STEPS_MAX {
            if self.devices.iter().all(|device| device.run.is_none()) {
                return Ok(());
            }
            for number in 0..self.devices.len() {
                self.go_on(number)?;
            }
            self.pass(WAY_MS);
        }
        Err("the devices do not come to an end".to_owned())
    }

    /// Takes the steps of a run up to the next one that is on its way.
    fn go_on(&mut self, number: usize) -> Result<(), String> {
        for _ in 0..STEPS_MAX {
            self.advance(number)?;
            let run = self.devices[number].run.as_ref();
            if run.is_none_or(|run| run.waits.is_remote()) {
                return Ok(());
            }
        }
        Err(format!("device {number} does not come to an end"))
    }

    pub(super) fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
        for device in &mut self.devices {
            device.now_ms = self.now_ms + device.skew_ms;
        }
    }

    /// Returns what the last reports say, and the digests that differ.
    fn unequal(&self) -> String {
        let mut last: Vec<_> = self.reports.iter().flatten().map(summary).collect();
        for (number, report) in self.reports.iter().enumerate() {
            let heads = report.iter().flat_map(|report| &report.comparisons);
            let streams = heads.flat_map(|head| head.streams());
            let unequal = streams.filter(|stream| stream.local != stream.server);
            last.extend(unequal.map(|stream| {
                let (scope, local, server) = (stream.scope, stream.local, stream.server);
                format!("{number}: {scope} {local:?} {server:?}")
            }));
        }
        last.join("\n")
    }

    /// A device gets network, space and time again.
    fn make_usable(&mut self, number: usize) {
        let device = &mut self.devices[number];
        device.online = true;
        device.pause = 0;
        device.fuse = None;
        if device.disk_full {
            self.flip_disk(number);
        }
    }

    /// A device gets network, space and time again, and ends what it began.
    pub(super) fn make_whole(&mut self, number: usize) -> Result<(), String> {
        self.make_usable(number);
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
