//! Teams, projects, the organisation and invitations, as the server knows them: requests that
//! renew an ended session once.

use coditect_core::sync::Failure;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::transport::{HttpTransport, Transport as _};

/// Reads a document.
///
/// # Errors
/// [`Failure`] when the server does not answer or refuses.
pub async fn get<T: DeserializeOwned>(
    transport: &mut HttpTransport,
    path: &str,
) -> Result<T, Failure> {
    match transport.get(path).await {
        Err(Failure::Unauthenticated(problem)) => {
            renew(transport, problem).await?;
            transport.get(path).await
        }
        other => other,
    }
}

/// Posts a document and reads the answer.
///
/// # Errors
/// As [`get`].
pub async fn post<B: Serialize, T: DeserializeOwned>(
    transport: &mut HttpTransport,
    path: &str,
    body: &B,
) -> Result<T, Failure> {
    match transport.post_document(path, body).await {
        Err(Failure::Unauthenticated(problem)) => {
            renew(transport, problem).await?;
            transport.post_document(path, body).await
        }
        other => other,
    }
}

/// Puts a document.
///
/// # Errors
/// As [`get`].
pub async fn put<B: Serialize>(
    transport: &mut HttpTransport,
    path: &str,
    body: &B,
) -> Result<(), Failure> {
    match transport.put_document(path, body).await {
        Err(Failure::Unauthenticated(problem)) => {
            renew(transport, problem).await?;
            transport.put_document(path, body).await
        }
        other => other,
    }
}

/// Deletes what a path names.
///
/// # Errors
/// As [`get`].
pub async fn delete(transport: &mut HttpTransport, path: &str) -> Result<(), Failure> {
    match transport.delete(path).await {
        Err(Failure::Unauthenticated(problem)) => {
            renew(transport, problem).await?;
            transport.delete(path).await
        }
        other => other,
    }
}

async fn renew(
    transport: &mut HttpTransport,
    problem: Box<coditect_protocol::Problem>,
) -> Result<(), Failure> {
    if transport.authenticate().await {
        Ok(())
    } else {
        Err(Failure::Unauthenticated(problem))
    }
}
