//! The file of an organisation's complete data, or of one person's: gzip of JSON lines. The first
//! line says what it is, each following one is a row, the last one is the manifest that proves the
//! rest.

pub mod person;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read as _, Seek as _, Write};
use std::path::Path;

use chrono::{DateTime, Utc};
use coditect_core::hex::hex;
use coditect_protocol::{OrganizationId, UserId};
use coditect_server_store::Db;
use coditect_server_store::transfer::{self, TransferError, TransferRow};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::state::Clock;

const FORMAT: &str = "coditect-organization";
/// Of a person's file.
const PERSON_FORMAT: &str = "coditect-person";
const FORMAT_VERSION: u32 = 1;
/// Longest line: a value of 16 MiB, packed and written in hexadecimal, with room for the rest.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: String,
    format_version: u32,
    tenant_id: OrganizationId,
    /// The person, of a person's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_id: Option<UserId>,
    exported_at: DateTime<Utc>,
    /// State of the tables, see [`transfer::schema`].
    schema: String,
}

/// A line of a row.
#[derive(Serialize, Deserialize)]
struct RowLine<'a> {
    table: &'a str,
    #[serde(borrow)]
    row: &'a RawValue,
}

/// The last line.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    /// Rows of each table.
    rows: BTreeMap<String, u64>,
    /// SHA-256 of all lines before this one, line ends included.
    sha256: String,
}

/// What was taken out or in.
#[derive(Debug, Serialize)]
pub struct Receipt {
    /// The organisation.
    pub tenant_id: OrganizationId,
    /// The person, when it is one's data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// When the data left its server.
    pub exported_at: DateTime<Utc>,
    /// Rows of each table.
    pub tables: BTreeMap<String, u64>,
    /// All rows.
    pub rows: u64,
    /// SHA-256 of the file's lines but the last, which has it too.
    pub sha256: String,
}

/// Lines and their hash.
struct Sink<W: Write> {
    out: GzEncoder<W>,
    hash: Context,
}

impl<W: Write> Sink<W> {
    fn line(&mut self, line: &impl Serialize) -> Result<(), TransferError> {
        let mut bytes = serde_json::to_vec(line).map_err(std::io::Error::from)?;
        bytes.push(b'\n');
        self.hash.update(&bytes);
        Ok(self.out.write_all(&bytes)?)
    }
}

/// Writes an organisation's data into `file`, which appears when it is whole and must not be there
/// before. Only its owner may read it. The trail notes it with the checksum.
///
/// # Errors
/// [`TransferError`].
pub async fn export(
    db: &Db,
    clock: &Clock,
    tenant: OrganizationId,
    file: &Path,
) -> Result<Receipt, TransferError> {
    write(db, clock, tenant, None, file).await
}

/// Writes a person's data into `file` in the same way: what is in the own scope, with history,
/// conflicts and long values, and what says who the person is.
///
/// # Errors
/// [`TransferError`].
pub async fn export_person(
    db: &Db,
    clock: &Clock,
    tenant: OrganizationId,
    person: UserId,
    file: &Path,
) -> Result<Receipt, TransferError> {
    write(db, clock, tenant, Some(person), file).await
}

async fn write(
    db: &Db,
    clock: &Clock,
    tenant: OrganizationId,
    person: Option<UserId>,
    file: &Path,
) -> Result<Receipt, TransferError> {
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    if file.exists() {
        return Err(std::io::Error::from(std::io::ErrorKind::AlreadyExists).into());
    }
    // For its owner only, and gone when anything fails.
    let written = tempfile::NamedTempFile::new_in(folder)?;
    let mut sink = Sink {
        out: GzEncoder::new(BufWriter::new(written.reopen()?), Compression::default()),
        hash: Context::new(&SHA256),
    };
    let format = person.map_or(FORMAT, |_| PERSON_FORMAT);
    let header = Header {
        format: format.to_owned(),
        format_version: FORMAT_VERSION,
        tenant_id: tenant,
        user_id: person,
        exported_at: clock.now(),
        schema: transfer::schema(),
    };
    sink.line(&header)?;
    let mut rows = BTreeMap::<String, u64>::new();
    let each = |row: TransferRow| {
        let json = RawValue::from_string(row.json).map_err(std::io::Error::from)?;
        sink.line(&RowLine {
            table: &row.table,
            row: &json,
        })?;
        *rows.entry(row.table).or_default() += 1;
        Ok(())
    };
    match person {
        None => transfer::export(db, tenant, each).await?,
        Some(person) => transfer::export_person(db, tenant, person, each).await?,
    };
    let sha256 = hex(sink.hash.clone().finish().as_ref());
    let manifest = Manifest { rows, sha256 };
    sink.line(&manifest)?;
    let Sink { out, .. } = sink;
    out.finish()?.flush()?;
    written.as_file().sync_all()?;
    transfer::note_export(db, tenant, person, &manifest.sha256, clock.now()).await?;
    written
        .persist_noclobber(file)
        .map_err(|error| TransferError::File(error.error))?;
    Ok(receipt(header, manifest))
}

/// Reads such a file into a server that does not have the organisation: all of it, or nothing.
///
/// # Errors
/// [`TransferError`]; nothing was changed.
pub async fn import(db: &Db, clock: &Clock, file: &Path) -> Result<Receipt, TransferError> {
    // Read once for its manifest: the database never sees a damaged file.
    let mut checked = Source::open(file)?;
    let ours = transfer::schema();
    let theirs = checked.header(FORMAT)?.schema;
    if theirs != ours {
        return Err(TransferError::OtherSchema { theirs, ours });
    }
    while checked.next()?.is_some() {}
    let mut source = Source::open(file)?;
    let header = source.header(FORMAT)?;
    let source = std::cell::RefCell::new(source);
    transfer::import(
        db,
        header.tenant_id,
        clock.now(),
        || source.borrow_mut().next(),
        || source.borrow().manifest.sha256.clone(),
    )
    .await?;
    let manifest = source.into_inner().manifest;
    Ok(receipt(header, manifest))
}

fn receipt(header: Header, manifest: Manifest) -> Receipt {
    Receipt {
        tenant_id: header.tenant_id,
        user_id: header.user_id,
        exported_at: header.exported_at,
        rows: manifest.rows.values().sum(),
        tables: manifest.rows,
        sha256: manifest.sha256,
    }
}

/// The lines of a file, checked against its manifest when they end.
struct Source {
    lines: BufReader<GzDecoder<File>>,
    line: Vec<u8>,
    hash: Context,
    seen: BTreeMap<String, u64>,
    /// Known once all rows were read.
    manifest: Manifest,
}

impl Source {
    fn open(file: &Path) -> Result<Self, TransferError> {
        let mut file = File::open(file)?;
        let mut beginning = Vec::new();
        (&mut file).take(16).read_to_end(&mut beginning)?;
        if coditect_backup::is_encrypted(&beginning) {
            return Err(TransferError::Encrypted);
        }
        file.rewind()?;
        Ok(Self {
            lines: BufReader::new(GzDecoder::new(file)),
            line: Vec::new(),
            hash: Context::new(&SHA256),
            seen: BTreeMap::new(),
            manifest: Manifest::default(),
        })
    }

    /// Reads the next line; what gzip finds wrong is damage.
    fn read(&mut self) -> Result<(), TransferError> {
        self.line.clear();
        let mut lines = (&mut self.lines).take(LINE_BYTES_MAX);
        let read = lines.read_until(b'\n', &mut self.line);
        read.map_err(|error| TransferError::damaged(error.to_string()))?;
        if self.line.last() == Some(&b'\n') {
            Ok(())
        } else {
            Err(TransferError::damaged(
                "it ends early, or a line is too long",
            ))
        }
    }

    fn header(&mut self, format: &str) -> Result<Header, TransferError> {
        self.read()?;
        let header: Header = parse(&self.line)?;
        let theirs = header.format_version;
        if header.format != format || theirs == 0 {
            return Err(TransferError::damaged(format!(
                "it says that it is {} of version {theirs}, not {format}",
                header.format
            )));
        }
        if theirs > FORMAT_VERSION {
            let ours = FORMAT_VERSION;
            return Err(TransferError::Newer { theirs, ours });
        }
        self.hash.update(&self.line);
        Ok(header)
    }

    /// Returns the next row; none behind the last one, when the manifest holds.
    fn next(&mut self) -> Result<Option<TransferRow>, TransferError> {
        self.read()?;
        if let Ok(RowLine { table, row }) = serde_json::from_slice(&self.line) {
            self.hash.update(&self.line);
            *self.seen.entry(table.to_owned()).or_default() += 1;
            return Ok(Some(TransferRow {
                table: table.to_owned(),
                json: row.get().to_owned(),
            }));
        }
        let manifest: Manifest = parse(&self.line)?;
        let sha256 = hex(self.hash.clone().finish().as_ref());
        if manifest.sha256 != sha256 || manifest.rows != self.seen {
            return Err(TransferError::damaged("its manifest says something else"));
        }
        // The end of the packed stream, whose own checksum comes last.
        self.line.clear();
        match self.lines.read_until(b'\n', &mut self.line) {
            Ok(0) => {}
            Ok(_) => return Err(TransferError::damaged("there is more behind its manifest")),
            Err(error) => return Err(TransferError::damaged(error.to_string())),
        }
        self.manifest = manifest;
        Ok(None)
    }
}

fn parse<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, TransferError> {
    serde_json::from_slice(line).map_err(|error| TransferError::damaged(error.to_string()))
}
