//! Size and checksum of what passes.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Counts and sums up bytes, piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Seal {
    bytes: u64,
    hash: Sha256,
}

impl Seal {
    pub(crate) fn add(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        self.hash.update(piece);
    }

    /// Returns how many bytes they were, and their SHA-256 as `sha256:` and 64 digits.
    pub(crate) fn close(self) -> (u64, String) {
        let mut checksum = String::from("sha256:");
        for byte in self.hash.finalize() {
            let _infallible = write!(checksum, "{byte:02x}");
        }
        (self.bytes, checksum)
    }
}
