//! A person's own account, and its end.

use coditect_protocol::wire::erasure::{AccountErased, AccountErasure};
use coditect_protocol::{ErrorCode, UserId};
use coditect_server_store::audit::{self, Entry};
use coditect_server_store::credential::Caller;
use coditect_server_store::erasure::{Receipt, Signed};
use coditect_server_store::{StoreError, organization};
use serde_json::json;

use crate::erasure::{self, ErasureError};
use crate::error::AppError;
use crate::state::AppState;

/// Erases the caller's account, or says what that would remove: what `admin user erase` does. It
/// goes on when nobody waits for the answer any more.
///
/// # Errors
/// [`AppError::NotFound`] for another account than the own one, [`AppError::BadRequest`] when the
/// address is not the account's, `last_owner` for the only owner of an organisation,
/// [`AppError::Unavailable`] where there is no place for the ledger.
pub async fn erase(
    state: &AppState,
    caller: &Caller,
    user: UserId,
    wanted: &AccountErasure,
) -> Result<AccountErased, AppError> {
    if user != caller.user_id() {
        return Err(AppError::NotFound);
    }
    let own = state
        .db
        .tenant_snapshot("account.find", caller, |mut tx| async move {
            organization::find(&mut tx, user).await
        })
        .await?;
    if wanted.email.trim().to_lowercase() != own.email {
        let detail = "email is not the address of the account; it is asked for so that nobody \
                      erases an account by mistake";
        return Err(AppError::BadRequest(detail.to_owned()));
    }
    let tenant = caller.tenant().organization();
    let plan = erasure::plan(&state.db, &state.clock, tenant, Some(user)).await;
    let plan = plan.map_err(refused)?;
    if wanted.dry_run {
        return Ok(AccountErased {
            dry_run: true,
            rows: plan.rows,
            backups: plan.backups,
            tables: plan.tables,
            receipt: None,
        });
    }
    let ledger = state.ledger.clone().ok_or(AppError::Unavailable {
        reason: "this server has no place for the ledger of erasures",
    })?;
    note(state, caller).await?;
    let (db, clock) = (state.db.clone(), state.clock.clone());
    let erasing = async move { erasure::erase(&db, &clock, &ledger, tenant, Some(user)).await };
    // A request that is given up does not stop in between.
    let erased = tokio::spawn(erasing).await;
    let receipt = erased.map_err(|error| AppError::Panic(error.to_string()))?;
    let receipt = receipt.map_err(refused)?;
    state.hints.members_changed(caller.tenant());
    Ok(erased_reply(&receipt))
}

fn erased_reply(receipt: &Signed<Receipt>) -> AccountErased {
    let what = &receipt.what;
    AccountErased {
        dry_run: false,
        rows: what.rows,
        backups: what.backups.len() as u64,
        tables: what.tables.clone(),
        receipt: Some(json!(receipt)),
    }
}

/// Notes who asked: the erasure's own entries say whose data went.
async fn note(state: &AppState, caller: &Caller) -> Result<(), StoreError> {
    let entry = &Entry {
        at: state.clock.now(),
        action: "user.erase.own",
        resource_type: Some("user"),
        resource_id: Some(caller.user_id().to_string()),
        detail: json!({}),
    };
    state
        .db
        .tenant("account.erase", caller, |mut tx| async move {
            audit::record(&mut tx, entry).await
        })
        .await
}

fn refused(error: ErasureError) -> AppError {
    match error {
        ErasureError::LastOwner => AppError::refused(
            ErrorCode::LastOwner,
            "the organisation would be left without an owner: make another person owner first, or \
             have whoever runs the server erase the organisation",
        ),
        ErasureError::Store(error) => AppError::Store(error),
        error => AppError::Spool(error.to_string()),
    }
}
