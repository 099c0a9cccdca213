//! The world of a run: a server, devices with real files, people who write, and what goes wrong.
//! Everything follows from the seed.

mod checks;
mod damage;
mod device;
mod faults;
mod heal;
mod ledger;
mod log;
mod network;
mod oracle;
mod people;
mod program;
mod scenario;

pub use device::Device;
pub use ledger::{Ledger, Token};
pub use log::Log;
pub use scenario::{Return, Scenario, play};

use crate::model::{self, Key};
use crate::random::Random;
use coditect_core::sync::Report;
use coditect_local_store as local;
use coditect_protocol::wire::Row;
use coditect_protocol::wire::push::PushRequest;
use coditect_protocol::{DeviceId, UserId, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Virtual time at the start, milliseconds since 1970.
const START_MS: i64 = 1_800_000_000_000;
/// Devices that a world may have.
const DEVICES_MAX: usize = 5;

/// Guards of what drives the engine on a device, that a run may take out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriverGuards {
    /// One process at a time syncs a folder. Without: two do.
    pub lease: bool,
    /// No answer costs a row no attempt. Without: it counts as a refusal.
    pub offline: bool,
    /// What differs is looked for by ranges of ids and mended. Without: it is not.
    pub ranges: bool,
}

impl Default for DriverGuards {
    fn default() -> Self {
        Self {
            lease: true,
            offline: true,
            ranges: true,
        }
    }
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Seed that everything follows from.
    pub seed: u64,
    /// Steps before the network heals.
    pub steps: usize,
    /// Guards of the server.
    pub server: model::Guards,
    /// Guards of the devices.
    pub device: local::Guards,
    /// Guards of what drives the engine.
    pub driver: DriverGuards,
    /// Whether rows and positions are damaged in some worlds.
    pub damage: bool,
    /// Whether the log keeps every line.
    pub complete_log: bool,
}

impl Settings {
    /// Makes the settings of an ordinary run.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            steps: 260,
            server: model::Guards::default(),
            device: local::Guards::default(),
            driver: DriverGuards::default(),
            damage: true,
            complete_log: false,
        }
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What did not hold; none when all did.
    pub failure: Option<String>,
    /// How often each fault, conflict and so on happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// Hash over all events.
    pub log_hash: String,
    /// The last events, or all.
    pub log: String,
}

/// Runs a seed: a time of writing and faults, then healing, then the oracle.
#[must_use]
pub fn simulate(settings: Settings) -> Outcome {
    run_world(settings, World::run)
}

fn run_world(settings: Settings, run: impl FnOnce(&mut World) -> Result<(), String>) -> Outcome {
    let mut world = World::new(settings);
    let run = catch_unwind(AssertUnwindSafe(|| run(&mut world)));
    let failure = match run {
        Ok(result) => result.err(),
        Err(panic) => Some(panic_text(panic.as_ref())),
    };
    Outcome {
        failure,
        counts: world.log.counts().clone(),
        log_hash: world.log.hash(),
        log: world.log.text(),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("without a text"))
}

/// What can go wrong in this run; drawn once, so that some runs are calm in one way.
#[derive(Clone, Copy, Debug)]
struct Weather {
    /// How many of a thousand requests or replies are lost, each.
    loss_per_mille: u64,
    /// How many of a thousand transactions stay open for long.
    slow_per_mille: u64,
    /// Whether all write to the organisation's scope and sync often, so that pushes overlap.
    crowd: bool,
    copies: bool,
    restores: bool,
    set_backs: bool,
    refusals: bool,
    clocks: bool,
    /// Whether processes end before the commit of one of their transactions.
    kills: bool,
    /// Whether disks run full.
    disks: bool,
    /// Whether processes stand still for long.
    pauses: bool,
    /// Whether requests arrive a second time, long after.
    late: bool,
}

struct World {
    settings: Settings,
    random: Random,
    /// Draws of what is damaged.
    damages: Random,
    /// Ids of the rows that were damaged.
    damaged: BTreeSet<String>,
    /// Whether bytes changed under a hash that stayed, which no digest shows.
    flipped: bool,
    weather: Weather,
    server: model::Server,
    users: [UserId; 2],
    devices: Vec<Device>,
    ledger: Ledger,
    log: Log,
    now_ms: i64,
    healed: bool,
    /// Whether the server goes on to refuse what it refuses.
    refuses_for_good: bool,
    backup: Option<model::Database>,
    set_backs: u32,
    saved: Option<faults::SavedFile>,
    /// The last report of each device.
    reports: Vec<Option<Report>>,
    /// Contents that were on the losing side of a conflict.
    lost: Vec<(usize, Option<Row>)>,
    /// Who was first to push each row, as the server said.
    origins: BTreeMap<Key, DeviceId>,
    /// The last version of each row, as the server said.
    versions: BTreeMap<Key, Version>,
    /// The greatest value of each `max` column that the server took.
    maxima: BTreeMap<(Key, &'static str), i64>,
    /// Requests that will arrive a second time.
    late: Vec<(UserId, PushRequest)>,
    /// Versions of rows that each device has had.
    seen: BTreeSet<(usize, Key, Version)>,
}

impl World {
    fn new(settings: Settings) -> Self {
        let mut random = Random::new(settings.seed);
        let mut server = model::Server::new(random.next());
        server.guards = settings.server;
        if random.chance(700) {
            server.page_changes_max = 1 + random.below(7);
        }
        let users = [UserId::new(random.uuid()), UserId::new(random.uuid())];
        let crowd = random.chance(200);
        let weather = Weather {
            crowd,
            loss_per_mille: [0, 20, 60, 150][random.below(4)],
            slow_per_mille: [0, 100, 300][if crowd { 2 } else { random.below(3) }],
            copies: random.chance(350),
            restores: random.chance(350),
            set_backs: random.chance(350),
            refusals: random.chance(350),
            clocks: random.chance(500),
            kills: random.chance(400),
            disks: random.chance(250),
            pauses: random.chance(250),
            late: random.chance(250),
        };
        let log = if settings.complete_log {
            Log::complete()
        } else {
            Log::default()
        };
        let mut world = Self {
            settings,
            random,
            damages: Random::new(settings.seed ^ 0xda3a_6ed0),
            damaged: BTreeSet::new(),
            flipped: false,
            weather,
            server,
            users,
            devices: Vec::new(),
            ledger: Ledger::default(),
            log,
            now_ms: START_MS,
            healed: false,
            refuses_for_good: false,
            backup: None,
            set_backs: 0,
            saved: None,
            reports: Vec::new(),
            lost: Vec::new(),
            origins: BTreeMap::new(),
            versions: BTreeMap::new(),
            maxima: BTreeMap::new(),
            late: Vec::new(),
            seen: BTreeSet::new(),
        };
        if weather.refusals && world.random.chance(500) {
            world.server.refused_word = Some(faults::REFUSED_WORD.to_owned());
        }
        for user in [users[0], users[0], users[1]] {
            world.join(user);
        }
        world
    }

    fn run(&mut self) -> Result<(), String> {
        self.log
            .event(format!("seed {}: {:?}", self.settings.seed, self.weather));
        for _ in 0..self.settings.steps {
            self.damage();
            self.step()?;
        }
        self.heal()?;
        self.judge()
    }

    fn step(&mut self) -> Result<(), String> {
        self.pass_time();
        self.arrive_late()?;
        match self.random.below(1_000) {
            0..330 => self.write(),
            330..940 => self.advance_some(),
            _ => self.fault(),
        }
    }

    fn pass_time(&mut self) {
        let ms = match self.random.below(100) {
            0 => self.random.between(1, 6) * 3_600_000,
            _ => self.random.between(1, 3_000),
        };
        self.now_ms += ms;
        for device in &mut self.devices {
            device.now_ms = self.now_ms + device.skew_ms;
        }
    }

    fn write(&mut self) -> Result<(), String> {
        let number = self.random.below(self.devices.len());
        self.write_at(number)
    }

    fn write_at(&mut self, number: usize) -> Result<(), String> {
        if self.devices[number].disk_full {
            self.log.count("writes of people that found no space", 1);
            return Ok(());
        }
        let kills = self.weather.kills && !self.healed;
        let mut writer = self.writer(number);
        writer.kills = kills;
        let done = people::write(&mut writer);
        if let Some(what) = done {
            self.log.event(format!("{number}: {what}"));
            self.log.count("local writes", 1);
        }
        if self.devices[number].store.has_ended() {
            self.log.count("kills between two commits of an import", 1);
            self.end_process(number)?;
        }
        Ok(())
    }

    fn writer(&mut self, number: usize) -> people::Writer<'_> {
        people::Writer {
            device: &mut self.devices[number],
            number,
            ledger: &mut self.ledger,
            random: &mut self.random,
            crowd: self.weather.crowd,
            kills: false,
            organization: format!("org:{}", self.server.organization()),
            refused_word: self.server.refused_word.as_deref(),
        }
    }

    /// Lets one device take some steps of its run, or begin one.
    fn advance_some(&mut self) -> Result<(), String> {
        let number = self.random.below(self.devices.len());
        let device = &mut self.devices[number];
        if device.pause > 0 {
            device.pause -= 1;
            return Ok(());
        }
        if !self.settings.driver.lease && self.random.chance(500) {
            std::mem::swap(&mut device.run, &mut device.other_run);
        }
        if device.broken {
            return Ok(());
        }
        if self.devices[number].run.is_none() {
            if self
                .random
                .chance(if self.weather.crowd { 900 } else { 300 })
            {
                self.devices[number].begin();
                self.log.event(format!("{number}: begins to sync"));
            }
            return Ok(());
        }
        // What goes over the network ends the step, so that others act while it is on its way.
        for _ in 0..12 {
            self.advance(number)?;
            let run = self.devices[number].run.as_ref();
            if run.is_none_or(|run| run.waits.is_remote()) || self.random.chance(150) {
                break;
            }
        }
        Ok(())
    }
}
