//! The input of a hook. A host that does not close it must not hang, nor one that sends much.

use std::io::{IsTerminal as _, Read as _};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// Longest input that is looked at, in bytes; of a longer one the transcript will tell.
const INPUT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Time for the whole input.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// Time after a pause in the input from which it counts as complete.
const PAUSE: Duration = Duration::from_millis(250);
/// Bytes read at once.
const PART_BYTES: usize = 64 * 1024;

/// What came.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) bytes: Vec<u8>,
    /// There was more than is looked at.
    pub(super) is_too_long: bool,
}

/// Reads standard input to its end, or as far as it comes in time. None when it is a terminal.
pub(super) fn read() -> Option<Input> {
    if std::io::stdin().is_terminal() {
        return None;
    }
    let (sender, parts) = sync_channel(4);
    // It ends with the process when the host never closes its side.
    std::thread::Builder::new()
        .stack_size(PART_BYTES * 2)
        .spawn(move || {
            let mut input = std::io::stdin().lock();
            loop {
                let mut part = vec![0; PART_BYTES];
                match input.read(&mut part) {
                    Ok(0) | Err(_) => return,
                    Ok(bytes) => part.truncate(bytes),
                }
                if sender.send(part).is_err() {
                    return;
                }
            }
        })
        .ok()?;
    let mut input = Input {
        bytes: Vec::new(),
        is_too_long: false,
    };
    let until = Instant::now() + WAIT_MAX;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let wait = if input.bytes.is_empty() {
            left
        } else {
            left.min(PAUSE)
        };
        match parts.recv_timeout(wait) {
            Ok(part) => {
                // The rest is read all the same, so that the host can finish writing.
                if input.bytes.len() + part.len() > INPUT_BYTES_MAX {
                    input.is_too_long = true;
                } else {
                    input.bytes.extend_from_slice(&part);
                }
            }
            Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => return Some(input),
        }
    }
}
