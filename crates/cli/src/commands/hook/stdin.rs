//! The input of a hook. A host that does not close it must not hang, nor one that sends much.

use std::io::{IsTerminal as _, Read as _};
use std::time::Duration;

use serde::de::IgnoredAny;

/// Longest input that is looked at, in bytes; of a longer one the transcript will tell.
const INPUT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Time for the whole input; a host that says nothing for so long waits for nothing.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// Bytes read at once.
const PART_BYTES: usize = 64 * 1024;
/// Stack of the thread that only waits.
const STACK_BYTES: usize = 64 * 1024;

/// What came.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) bytes: Vec<u8>,
    /// There was more than is looked at.
    pub(super) is_too_long: bool,
}

/// Reads standard input until it holds one whole object, or to its end. None when it is a
/// terminal. The process ends with 0 when the input does not come in time.
pub(super) fn read() -> Option<Input> {
    let mut input = std::io::stdin().lock();
    if input.is_terminal() {
        return None;
    }
    let waiting = std::thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(|| {
            std::thread::park_timeout(WAIT_MAX);
            // Woken before: the input is there.
            if !IS_READ.load(std::sync::atomic::Ordering::Acquire) {
                std::process::exit(0);
            }
        });
    let mut bytes = Vec::new();
    let mut is_too_long = false;
    let mut part = vec![0; PART_BYTES];
    loop {
        let count = match input.read(&mut part) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        // The rest is read all the same, so that the host can finish writing.
        if bytes.len() + count > INPUT_BYTES_MAX {
            is_too_long = true;
            continue;
        }
        bytes.extend_from_slice(&part[..count]);
        if is_whole(&bytes) {
            break;
        }
    }
    IS_READ.store(true, std::sync::atomic::Ordering::Release);
    if let Ok(waiting) = waiting {
        waiting.thread().unpark();
    }
    Some(Input { bytes, is_too_long })
}

static IS_READ: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Returns whether an object is complete: then the host need not close its side.
fn is_whole(bytes: &[u8]) -> bool {
    let end = bytes.trim_ascii_end();
    end.ends_with(b"}") && serde_json::from_slice::<IgnoredAny>(end).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_whole_when_it_is() {
        for text in ["{}", " {\"a\": {\"b\": 1}}\n"] {
            assert!(is_whole(text.as_bytes()), "{text}");
        }
        for text in ["", "{", "{\"a\": {}", "{\"a\": \"}", "}{"] {
            assert!(!is_whole(text.as_bytes()), "{text}");
        }
    }
}
