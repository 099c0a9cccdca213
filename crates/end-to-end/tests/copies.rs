//! A device's folder is copied and both copies go on, or one of its files is put back to an older
//! copy: the server notices at the next push or pull, gives the file's device a new identity,
//! nothing is lost and nothing comes twice.

#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use coditect_end_to_end::{Device, Proxy, Server, Stop, Work, assert_same};
use serde_json::Value;

/// Files that are put back one by one; the fourth holds what the server sends only.
const FILES: [&str; 3] = ["org", "sessions", "projects"];

struct World {
    server: Server,
    proxy: Proxy,
    /// The device that is copied or set back.
    a: Device,
    /// Another one, which must end up equal.
    b: Device,
    work: Work,
    /// Number of the next piece of work.
    piece: u32,
}

impl World {
    fn new() -> Self {
        let server = Server::start();
        let license = server.bootstrap("license_key");
        let proxy = Proxy::start(server.url());
        let (a, b) = (
            Device::linked_at(&proxy.url(), &license),
            Device::linked(&server, &license),
        );
        let work = Work::begin(&a);
        let mut world = Self {
            server,
            proxy,
            a,
            b,
            work,
            piece: 0,
        };
        for _ in 0..2 {
            let _ = world.write(0);
            world.a.converge();
        }
        world.b.converge();
        world
    }

    /// Writes something to every file of a device, edits and deletes what it wrote before, and
    /// returns the piece's name.
    fn write(&mut self, device: usize) -> String {
        let device = if device == 0 { &self.a } else { &self.b };
        write(&mut self.work, device, &mut self.piece)
    }

    /// Sets a file of the first device back by something that saves it and something that puts it
    /// back, while both devices go on.
    fn put_back<S>(
        &mut self,
        name: &str,
        waiting: bool,
        save: impl FnOnce(&Device) -> S,
        put_back: impl FnOnce(&Device, S),
    ) {
        let before = self.a.id();
        let lost = self.write(0);
        self.a.converge();
        let saved = save(&self.a);
        let edited = format!("{lost} row 1");
        self.work.edit(&self.a, &edited, "after it was saved");
        self.work.delete(&self.a, &format!("{lost} row 2"));
        // Twice: one push past the copy might be one whose reply was lost.
        for _ in 0..2 {
            let _ = self.write(0);
            self.work.help(&self.a, 3);
            self.a.converge();
        }
        let _ = self.write(1);
        self.work.help(&self.b, 4);
        self.b.converge();
        self.a.converge();
        put_back(&self.a, saved);
        if waiting {
            let _ = self.write(0);
            self.work.help(&self.a, 1);
        }
        let report = self.a.sync();
        assert_ne!(self.a.id(), before, "{name}: {report}");
        self.assert_equal(name, &[&self.a, &self.b]);
    }

    fn assert_equal(&self, name: &str, devices: &[&Device]) {
        Device::converge_all(devices);
        let tenant = self.server.bootstrap("tenant_id");
        let stored = self.server.dump(&tenant);
        self.work
            .assert_stored(name, &self.server, &stored, devices);
        let own = format!("user:{}", self.server.bootstrap("user_id"));
        for device in devices {
            let scopes = [own.as_str(), &format!("org:{tenant}"), "platform"];
            assert_same(&stored, device, &scopes);
        }
    }
}

fn write(work: &mut Work, device: &Device, piece: &mut u32) -> String {
    *piece += 1;
    let name = format!("piece {piece}");
    work.add(device, &name, 8);
    work.edit(device, &format!("{name} row 0"), "again");
    work.import(device);
    work.project(device, &name);
    name
}

/// Both copies had the same rows waiting; each adds its own; both edit one row.
#[test]
fn of_a_copied_folder_one_goes_on_as_another_device() {
    for (first, second) in [(0, 1), (1, 0)] {
        let mut world = World::new();
        let before = world.a.id();
        // Waits in both copies: one piece that the program has seen, one that it has not.
        let waiting = world.write(0);
        let _ = world.a.id();
        let _ = world.write(0);
        let copies = [&world.a, &world.a.copy()];
        let (work, piece) = (&mut world.work, &mut world.piece);
        for (at, copy) in copies.iter().enumerate() {
            let name = write(work, copy, piece);
            work.edit(
                copy,
                &format!("{waiting} row {}", 1 + at),
                "edited by one copy",
            );
            work.edit_besides(copy, &format!("{waiting} row 4"), &format!("copy {at}"));
            work.help(copy, 5);
            work.delete(copy, &format!("{name} row 6"));
        }
        work.import_again(copies[0]);
        let name = format!("copy {first} first");
        let reports = [copies[first].sync(), copies[second].sync()];
        assert_eq!(copies[first].id(), before, "{name}: {reports:?}");
        assert_ne!(copies[second].id(), before, "{name}: {reports:?}");
        let copy = copies[1];
        world.assert_equal(&name, &[&world.a, copy, &world.b]);
        // Both go on, and neither takes the other for a copy again.
        let ids = copies.map(Device::id);
        for copy in copies {
            let _ = write(&mut world.work, copy, &mut world.piece);
        }
        world.assert_equal(&name, &[&world.a, copy, &world.b]);
        assert_eq!(copies.map(Device::id), ids, "{name}");
    }
}

/// A copy that only reads notices at its pull, and has nothing to send again.
#[test]
fn an_idle_copy_becomes_another_device_by_reading() {
    let mut world = World::new();
    let before = world.a.id();
    let copy = world.a.copy();
    for _ in 0..2 {
        let _ = world.write(0);
        world.work.help(&world.a, 2);
        world.a.converge();
    }
    let report = copy.sync();
    assert_ne!(copy.id(), before, "{report}");
    assert_eq!(
        (&report["pushed"], &report["conflicts"]),
        (&0.into(), &0.into())
    );
    world.assert_equal("an idle copy", &[&world.a, &copy, &world.b]);
    assert_eq!(world.a.id(), before);
}

#[test]
fn a_file_that_was_put_back_goes_on_as_another_device() {
    let mut world = World::new();
    for file in FILES {
        for waiting in [false, true] {
            let name = format!("{file} put back, changes waiting: {waiting}");
            let save = |device: &Device| device.save_database(file);
            let put_back = |device: &Device, saved| device.restore_database(file, &saved);
            world.put_back(&name, waiting, save, put_back);
        }
    }
}

/// The same by the program: a backup of all four files, work on both devices, `restore`.
#[test]
fn a_restored_backup_loses_nothing_and_brings_nothing_twice() {
    let mut world = World::new();
    for (file, waiting) in [("org", false), ("all", true)] {
        let name = format!("{file} restored, changes waiting: {waiting}");
        let back_up = |device: &Device| device.json(&["backup", "--file", file]);
        let restore = |device: &Device, made: Value| {
            let id = made["id"].as_str().unwrap();
            let restored = device.json(&["restore", id, "--file", file, "--yes"]);
            assert!(restored["undo"].is_string(), "{name}: {restored}");
        };
        world.put_back(&name, waiting, back_up, restore);
    }
    // The first sync of the day made one as well.
    let listed = world.a.json(&["backup", "list"]);
    let kinds = listed["backups"].as_array().unwrap().iter();
    assert_eq!(kinds.filter(|one| one["kind"] == "daily").count(), 1);
}

/// Databases that are cut off or overwritten come back from the server by `doctor --repair`, and
/// what another device has written since with them.
#[test]
fn a_damaged_database_is_repaired_from_the_server() {
    let mut world = World::new();
    for (file, cut) in [("org", true), ("sessions", false), ("projects", true)] {
        let _ = world.write(0);
        world.a.converge();
        let _ = world.write(1);
        world.b.converge();
        let path = world.a.database(file);
        // What was not copied from the log into the file would mend some of it.
        world.a.sql(file, "pragma wal_checkpoint(truncate);");
        let mut bytes = std::fs::read(&path).unwrap();
        let half = bytes.len() / 2;
        if cut {
            bytes.truncate(half);
        } else {
            bytes[..half].fill(0x5a);
        }
        std::fs::write(&path, bytes).unwrap();
        let repaired = world.a.json(&["doctor", "--repair", "--yes"]);
        assert_eq!(repaired["healthy"], true, "{file}: {repaired}");
        world.assert_equal(file, &[&world.a, &world.b]);
        let _ = world.write(0);
        world.assert_equal(file, &[&world.a, &world.b]);
    }
}

/// The file that says who the folder is comes from before it was made another device.
#[test]
fn a_file_from_before_a_fence_does_not_bring_the_former_device_back() {
    let mut world = World::new();
    let first = world.a.id();
    let saved = world.a.save_database("org");
    let copy = world.a.copy();
    let _ = world.write(0);
    world.a.converge();
    let (work, piece) = (&mut world.work, &mut world.piece);
    let _ = write(work, &copy, piece);
    copy.sync();
    let second = copy.id();
    assert_ne!(second, first);
    let _ = write(work, &copy, piece);
    copy.converge();
    let _ = write(work, &world.a, piece);
    world.a.converge();

    copy.restore_database("org", &saved);
    let _ = write(work, &copy, piece);
    let report = copy.sync();
    let third = copy.id();
    assert!(third != first && third != second, "{report}");
    world.assert_equal("put back beyond a fence", &[&world.a, &copy, &world.b]);
    assert_eq!(world.a.id(), first);
}

/// Both copies send the batch that was out again; the server has carried it out already.
#[test]
fn a_folder_copied_while_a_batch_was_out_pushes_it_once() {
    for other_first in [false, true] {
        let mut world = World::new();
        let before = world.a.id();
        let _ = world.write(0);
        let held = world.proxy.arm("/api/v1/sync/push", Stop::ReplyHeld);
        let mut client = world.a.spawn(&["sync"]);
        assert!(held.wait(|| client.try_wait().unwrap().is_none()));
        client.kill().unwrap();
        client.wait().unwrap();
        drop(held);
        let copy = world.a.copy();
        let (work, piece) = (&mut world.work, &mut world.piece);
        let mut copies = [&world.a, &copy];
        if other_first {
            copies.reverse();
        }
        for copy in copies {
            let _ = write(work, copy, piece);
            copy.sync();
        }
        world.assert_equal("a batch was out", &[&world.a, &copy, &world.b]);
        let ids = copies.map(Device::id);
        assert_eq!(ids.iter().filter(|id| **id == before).count(), 1);
    }
}

/// A refresh token is good for one use: the login that two copies share ends for both, and both
/// log in again, each as the device that it is by then.
#[test]
fn copies_whose_login_ended_log_in_again_and_lose_nothing() {
    let mut world = World::new();
    let copy = world.a.copy();
    let copies = [&world.a, &copy];
    for copy in copies {
        let _ = write(&mut world.work, copy, &mut world.piece);
        end_access_token(copy);
    }
    world.a.sync();
    // The token was used longer ago than a lost reply explains.
    let used = "update refresh_tokens set used_at = used_at - interval '1 hour' returning 1";
    assert!(!world.server.ask(used).is_empty());
    let refused = copy.run(&["sync"]);
    assert_eq!(refused.code, 3, "{refused:?}");
    end_access_token(&world.a);
    let refused = world.a.run(&["sync"]);
    assert_eq!(refused.code, 3, "{refused:?}");

    let license = world.server.bootstrap("license_key");
    for copy in copies {
        copy.login(&world.server, &license);
        copy.sync();
    }
    assert_ne!(world.a.id(), copy.id());
    world.assert_equal("logged in again", &[&world.a, &copy, &world.b]);
}

/// Makes the next request find its access token refused, as a quarter of an hour later.
fn end_access_token(device: &Device) {
    let path = device.home().join(".coditect/credentials/default.json");
    let mut stored: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let token = stored["access_token"].as_str().unwrap().to_owned();
    stored["access_token"] = format!("{token}x").into();
    std::fs::write(&path, stored.to_string()).unwrap();
}
