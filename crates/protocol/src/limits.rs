//! Limits that client and server share. Every one is enforced on the server; the client keeps
//! to them so that nothing is refused.

/// Changes in one push.
pub const PUSH_CHANGES_MAX: usize = 1_000;
/// Encoded bytes of the changes that a client puts into one push; one change may exceed it.
pub const PUSH_BYTES_TARGET: usize = 4 * 1024 * 1024;
/// Rows in one move.
pub const MOVE_ROWS_MAX: usize = 200;
/// Bytes of a request body after decompression.
pub const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of a request body as it arrives.
pub const BODY_COMPRESSED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Encoded bytes of one row.
pub const ROW_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Changes in one page of a pull.
pub const PULL_CHANGES_MAX: usize = 2_000;
/// Encoded bytes after which a pull's reply ends; one change may exceed it.
pub const PULL_BYTES_TARGET: usize = 4 * 1024 * 1024;
/// Stream positions that one pull may ask for.
pub const PULL_CURSORS_MAX: usize = 1_024;
/// Ranges of one stream and file that a pull may ask to compare.
pub const DESCENT_RANGES_MAX: usize = 64;
/// Rows of one stream and file that a pull may name to read again.
pub const DESCENT_ROWS_MAX: usize = 500;
/// Parts into which the server divides a range.
pub const DESCENT_PARTS: usize = 128;
/// Rows up to which a range is listed and not divided.
pub const DESCENT_LISTED_MAX: usize = 100;
/// Bytes of a text that full-text search looks at.
pub const SEARCH_TEXT_BYTES_MAX: usize = 64 * 1024;
/// Clock skew of a device, in milliseconds, up to which its stamps are taken as they are.
pub const CLOCK_SKEW_MS_MAX: i64 = 5_000;
/// Refusals after which a queued change is parked.
pub const ATTEMPTS_MAX: u32 = 3;
/// First delay between retries, in milliseconds.
pub const RETRY_BASE_MS: u64 = 1_000;
/// Longest delay between retries, in milliseconds.
pub const RETRY_CAP_MS: u64 = 60_000;
/// Age in hours after which a queued change is warned about (`cloud.queue_max_age_hours`).
pub const QUEUE_AGE_HOURS_MAX: i64 = 72;
/// Open WebSockets for hints of one person; the devices of one person are fewer.
pub const HINT_SOCKETS_PER_USER_MAX: usize = 64;
/// Bytes of a message that a client may send over the hints' WebSocket; it has nothing to say.
pub const HINT_CLIENT_BYTES_MAX: usize = 1_024;
/// Milliseconds between two pings of the hints' WebSocket.
pub const HINT_PING_MS: u64 = 45_000;
/// Largest integer that every JSON reader keeps exactly.
pub const INTEGER_MAX: i64 = 1 << 53;
/// Bytes of a value up to which it stays in its row; a longer one is a body.
pub const BODY_IN_ROW_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a body's beginning that stay in the row, if it is text.
pub const BODY_PREFIX_BYTES_MAX: usize = 2 * 1024;
/// Bodies that one request may name.
pub const BODIES_NAMED_MAX: usize = 1_000;
/// Bytes after which a reply with bodies ends; one body may exceed it.
pub const BODIES_BYTES_TARGET: usize = 4 * 1024 * 1024;
