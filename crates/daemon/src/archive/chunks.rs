//! Chunks: compressed bytes under the hash of what they hold.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use coditect_core::hex::hex;
use sha2::{Digest as _, Sha256};

use super::{ArchiveError, Result, failed, write_whole};

/// Compression that is fast enough for an import and makes a tenth of most transcripts.
const LEVEL: i32 = 3;
/// Most bytes that a chunk may unfold to, whatever its list says.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

#[derive(Clone, Debug)]
pub(super) struct Chunks(PathBuf);

impl Chunks {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Stores bytes and returns their name; bytes that are there are not written again.
    pub(super) fn write(&self, content: &[u8]) -> Result<String> {
        let name = hex(&Sha256::digest(content));
        let path = self.path(&name);
        if path.exists() {
            return Ok(name);
        }
        let packed =
            zstd::encode_all(content, LEVEL).map_err(|source| failed("compress", &path, source))?;
        write_whole(&path, &packed)?;
        Ok(name)
    }

    /// Returns the bytes of a chunk, which must be as long and have the hash that is expected.
    pub(super) fn read(&self, name: &str, bytes: u64) -> Result<Vec<u8>> {
        let path = self.path(name);
        let wrong = |reason: String| ArchiveError::Chunk {
            name: name.to_owned(),
            reason,
        };
        if bytes > BYTES_MAX {
            return Err(wrong(format!("{bytes} bytes are more than a chunk has")));
        }
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(wrong("it is missing".to_owned()));
            }
            Err(source) => return Err(failed("read", &path, source)),
        };
        let unpacked = zstd::Decoder::new(file).map_err(|error| wrong(error.to_string()))?;
        let mut content = Vec::new();
        // One byte more than expected tells that it is too long, without reading all of it.
        let read = unpacked.take(bytes + 1).read_to_end(&mut content);
        read.map_err(|error| wrong(error.to_string()))?;
        if content.len() as u64 != bytes {
            return Err(wrong(format!("it does not hold {bytes} bytes")));
        }
        if hex(&Sha256::digest(&content)) != name {
            return Err(wrong("its bytes have changed".to_owned()));
        }
        Ok(content)
    }

    pub(super) fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// Returns the bytes of all chunks on the disk.
    pub(super) fn bytes_stored(&self) -> u64 {
        let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
        let files = entries(&self.0).flat_map(|folder| entries(&folder.path()).collect::<Vec<_>>());
        files
            .filter_map(|file| Some(file.metadata().ok()?.len()))
            .sum()
    }

    fn path(&self, name: &str) -> PathBuf {
        let start = name.get(..2).unwrap_or("00");
        self.0.join(start).join(format!("{name}.zst"))
    }
}
