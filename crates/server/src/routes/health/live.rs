//! `GET /health/live`

use axum::Json;
use serde_json::{Value, json};

use crate::openapi::{Operation, Reply};

pub(crate) const OPERATION: Operation = Operation {
    id: "healthLive",
    summary: "Whether the process answers, whatever the database does",
    reply: Reply::Json("Health"),
    ..Operation::PUBLIC
};

pub(crate) async fn handle() -> Json<Value> {
    Json(json!({ "status": "healthy" }))
}
