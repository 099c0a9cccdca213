//! `POST /api/v1/sync/bodies`

pub(crate) mod known;

use std::io::{self, Write as _};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use coditect_protocol::ErrorCode;
use coditect_protocol::wire::bodies::{BodiesReply, BodiesRequest};

use crate::app;
use crate::auth::Authenticated;
use crate::body::SyncJson;
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

/// Bodies of one conversation repeat each other: one frame that looks far back packs them much
/// tighter than the level that is right for answers in general.
const LEVEL: i32 = 7;
/// How far it looks back: 2 to the power of it, in bytes; clients allow it.
const WINDOW_LOG: u32 = 23;

pub(crate) const OPERATION: Operation = Operation {
    id: "bodies",
    summary: "Return long values of rows that the caller may read, as many as fit",
    request: Some("BodiesRequest"),
    reply: Reply::Json("BodiesReply"),
    errors: ERRORS,
    ..Operation::AUTHENTICATED
};
const ERRORS: &[ErrorCode] = &[
    ErrorCode::BadRequest,
    ErrorCode::DeviceUnknown,
    ErrorCode::PermissionDenied,
    ErrorCode::NotFound,
    ErrorCode::BodyTooLarge,
    ErrorCode::UnsupportedMediaType,
    ErrorCode::ApiVersion,
];

pub(crate) async fn handle(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    body: SyncJson<BodiesRequest>,
) -> Result<Response, AppError> {
    let reply = app::bodies::read(&state, &caller, &body.0).await?;
    let accepted = headers.get(header::ACCEPT_ENCODING);
    if !accepted.is_some_and(takes_zstd) {
        return Ok(Json(reply).into_response());
    }
    // Packing takes memory: as many at a time as there are unpacked.
    let _place = state.unpacking.acquire().await.ok();
    let packed = tokio::task::spawn_blocking(move || pack(&reply)).await;
    let packed = packed
        .map_err(io::Error::other)
        .flatten()
        .map_err(|error| AppError::Panic(error.to_string()))?;
    let mut response = packed.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("zstd"));
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    Ok(response)
}

fn takes_zstd(accepted: &HeaderValue) -> bool {
    let names = accepted.to_str().unwrap_or_default().split(',');
    names.into_iter().any(|name| name.trim() == "zstd")
}

fn pack(reply: &BodiesReply) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(reply)?;
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), LEVEL)?;
    encoder.set_pledged_src_size(Some(text.len() as u64))?;
    encoder.window_log(WINDOW_LOG)?;
    encoder.long_distance_matching(true)?;
    encoder.write_all(&text)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use coditect_protocol::wire::bodies::Body;

    #[test]
    fn repeated_bodies_cost_little() {
        let mut state = 1_u64;
        let mut noise = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            char::from(b'a' + (state >> 59) as u8 % 26)
        };
        let text: String = (0..100_000).map(|_| noise()).collect();
        let body = Body {
            hash: String::new(),
            text,
        };
        let once = BodiesReply {
            bodies: vec![body.clone()],
            ..BodiesReply::default()
        };
        let often = BodiesReply {
            bodies: vec![body; 20],
            ..BodiesReply::default()
        };
        let (once, often) = (pack(&once).unwrap(), pack(&often).unwrap());
        assert!(often.len() < once.len() + once.len() / 10);
    }

    #[test]
    fn encodings_are_read_as_a_list() {
        let takes = |text| takes_zstd(&HeaderValue::from_static(text));
        assert!(takes("gzip, zstd") && takes("zstd") && !takes("gzip") && !takes("zstdx"));
    }
}
