//! What agents ask of the memory: tools and resources of the Model Context Protocol over one small
//! trait, [`ContextSource`]. Knows no storage, and opens no socket itself.
//!
//! Answers come in two stages: `search`, `timeline` and `recall` give short lines with ids, `get`
//! gives the whole text. Every answer stays within a budget far below what hosts cut at.

#![warn(missing_docs)]

mod http;
mod recall;
mod render;
mod server;
mod source;

pub use http::{Token, router};
pub use render::{RESULT_CHARS_MAX, TOKEN_CHARS};
pub use server::{ContextServer, INSTRUCTIONS};
pub use source::{
    ContextSource, Entry, Filter, Kind, NewRecord, Query, SourceError, Status, TaskQuery,
    TimelineQuery,
};
