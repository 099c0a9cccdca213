//! `coditect logout`.

use clap::Args;
use coditect_client::auth;
use serde_json::json;

use crate::context::Context;
use crate::exit::Exit;
use crate::remote;

/// Ends the session.
#[derive(Debug, Args)]
pub(crate) struct Logout {}

/// Runs the command. The tokens go from this machine in any case; the server is told if it
/// answers.
pub(crate) fn run(context: &Context) -> anyhow::Result<Exit> {
    let file = context.credentials();
    let credentials = file.load()?;
    let mut revoked = false;
    if let Some(credentials) = &credentials
        && let Some(refresh) = &credentials.refresh_token
    {
        let http = remote::http(context, &credentials.server, None, false)?;
        let ended = auth::logout(&http, &credentials.access_token, refresh);
        match remote::block_on(ended)? {
            Ok(()) => revoked = true,
            Err(failure) => {
                let reason = coditect_client::http::describe(&failure);
                context
                    .printer
                    .warning(&format!("the server was not told: {reason}"));
            }
        }
    }
    let logged_out = file.delete()?;
    let document = json!({"logged_out": logged_out, "revoked": revoked});
    context.printer.either(&document, |printer| {
        printer.line(if logged_out {
            "logged out; the data stays on this machine"
        } else {
            "there was no login"
        })
    })?;
    Ok(Exit::Ok)
}
