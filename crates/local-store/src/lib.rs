//! The four SQLite databases of a device: schema, change capture, adoption, and the local half
//! of sync. It sends nothing, and knows neither the network nor the clock.
//!
//! Other programs (`sqlite3`, a script) may write to the files at any time; triggers mark what
//! they change, and [`LocalStore::adopt`] makes it a row that can be sent.
//!
//! Public methods:
//!
//! - opening: [`LocalStore::open`], [`LocalStore::open_one`], [`LocalStore::shorten_log`],
//!   [`LocalStore::look_at`], [`LocalStore::in_memory`], [`Profile`].
//! - the owner: [`LocalStore::bind`], [`LocalStore::owner_of_folder`], [`LocalStore::device`],
//!   [`LocalStore::set_device`], [`LocalStore::lease`].
//! - the engine: [`LocalStore::adopt`], [`LocalStore::positions`], [`LocalStore::apply_reply`],
//!   [`LocalStore::scopes_with_work`], [`LocalStore::next_batch`], [`LocalStore::settle`],
//!   [`LocalStore::refuse`], [`LocalStore::begin_reconcile`], [`LocalStore::fence`],
//!   [`LocalStore::finish_reconcile`], [`LocalStore::plan_repair`], [`LocalStore::note_repair`],
//!   [`LocalStore::forget_pause`], [`LocalStore::end_run`].
//! - fetching `up` tables: [`LocalStore::store_foreign`].
//! - long values: [`LocalStore::lacking_rows`], [`LocalStore::lacking_of`],
//!   [`LocalStore::put_bodies`], [`LocalStore::pending_bodies`].
//! - a process that stays: [`LocalStore::outside_version`], [`LocalStore::is_outdated`].
//! - rows: [`LocalStore::insert`], [`LocalStore::update`], [`LocalStore::delete`],
//!   [`LocalStore::get`], [`LocalStore::list`], [`LocalStore::count`], [`LocalStore::search`].
//! - recall: [`LocalStore::timeline`], [`LocalStore::token_use`], [`LocalStore::activity`],
//!   [`LocalStore::origin`], [`LocalStore::moment`], [`LocalStore::session_named`],
//!   [`LocalStore::component_use`].
//! - importing: [`LocalStore::set_bulk`], [`LocalStore::ingest`], [`LocalStore::ingest_as`],
//!   [`LocalStore::import_state`],
//!   [`LocalStore::index_new`], [`LocalStore::record`], [`LocalStore::import_states`].
//! - other scopes: [`LocalStore::share`], [`LocalStore::queued_moves`],
//!   [`LocalStore::retry_moves`], [`LocalStore::next_move`], [`LocalStore::settle_move`],
//!   [`LocalStore::refuse_move`], [`LocalStore::scope_names`], [`LocalStore::name_scopes`],
//!   [`LocalStore::rules`].
//! - queue and conflicts: [`LocalStore::queue_state`], [`LocalStore::queue_entries`],
//!   [`LocalStore::retry_parked`], [`LocalStore::clear_delays`], [`LocalStore::count_unmarked`],
//!   [`LocalStore::conflicts`], [`LocalStore::settle_conflict`].
//! - comparing: [`LocalStore::digests`], [`LocalStore::canonical_dump`],
//!   [`LocalStore::check_rows`].
//! - copies: [`backup::Backups`], [`LocalStore::salvage`].
//! - erasure: [`LocalStore::erase`], [`LocalStore::erased_note`], [`LocalStore::begin_anew`],
//!   [`LocalStore::shred`].
//!
//! Tables are named by their cloud names everywhere; scopes as the files store them, or as
//! [`coditect_protocol::Scope`].
#![warn(missing_docs)]

mod adopt;
mod apply;
pub mod backup;
mod base;
mod bodies;
mod check;
mod conflicts;
mod database;
mod descent;
mod digest;
mod erased;
mod error;
#[cfg(feature = "fault-injection")]
mod fault_injection;
mod foreign;
mod guards;
mod identity;
mod import_state;
mod lease;
mod leave;
mod marks;
mod migrations;
mod moves;
mod notes;
mod outgoing;
mod outside;
mod profile;
mod queries;
mod queue;
mod random;
mod recall;
mod reconcile;
mod record;
mod rows;
mod rules;
mod schema;
mod scopes;
mod search;
mod settle;
mod statements;
mod triggers;
mod unmarked;
mod value;
mod work;

pub use adopt::Adopted;
pub use apply::PageApplied;
pub use bodies::{LackingPlace, LackingRow, PendingBodies};
pub use check::{Checked, Damage, Wrong};
pub use conflicts::{Conflict, Kind};
pub use digest::DumpedRow;
pub use error::{Error, Result, is_no_space};
pub use guards::Guards;
#[cfg(feature = "fault-injection")]
#[doc(hidden)]
pub use guards::{FileGuard, without};
pub use import_state::ImportState;
pub use lease::Lease;
pub use marks::SCOPE_MOVE;
pub use moves::{QueuedMove, Sharing, is_movable};
pub use profile::{Profile, make_private_folder};
pub use queue::{QueueEntry, QueueState};
pub use random::Random;
pub use recall::{
    Activity, Author, ComponentUse, Moment, OfProject, Origin, TimelineQuery, TokenUse, Which,
};
pub use record::Recording;
pub use rows::{Ingested, RowFilter, RowView};
pub use rules::{RULE, Rule, can_have_rule};
pub use schema::APPLICATION_ID;
pub use search::{Hit, SearchQuery};
pub use triggers::KEY_IS_IMMUTABLE;
pub use work::Owner;

use coditect_protocol::DeviceId;
use std::path::PathBuf;

use crate::database::Database;

/// The four databases of one folder, opened together.
#[derive(Debug)]
pub struct LocalStore {
    folder: Option<PathBuf>,
    /// In the order of `File::ALL`; all of them, or the one of [`LocalStore::open_one`].
    files: [Option<Database>; 4],
    device: DeviceId,
    owner: Option<Owner>,
    random: Random,
    guards: Guards,
    /// Highest mark number that [`LocalStore::stamp_new_marks`] has seen, by file.
    stamped: [i64; 4],
    /// Transactions until a simulated end of the process; none when none is near.
    #[cfg(feature = "fault-injection")]
    fuse: Option<u32>,
}
