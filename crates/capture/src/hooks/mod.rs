//! What an agent program says to its hooks, as events that a store can take.
//!
//! Owns the reading of hook input and the form of what hooks answer. Reading is lenient: an
//! unknown event or field is kept, never an error. Nothing here touches a disk; [`Event::redact`]
//! is for whoever writes an event down.

mod agent;
mod event;
mod input;
mod output;
mod row;

pub use agent::{Agent, UnknownAgent};
pub use event::{Event, SessionChange};
pub use input::Unreadable;
pub use output::with_context;
pub use row::{SOURCE, is_provisional};
