//! Enters all parts, locks streams and tokens, and says which pushes are carried out.

use std::collections::HashMap;

use coditect_protocol::permissions::Permission;
use coditect_protocol::wire::push::PushRequest;
use coditect_protocol::{Scope, catalogue::File};
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{Answer, Open};
use crate::StoreError;
use crate::authority::Authority;
use crate::db::{Entered, Entering, JoinedTx, Statement};
use crate::memberships;
use crate::sync::SyncError;
use crate::sync::access::{self, Access};
use crate::sync::push::token::{Known, Life};
use crate::sync::push::{Admitted, Batch, PushContext, admit, known};

/// Tokens of several files, locked in the order of device and file.
const LOCK_TOKENS: &str = "select t.epoch, t.counter, t.nonce, t.previous_counter,
    t.previous_nonce, t.batch_id, t.device_id, t.file
    from unnest($2::uuid[], $3::text[]) as given (device_id, file)
    join device_tokens t on t.device_id = given.device_id and t.file = given.file
    where t.tenant_id = $1 order by t.device_id, t.file for update of t";
const MAKE_TOKENS: &str = "insert into device_tokens
    (tenant_id, device_id, file, epoch, counter, nonce, updated_at)
    select $1, device_id, file, $4, 0, '', $5
    from unnest($2::uuid[], $3::text[]) as given (device_id, file)
    order by device_id, file on conflict do nothing";
const STANDINGS: &str = "select user_id, role, permissions from memberships
    where tenant_id = $1 and user_id = any ($2)";
const LIFE: &str = "select epoch, changed_at from cluster";

/// A file of a device, which has one token.
type TokenOf = (Uuid, File);

/// Returns an answer for each part, which is kept where the part is refused, and those that are
/// carried out.
pub(super) async fn open<'a>(
    tx: &mut JoinedTx,
    requests: &[&'a PushRequest],
    context: &PushContext<'_>,
) -> Result<(Vec<Answer>, Vec<Open<'a>>), SyncError> {
    let Read {
        entered,
        users,
        standings,
        life,
        mut tokens,
    } = enter(tx, requests).await?;
    let mut answers = Vec::with_capacity(requests.len());
    let mut found = Vec::with_capacity(requests.len());
    for (part, request) in requests.iter().enumerate() {
        let standing = standings.get(&users[part]);
        let standing = standing.map(|(role, grants)| (role.as_str(), grants));
        match check(tx, part, request, entered[part], standing, life, context).await {
            Ok(Some((batch, n))) => found.push((part, batch, n)),
            Ok(None) => {}
            Err(SyncError::Store(error)) => return Err(error.into()),
            Err(error) => {
                answers.push(Answer::Refused(error));
                continue;
            }
        }
        answers.push(Answer::Alone);
    }
    let missing = found.iter().map(|(_, batch, _)| token_of(batch.request));
    let missing: Vec<TokenOf> = missing.filter(|of| !tokens.contains_key(of)).collect();
    if !missing.is_empty() {
        tokens.extend(make_tokens(tx, &missing, life, found[0].1).await?);
    }
    let mut parts = Vec::with_capacity(found.len());
    for (part, batch, n) in found {
        let known = tokens.remove(&token_of(batch.request));
        let known = known.ok_or(StoreError::NotFound)?;
        match admit(&batch, context, life, known.as_ref()) {
            Ok(Admitted::First) => parts.push(Open::new(part, batch, life, known, n)),
            // Its answer is read from what is stored, which nobody else has to wait for.
            Ok(Admitted::Again) => {}
            Err(error) => answers[part] = Answer::Refused(error),
        }
    }
    Ok((answers, parts))
}

/// What is known once all parts are entered.
struct Read {
    entered: Vec<Entered>,
    users: Vec<Uuid>,
    standings: HashMap<Uuid, (String, Value)>,
    life: Life,
    tokens: HashMap<TokenOf, Option<Known>>,
}

/// Enters the parts and reads what all of them need, in one round trip.
async fn enter(tx: &mut JoinedTx, requests: &[&PushRequest]) -> Result<Read, SyncError> {
    let tenant = tx.tenant().get();
    let entering = requests.iter().map(|request| Entering {
        scope: request.scope.id(),
        device: request.device.get(),
    });
    let entering: Vec<Entering> = entering.collect();
    let users = tx.callers().iter().map(|caller| caller.user_id().get());
    let users: Vec<Uuid> = users.collect();
    let wanted: Vec<TokenOf> = requests.iter().map(|request| token_of(request)).collect();
    let asked = Asked::new(&wanted);
    let statements = vec![
        asked.lock(&tenant),
        Statement {
            sql: STANDINGS,
            params: vec![(&tenant, Type::UUID), (&users, Type::UUID_ARRAY)],
        },
        Statement {
            sql: LIFE,
            params: vec![],
        },
    ];
    let (entered, rows) = tx.enter(&entering, statements).await?;
    let [tokens, standings, life] = rows.as_slice() else {
        return Err(StoreError::Aborted.into());
    };
    let life = access::read_life(life.first().ok_or(StoreError::NotFound)?)?;
    Ok(Read {
        entered,
        users,
        standings: read_standings(standings)?,
        life,
        tokens: read_tokens(tokens)?,
    })
}

const fn token_of(request: &PushRequest) -> TokenOf {
    (request.device.get(), request.file)
}

/// Checks what a part's caller may do. None when the program and row security disagree: then
/// the push goes by itself, and what fails is its own.
async fn check<'a>(
    tx: &mut JoinedTx,
    part: usize,
    request: &'a PushRequest,
    entered: Entered,
    standing: Option<(&str, &Value)>,
    life: Life,
    context: &PushContext<'_>,
) -> Result<Option<(Batch<'a>, i64)>, SyncError> {
    let caller = tx.callers()[part].clone();
    let batch = Batch::of(&caller, request, context.now_ms)?;
    if !entered.device_known {
        return Err(SyncError::DeviceUnknown);
    }
    let belongings = match request.scope {
        // What needs no look into teams and projects.
        Scope::User(_) | Scope::Org(_) | Scope::Platform => Vec::new(),
        Scope::Team(_) | Scope::Project(_) => {
            let person = [
                (&batch.tenant as _, Type::UUID),
                (&batch.user as _, Type::UUID),
            ];
            let lent = tx.part(part)?;
            lent.query(memberships::OF_PERSON, &person).await?
        }
    };
    let (role, grants) = standing.ok_or(StoreError::NotMember)?;
    let authority = Authority::new(&caller, role, grants, &belongings)?;
    let access = Access::new(authority, life);
    access.require(Permission::SyncPush, request.scope)?;
    let batch = Batch {
        keeps_checkpoints: !access.may(Permission::CheckpointsDelete, request.scope),
        ..batch
    };
    Ok(entered.n.map(|n| (batch, n)))
}

/// The tokens that are asked for; owns the parameters.
struct Asked {
    devices: Vec<Uuid>,
    files: Vec<&'static str>,
}

impl Asked {
    fn new(wanted: &[TokenOf]) -> Self {
        Self {
            devices: wanted.iter().map(|(device, _)| *device).collect(),
            files: wanted.iter().map(|(_, file)| file.as_str()).collect(),
        }
    }

    fn lock<'a>(&'a self, tenant: &'a Uuid) -> Statement<'a> {
        Statement {
            sql: LOCK_TOKENS,
            params: vec![
                (tenant, Type::UUID),
                (&self.devices, Type::UUID_ARRAY),
                (&self.files, Type::TEXT_ARRAY),
            ],
        }
    }
}

/// Makes the rows of files that never had a token, and locks them.
async fn make_tokens(
    tx: &mut JoinedTx,
    missing: &[TokenOf],
    life: Life,
    batch: Batch<'_>,
) -> Result<HashMap<TokenOf, Option<Known>>, SyncError> {
    let tenant = tx.tenant().get();
    let asked = Asked::new(missing);
    let epoch = life.epoch.to_string();
    let make = Statement {
        sql: MAKE_TOKENS,
        params: vec![
            (&tenant, Type::UUID),
            (&asked.devices, Type::UUID_ARRAY),
            (&asked.files, Type::TEXT_ARRAY),
            (&epoch, Type::TEXT),
            (&batch.now, Type::TIMESTAMPTZ),
        ],
    };
    let answers = tx.shared(&[make, asked.lock(&tenant)]).await?;
    read_tokens(answers.last().map_or(&[], Vec::as_slice))
}

fn read_tokens(rows: &[Row]) -> Result<HashMap<TokenOf, Option<Known>>, SyncError> {
    let mut tokens = HashMap::with_capacity(rows.len());
    for row in rows {
        let (device, file): (Uuid, &str) = (row.try_get(6)?, row.try_get(7)?);
        let file = File::ALL.into_iter().find(|known| known.as_str() == file);
        if let Some(file) = file {
            tokens.insert((device, file), known(row)?);
        }
    }
    Ok(tokens)
}

fn read_standings(rows: &[Row]) -> Result<HashMap<Uuid, (String, Value)>, SyncError> {
    let mut standings = HashMap::with_capacity(rows.len());
    for row in rows {
        standings.insert(row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?));
    }
    Ok(standings)
}
