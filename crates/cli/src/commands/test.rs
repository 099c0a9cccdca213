//! `coditect test`.

use std::time::Instant;

use clap::Args;
use coditect_client::Transport as _;
use coditect_protocol::API_VERSION;
use coditect_protocol::wire::pull::PullRequest;
use serde_json::json;

use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::remote;

/// Checks the server and the login.
#[derive(Debug, Args)]
pub(crate) struct Test {}

/// Runs the command: a pull of nothing, which needs the network, the server, its database and a
/// valid login.
pub(crate) fn run(context: &Context) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let result = check(context);
    let latency_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let server = context.cloud.server.as_deref();
    let message = result.as_ref().err().map(|error| error.message.clone());
    let document = json!({
        "success": result.is_ok(),
        "server": server,
        "tenant_id": context.cloud.tenant_id,
        "user_id": context.cloud.user_id,
        "latency_ms": latency_ms,
        "error": message,
    });
    if context.printer.is_json() {
        context.printer.document(&document)?;
    }
    match result {
        Ok(()) => {
            if !context.printer.is_json() {
                let server = server.unwrap_or_default();
                context
                    .printer
                    .line(&format!("ok: {server} answers, {latency_ms} ms"))?;
            }
            Ok(Exit::Ok)
        }
        Err(error) => Err(error.into()),
    }
}

/// Asks the server for nothing, with the profile's login.
pub(super) fn check(context: &Context) -> Result<(), CommandError> {
    let failed = |error: anyhow::Error| CommandError::from_error(&error);
    let store = context.store().map_err(failed)?;
    let mut transport = remote::transport(context, &store).map_err(failed)?;
    let request = PullRequest {
        api_version: API_VERSION.to_owned(),
        device: store.device(),
        positions: Vec::new(),
        table: None,
    };
    let exchange = async {
        match transport.pull(&request).await {
            Err(coditect_core::sync::Failure::Unauthenticated(problem)) => {
                if transport.authenticate().await {
                    transport.pull(&request).await
                } else {
                    Err(coditect_core::sync::Failure::Unauthenticated(problem))
                }
            }
            other => other,
        }
    };
    let result = remote::block_on(exchange).map_err(failed)?;
    match result {
        Ok(_) => Ok(()),
        Err(failure) => Err(CommandError::from_failure(&failure)),
    }
}
