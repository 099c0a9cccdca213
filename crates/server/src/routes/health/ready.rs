//! `GET /health/`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::app;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "health",
    summary: "Whether the server can work: 503 with status unhealthy when the database does \
              not answer",
    reply: Reply::Health,
    ..Operation::PUBLIC
};

pub(crate) async fn handle(State(state): State<AppState>) -> (StatusCode, Json<Value>) {
    match app::health::check(&state).await {
        Ok(()) => (StatusCode::OK, Json(json!({ "status": "healthy" }))),
        Err(error) => {
            let body = json!({ "status": "unhealthy", "error": error.to_string() });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body))
        }
    }
}
