//! A model of the server: small, in memory, and obviously right rather than fast. Its rules are
//! written from the protocol's text, not from the engine's code.
//!
//! What a backup holds is in [`Database`]; keys and the trace of what was ever accepted live
//! beside it, as they do in reality, and survive a restore.

mod database;
mod descent;
mod digest;
mod merge;
mod pull;
mod push;
mod token;
mod validate;

pub use database::{Conflict, Database, Kept, Key};
pub use push::{Begun, Ticket};

use crate::random::Random;
use coditect_protocol::wire::Row;
use coditect_protocol::{DeviceId, Epoch, ErrorCode, Problem, Scope, UserId};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// A refusal of a whole request.
pub type Refusal = Box<Problem>;

fn refusal(code: ErrorCode, detail: &str) -> Refusal {
    Box::new(Problem::new(code, detail))
}

/// Guards of the server that a run may take out, to show that each is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guards {
    /// A stream's counter is locked until commit. Without: numbers may become visible out of
    /// order.
    pub stream_lock: bool,
    /// A push must carry the file's current token. Without: copies push as the original.
    pub token: bool,
    /// Positions and tokens of another life of the database are refused, and a database that
    /// was set back begins a new life. Without: there is one life.
    pub epoch: bool,
    /// A batch that comes again is answered, not carried out. Without: it is carried out.
    pub batch_dedup: bool,
    /// The last token with the last batch is a lost reply. Without: it is a copy.
    pub lost_reply: bool,
    /// A token ahead of the database shows a set back. Without: it shows a copy.
    pub token_ahead: bool,
    /// A new life forgets the tokens. Without: files without one are copies.
    pub tokens_of_life: bool,
    /// A position beyond the head is refused. Without: nothing is behind it.
    pub future_cursor: bool,
    /// Versions are capped at the server's time. Without: a fast clock writes into the future.
    pub clock_cap: bool,
    /// Stamps are shifted by the measured skew. Without: a slow clock writes into the past.
    pub clock_shift: bool,
    /// A stored version is above both sides. Without: it is what was proposed.
    pub version_above: bool,
    /// A change of a version that its author did not know is a conflict. Without: it is not.
    pub conflict: bool,
    /// A push of another epoch than this one's is told so. Without: its epoch is not looked at.
    pub push_epoch: bool,
    /// What the sender names as an earlier state of what it sends is known. Without: it is a
    /// conflict after each set back.
    pub follows: bool,
    /// An update beats a delete that did not know it. Without: the delete is carried out.
    pub update_beats_delete: bool,
    /// The content that was deleted revives nothing. Without: whoever has it still brings it back.
    pub deleted_content: bool,
    /// A change beside the register revives nothing. Without: it does.
    pub register_revives: bool,
    /// The losing side of a conflict is kept. Without: it is dropped.
    pub losers: bool,
    /// Of a counter's part the highest number wins. Without: the last one to come.
    pub part_number: bool,
    /// `max` columns only grow. Without: they are what was pushed.
    pub max: bool,
    /// The origin is the device of the first accepted push. Without: that of the last one.
    pub origin: bool,
    /// The first accepted fact stays. Without: the last one.
    pub first_fact: bool,
    /// A fact's tombstone is final. Without: pushing it again revives it.
    pub fact_tombstone: bool,
    /// Rows of another device or author are refused. Without: anybody writes anything.
    pub direction: bool,
    /// A bad row is refused alone. Without: with its whole batch.
    pub neighbours: bool,
    /// What the server lacks is taken, also with a base. Without: it counts as deleted.
    pub absence: bool,
    /// Digests come with the head only. Without: with each page.
    pub digest_at_head: bool,
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            stream_lock: true,
            token: true,
            epoch: true,
            batch_dedup: true,
            lost_reply: true,
            token_ahead: true,
            tokens_of_life: true,
            future_cursor: true,
            clock_cap: true,
            clock_shift: true,
            version_above: true,
            conflict: true,
            push_epoch: true,
            follows: true,
            update_beats_delete: true,
            register_revives: true,
            deleted_content: true,
            losers: true,
            part_number: true,
            max: true,
            origin: true,
            first_fact: true,
            fact_tombstone: true,
            direction: true,
            neighbours: true,
            absence: true,
            digest_at_head: true,
        }
    }
}

/// The server.
#[derive(Debug)]
pub struct Server {
    /// What a backup holds.
    pub database: Database,
    /// Guards in force.
    pub guards: Guards,
    /// Changes in one page of a pull.
    pub page_changes_max: usize,
    /// A word whose presence in a row makes the server refuse it; none refuses nothing.
    pub refused_word: Option<String>,
    /// Columns of everything that was ever accepted, also in lives of the database that are gone.
    pub trace: Vec<Row>,
    organization: Uuid,
    /// Tokens that were signed, and lives that began. Both outlive a restore.
    issued: BTreeSet<String>,
    open: BTreeMap<Scope, Vec<u64>>,
    ticket: u64,
    random: Random,
}

impl Server {
    /// Makes a server of one organisation, with an empty database.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let organization = random.uuid();
        let epoch = Epoch(random.next());
        Self {
            database: Database::new(epoch),
            guards: Guards::default(),
            page_changes_max: coditect_protocol::limits::PULL_CHANGES_MAX,
            refused_word: None,
            trace: Vec::new(),
            organization,
            issued: BTreeSet::new(),
            open: BTreeMap::new(),
            ticket: 0,
            random,
        }
    }

    /// Returns the organisation's id.
    #[must_use]
    pub const fn organization(&self) -> Uuid {
        self.organization
    }

    /// Registers a device of a user. It gets another id than it asked for when somebody else
    /// holds that one (PROTOCOL 3).
    pub fn register(&mut self, user: UserId, wanted: DeviceId) -> DeviceId {
        let taken = self.database.devices.get(&wanted);
        let device = match taken {
            Some(owner) if *owner != user => DeviceId::new(self.random.uuid()),
            _ => wanted,
        };
        self.database.devices.insert(device, user);
        device
    }

    /// Returns the scopes that a user may read and write.
    #[must_use]
    pub fn scopes(&self, user: UserId) -> Vec<Scope> {
        vec![Scope::User(user.get()), Scope::Org(self.organization)]
    }

    /// Returns a copy of the database, as a backup would hold it.
    #[must_use]
    pub fn backup(&self) -> Database {
        self.database.clone()
    }

    /// Sets the database back to a backup. Nobody tells the server: it must find out. Requests
    /// that were being worked on are gone.
    pub fn restore(&mut self, backup: Database) {
        let devices = std::mem::take(&mut self.database.devices);
        self.database = backup;
        // Registrations are renewed by logins; to lose them is not what is tried here.
        self.database.devices.extend(devices);
        self.open.clear();
    }

    /// Begins a new life of the database, as `admin epoch bump` does.
    pub fn bump_epoch(&mut self) {
        if !self.guards.epoch {
            return;
        }
        let old = self.database.epoch;
        self.database.past_epochs.push(old);
        self.database.epoch = Epoch(self.random.next());
        // Every file begins again without a token; of two copies the first to come stays.
        if self.guards.tokens_of_life {
            self.database.tokens.clear();
        }
    }
}
