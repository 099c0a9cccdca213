//! The server's PostgreSQL folder is put back to an older copy while devices know more: nothing
//! is lost, nothing comes twice, and all sides end up equal, whoever returns first.
//!
//! `SET_BACK_ROUNDS` says how many set-backs the one server goes through; 72 meet every state of
//! the first device in every order of returning, with busy and with idle others.

use coditect_end_to_end::{Device, Server, Work, assert_same, rounds_asked_for};
use std::collections::BTreeSet;

/// Set-backs of an ordinary run: every order once, every state of the first device once.
const ROUNDS: u64 = 6;

/// What the first device did between the copy and its being put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum First {
    /// Nothing: it knows less than the others and as much as the copy.
    Behind,
    /// It changed rows and did not sync.
    BehindWithEdits,
    /// It read what the others pushed.
    Ahead,
    /// It read, then changed rows and did not sync.
    AheadWithEdits,
    /// It read and pushed.
    Pushed,
    /// It read and pushed, then changed rows and did not sync.
    PushedWithEdits,
}

impl First {
    const fn has_read(self) -> bool {
        !matches!(self, Self::Behind | Self::BehindWithEdits)
    }

    const fn has_pushed(self) -> bool {
        matches!(self, Self::Pushed | Self::PushedWithEdits)
    }

    const fn has_edits(self) -> bool {
        matches!(
            self,
            Self::BehindWithEdits | Self::AheadWithEdits | Self::PushedWithEdits
        )
    }
}

const FIRSTS: [First; 6] = [
    First::BehindWithEdits,
    First::Ahead,
    First::PushedWithEdits,
    First::Behind,
    First::AheadWithEdits,
    First::Pushed,
];
/// In which order the devices return.
const ORDERS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

struct World {
    server: Server,
    devices: [Device; 3],
    /// A device of another person, who sees the organisation's rows only.
    colleague: Device,
    work: Work,
}

#[test]
fn nothing_is_lost_when_the_server_is_set_back() {
    let rounds = rounds_asked_for("SET_BACK_ROUNDS").unwrap_or(ROUNDS) as usize;
    let mut world = World::new();
    let mut met = BTreeSet::new();
    for round in 0..rounds {
        let first = FIRSTS[(round + round / 6) % 6];
        let order = ORDERS[round % 6];
        // Others that have something to push show the set-back by it; idle ones must notice too.
        let busy = (round + round / 36) % 2 == 1;
        world.round(round, first, order, busy);
        met.insert((first, order, busy));
    }
    print(&met);
}

impl World {
    fn new() -> Self {
        let server = Server::start();
        let tenant = server.bootstrap("tenant_id");
        let license = server.bootstrap("license_key");
        let (_, working) = server.user(&tenant, "colleague@example.com", "member");
        let linked = || Device::linked(&server, &license);
        let devices = [linked(), linked(), linked()];
        let world = Self {
            work: Work::begin(&devices[0]),
            devices,
            colleague: Device::linked(&server, &working),
            server,
        };
        world.converge();
        world
    }

    fn round(&mut self, round: usize, first: First, order: [usize; 3], busy: bool) {
        let [a, ..] = &self.devices;
        self.work.add(a, &format!("{round} before"), 8);
        self.work.import(a);
        self.work.project(a, &format!("{round} before"));
        self.converge();

        self.server.stop();
        let copy = self.server.save_postgres();
        self.server.restart();
        self.push_on(round, first);
        self.server.stop();
        self.server.restore_postgres(&copy);
        self.server.restart();

        if busy {
            for at in [1, 2] {
                let name = format!("{round} busy {at}");
                self.work.add(&self.devices[at], &name, 1);
            }
        }
        let reports: Vec<_> = order
            .iter()
            .map(|device| self.devices[*device].sync())
            .collect();
        self.converge();
        let name = format!("round {round} {first:?} {order:?} busy {busy}: {reports:?}");
        self.assert_all_there_once(&name);
    }

    /// What the copy lacks: rows, edits, deletes and counts of two devices past its head, and
    /// what the first device did meanwhile.
    fn push_on(&mut self, round: usize, first: First) {
        let ([a, b, c], work) = (&self.devices, &mut self.work);
        let row = |name: &str, at: u64| format!("{round} {name} row {at}");
        work.add(b, &format!("{round} lost b"), 10);
        work.edit(b, &row("before", 0), "b");
        work.edit(b, &row("before", 7), "b");
        work.delete(b, &row("before", 1));
        work.help(b, 2);
        work.import(b);
        work.project(b, &format!("{round} lost b"));
        b.converge();
        c.sync();
        work.add(c, &format!("{round} lost c"), 10);
        work.edit(c, &row("lost b", 2), "c");
        work.edit(c, &row("before", 0), "c");
        work.delete(c, &row("lost b", 3));
        work.delete(c, &row("before", 2));
        work.help(c, 3);
        work.import_again(c);
        for device in [c, b, &self.colleague] {
            device.converge();
        }
        if first.has_read() {
            a.converge();
        }
        if first.has_pushed() {
            work.add(a, &format!("{round} pushed a"), 4);
            work.edit(a, &row("lost c", 0), "a");
            a.converge();
        }
        if first.has_edits() {
            work.add(a, &format!("{round} waiting a"), 4);
            work.edit(a, &row("before", 4), "a");
            work.delete(a, &row("before", 5));
            work.help(a, 5);
            if first.has_read() {
                work.edit(a, &row("lost b", 4), "a");
            } else {
                // Beside an edit that the copy lacks.
                work.edit_besides(a, &row("before", 7), "a besides");
            }
        }
    }

    fn converge(&self) {
        let [a, b, c] = &self.devices;
        Device::converge_all(&[a, b, c, &self.colleague]);
    }

    fn assert_all_there_once(&self, name: &str) {
        let tenant = self.server.bootstrap("tenant_id");
        let stored = self.server.dump(&tenant);
        let [a, b, c] = &self.devices;
        self.work
            .assert_stored(name, &self.server, &stored, &[a, b, c]);
        let org = format!("org:{tenant}");
        let own = format!("user:{}", self.server.bootstrap("user_id"));
        for device in &self.devices {
            assert_same(&stored, device, &[&own, &org, "platform"]);
        }
        let (_, rows) = self.colleague.dump();
        let shared = stored.iter().filter(|((_, scope, _), _)| *scope == org);
        assert!(rows.iter().eq(shared), "{name}: the colleague differs");
    }
}

#[expect(clippy::print_stdout, reason = "what was met is part of the result")]
fn print(met: &BTreeSet<(First, [usize; 3], bool)>) {
    println!(
        "{} set-backs: first device, order, others have something to push",
        met.len()
    );
    for (first, order, busy) in met {
        println!("{:<16} {order:?} {busy}", format!("{first:?}"));
    }
}
