//! A daemon of a device, as the system would start it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use crate::{Device, signal};

/// A running daemon; ended when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts the daemon of a device and waits until it watches.
    ///
    /// # Panics
    /// When it does not get ready.
    #[must_use]
    pub fn start(device: &Device) -> Self {
        Self::start_with(device, &[])
    }

    /// Starts it with further variables of the environment.
    ///
    /// # Panics
    /// When it does not get ready.
    #[must_use]
    pub fn start_with(device: &Device, environment: &[(&str, &str)]) -> Self {
        let mut child = device
            .command(&["daemon", "run"])
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self { child }
    }

    /// Returns the process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it without a chance to clean up.
    ///
    /// # Panics
    /// When it has ended already.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end and returns its exit code.
    ///
    /// # Panics
    /// When it has ended already.
    #[must_use]
    pub fn stop(mut self) -> Option<i32> {
        signal(&self.child, "TERM");
        self.child.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
