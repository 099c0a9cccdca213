//! `GET /health/`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use crate::app;
use crate::error::OperatorText;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "health",
    summary: "Whether the server can work: 503 with status unhealthy when the database does \
              not answer",
    reply: Reply::Health,
    ..Operation::PUBLIC
};

pub(crate) async fn handle(State(state): State<AppState>) -> Response {
    let Err(error) = app::health::check(&state).await else {
        return Json(json!({ "status": "healthy" })).into_response();
    };
    let body = json!({ "status": "unhealthy", "error": error.to_string() });
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    response.extensions_mut().insert(OperatorText::of(&error));
    response
}
