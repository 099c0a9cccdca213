//! `GET /api/v1/audit/export`

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use coditect_protocol::UserId;
use coditect_protocol::wire::audit::AuditEntry;
use coditect_server_store::audit::Filter;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::Deserialize;

use crate::app;
use crate::auth::Authenticated;
use crate::body::CheckedQuery;
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "exportAuditEntries",
    summary: "Return the whole trail, the latest entry first; the export is an entry itself",
    query: &[
        ("format", "string", "jsonl (when left out) or csv"),
        ("user_id", "string", "Who did it"),
        ("action", "string", "What was done"),
        ("since", "string", "From this moment on (RFC 3339)"),
        ("until", "string", "Before this moment (RFC 3339)"),
    ],
    reply: Reply::Files(&[Format::Jsonl.content_type(), Format::Csv.content_type()]),
    errors: super::ERRORS,
    ..Operation::AUTHENTICATED
};

/// Form of the file.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// An entry a line, as the list has them.
    #[default]
    Jsonl,
    /// A header line and an entry a line (RFC 4180).
    Csv,
}

impl Format {
    const fn content_type(self) -> &'static str {
        match self {
            Self::Jsonl => "application/jsonl",
            Self::Csv => "text/csv",
        }
    }

    const fn head(self) -> &'static str {
        match self {
            Self::Jsonl => "",
            Self::Csv => {
                "id,at,user_id,device_id,action,resource_type,resource_id,detail,block\r\n"
            }
        }
    }

    fn line(self, entry: &AuditEntry) -> String {
        match self {
            // Values of JSON always serialise.
            Self::Jsonl => serde_json::to_string(entry).unwrap_or_default() + "\n",
            Self::Csv => csv(entry),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Selection {
    #[serde(default)]
    format: Format,
    user_id: Option<UserId>,
    action: Option<String>,
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
}

pub(crate) async fn handle(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    query: CheckedQuery<Selection>,
) -> Result<Response, AppError> {
    let wanted = query.0;
    let filter = Filter {
        user: wanted.user_id,
        action: wanted.action,
        since: wanted.since,
        until: wanted.until,
        ..Filter::default()
    };
    let format = wanted.format;
    let pages = app::audit::export(&state, &caller, filter).await?;
    let head = futures_util::stream::once(async move { Ok(format.head().to_owned()) });
    let lines = pages
        .map_ok(move |page| -> String { page.iter().map(|entry| format.line(entry)).collect() });
    // A page that fails ends the reply without its end, so that nobody takes it for the whole.
    let body = Body::from_stream(head.chain(lines));
    Ok(([(header::CONTENT_TYPE, format.content_type())], body).into_response())
}

fn csv(entry: &AuditEntry) -> String {
    let plain = |value: Option<String>| value.unwrap_or_default();
    let cells = [
        entry.id.to_string(),
        entry.at.clone(),
        plain(entry.user_id.map(|id| id.to_string())),
        plain(entry.device_id.map(|id| id.to_string())),
        entry.action.clone(),
        plain(entry.resource_type.clone()),
        plain(entry.resource_id.clone()),
        entry.detail.to_string(),
        plain(entry.block.map(|block| block.to_string())),
    ];
    let cells = cells.map(|cell| format!("\"{}\"", cell.replace('"', "\"\"")));
    cells.join(",") + "\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_are_quoted() {
        let entry = AuditEntry {
            id: uuid::Uuid::nil(),
            at: "2026-11-20T09:30:00.000000Z".to_owned(),
            user_id: None,
            device_id: None,
            action: "push".to_owned(),
            resource_type: Some("a \"stream\"".to_owned()),
            resource_id: None,
            detail: json!({ "rows": 2 }),
            block: Some(3),
        };
        let nil = uuid::Uuid::nil();
        assert_eq!(
            csv(&entry),
            format!(
                "\"{nil}\",\"2026-11-20T09:30:00.000000Z\",\"\",\"\",\"push\",\
                 \"a \"\"stream\"\"\",\"\",\"{{\"\"rows\"\":2}}\",\"3\"\r\n"
            )
        );
    }
}
