//! Runs in which one thing surely happens, at a moment that the seed chooses: the server is set
//! back, a folder is copied, a file is put back. Before and after it people write and things go
//! wrong as in every run; a run in which it did not happen has failed.

use super::device::Waits;
use super::{Outcome, Settings, World, people};
use crate::model::Database;
use coditect_protocol::Scope;
use coditect_protocol::catalogue::File;

/// What surely happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// The server is set back to a backup, other devices push past the old head, and the first
    /// device returns.
    ServerSetBack(Return),
    /// A device's folder is copied, and both go on.
    FolderCopied,
    /// One file of a device is put back from an older copy.
    FileRestored(File),
}

/// How the first device returns to a server that was set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// With nothing to send.
    Idle,
    /// With edits that it made meanwhile.
    Dirty,
    /// Once, and again after the server was set back a second time.
    Twice,
    /// With a push that the server was working on when it was set back.
    InFlight,
}

impl Return {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Idle, Self::Dirty, Self::Twice, Self::InFlight];
}

/// Attempts to bring something about before the run gives up.
const TRIES_MAX: usize = 40;
/// The first device.
const FIRST: usize = 0;

/// Plays a scenario with what a seed makes of it, heals, and judges.
#[must_use]
pub fn play(scenario: Scenario, settings: Settings) -> Outcome {
    super::run_world(settings, |world| world.play(scenario))
}

impl World {
    fn play(&mut self, scenario: Scenario) -> Result<(), String> {
        self.weather.copies = false;
        self.weather.restores = false;
        self.weather.set_backs = false;
        self.log.event(format!(
            "seed {}: {scenario:?}, {:?}",
            self.settings.seed, self.weather
        ));
        self.mix(30, 90)?;
        match scenario {
            Scenario::ServerSetBack(how) => self.set_back_and_return(how)?,
            Scenario::FolderCopied => self.copy_and_go_on()?,
            Scenario::FileRestored(file) => self.restore_and_go_on(file)?,
        }
        self.mix(20, 80)?;
        self.heal()?;
        self.be_noticed(scenario)?;
        self.judge()?;
        self.prove(scenario)
    }

    /// A copy is noticed when it sends what it holds, and a file that was put back is the same as
    /// before until then: with every file sent, it must have been.
    fn be_noticed(&mut self, scenario: Scenario) -> Result<(), String> {
        let copied = matches!(scenario, Scenario::FolderCopied | Scenario::FileRestored(_));
        if !copied || self.log.counts().contains_key("fences") {
            return Ok(());
        }
        self.log.count("copies that sent nothing at first", 1);
        for number in 0..self.devices.len() {
            if self.devices[number].copied {
                self.used_everywhere(number)?;
            }
        }
        self.heal()
    }

    fn mix(&mut self, low: i64, high: i64) -> Result<(), String> {
        for _ in 0..self.random.between(low, high) {
            self.step()?;
        }
        Ok(())
    }

    fn set_back_and_return(&mut self, how: Return) -> Result<(), String> {
        let stormy = self.weather;
        self.calm()?;
        let backup = self.server.backup();
        self.go_past(&backup, &[FIRST])?;
        if self.random.chance(500) {
            // The others have read what will be lost.
            self.sync_all(1..self.devices.len())?;
        }
        let before = self.server.backup();
        if how == Return::InFlight {
            self.leave_open()?;
        }
        self.restore(backup.clone());
        let others: Vec<_> = (1..self.devices.len()).collect();
        self.go_past(&before, &others)?;
        self.log.count("times others pushed past the old head", 1);
        match how {
            Return::Idle => self.log.count("idle returns", 1),
            Return::InFlight => self.log.count("returns with a push in flight", 1),
            Return::Dirty | Return::Twice => {
                people::write_everywhere(&mut self.writer(FIRST));
                self.log.count("returns with edits", 1);
            }
        }
        self.finish(FIRST)?;
        self.sync_all(FIRST..FIRST + 1)?;
        if how == Return::Twice {
            let before = self.server.backup();
            self.restore(backup);
            self.go_past(&before, &others)?;
            self.log.count("second set backs", 1);
            self.sync_all(FIRST..FIRST + 1)?;
        }
        self.weather = stormy;
        Ok(())
    }

    fn restore(&mut self, backup: Database) {
        self.backup = Some(backup);
        self.set_back();
    }

    fn copy_and_go_on(&mut self) -> Result<(), String> {
        self.used_everywhere(FIRST)?;
        if self.random.chance(500) {
            people::write_everywhere(&mut self.writer(FIRST));
        }
        self.copy(FIRST);
        for number in [FIRST, self.devices.len() - 1] {
            people::write_everywhere(&mut self.writer(number));
        }
        Ok(())
    }

    fn restore_and_go_on(&mut self, file: File) -> Result<(), String> {
        self.used_everywhere(FIRST)?;
        if self.random.chance(500) {
            people::write_everywhere(&mut self.writer(FIRST));
        }
        self.save_file(FIRST, file);
        self.used_everywhere(FIRST)?;
        if self.random.chance(500) {
            people::write_everywhere(&mut self.writer(FIRST));
        }
        self.put_back()
    }

    /// Each file of the device is pushed, so that it has a token of its own.
    fn used_everywhere(&mut self, number: usize) -> Result<(), String> {
        let stormy = self.weather;
        self.calm()?;
        let tokens = self.tokens(number);
        for _ in 0..TRIES_MAX {
            people::write_everywhere(&mut self.writer(number));
            self.sync(number)?;
            let now = self.tokens(number);
            let moved = tokens.iter().zip(&now).all(|(old, new)| old != new);
            if moved {
                self.weather = stormy;
                return Ok(());
            }
        }
        Err(format!("{number} could not push each of its files"))
    }

    fn tokens(&self, number: usize) -> Vec<Option<String>> {
        let device = self.devices[number].store.device();
        let token = |file: File| self.server.token(device, file);
        File::ALL.into_iter().map(token).collect()
    }

    /// Everything works for a while, and all devices come to rest.
    fn calm(&mut self) -> Result<(), String> {
        self.weather.loss_per_mille = 0;
        self.weather.slow_per_mille = 0;
        self.weather.kills = false;
        self.server.refused_word = None;
        for number in 0..self.devices.len() {
            self.make_whole(number)?;
        }
        for _ in 0..TRIES_MAX {
            self.sync_all(0..self.devices.len())?;
            if (0..self.devices.len()).all(|number| self.queued(number) == 0) {
                return Ok(());
            }
        }
        Err("the devices do not come to rest".to_owned())
    }

    fn sync_all(&mut self, numbers: std::ops::Range<usize>) -> Result<(), String> {
        for number in numbers {
            self.sync(number)?;
        }
        Ok(())
    }

    pub(super) fn queued(&self, number: usize) -> i64 {
        let sql = "select count(*) from sync_queue where state = 'queued'";
        let device = &self.devices[number];
        File::ALL.iter().map(|file| device.number(*file, sql)).sum()
    }

    /// Devices write and sync until the organisation's stream is longer than it was.
    fn go_past(&mut self, then: &Database, numbers: &[usize]) -> Result<(), String> {
        let scope = Scope::Org(self.server.organization());
        let old = then.head(scope, File::Org);
        for _ in 0..TRIES_MAX {
            for number in numbers {
                let mut writer = self.writer(*number);
                writer.crowd = true;
                people::write_everywhere(&mut writer);
                self.sync(*number)?;
            }
            if self.server.database.head(scope, File::Org) > old {
                return Ok(());
            }
        }
        Err(format!("{numbers:?} could not push past {old}"))
    }

    /// The first device's push is being worked on.
    fn leave_open(&mut self) -> Result<(), String> {
        people::write_everywhere(&mut self.writer(FIRST));
        self.weather.slow_per_mille = 1_000;
        self.devices[FIRST].begin();
        for _ in 0..TRIES_MAX * 10 {
            self.advance(FIRST)?;
            let run = self.devices[FIRST].run.as_ref();
            if run.is_some_and(|run| matches!(run.waits, Waits::PushOpen(..))) {
                self.weather.slow_per_mille = 0;
                return Ok(());
            }
        }
        Err("no push could be left open".to_owned())
    }

    /// What the scenario promises to have happened, and to have been noticed.
    fn prove(&mut self, scenario: Scenario) -> Result<(), String> {
        match scenario {
            Scenario::ServerSetBack(_) => {
                if self.server.database.past_epochs.is_empty() {
                    return Err("nobody noticed that the server was set back".to_owned());
                }
                self.log.count("set backs noticed", 1);
            }
            Scenario::FolderCopied | Scenario::FileRestored(_) => {
                let fences = self.log.counts().get("fences").copied().unwrap_or(0);
                if fences == 0 {
                    return Err("nobody was fenced".to_owned());
                }
                let mut identities: Vec<_> =
                    self.devices.iter().map(|it| it.store.device()).collect();
                identities.sort_unstable();
                identities.dedup();
                if identities.len() != self.devices.len() {
                    return Err("two folders are one device".to_owned());
                }
                self.log.count("copies noticed", 1);
            }
        }
        Ok(())
    }
}
