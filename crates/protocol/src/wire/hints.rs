//! `GET /api/v1/sync/hints`: a WebSocket over which the server says how far streams have got.
//! It carries no rows: who is behind asks with a pull, which checks everything again.

use crate::catalogue::File;
use crate::{Cursor, Scope};
use serde::{Deserialize, Serialize};

/// One text message of the server. The first one of a connection lists every stream that the
/// caller may read and that holds anything; later ones what has moved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HintMessage {
    /// The streams, each once.
    pub hints: Vec<Hint>,
}

/// A stream's file has got as far as this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Hint {
    /// Stream.
    pub scope: Scope,
    /// File of the stream.
    pub file: File,
    /// Its head.
    pub cursor: Cursor,
}
