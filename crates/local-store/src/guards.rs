//! The safety guards of the engine's local half, so that a simulation can take one out and show
//! that it then fails. Outside of tests all are on.

/// Which guards are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guards {
    /// An acknowledgement clears only the mark number that was sent. Off: it clears the row's
    /// mark, whatever its number.
    pub mark_number: bool,
    /// A pull over a dirty row moves only the base. Off: it overwrites the row and drops the
    /// mark.
    pub base: bool,
    /// The token of an acknowledgement is kept in the file and sent with the next push. Off:
    /// none is kept, none is sent.
    pub token: bool,
    /// Another epoch starts a reconciliation. Off: old positions are kept in the new epoch.
    pub epoch: bool,
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            mark_number: true,
            base: true,
            token: true,
            epoch: true,
        }
    }
}
