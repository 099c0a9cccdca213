//! `GET /api/v1/openapi.json`

use axum::http::header;
use axum::response::IntoResponse;

use crate::openapi::{self, Operation, Reply};

pub(crate) const OPERATION: Operation = Operation {
    id: "openapi",
    summary: "This document",
    reply: Reply::Document,
    ..Operation::PUBLIC
};

pub(crate) async fn handle() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json")],
        openapi::text(),
    )
}
