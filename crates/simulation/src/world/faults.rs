//! What goes wrong besides the network: clocks, crashes, copies, restores, a server that is set
//! back, rows that it refuses, people who empty the queue.

use super::device::Device;
use super::ledger::{Place, Token};
use super::{DEVICES_MAX, World, people};
use coditect_local_store::{LocalStore, Random};
use coditect_protocol::catalogue::File;
use coditect_protocol::{OrganizationId, UserId};
use std::collections::BTreeMap;

const DAY_MS: i64 = 86_400_000;
/// A word that makes the server refuse a row.
pub(super) const REFUSED_WORD: &str = "unwanted";
/// How often the server may be set back in one run.
const SET_BACKS_MAX: u32 = 2;

/// A copy of one file of a device, taken to be put back later.
#[derive(Debug)]
pub(super) struct SavedFile {
    device: usize,
    file: File,
    store: LocalStore,
    texts: BTreeMap<Place, Token>,
    dirty: Vec<String>,
}

impl World {
    /// Makes a device of a user.
    pub(super) fn join(&mut self, user: UserId) {
        let seed = self.random.next();
        let mut store = LocalStore::in_memory(self.now_ms, Random::Seeded(seed))
            .expect("files in memory can be made");
        store.set_guards(self.settings.device);
        let device = self.server.register(user, store.device());
        let tenant = OrganizationId::new(self.server.organization());
        store
            .bind(tenant, user)
            .expect("a new folder belongs to nobody");
        store
            .set_device(device)
            .expect("a new folder takes any device id");
        let mut made = Device::new(user, store, self.now_ms);
        if self.weather.clocks && self.random.chance(400) {
            made.skew_ms = if self.random.chance(500) {
                DAY_MS
            } else {
                -DAY_MS
            };
            self.log.count("clocks a day off", 1);
        }
        self.devices.push(made);
        self.reports.push(None);
        self.log.event(format!(
            "{}: joins as {device} of {user}",
            self.devices.len() - 1
        ));
    }

    /// Lets one thing go wrong.
    pub(super) fn fault(&mut self) -> Result<(), String> {
        let number = self.random.below(self.devices.len());
        let weather = self.weather;
        match self.random.below(16) {
            0 | 1 => self.flip_network(number),
            2 => return self.crash(number),
            3 if weather.clocks => self.jump(number),
            4 if self.devices.len() < DEVICES_MAX => {
                let user = self.users[self.random.below(2)];
                self.log.count("late joins", 1);
                self.join(user);
            }
            5 if weather.copies && self.devices.len() < DEVICES_MAX => self.copy(number),
            6 if weather.restores => self.save(number),
            7 if weather.restores => return self.put_back(),
            8 if weather.set_backs => {
                self.backup = Some(self.server.backup());
                self.log.event("the server is backed up".to_owned());
            }
            9 if weather.set_backs => self.set_back(),
            10 if weather.refusals => self.flip_refusal(),
            11 => self.clear_queue(number),
            12 | 13 if weather.kills => {
                self.devices[number].fuse = Some(self.random.below(8) as u32);
            }
            14 if weather.disks => self.flip_disk(number),
            15 if weather.pauses => {
                self.devices[number].pause = self.random.between(20, 80) as u32;
                self.log.event(format!("{number}: stands still"));
                self.log.count("processes that stood still", 1);
            }
            _ => {}
        }
        Ok(())
    }

    fn flip_network(&mut self, number: usize) {
        let device = &mut self.devices[number];
        device.online = !device.online;
        let online = device.online;
        self.log.event(format!("{number}: online {online}"));
        if !online {
            self.log.count("offline times", 1);
        }
    }

    /// A disk has no space any more, or has some again.
    pub(super) fn flip_disk(&mut self, number: usize) {
        let full = !self.devices[number].disk_full;
        self.devices[number].fill_disk(full);
        self.log
            .event(format!("{number}: its disk is full: {full}"));
        if full {
            self.log.count("disks that ran full", 1);
        } else if std::mem::take(&mut self.devices[number].broken) {
            self.devices[number].run = None;
            self.devices[number].reopen();
        }
    }

    pub(super) fn crash(&mut self, number: usize) -> Result<(), String> {
        let Some(run) = self.devices[number].run.take() else {
            return Ok(());
        };
        self.log.event(format!("{number}: crashes"));
        self.log.count("crashes between two actions", 1);
        self.end_process(number)?;
        self.orphan(number, run.waits)
    }

    fn jump(&mut self, number: usize) {
        let skew_ms = match self.random.below(4) {
            0 => DAY_MS,
            1 => -DAY_MS,
            2 => self.random.between(-10_000, 10_000),
            _ => 0,
        };
        self.devices[number].skew_ms = skew_ms;
        self.devices[number].jumped = true;
        self.log
            .event(format!("{number}: its clock is {skew_ms} ms fast"));
        self.log.count("clock jumps", 1);
    }

    /// Copies a device's whole folder to another machine.
    pub(super) fn copy(&mut self, number: usize) {
        self.blur_pending(number);
        let from = &self.devices[number];
        let seed = self.random.next();
        let mut store = from
            .store
            .copy(seed)
            .expect("files in memory can be copied");
        store.set_guards(self.settings.device);
        let mut copy = Device::new(from.user, store, from.now_ms);
        copy.skew_ms = from.skew_ms;
        copy.jumped = from.jumped;
        copy.copied = true;
        copy.transcript.clone_from(&from.transcript);
        self.devices.push(copy);
        self.devices[number].copied = true;
        self.reports.push(None);
        let to = self.devices.len() - 1;
        for file in File::ALL {
            self.ledger.copied(number, to, file);
        }
        self.log.event(format!("{number}: is copied to {to}"));
        self.log.count("folders copied", 1);
    }

    fn save(&mut self, number: usize) {
        let file = File::ALL[self.random.below(4)];
        self.save_file(number, file);
    }

    pub(super) fn save_file(&mut self, number: usize, file: File) {
        let seed = self.random.next();
        let store = self.devices[number]
            .store
            .copy(seed)
            .expect("files can be copied");
        let texts = self.ledger.texts(number, file);
        let dirty = self.pending_names(number);
        self.saved = Some(SavedFile {
            device: number,
            file,
            store,
            texts,
            dirty,
        });
        self.log.event(format!("{number}: its {file} is saved"));
    }

    pub(super) fn put_back(&mut self) -> Result<(), String> {
        let Some(saved) = self.saved.take() else {
            return Ok(());
        };
        if self.devices[saved.device].disk_full {
            self.flip_disk(saved.device);
        }
        let (number, file) = (saved.device, saved.file);
        self.crash(number)?;
        self.blur_pending(number);
        for name in saved.dirty {
            self.ledger.blur(name);
        }
        if self.set_backs > 0 {
            // What the server forgot, this file forgets too.
            self.ledger.blur_all();
        }
        self.ledger.set_back(number, file, saved.texts);
        let mut device = self.devices.remove(number);
        device.copied = true;
        device.store = device
            .store
            .replace_file(file, &saved.store, device.now_ms)
            .expect("a file can be put back");
        self.devices.insert(number, device);
        self.seen.retain(|it| it.0 != number);
        self.log.event(format!("{number}: its {file} is put back"));
        self.log.count("files restored", 1);
        Ok(())
    }

    /// Names of the counters with something that is not acknowledged.
    fn pending_names(&self, number: usize) -> Vec<String> {
        let sql = "select skill_name from skill_learnings t where version is null or exists (
                     select 1 from sync_queue q where q.table_name = 'org_skill_learnings'
                       and (q.row_seq = t.seq or q.row_id = t.id))";
        let rows = self.devices[number].rows(File::Org, sql);
        rows.iter()
            .filter_map(|row| Some(row[0].as_str()?.to_owned()))
            .collect()
    }

    /// What is not acknowledged when a file is copied may be counted once or twice: nobody can
    /// tell the copy's from the original's.
    fn blur_pending(&mut self, number: usize) {
        for name in self.pending_names(number) {
            self.ledger.blur(name);
        }
    }

    pub(super) fn set_back(&mut self) {
        if self.set_backs == SET_BACKS_MAX {
            return;
        }
        let Some(backup) = self.backup.clone() else {
            return;
        };
        if self.devices.iter().any(|device| device.copied) {
            // Parts of identities that are gone come back from nobody.
            self.ledger.blur_all();
        }
        self.set_backs += 1;
        self.origins.clear();
        self.versions.clear();
        // Connections end with the server.
        self.late.clear();
        self.server.restore(backup);
        self.log.event("the server is set back".to_owned());
        self.log.count("servers set back", 1);
    }

    fn flip_refusal(&mut self) {
        self.server.refused_word = match self.server.refused_word {
            Some(_) => None,
            None => Some(REFUSED_WORD.to_owned()),
        };
        self.log
            .event(format!("refused word: {:?}", self.server.refused_word));
    }

    fn clear_queue(&mut self, number: usize) {
        let mut writer = self.writer(number);
        writer.refused_word = None;
        if let Some(what) = people::clear_queue(&mut writer) {
            self.log.event(format!("{number}: {what}"));
            self.log.count("queue entries deleted by hand", 1);
        }
    }
}
