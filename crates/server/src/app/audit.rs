//! The audit trail for those who may read it.

use coditect_protocol::Scope;
use coditect_protocol::permissions::Permission;
use coditect_protocol::wire::audit::{AuditEntry, AuditPage};
use coditect_server_store::audit::{self, Entry, Filter, PAGE_ENTRIES_MAX};
use coditect_server_store::credential::Caller;
use coditect_server_store::{Authority, StoreError};
use futures_util::Stream;
use serde_json::json;

use super::membership::require;
use crate::error::AppError;
use crate::state::AppState;

/// Entries of a page when nobody says how many.
const PAGE_ENTRIES: u32 = 100;

/// Returns a page of the trail, the latest entry first.
///
/// # Errors
/// [`AppError::Refused`] without the permission, [`AppError::BadRequest`] for a place that is
/// none.
pub async fn list(
    state: &AppState,
    caller: &Caller,
    filter: &Filter,
    limit: Option<u32>,
) -> Result<AuditPage, AppError> {
    let organization = Scope::Org(caller.tenant().get());
    let limit = limit.unwrap_or(PAGE_ENTRIES);
    let read = state
        .db
        .tenant_snapshot("audit.list", caller, |mut tx| async move {
            let authority = Authority::of(&mut tx).await?;
            require(&authority, Permission::AuditLogsRead, organization)?;
            page(audit::list(&mut tx, filter, limit).await)
        });
    read.await
}

/// Notes that the caller takes the entries away, and returns them page by page, the latest first.
///
/// # Errors
/// As [`list`]; those of later pages come with the pages.
pub async fn export(
    state: &AppState,
    caller: &Caller,
    filter: Filter,
) -> Result<impl Stream<Item = Result<Vec<AuditEntry>, AppError>> + Send + use<>, AppError> {
    let organization = Scope::Org(caller.tenant().get());
    let note = &Entry {
        at: state.clock.now(),
        action: "audit.export",
        resource_type: Some("audit_trail"),
        resource_id: None,
        detail: json!({
            "user_id": filter.user, "device_id": filter.device, "action": filter.action,
            "resource_type": filter.resource_type, "resource_id": filter.resource_id,
            "since": filter.since, "until": filter.until,
        }),
    };
    let first = &filter;
    let begun = state
        .db
        .tenant("audit.export", caller, |mut tx| async move {
            let authority = Authority::of(&mut tx).await?;
            require(&authority, Permission::AuditLogsExport, organization)?;
            audit::record(&mut tx, note).await?;
            page(audit::list(&mut tx, first, PAGE_ENTRIES_MAX).await)
        });
    let begun = begun.await?;
    let (state, caller) = (state.clone(), caller.clone());
    Ok(futures_util::stream::try_unfold(
        Some((filter, Some(begun))),
        move |place| {
            let (state, caller) = (state.clone(), caller.clone());
            async move {
                let Some((mut filter, begun)) = place else {
                    return Ok(None);
                };
                let page = match begun {
                    Some(page) => page,
                    None => list(&state, &caller, &filter, Some(PAGE_ENTRIES_MAX)).await?,
                };
                filter.before = page.next;
                let more = filter.before.is_some().then_some((filter, None));
                Ok(Some((page.entries, more)))
            }
        },
    ))
}

fn page(read: Result<AuditPage, StoreError>) -> Result<AuditPage, AppError> {
    read.map_err(|error| match error {
        StoreError::NotFound => AppError::BadRequest("'before' names no place".to_owned()),
        error => error.into(),
    })
}
