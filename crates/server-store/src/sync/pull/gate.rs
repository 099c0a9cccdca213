//! Pulls by way of a read replica: the primary decides who may read what, and how far; the replica
//! reads the rows, if it has got that far (DESIGN 4, "Streams and cursors"; ADR 0019).

use std::collections::HashMap;

use coditect_protocol::catalogue::File;
use coditect_protocol::permissions::Permission;
use coditect_protocol::wire::pull::PullRequest;
use coditect_protocol::{Epoch, Scope};

use super::{Opened, PageCache, Pulled, check, open, read};
use crate::db::TenantTx;
use crate::sync::SyncError;
use crate::sync::guards::Guard;
use crate::sync::token::TokenKey;

/// A stream that is behind by fewer numbers is read on the primary: that takes no longer than
/// asking, and what was just written has not reached the replica yet.
const BEHIND_MIN: i64 = 100;

/// What the primary makes of a pull.
#[derive(Debug)]
pub enum Looked {
    /// It answered the pull itself.
    Answered(Pulled),
    /// There is much to read, which the replica may do.
    Elsewhere(Gate),
}

/// What a replica's answer has to be like.
#[derive(Debug)]
pub struct Gate {
    /// What the replica is asked: positions that the primary allows, without tokens, which are
    /// judged by now.
    request: PullRequest,
    epoch: Epoch,
    /// Heads of the streams on the primary.
    heads: HashMap<(Scope, File), i64>,
    /// The scopes that the caller may read, as the primary knows it.
    scopes: Vec<Scope>,
}

/// Judges a pull on the primary, and answers it where there is little to read.
///
/// # Errors
///
/// As [`super::pull`].
pub async fn look(
    tx: &mut TenantTx,
    request: &PullRequest,
    key: &TokenKey,
    cache: &PageCache,
) -> Result<Looked, SyncError> {
    let wanted = check(request)?;
    let opened = open(tx, request, key).await?;
    match gate(request, &opened)? {
        Some(gate) => Ok(Looked::Elsewhere(gate)),
        None => read(tx, request, wanted, opened, cache)
            .await
            .map(Looked::Answered),
    }
}

/// Returns the gate of a pull that reads much; none for one that does not.
fn gate(request: &PullRequest, opened: &Opened) -> Result<Option<Gate>, SyncError> {
    let epoch = opened.access.life.epoch;
    let mut asked = request.clone();
    let may = |scope| opened.access.may(Permission::SyncPull, scope);
    asked.positions.retain(|position| may(position.scope));
    let (mut heads, mut much) = (HashMap::new(), false);
    for position in &mut asked.positions {
        position.token = None;
        let head = opened.heads.of(position);
        // Only the primary calls a cursor invalid, and it has just done so if it is.
        let from = super::start(position, epoch, head)?;
        much |= head - from >= BEHIND_MIN || position.descent.is_some();
        heads.insert((position.scope, position.file), head);
    }
    Ok(much.then(|| Gate {
        request: asked,
        epoch,
        heads,
        scopes: opened.access.scopes(),
    }))
}

impl Gate {
    /// Answers the pull on a replica; `None` when the replica is behind what the primary said.
    ///
    /// # Errors
    ///
    /// As [`super::pull`]; none of them says anything about the caller.
    pub async fn answer(
        &self,
        tx: &mut TenantTx,
        key: &TokenKey,
    ) -> Result<Option<Pulled>, SyncError> {
        // What a replica reads is not kept: it may lack what the primary has said since.
        let pulled = super::pull(tx, &self.request, key, &PageCache::default()).await?;
        Ok(self.admit(pulled))
    }

    /// Returns the answer if it is of this life of the database, complete, and nowhere says that
    /// a stream ends before the head that the primary named: so digests are of that head or a
    /// later one, and own writes are in it. What lies before the head may come from anywhere.
    fn admit(&self, mut pulled: Pulled) -> Option<Pulled> {
        let reply = &mut pulled.reply;
        let asked = self.request.positions.iter();
        let asked = asked.map(|position| (position.scope, position.file));
        let came = reply.pages.iter().map(|page| (page.scope, page.file));
        let recent = reply.pages.iter().all(|page| {
            let head = self.heads.get(&(page.scope, page.file));
            !page.at_head || head.is_some_and(|head| page.cursor.n >= *head)
        });
        let recent = recent || !Guard::ReplicaHead.is_on();
        let fits = reply.epoch == self.epoch && asked.eq(came) && recent;
        reply.scopes.clone_from(&self.scopes);
        fits.then_some(pulled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coditect_protocol::wire::pull::{Page, Position, PullReply};
    use coditect_protocol::{Cursor, DeviceId};
    use uuid::Uuid;

    const SCOPE: Scope = Scope::User(Uuid::from_u128(1));
    const EPOCH: Epoch = Epoch(7);

    fn position() -> Position {
        Position {
            scope: SCOPE,
            file: File::Org,
            cursor: None,
            token: None,
            descent: None,
        }
    }

    fn answer(n: i64, at_head: bool) -> PullReply {
        let cursor = Cursor { epoch: EPOCH, n };
        let page = Page {
            cursor,
            ..super::super::empty(&position(), EPOCH, n, at_head)
        };
        PullReply {
            epoch: EPOCH,
            scopes: vec![SCOPE, Scope::Team(Uuid::from_u128(2))],
            pages: vec![page],
        }
    }

    #[test]
    fn an_answer_is_admitted_that_is_not_behind_the_primary() {
        let gate = Gate {
            request: PullRequest {
                api_version: String::new(),
                device: DeviceId::new(Uuid::nil()),
                positions: vec![position()],
                table: None,
            },
            epoch: EPOCH,
            heads: HashMap::from([((SCOPE, File::Org), 500)]),
            scopes: vec![SCOPE],
        };
        let admitted = |reply| gate.admit(Pulled::from(reply)).is_some();
        assert!(admitted(answer(500, true)) && admitted(answer(501, true)));
        assert!(!admitted(answer(499, true)), "the head is an older one");
        assert!(admitted(answer(300, false)), "what lies before the head");
        let mut other = answer(500, true);
        other.epoch = Epoch(8);
        assert!(!admitted(other), "another life of the database");
        let mut fewer = answer(500, true);
        fewer.pages.clear();
        assert!(
            !admitted(fewer),
            "a scope that the replica does not know of"
        );
        // Who may read what is the primary's to say.
        assert_eq!(
            gate.admit(answer(500, true).into()).unwrap().heads().scopes,
            [SCOPE]
        );
    }
}
