//! The sync engine: a state machine without I/O. It says what to do next ([`Action`]) and is
//! told what came of it ([`Input`]). The client runs it over SQLite and HTTP, the simulation
//! over SQLite and a model of the server.
//!
//! One run: adopt what changed, pull to the head, compare digests, push what is queued,
//! critical files first, pull to the head again and compare. An answer that the database was
//! set back, or that a file is a copy, turns into a reconciliation: pull from the start, then
//! push again what the server lacks (PROTOCOL 25, 26).

mod engine;
mod report;

pub use engine::{Engine, Options};
pub use report::{Comparison, Report, StreamState};

use coditect_protocol::catalogue::File;
use coditect_protocol::wire::pull::{Position, PullReply, PullRequest};
use coditect_protocol::wire::push::{PushReply, PushRequest};
use coditect_protocol::{DeviceId, Epoch, Problem, Scope};

/// A batch on its way out, with the bytes that were stored for it: a resend is the same bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// The batch.
    pub request: PushRequest,
    /// Its JSON as stored in the file.
    pub bytes: Vec<u8>,
}

/// What the driver shall do. Each action is answered by the input that its comment names.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Adopt the file's dirty rows: [`Input::Adopted`].
    Adopt(File),
    /// Read the positions of the scopes, for every file: [`Input::Positions`].
    Positions,
    /// Send a pull: [`Input::Pulled`].
    Pull(PullRequest),
    /// Store a pull's pages and compare digests where a page reaches the head:
    /// [`Input::Applied`].
    Apply(Box<PullReply>),
    /// List the streams of the file that have something queued: [`Input::Queued`].
    ListQueued(File),
    /// Take the stored batch, or make one: [`Input::Batch`].
    NextBatch(File, Scope),
    /// Send a batch: [`Input::Pushed`].
    Push(Box<Outgoing>),
    /// Store the outcomes of a batch: [`Input::Settled`].
    Settle(Box<Outgoing>, Box<PushReply>),
    /// Count a refusal of the whole batch against each of its rows: [`Input::Settled`].
    Refuse(Box<Outgoing>, Box<Problem>),
    /// Forget cursors and tokens, remember the epoch, start to note which rows come:
    /// [`Input::Stored`].
    BeginReconcile(Epoch),
    /// Take the new identity, drop the file's token and stored batch, and start to note which
    /// rows come: [`Input::Stored`].
    Fence(File, DeviceId),
    /// Queue every row that did not come since the reconciliation began: [`Input::Stored`].
    FinishReconcile,
    /// Get a new access token: [`Input::Authenticated`].
    Authenticate,
    /// Wait so many milliseconds: [`Input::Woken`].
    Wait(u64),
    /// The run is over.
    Done(Box<Report>),
}

/// What came of an action.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Dirty rows were adopted.
    Adopted,
    /// Device and positions to pull from.
    Positions(DeviceId, Vec<Position>),
    /// A pull was answered or failed.
    Pulled(Result<Box<PullReply>, Failure>),
    /// Pages were stored.
    Applied(Applied),
    /// Streams with queued changes.
    Queued(Vec<Scope>),
    /// The batch, none when nothing is queued any more.
    Batch(Option<Box<Outgoing>>),
    /// A push was answered or failed.
    Pushed(Result<Box<PushReply>, Failure>),
    /// Outcomes were stored.
    Settled(Settled),
    /// A local write was done.
    Stored,
    /// Whether a new access token was obtained.
    Authenticated(bool),
    /// The wait is over; random bits for the next one.
    Woken(u64),
}

/// What storing a pull's pages did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// Rows of others that were stored.
    pub pulled: u64,
    /// Digests of both sides, for the pages that reached the head.
    pub heads: Vec<Comparison>,
}

/// What storing a batch's outcomes did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Changes that the server took.
    pub pushed: u64,
    /// Changes that it had already.
    pub duplicates: u64,
    /// Changes that met a concurrent one.
    pub conflicts: u64,
    /// Changes that were refused, parked or not.
    pub rejected: u64,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// No answer: the network, or a server that is starting or stopping. The request may have
    /// been carried out.
    Offline(String),
    /// The access token is not valid (any more).
    Unauthenticated(Box<Problem>),
    /// Too many requests; come back after so many seconds.
    RateLimited(u64, Box<Problem>),
    /// The database was set back; its new epoch.
    EpochChanged(Epoch),
    /// The file is a copy or was restored; the device's new identity.
    Fenced(DeviceId),
    /// A position lies in the stream's future.
    InvalidCursor(Box<Problem>),
    /// The request was refused for good.
    Refused(Box<Problem>),
}
