//! The page of error codes. A test sees to it that every code has a cause and a next step.

use std::fmt::Write;

use coditect_protocol::ErrorCode::{self, *};

const HEADER: &str = "\
# Error codes

Made by `cargo xtask generate` from `xtask/src/generate/errors.rs`; do not edit.

The server answers every refusal with a problem document (RFC 9457, `application/problem+json`)
whose `code` is one of these and does not change from version to version. A row that is refused in
a push carries its code in the reply; after three refusals it is parked with its reason, the rest
flows on, and `coditect process-queue --retry` sends it again.

| code | status | title | cause | next step |
|---|---|---|---|---|
";

/// Cause and next step of a code.
const EXPLANATIONS: &[(ErrorCode, &str, &str)] = &[
    (
        InvalidCursor,
        "the position was never given out for this stream, or lies behind its head",
        "the client starts the stream again from its beginning by itself",
    ),
    (
        HashMismatch,
        "the row's content hash is not that of its columns: damaged, or made by other rules",
        "update the client; `coditect doctor` compares the stored hashes",
    ),
    (BackupNotFound, "no backup has that id", "list the backups"),
    (
        ChecksumFailed,
        "an archive or a body is damaged",
        "take another backup; nothing was changed",
    ),
    (
        PermissionDenied,
        "the role does not allow it",
        "ask an owner or admin of the organisation",
    ),
    (
        RateLimited,
        "more requests than the plan allows, or too many attempts to log in",
        "wait for the seconds in `retry_after`",
    ),
    (
        QuotaExceeded,
        "the plan's storage is full",
        "delete, or ask the owner for a larger plan",
    ),
    (
        UnknownTable,
        "the table is not in this server's catalogue, or not in the file named",
        "update whichever of client and server is older",
    ),
    (
        MalformedRow,
        "a required column is missing, or a value does not fit its column",
        "correct the row; the detail names the column",
    ),
    (
        RowTooLarge,
        "the row is larger than a row may be",
        "shorten it; the limit is in the detail",
    ),
    (
        BodyMissing,
        "a pushed row names a long value that no row of the scope names, so the server has no \
         bytes for it",
        "send the row with its value; coditect does so by itself with the next attempt",
    ),
    (
        DirectionRefused,
        "rows of this table do not travel this way, or not from this device",
        "nothing: the row stays where it is",
    ),
    (
        KeyMismatch,
        "the id is derived from key columns, and these give another id",
        "do not edit key columns; add a new row instead",
    ),
    (
        FileFenced,
        "the database file is a copy, or was restored, and its original went on",
        "the client takes a new device id, which the answer carries, and goes on by itself",
    ),
    (
        EpochChanged,
        "the server's database was set back to an earlier state",
        "the client reads every stream again and sends what the server lacks by itself",
    ),
    (
        DeviceUnknown,
        "the device was revoked, or belongs to another user",
        "`coditect login` registers it again, if its owner allows it",
    ),
    (
        Unauthenticated,
        "no credential, a wrong one, or one that has expired",
        "`coditect login`",
    ),
    (
        AccountErased,
        "the account was erased, with everything that it had on the server",
        "nothing: `coditect sync` removes the account's databases from the device as well",
    ),
    (
        ScopeErased,
        "what the backup holds was erased with the person or the organisation",
        "nothing: what was erased does not come back",
    ),
    (
        TenantAmbiguous,
        "the e-mail belongs to several organisations",
        "name one: the answer lists them",
    ),
    (
        NotFound,
        "there is no such thing, or not for this caller; the answer is the same",
        "check the id, and that you are logged in to the right organisation",
    ),
    (
        LastOwner,
        "a team, project or organisation would be left without an owner",
        "make another member owner first",
    ),
    (
        AlreadyTaken,
        "what has to be unique, such as a project's repository, belongs to another",
        "ask an owner or admin of the organisation for access to the other",
    ),
    (
        BadRequest,
        "the request is not of the form that the route takes",
        "see `openapi.json`",
    ),
    (
        MethodNotAllowed,
        "the route exists, but not with this method",
        "see `openapi.json`",
    ),
    (
        BodyTooLarge,
        "the body is larger than the route takes",
        "send it in several requests",
    ),
    (
        UnsupportedMediaType,
        "the content type is not JSON, or the encoding is neither zstd nor gzip",
        "see `openapi.json`",
    ),
    (
        ApiVersion,
        "the client is more than two minor versions older than the server, or newer",
        "update whichever is older",
    ),
    (
        Unavailable,
        "the database does not answer, or the server is stopping",
        "nothing: the client tries again; being offline is not counted as a failed try",
    ),
    (
        Internal,
        "a fault of the server",
        "try again; if it stays, report it with the `request_id`, under which the log has more",
    ),
];

/// Returns the whole page.
pub(crate) fn page() -> String {
    let mut page = HEADER.to_owned();
    for &(code, cause, step) in EXPLANATIONS {
        let (status, title) = (code.status(), code.title());
        _ = writeln!(page, "| `{code}` | {status} | {title} | {cause} | {step} |");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained_once_and_in_order() {
        let explained: Vec<_> = EXPLANATIONS.iter().map(|(code, _, _)| *code).collect();
        assert_eq!(explained, ErrorCode::ALL);
    }
}
