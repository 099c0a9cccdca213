//! A full disk, by two real limits: the size that the system lets a process's files have (works
//! for every user), and a small file system (where one may be mounted). Nothing is half-written,
//! reading goes on, and with space again both sides become equal.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use coditect_end_to_end::{Device, Ran, Server, assert_same, write_transcript};
use std::io::Write;
use std::path::Path;
use std::process::Command;

const SESSIONS: u64 = 6;
const RECORDS: u64 = 400;

/// Size of files in bytes that the limited runs may reach. The databases are larger already, so
/// nearly every write fails; what stays below it still works, as on a disk that fills up.
const FILE_BYTES_MAX: u64 = 96 * 1024;

fn transcripts() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for session in 1..=SESSIONS {
        write_transcript(folder.path(), session, RECORDS);
    }
    folder
}

/// Runs the program under a limit of the size of files. The signal that the system sends beside
/// the refusal is ignored, as many programs and service managers do; without that the process
/// would be killed, which other tests do.
fn limited(device: &Device, arguments: &[&str]) -> Ran {
    let limit = format!("--fsize={FILE_BYTES_MAX}");
    let script = "trap '' XFSZ; exec \"$@\"";
    let wrapper = ["sh", "-c", script, "sh", "prlimit", &limit];
    device.run_through(&wrapper, arguments)
}

fn assert_whole(device: &Device) {
    for file in ["platform", "org", "sessions", "projects"] {
        assert_eq!(
            device.sql(file, "pragma integrity_check;").trim(),
            "ok",
            "{file}"
        );
    }
    let half = "select count(*) from messages where id is null or content_hash is null;";
    assert_eq!(device.sql("sessions", half).trim(), "0");
}

fn assert_no_space(ran: &Ran) {
    assert_eq!((ran.code, ran.stdout.as_str()), (8, ""), "{ran:?}");
    assert!(ran.stderr.starts_with("error[no_space]: "), "{ran:?}");
    assert!(ran.stderr.contains("hint: make room"), "{ran:?}");
}

fn assert_complete(server: &Server, devices: &[&Device]) {
    let tenant = server.bootstrap("tenant_id");
    let own = format!("user:{}", server.bootstrap("user_id"));
    let scopes = [own.as_str(), &format!("org:{tenant}"), "platform"];
    let dump = server.dump(&tenant);
    for device in devices {
        let count = device.sql("sessions", "select count(*) from messages;");
        assert_eq!(count.trim(), (SESSIONS * RECORDS).to_string());
        assert_same(&dump, device, &scopes);
    }
}

#[test]
fn files_that_may_not_grow_leave_nothing_half_written() {
    let server = Server::start();
    let license = server.bootstrap("license_key");
    let (a, b) = (
        Device::linked(&server, &license),
        Device::linked(&server, &license),
    );
    assert_eq!(a.run(&["decision", "add", "made before"]).code, 0);
    a.converge();
    let agent = transcripts();
    let from = agent.path().to_str().unwrap();

    // Importing.
    assert_no_space(&limited(&a, &["import", "claude", "--from", from]));
    assert_whole(&a);
    // Writing by hand.
    let long = "a long reason ".repeat(8_000);
    let add = limited(&a, &["decision", "add", "too long", "--rationale", &long]);
    assert_no_space(&add);
    assert_whole(&a);
    assert_eq!(
        a.sql("org", "select title from decisions;").trim(),
        "made before"
    );
    // Reading goes on.
    let listed = limited(&a, &["decision", "list"]);
    assert_eq!(listed.code, 0, "{listed:?}");
    assert!(listed.stdout.contains("made before"));
    assert_eq!(limited(&a, &["status"]).code, 0);
    assert_eq!(limited(&a, &["search", "before"]).code, 0);

    // Pushing, then pulling.
    assert_eq!(a.run(&["import", "claude", "--from", from]).code, 0);
    assert_no_space(&limited(&a, &["sync"]));
    assert_whole(&a);
    a.converge();
    assert_no_space(&limited(&b, &["sync"]));
    assert_whole(&b);
    b.converge();
    a.converge();
    assert_complete(&server, &[&a, &b]);
}

/// A small file system over a device's home, taken away when dropped.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn new(home: &'a Path, bytes: u64) -> Option<Self> {
        let size = format!("size={bytes},mode=0700");
        let ran = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(home)
            .output();
        ran.is_ok_and(|ran| ran.status.success())
            .then_some(Self(home))
    }

    fn grow(&self, bytes: u64) {
        let size = format!("remount,size={bytes}");
        let ran = Command::new("mount")
            .args(["-o", &size])
            .arg(self.0)
            .status();
        assert!(ran.unwrap().success());
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

/// Fills the file system until `left` bytes are free.
fn fill(home: &Path, left: usize) {
    let path = home.join("filler");
    let mut file = std::fs::File::create(&path).unwrap();
    let mut written = 0_u64;
    while file.write_all(&[b'x'; 4096]).is_ok() {
        written += 4096;
    }
    file.set_len(written.saturating_sub(left as u64)).unwrap();
}

#[test]
fn a_full_file_system_leaves_nothing_half_written() {
    let server = Server::start();
    let license = server.bootstrap("license_key");
    let (a, b) = (Device::new(), Device::linked(&server, &license));
    let Some(mounted) = Mounted::new(a.home(), 6 << 20) else {
        println!("skipped: this user may not mount a file system; the limit on files is tested");
        return;
    };
    a.login(&server, &license);
    assert_eq!(a.run(&["decision", "add", "made before"]).code, 0);
    a.converge();
    let agent = transcripts();
    let from = agent.path().to_str().unwrap();
    fill(a.home(), 400 * 1024);
    assert_no_space(&a.run(&["import", "claude", "--from", from]));
    let listed = a.run(&["decision", "list"]);
    assert_eq!(listed.code, 0, "{listed:?}");

    // Not a byte is left.
    fill(a.home(), 0);
    for arguments in [
        &["decision", "add", "no room"][..],
        &["import", "claude", "--from", from],
        &["sync"],
    ] {
        assert_no_space(&a.run(arguments));
    }
    let doctor = a.run(&["doctor"]);
    assert_eq!(doctor.code, 7, "{doctor:?}");
    assert!(doctor.stdout.contains("FAIL space"), "{doctor:?}");

    std::fs::remove_file(a.home().join("filler")).unwrap();
    mounted.grow(64 << 20);
    assert_whole(&a);
    assert_eq!(
        a.sql("org", "select title from decisions;").trim(),
        "made before"
    );
    assert_eq!(a.run(&["import", "claude", "--from", from]).code, 0);
    a.converge();
    b.converge();
    assert_complete(&server, &[&a, &b]);
    assert_eq!(a.json(&["doctor"])["healthy"], true);
    // The pull meets a full disk as well.
    let other = Device::new();
    let small = Mounted::new(other.home(), 3 << 20).unwrap();
    other.login(&server, &license);
    assert_no_space(&other.run(&["sync"]));
    small.grow(64 << 20);
    other.converge();
    assert_complete(&server, &[&other]);
}
