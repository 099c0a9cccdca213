//! The few calls into the operating system that the supervisor needs and `std` does not offer.
//!
//! Owns all of the supervisor's `unsafe` blocks; knows nothing of PostgreSQL.

#![expect(
    unsafe_code,
    reason = "privileges, inherited descriptors, signals, syncfs: std has no safe counterpart"
)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// A user that a child process runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    /// Numeric user id.
    pub(super) uid: u32,
    /// Numeric id of the user's primary group.
    pub(super) gid: u32,
}

/// What ties a child to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tie {
    /// The child gets SIGINT when the spawning thread ends (Linux), and has its own process group.
    DiesWithThread,
    /// The child has a session of its own and outlives us.
    Detached,
}

/// Returns the effective user id of this process.
pub(super) fn effective_uid() -> u32 {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() }
}

/// Returns the account called `name`, or `None` when the system has none.
pub(super) fn account_by_name(name: &str) -> Option<Account> {
    let name = CString::new(name).ok()?;
    let mut buffer = vec![0 as libc::c_char; 16 * 1024];
    let mut found: *mut libc::passwd = std::ptr::null_mut();
    // SAFETY: passwd is plain data for which all zeroes is a valid value.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    // SAFETY: all pointers are valid for the call and `buffer` is as long as stated.
    let code = unsafe {
        libc::getpwnam_r(
            name.as_ptr(),
            &raw mut entry,
            buffer.as_mut_ptr(),
            buffer.len(),
            &raw mut found,
        )
    };
    (code == 0 && !found.is_null()).then_some(Account {
        uid: entry.pw_uid,
        gid: entry.pw_gid,
    })
}

/// Makes `command` drop to `account` (when given) and follow `tie`, just before it executes.
///
/// It inherits `folder` (when given) under the same number; no other child does, and we have it
/// open for as long as `command` lives.
pub(super) fn prepare_child(
    command: &mut Command,
    account: Option<Account>,
    tie: Tie,
    folder: Option<File>,
) {
    let parent = std::process::id();
    let prepare = move || -> io::Result<()> {
        // SAFETY: only async-signal-safe calls, on values copied before the fork.
        unsafe {
            if tie == Tie::Detached {
                check(libc::setsid())?;
            } else {
                check(libc::setpgid(0, 0))?;
            }
            if let Some(account) = account {
                check(libc::setgroups(0, std::ptr::null()))?;
                check(libc::setgid(account.gid))?;
                check(libc::setuid(account.uid))?;
            }
            if let Some(folder) = &folder {
                // The flags are the child's own: ours stays closed to all others.
                check(libc::fcntl(folder.as_raw_fd(), libc::F_SETFD, 0))?;
            }
        }
        if tie == Tie::DiesWithThread {
            die_with_parent(parent)?;
        }
        Ok(())
    };
    // SAFETY: the closure neither allocates nor takes locks.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Asks the kernel for SIGINT when the spawning thread ends. After setuid, which clears the wish.
#[cfg(target_os = "linux")]
fn die_with_parent(parent: u32) -> io::Result<()> {
    // SAFETY: prctl with PR_SET_PDEATHSIG takes one integer; getppid and raise take none and one.
    unsafe {
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGINT))?;
        if libc::getppid().cast_unsigned() != parent {
            libc::raise(libc::SIGINT);
        }
    }
    Ok(())
}

/// Other systems have no such wish; an orphan is found and stopped at the next start.
#[cfg(not(target_os = "linux"))]
fn die_with_parent(_parent: u32) -> io::Result<()> {
    Ok(())
}

/// Sends `signal` to the process `pid`.
///
/// # Errors
///
/// Fails when the process does not exist or belongs to somebody else.
pub(super) fn send_signal(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: kill takes two integers.
    check(unsafe { libc::kill(pid, signal) })
}

/// Returns whether a process `pid` exists, whoever owns it.
pub(super) fn is_alive(pid: i32) -> bool {
    match send_signal(pid, 0) {
        Ok(()) => true,
        Err(error) => error.raw_os_error() == Some(libc::EPERM),
    }
}

/// Blocks until the child `pid` has ended and leaves it to be reaped, so that its number stays
/// taken until the caller says so.
pub(super) fn wait_without_reaping(pid: u32) {
    loop {
        // SAFETY: siginfo_t is plain data for which all zeroes is a valid value.
        let mut outcome: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `outcome` is valid for the call.
        let code = unsafe {
            libc::waitid(
                libc::P_PID,
                pid as libc::id_t,
                &raw mut outcome,
                libc::WEXITED | libc::WNOWAIT,
            )
        };
        if code == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}

/// Writes everything of the file system that holds `file` to the disk.
///
/// # Errors
///
/// Fails when the system reports a write error.
#[cfg(target_os = "linux")]
pub(super) fn sync_file_system(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for the time of the call.
    check(unsafe { libc::syncfs(file.as_raw_fd()) })
}

/// Writes everything to the disk; other systems have no call for a single file system.
#[cfg(not(target_os = "linux"))]
pub(super) fn sync_file_system(_file: &File) -> io::Result<()> {
    // SAFETY: sync has no preconditions.
    unsafe { libc::sync() };
    Ok(())
}

fn check(code: libc::c_int) -> io::Result<()> {
    if code < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
