//! Tokens that come with a pull: a device that never pushes notices as well that the database was
//! set back, or that its file is a copy (PROTOCOL 24, 25).

use coditect_protocol::DeviceId;
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::pull::PullRequest;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::db::Statement;
use crate::sync::SyncError;
use crate::sync::push;
use crate::sync::token::{self, Check, Holder, Life, Token, TokenKey};

const KNOWN: &str = "select epoch, counter, nonce, previous_counter, previous_nonce, batch_id, file
    from device_tokens where tenant_id = $1 and device_id = $2";

/// The tokens of a request; owns the parameters of its statement.
#[derive(Debug)]
pub(super) struct Said<'a> {
    tenant: Uuid,
    device: Uuid,
    tokens: Vec<(File, &'a str)>,
}

impl<'a> Said<'a> {
    pub(super) fn new(tenant: Uuid, request: &'a PullRequest) -> Self {
        let said = request.positions.iter();
        Self {
            tenant,
            device: request.device.get(),
            tokens: said
                .filter_map(|position| Some((position.file, position.token.as_deref()?)))
                .collect(),
        }
    }

    /// Returns the statement that reads what the database knows, if a token was sent at all.
    pub(super) fn statement(&self) -> Option<Statement<'_>> {
        let params = vec![
            (&self.tenant as _, Type::UUID),
            (&self.device as _, Type::UUID),
        ];
        (!self.tokens.is_empty()).then_some(Statement { sql: KNOWN, params })
    }

    /// Checks every token against the answer to [`Self::statement`]. That the database was set
    /// back goes before all else: what it knows of copies is then not the truth.
    pub(super) fn check(&self, rows: &[Row], key: &TokenKey, life: Life) -> Result<(), SyncError> {
        let mut worst = Ok(());
        for (file, text) in &self.tokens {
            let holder = Holder {
                tenant: self.tenant,
                device: DeviceId::new(self.device),
                file: *file,
            };
            let Some(sent) = Token::verify(text, key, holder) else {
                worst = worst.and(Err(SyncError::Fenced));
                continue;
            };
            let mut known = None;
            for row in rows {
                if row.try_get::<_, &str>(6)? == file.as_str() {
                    known = push::known(row)?;
                }
            }
            let epoch = life.epoch;
            match token::check_reader(&sent, known.as_ref(), life) {
                Check::Current | Check::Repeated => {}
                Check::DatabaseBehind => return Err(SyncError::EpochBehind { epoch }),
                Check::OtherEpoch => worst = Err(SyncError::EpochChanged { epoch }),
                Check::Fenced => worst = worst.and(Err(SyncError::Fenced)),
            }
        }
        worst
    }
}
