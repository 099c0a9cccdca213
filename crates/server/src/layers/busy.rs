//! How much may be at work at a time, and for how long.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::error::AppError;
use crate::state::AppState;

/// Lets the request run within the server's time and number; waiting for a place counts as time.
pub(crate) async fn limit_requests(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let work = async {
        match state.permits.acquire().await {
            Ok(_permit) => next.run(request).await,
            Err(_) => AppError::Unavailable {
                reason: "the server is stopping",
            }
            .into_response(),
        }
    };
    match tokio::time::timeout(state.http.request_timeout, work).await {
        Ok(response) => response,
        // Dropping the work closes its database connection, which rolls back.
        Err(_) => AppError::Unavailable {
            reason: "the request took too long",
        }
        .into_response(),
    }
}
