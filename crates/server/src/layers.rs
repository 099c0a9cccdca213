//! What every request passes through before and after its handler.
//!
//! From the outside in: observation (request id, problem documents, one log line), panics,
//! transport (who may speak plain HTTP), compression of replies, time, number at work.

mod busy;
mod observe;
mod transport;

pub(crate) use busy::limit_requests;
pub use observe::RequestLog;
pub(crate) use observe::{handle_panic, observe};
pub(crate) use transport::guard_transport;
pub use transport::{Encrypted, Peer};
