//! An archive: gzip over JSON lines. The first line says what it is a backup of, then comes one
//! line for each row in the order of the stream, the last line says how many there were. A row
//! that changed while the archive was written comes again, and its last line counts.
//!
//! Both directions work on pieces: neither holds more than a piece and a line in memory.

use std::collections::BTreeMap;
use std::io::Write as _;

use coditect_protocol::wire::Stored;
use coditect_protocol::{DeviceId, Epoch, OrganizationId, Scope};
use flate2::Compression;
use flate2::write::{GzDecoder, GzEncoder};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::seal::Seal;

/// Name of the format, in the first line of every archive.
pub const FORMAT: &str = "coditect-backup";
/// Version of the format that this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;
/// Longest line that is read, unpacked: far above the largest row, far below what would hurt.
pub const BYTES_PER_LINE_MAX: usize = 64 * 1024 * 1024;

/// Whether an archive holds a whole scope, or what changed since another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Everything.
    Full,
    /// What changed since the backup that it is based on, tombstones included.
    Incremental,
}

impl Kind {
    /// Returns the name on the wire and in paths.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
        }
    }
}

/// What an archive is a backup of; its first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// Version of the format.
    pub format_version: u32,
    /// The backup's id.
    pub backup_id: Uuid,
    /// The organisation.
    pub tenant_id: OrganizationId,
    /// The scope.
    pub scope: Scope,
    /// Whole, or since another one.
    pub kind: Kind,
    /// The backup that an incremental one is based on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_id: Option<Uuid>,
    /// The database's life.
    pub epoch: Epoch,
    /// Position in the stream behind which the archive begins; 0 for a whole one.
    pub from: i64,
    /// When it was begun, RFC 3339 UTC.
    pub created_at: String,
}

/// What a device added to a counter column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterPart {
    /// The device.
    pub device: DeviceId,
    /// Number of its last report.
    pub seq: i64,
    /// All that it added.
    pub total: i64,
}

/// A row or a tombstone, with the parts of its counters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The row as the stream has it.
    pub stored: Stored,
    /// Parts of each counter column.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, Vec<CounterPart>>,
}

/// The last line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Number of records before it.
    pub records: u64,
    /// Position in the stream that the archive reaches: it is the scope as of this moment.
    pub to: i64,
}

/// One line of an archive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "lowercase")]
pub enum Line {
    /// The first.
    Manifest(Manifest),
    /// A row.
    Record(Box<Record>),
    /// The last.
    End(End),
}

/// Why an archive cannot be read; nothing of it may be used then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// The packed bytes are not gzip, or are damaged.
    #[error("the archive is not gzip, or its bytes are damaged")]
    Packing,
    /// A line is not one of an archive.
    #[error("line {line} is no line of an archive")]
    Line {
        /// Its number, from 1.
        line: u64,
    },
    /// A line is longer than [`BYTES_PER_LINE_MAX`].
    #[error("line {line} is longer than {BYTES_PER_LINE_MAX} bytes")]
    LineTooLong {
        /// Its number, from 1.
        line: u64,
    },
    /// A newer program wrote it.
    #[error("the archive has format version {0}, this program reads up to {FORMAT_VERSION}")]
    NewerFormat(u32),
    /// The last line is missing, or counts other records than there are.
    #[error("the archive is not complete")]
    Incomplete,
}

/// What is known of an archive when it is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Packed size in bytes.
    pub size_bytes: u64,
    /// SHA-256 over the packed bytes, as `sha256:` and 64 hexadecimal digits.
    pub checksum: String,
    /// Number of records.
    pub records: u64,
}

impl Sealed {
    fn of(packed: Seal, records: u64) -> Self {
        let (size_bytes, checksum) = packed.close();
        Self {
            size_bytes,
            checksum,
            records,
        }
    }
}

/// How hard archives are packed: half the processor's time of zlib's usual level, which those who
/// push meanwhile need, for 8 % more bytes (18.8 MB of transcripts).
const LEVEL: Compression = Compression::new(4);

/// Packs lines. What is packed so far is taken piece by piece.
#[derive(Debug)]
pub struct Writer {
    packer: GzEncoder<Vec<u8>>,
    seal: Seal,
    records: u64,
    /// The line at hand, kept for its memory.
    text: Vec<u8>,
    bytes: u64,
}

impl Writer {
    /// Begins an archive.
    #[must_use]
    pub fn new(manifest: Manifest) -> Self {
        let mut writer = Self {
            packer: GzEncoder::new(Vec::new(), LEVEL),
            seal: Seal::default(),
            records: 0,
            text: Vec::new(),
            bytes: 0,
        };
        writer.line(&Line::Manifest(manifest));
        writer
    }

    /// Adds a row.
    pub fn record(&mut self, record: Record) {
        self.records += 1;
        self.line(&Line::Record(Box::new(record)));
    }

    /// Returns what is packed and was not taken yet; may be empty.
    pub fn take(&mut self) -> Vec<u8> {
        let piece = std::mem::take(self.packer.get_mut());
        self.seal.add(&piece);
        piece
    }

    /// Ends the archive at the stream's position `to`; returns the last piece and what is known
    /// of the whole.
    #[must_use]
    pub fn finish(mut self, to: i64) -> (Vec<u8>, Sealed) {
        let records = self.records;
        self.line(&Line::End(End { records, to }));
        let last = self.packer.finish().expect(IN_MEMORY);
        self.seal.add(&last);
        (last, Sealed::of(self.seal, records))
    }

    /// Returns how long the lines are so far, in bytes before packing.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    fn line(&mut self, line: &Line) {
        self.text.clear();
        serde_json::to_writer(&mut self.text, line).expect(IN_MEMORY);
        self.text.push(b'\n');
        self.bytes += self.text.len() as u64;
        self.packer.write_all(&self.text).expect(IN_MEMORY);
    }
}

const IN_MEMORY: &str = "writing into memory does not fail";

/// Unpacks an archive and checks its form.
#[derive(Debug)]
pub struct Reader {
    unpacker: GzDecoder<Vec<u8>>,
    seal: Seal,
    lines: u64,
    records: u64,
    manifest: Option<Manifest>,
    end: Option<End>,
}

/// Packed bytes that are unpacked at once: bounds what one piece may swell to (gzip packs at
/// most 1,032 to 1).
const UNPACK_AT_ONCE: usize = 16 * 1024;

impl Default for Reader {
    fn default() -> Self {
        Self {
            unpacker: GzDecoder::new(Vec::new()),
            seal: Seal::default(),
            lines: 0,
            records: 0,
            manifest: None,
            end: None,
        }
    }
}

impl Reader {
    /// Takes packed bytes and hands every record that they complete to `each`, with its number
    /// from 0.
    ///
    /// # Errors
    /// [`ArchiveError`] when the archive is damaged, or what `each` returns.
    pub fn feed<E: From<ArchiveError>>(
        &mut self,
        piece: &[u8],
        mut each: impl FnMut(u64, Record) -> Result<(), E>,
    ) -> Result<(), E> {
        self.seal.add(piece);
        for part in piece.chunks(UNPACK_AT_ONCE) {
            let unpacked = self.unpacker.write_all(part);
            let unpacked = unpacked.and_then(|()| self.unpacker.flush());
            unpacked.map_err(|_| ArchiveError::Packing)?;
            self.lines(&mut each)?;
        }
        Ok(())
    }

    /// Ends the archive; hands the records to `each` that only the end completes.
    ///
    /// # Errors
    /// [`ArchiveError::Incomplete`] when its last line is missing or does not fit, or what
    /// `each` returns.
    pub fn finish<E: From<ArchiveError>>(
        mut self,
        mut each: impl FnMut(u64, Record) -> Result<(), E>,
    ) -> Result<(Manifest, End, Sealed), E> {
        let finished = self.unpacker.try_finish();
        finished.map_err(|_| ArchiveError::Packing)?;
        self.lines(&mut each)?;
        let complete = self.unpacker.get_ref().is_empty();
        match (self.manifest, self.end) {
            (Some(manifest), Some(end)) if complete && end.records == self.records => {
                Ok((manifest, end, Sealed::of(self.seal, self.records)))
            }
            _ => Err(ArchiveError::Incomplete.into()),
        }
    }

    /// Returns the first line once it was read.
    #[must_use]
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// Reads the whole lines that are unpacked.
    fn lines<E: From<ArchiveError>>(
        &mut self,
        each: &mut impl FnMut(u64, Record) -> Result<(), E>,
    ) -> Result<(), E> {
        let unpacked = std::mem::take(self.unpacker.get_mut());
        let mut rest = unpacked.as_slice();
        while let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
            let line = &rest[..length];
            rest = &rest[length + 1..];
            if let Some(record) = self.line(line)? {
                each(self.records - 1, record)?;
            }
        }
        if rest.len() > BYTES_PER_LINE_MAX {
            let line = self.lines + 1;
            return Err(ArchiveError::LineTooLong { line }.into());
        }
        *self.unpacker.get_mut() = rest.to_vec();
        Ok(())
    }

    /// Reads a line and checks that it may stand where it stands.
    fn line(&mut self, line: &[u8]) -> Result<Option<Record>, ArchiveError> {
        self.lines += 1;
        let wrong = ArchiveError::Line { line: self.lines };
        if self.end.is_some() {
            return Err(wrong);
        }
        let parsed: Line = serde_json::from_slice(line).map_err(|_| wrong.clone())?;
        match parsed {
            Line::Manifest(manifest) if self.lines == 1 && manifest.format == FORMAT => {
                if manifest.format_version > FORMAT_VERSION {
                    return Err(ArchiveError::NewerFormat(manifest.format_version));
                }
                self.manifest = Some(manifest);
                Ok(None)
            }
            Line::Record(record) if self.manifest.is_some() => {
                self.records += 1;
                Ok(Some(*record))
            }
            Line::End(end) if self.manifest.is_some() => {
                self.end = Some(end);
                Ok(None)
            }
            _ => Err(wrong),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coditect_protocol::wire::Op;
    use coditect_protocol::{RowId, Version};

    fn manifest() -> Manifest {
        Manifest {
            format: FORMAT.to_owned(),
            format_version: FORMAT_VERSION,
            backup_id: Uuid::from_u128(1),
            tenant_id: OrganizationId::new(Uuid::from_u128(2)),
            scope: Scope::Team(Uuid::from_u128(3)),
            kind: Kind::Full,
            base_id: None,
            epoch: Epoch(7),
            from: 0,
            created_at: "2026-11-20T00:00:00Z".to_owned(),
        }
    }

    fn record(n: u128) -> Record {
        let device = DeviceId::new(Uuid::from_u128(9));
        let row = serde_json::json!({ "title": format!("row {n} ä\u{0}\n"), "weight": 0.5 });
        let stored = Stored {
            table: "org_decisions".to_owned(),
            id: RowId::new(Uuid::from_u128(n)),
            op: Op::Upsert,
            version: Version::from_parts(5, 1),
            device,
            origin: device,
            user_id: None,
            hash: "00".repeat(32),
            cursor: n as i64,
            created_at: "2026-11-20T00:00:00.000000Z".to_owned(),
            updated_at: "2026-11-20T00:00:00.000000Z".to_owned(),
            row: row.as_object().cloned(),
        };
        let part = CounterPart {
            device,
            seq: 1,
            total: 4,
        };
        Record {
            stored,
            counters: BTreeMap::from([("usage_count".to_owned(), vec![part])]),
        }
    }

    fn archive(records: u128) -> (Vec<u8>, Sealed) {
        let mut writer = Writer::new(manifest());
        let mut packed = Vec::new();
        for n in 0..records {
            writer.record(record(n));
            packed.extend(writer.take());
        }
        let (last, sealed) = writer.finish(records as i64);
        packed.extend(last);
        (packed, sealed)
    }

    type Read = (Vec<Record>, Manifest, End, Sealed);

    fn read(packed: &[u8], piece: usize) -> Result<Read, ArchiveError> {
        let (mut reader, mut records) = (Reader::default(), Vec::new());
        let mut keep = |n, record| {
            assert_eq!(n, records.len() as u64);
            records.push(record);
            Ok::<_, ArchiveError>(())
        };
        for piece in packed.chunks(piece) {
            reader.feed(piece, &mut keep)?;
        }
        let (manifest, end, sealed) = reader.finish(&mut keep)?;
        Ok((records, manifest, end, sealed))
    }

    #[test]
    fn an_archive_reads_back_in_pieces_of_any_size() {
        let (packed, written) = archive(300);
        for piece in [1, 7, 1_000, packed.len()] {
            let (records, head, end, sealed) = read(&packed, piece).unwrap();
            assert!(records == (0..300).map(record).collect::<Vec<_>>());
            assert_eq!((head, end.to), (manifest(), 300));
            assert_eq!(sealed, written);
        }
        assert_eq!(written.size_bytes, packed.len() as u64);
    }

    #[test]
    fn every_flipped_bit_changes_the_checksum_or_is_refused() {
        let (packed, written) = archive(3);
        for bit in 0..packed.len() * 8 {
            let mut damaged = packed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Ok((.., sealed)) = read(&damaged, 64) {
                assert_ne!(sealed.checksum, written.checksum, "bit {bit}");
            }
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let (packed, _) = archive(3);
        for length in 0..packed.len() {
            assert!(read(&packed[..length], 64).is_err(), "{length} bytes");
        }
    }

    fn pack(lines: &[Line]) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        for line in lines {
            serde_json::to_writer(&mut packer, line).unwrap();
            packer.write_all(b"\n").unwrap();
        }
        packer.finish().unwrap()
    }

    #[test]
    fn lines_in_another_order_are_refused() {
        let first = Line::Manifest(manifest());
        let row = Line::Record(Box::new(record(1)));
        let last = |records| Line::End(End { records, to: 1 });
        assert!(read(&pack(&[first.clone(), row.clone(), last(1)]), 64).is_ok());
        for lines in [
            vec![row.clone(), first.clone(), last(1)],
            vec![first.clone(), first.clone(), row.clone(), last(1)],
            vec![first.clone(), last(1), row.clone()],
            vec![first.clone(), row.clone(), last(2)],
            vec![first.clone(), row.clone()],
            vec![],
        ] {
            assert!(read(&pack(&lines), 64).is_err(), "{lines:?}");
        }
    }

    #[test]
    fn a_newer_format_and_another_file_are_refused() {
        let newer = Manifest {
            format_version: 2,
            ..manifest()
        };
        let packed = pack(&[Line::Manifest(newer)]);
        assert_eq!(read(&packed, 64), Err(ArchiveError::NewerFormat(2)));
        assert_eq!(read(b"no gzip at all", 64), Err(ArchiveError::Packing));
    }

    #[test]
    fn a_bomb_is_refused_at_the_longest_line() {
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        let zeros = vec![b' '; 1 << 20];
        for _ in 0..80 {
            packer.write_all(&zeros).unwrap();
        }
        let packed = packer.finish().unwrap();
        let mut reader = Reader::default();
        let fed = reader.feed(&packed, |_, _| Ok::<_, ArchiveError>(()));
        assert_eq!(fed, Err(ArchiveError::LineTooLong { line: 1 }));
        assert!(reader.unpacker.get_ref().capacity() < 2 * BYTES_PER_LINE_MAX);
    }
}
