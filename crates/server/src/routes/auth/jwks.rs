//! `GET /api/v1/auth/jwks.json` and `GET /.well-known/jwks.json`

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use crate::openapi::{Operation, Reply};
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "jwks",
    summary: "The public keys that access tokens are verified with, as a JSON web key set",
    reply: Reply::Json("JsonWebKeySet"),
    ..Operation::PUBLIC
};

pub(crate) const WELL_KNOWN: Operation = Operation {
    id: "wellKnownJwks",
    ..OPERATION
};

/// Whoever meets a key that is not in a copy asks again; a minute keeps that rare.
const CACHE: &str = "public, max-age=60";

pub(crate) async fn handle(State(state): State<AppState>) -> impl IntoResponse {
    let keys = state.secrets.jwks(state.clock.now());
    ([(header::CACHE_CONTROL, CACHE)], Json(keys))
}
