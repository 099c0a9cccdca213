//! Pulls: one snapshot of the asked streams.

use super::token::Standing;
use super::{Refusal, Server, descent, digest, refusal};
use coditect_protocol::catalogue::{Direction, File};
use coditect_protocol::wire::pull::{Page, Position, PullReply, PullRequest};
use coditect_protocol::{Cursor, DeviceId, ErrorCode, Scope, UserId};
use serde_json::Value;

impl Server {
    /// Answers a pull. Positions in scopes that the user may not read are left out.
    ///
    /// # Errors
    /// `device_unknown`, `epoch_changed` for a position of another life, `SYNC_001` for one
    /// behind the head; `epoch_changed` and `file_fenced` for tokens, as in a push.
    pub fn pull(&mut self, user: UserId, request: &PullRequest) -> Result<PullReply, Refusal> {
        if self.database.devices.get(&request.device) != Some(&user) {
            return Err(refusal(ErrorCode::DeviceUnknown, "not registered"));
        }
        self.check_tokens(user, request)?;
        let readable = |position: &&Position| {
            let everybodys = position.scope == Scope::Platform && position.file == File::Platform;
            everybodys || self.scopes(user).contains(&position.scope)
        };
        let pages = request
            .positions
            .iter()
            .filter(readable)
            .map(|position| self.page(request.device, position));
        Ok(PullReply {
            epoch: self.database.epoch,
            scopes: self.scopes(user),
            pages: pages.collect::<Result<_, _>>()?,
        })
    }

    /// Looks at the files' tokens before anything else.
    fn check_tokens(&mut self, user: UserId, request: &PullRequest) -> Result<(), Refusal> {
        let said = request.positions.iter();
        let standings: Vec<_> = said
            .filter_map(|position| {
                let token = position.token.as_deref()?;
                Some(self.reader_standing(request.device, position.file, token))
            })
            .collect();
        if standings.contains(&Standing::SetBack) && self.guards.epoch {
            self.bump_epoch();
            return Err(epoch_changed(self));
        }
        if standings.contains(&Standing::OldLife) {
            return Err(epoch_changed(self));
        }
        if standings.contains(&Standing::Copy) {
            return Err(self.fence(user));
        }
        Ok(())
    }

    fn page(&self, device: DeviceId, asked: &Position) -> Result<Page, Refusal> {
        let (scope, file, epoch) = (asked.scope, asked.file, self.database.epoch);
        let head = self.database.head(scope, file);
        let from = asked.cursor.map_or(0, |cursor| cursor.n);
        let other_life = asked.cursor.is_some_and(|cursor| cursor.epoch != epoch);
        if self.guards.epoch && other_life {
            return Err(epoch_changed(self));
        }
        if self.guards.epoch && self.guards.future_cursor && from > head {
            let detail = "the position lies in the stream's future";
            return Err(refusal(ErrorCode::InvalidCursor, detail));
        }
        let mut behind: Vec<_> = self
            .database
            .file_rows(scope, file)
            .filter(|(key, kept)| kept.cursor > from && key.table().direction != Direction::Up)
            .collect();
        behind.sort_by_key(|(_, kept)| kept.cursor);
        let at_head = behind.len() <= self.page_changes_max;
        behind.truncate(self.page_changes_max);
        let last = behind.last().map_or(from, |(_, kept)| kept.cursor);
        let n = if at_head { head.max(from) } else { last };
        let stored = behind
            .iter()
            .filter_map(|(key, _)| self.database.stored(key));
        Ok(Page {
            scope,
            file,
            changes: stored.collect(),
            cursor: Cursor { epoch, n },
            at_head: at_head || !self.guards.digest_at_head,
            digests: (at_head || !self.guards.digest_at_head)
                .then(|| digest::of_file(&self.database, scope, file, device)),
            descent: asked
                .descent
                .as_ref()
                .filter(|_| at_head)
                .map(|descent| descent::answer(&self.database, scope, device, descent)),
        })
    }
}

/// The refusal that tells a device of the database's new life.
pub(super) fn epoch_changed(server: &Server) -> Refusal {
    let mut problem = refusal(ErrorCode::EpochChanged, "the database was set back");
    let epoch = Value::String(server.database.epoch.to_string());
    problem.extra.insert("epoch".to_owned(), epoch);
    problem
}
