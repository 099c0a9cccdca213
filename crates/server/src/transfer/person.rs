//! A person's file into an account of the person: on another server, in another organisation,
//! under another id.
//!
//! The file is read to its end before the database sees a row of it; rows wait in a spool, as
//! those of a restore, until one transaction takes them all.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, Utc};
use coditect_protocol::{OrganizationId, UserId};
use coditect_server_store::Db;
use coditect_server_store::transfer::{
    self, Account, PersonFile, PersonImport, TransferError, TransferRow,
};
use serde::{Deserialize, Serialize};

use super::{PERSON_FORMAT, Source};
use crate::app::backups::spool::{Filling, Spool, SpoolError};
use crate::jobs::backups::record;
use crate::state::Clock;

/// What an import of a person's file did, or would do.
#[derive(Debug, Serialize)]
pub struct PersonReceipt {
    /// The organisation here.
    pub tenant_id: OrganizationId,
    /// The account here.
    pub user_id: UserId,
    /// The organisation that the data comes from.
    pub from_tenant_id: OrganizationId,
    /// The account that it comes from.
    pub from_user_id: UserId,
    /// When it left its server.
    pub exported_at: DateTime<Utc>,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Rows that came.
    pub restored: u64,
    /// Tombstones that came, of rows that were never here.
    pub deletions: u64,
    /// Rows and tombstones that stay as they are here.
    pub skipped: u64,
    /// Rows and tombstones that came, by table.
    pub tables: BTreeMap<String, u64>,
    /// Rows of the file that belong to the account there, by table.
    pub left_out: BTreeMap<String, u64>,
    /// SHA-256 of the file's lines but the last, which has it too.
    pub sha256: String,
}

/// How to import.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// The account here.
    pub account: Account,
    /// The address that the file's person has there, where it is not the account's.
    pub from: Option<&'a str>,
    /// Whether only to say what would come.
    pub dry_run: bool,
}

/// Reads a person's file into an account: all of it, or nothing. Doing it again adds nothing.
///
/// # Errors
/// [`TransferError`]; nothing was changed.
pub async fn import(
    db: &Db,
    clock: &Clock,
    wanted: &Target<'_>,
    file: &Path,
) -> Result<PersonReceipt, TransferError> {
    let known = Known::read(file)?;
    let expected = match wanted.from {
        Some(from) => from.to_lowercase(),
        None => transfer::email_of(db, wanted.account).await?,
    };
    if known.email.to_lowercase() != expected {
        return Err(TransferError::OtherPerson {
            theirs: known.email,
            ours: expected,
        });
    }
    let open = || {
        let mut source = Source::open(file)?;
        source.header(PERSON_FORMAT)?;
        Ok(move || source.next())
    };
    let mut filling = Filling::new().map_err(unspooled)?;
    let each = |row| filling.push(&record(row)).map_err(unspooled);
    let author = wanted.account.user;
    let left_out = transfer::read_person(db, &known.file, author, open, each).await?;
    let spool: Spool = filling.finish().map_err(unspooled)?;
    let import = PersonImport {
        account: wanted.account,
        owner: known.file.owner,
        sha256: known.sha256,
        dry_run: wanted.dry_run,
        now: clock.now(),
    };
    let taken = transfer::import_person(db, &import, || {
        let mut rows = spool.rows()?;
        Ok(move || rows.next_batch())
    })
    .await?;
    Ok(PersonReceipt {
        tenant_id: wanted.account.tenant,
        user_id: wanted.account.user,
        from_tenant_id: import.owner.tenant,
        from_user_id: import.owner.user,
        exported_at: known.exported_at,
        dry_run: wanted.dry_run,
        restored: taken.restored,
        deletions: taken.deletions,
        skipped: taken.skipped,
        tables: taken.tables,
        left_out,
        sha256: import.sha256,
    })
}

fn unspooled(error: SpoolError) -> TransferError {
    match error {
        SpoolError::Io(error) => TransferError::File(error),
        error => TransferError::damaged(error.to_string()),
    }
}

/// What a whole file says of itself.
struct Known {
    file: PersonFile,
    email: String,
    exported_at: DateTime<Utc>,
    sha256: String,
}

impl Known {
    /// Reads the file to its end, and checks its manifest.
    fn read(file: &Path) -> Result<Self, TransferError> {
        let mut source = Source::open(file)?;
        let header = source.header(PERSON_FORMAT)?;
        let nobody = || TransferError::damaged("it does not say whose it is");
        let user = header.user_id.ok_or_else(nobody)?;
        let mut email = None;
        while let Some(row) = source.next()? {
            if row.table == "users" {
                email = Some(email_of(&row, user)?);
            }
        }
        Ok(Self {
            file: PersonFile {
                owner: Account {
                    tenant: header.tenant_id,
                    user,
                },
                schema: header.schema,
            },
            email: email.ok_or_else(nobody)?,
            exported_at: header.exported_at,
            sha256: source.manifest.sha256,
        })
    }
}

fn email_of(row: &TransferRow, user: UserId) -> Result<String, TransferError> {
    #[derive(Deserialize)]
    struct Person {
        id: UserId,
        email: String,
    }
    let person: Person = super::parse(row.json.as_bytes())?;
    if person.id == user {
        return Ok(person.email);
    }
    Err(TransferError::damaged("it is of several people"))
}
