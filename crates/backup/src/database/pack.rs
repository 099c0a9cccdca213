//! Packs and unpacks: zstd with a checksum, piece by piece.

use std::io::{self, Write as _};

use zstd::stream::write::{Decoder, Encoder};

use crate::seal::Seal;

/// Level of the packing: the log of a busy database must be packed while it is written.
const LEVEL: i32 = 1;

/// Packs a stream, and sums up what went in.
pub struct Packer {
    encoder: Encoder<'static, Vec<u8>>,
    seal: Seal,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer")
            .field("seal", &self.seal)
            .finish_non_exhaustive()
    }
}

impl Packer {
    /// Begins a stream.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new() -> io::Result<Self> {
        let mut encoder = Encoder::new(Vec::new(), LEVEL)?;
        encoder.include_checksum(true)?;
        Ok(Self {
            encoder,
            seal: Seal::default(),
        })
    }

    /// Takes bytes and returns what is packed by now; may be empty.
    ///
    /// # Errors
    /// Those of the packing.
    pub fn feed(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        self.seal.add(piece);
        self.encoder.write_all(piece)?;
        Ok(std::mem::take(self.encoder.get_mut()))
    }

    /// Ends the stream; returns its last bytes, and how many went in with which checksum.
    ///
    /// # Errors
    /// Those of the packing.
    pub fn finish(self) -> io::Result<(Vec<u8>, u64, String)> {
        let last = self.encoder.finish()?;
        let (bytes, checksum) = self.seal.close();
        Ok((last, bytes, checksum))
    }
}

/// Unpacks a stream, and sums up what comes out.
pub struct Unpacker {
    decoder: Decoder<'static, Vec<u8>>,
    seal: Seal,
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacker")
            .field("seal", &self.seal)
            .finish_non_exhaustive()
    }
}

impl Unpacker {
    /// Begins a stream.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            decoder: Decoder::new(Vec::new())?,
            seal: Seal::default(),
        })
    }

    /// Takes packed bytes and returns what they unpack to; may be empty. A thousand times as long
    /// at most: feed small pieces.
    ///
    /// # Errors
    /// When the bytes are damaged.
    pub fn feed(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        self.decoder.write_all(piece)?;
        Ok(self.taken())
    }

    /// Ends the stream; returns its last bytes, and how many came out with which checksum.
    ///
    /// # Errors
    /// When the stream is not complete.
    pub fn finish(mut self) -> io::Result<(Vec<u8>, u64, String)> {
        self.decoder.flush()?;
        self.decoder.do_finish()?;
        let last = self.taken();
        let (bytes, checksum) = self.seal.close();
        Ok((last, bytes, checksum))
    }

    fn taken(&mut self) -> Vec<u8> {
        let taken = std::mem::take(self.decoder.get_mut());
        self.seal.add(&taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(content: &[u8]) -> Vec<u8> {
        let mut packer = Packer::new().unwrap();
        let mut packed = packer.feed(content).unwrap();
        packed.extend(packer.finish().unwrap().0);
        packed
    }

    fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
        let (mut unpacker, mut content) = (Unpacker::new()?, Vec::new());
        for piece in packed.chunks(4096) {
            content.extend(unpacker.feed(piece)?);
        }
        content.extend(unpacker.finish()?.0);
        Ok(content)
    }

    fn content() -> Vec<u8> {
        let noise =
            (0..300_000_u64).map(|n| (n.wrapping_mul(6_364_136_223_846_793_005) >> 33) as u8);
        noise.chain(std::iter::repeat_n(0, 700_000)).collect()
    }

    #[test]
    fn a_file_comes_back() {
        for content in [Vec::new(), b"short".to_vec(), content()] {
            assert!(unpack(&pack(&content)).unwrap() == content);
        }
        let packed = pack(&content());
        assert!(packed.len() < 400_000, "{}", packed.len());
    }

    #[test]
    fn both_ways_sum_up_the_same() {
        let (mut packer, mut unpacker) = (Packer::new().unwrap(), Unpacker::new().unwrap());
        let mut packed = Vec::new();
        for piece in content().chunks(77_777) {
            packed.extend(packer.feed(piece).unwrap());
        }
        let (last, bytes, sum) = packer.finish().unwrap();
        packed.extend(last);
        for piece in packed.chunks(1_000) {
            unpacker.feed(piece).unwrap();
        }
        let (_, read, same) = unpacker.finish().unwrap();
        assert_eq!((bytes, &sum), (read, &same));
        assert_eq!(bytes, 1_000_000);
        assert_eq!(sum.len(), "sha256:".len() + 64);
    }

    #[test]
    fn flipped_bits_and_cuts_are_found() {
        let packed = pack(&content());
        for at in (0..packed.len()).step_by(997) {
            let mut damaged = packed.clone();
            damaged[at] ^= 16;
            if let Ok(read) = unpack(&damaged) {
                assert!(read == content(), "byte {at} changed what came out");
            }
            assert!(unpack(&packed[..at]).is_err(), "cut at {at}");
        }
    }
}
