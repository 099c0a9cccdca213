//! The server, the clock and the login.

use std::time::Instant;

use coditect_local_store::LocalStore;

use super::Check;
use crate::clock;
use crate::context::Context;
use crate::{remote, token};

/// Seconds that the clock may be off before a person should know. The server corrects any
/// amount; but times that people read, and certificates, go by this clock.
const SKEW_SECONDS_MAX: i64 = 60;

/// Checks the way to the server, and the clock against it.
pub(super) fn checks(context: &Context) -> Vec<Check> {
    let Some(server) = context.cloud.server.clone() else {
        let text = "none; everything works without one";
        return vec![Check::ok("server", text)];
    };
    if context.is_offline() {
        let hint = "coditect config set cloud.offline false";
        return vec![Check::ok("server", "offline mode is on").hint(hint)];
    }
    match reach(context, &server) {
        Ok(checks) => checks,
        Err(error) => vec![Check::error("server", format!("{error:#}")).hint("coditect test")],
    }
}

fn reach(context: &Context, server: &str) -> anyhow::Result<Vec<Check>> {
    let http = remote::http(context, server, None, false)?;
    let started = Instant::now();
    let health = remote::block_on(http.fetch("/health/", None))?;
    let latency_ms = started.elapsed().as_millis();
    let reply = match health {
        Ok(reply) => reply,
        Err(failure) => {
            let text = coditect_client::http::describe(&failure);
            let hint = "is the server running, and the network up? changes stay queued";
            return Ok(vec![Check::error("server", text).hint(hint)]);
        }
    };
    let mut checks = Vec::new();
    checks.extend(reply.date_ms.map(skew));
    checks.push(match super::super::test::check(context) {
        Ok(()) => Check::ok(
            "server",
            format!("{server} answers in {latency_ms} ms and knows this login"),
        ),
        Err(error) => {
            let check = Check::error("server", error.message);
            match error.hint {
                Some(hint) => check.hint(hint),
                None => check.hint("coditect test; coditect login"),
            }
        }
    });
    Ok(checks)
}

/// Compares the clock with the server's, which is known to the second.
fn skew(server_ms: i64) -> Check {
    let ahead = (clock::now_ms() - server_ms) / 1_000;
    if ahead.abs() <= SKEW_SECONDS_MAX {
        return Check::ok("clock", "as the server's");
    }
    let word = if ahead > 0 { "fast" } else { "slow" };
    let detail = format!("{} seconds {word}; the server corrects for it", ahead.abs());
    Check::warning("clock", detail).hint("set the clock of this machine")
}

/// Checks what is stored of the login, without asking anybody.
pub(super) fn login(context: &Context, store: &LocalStore) -> Check {
    let check = || -> anyhow::Result<Check> {
        let environment = &context.environment;
        let stored = context.credentials().load()?;
        let given = environment.access_token.clone();
        let renewable = given.is_none()
            && stored
                .as_ref()
                .is_some_and(|stored| stored.refresh_token.is_some());
        let token = given.or_else(|| stored.map(|stored| stored.access_token));
        let Some(token) = token else {
            return Ok(match context.cloud.server {
                None => Check::ok("login", "none; everything works without one"),
                Some(_) => Check::error("login", "not logged in").hint("coditect login"),
            });
        };
        let Some(claims) = token::claims(&token) else {
            let text = "the access token is not one of a CODITECT server";
            return Ok(Check::error("login", text).hint("coditect login"));
        };
        if let Some(owner) = store.owner_of_folder()
            && (owner.tenant, owner.user) != (claims.tenant_id, claims.sub)
        {
            let detail = format!(
                "the login is of user {} in organisation {}, the data of user {} in {}",
                claims.sub, claims.tenant_id, owner.user, owner.tenant
            );
            let hint = "unset CODITECT_ACCESS_TOKEN, or coditect --profile NAME login";
            return Ok(Check::error("login", detail).hint(hint));
        }
        let named = environment.tenant_id.as_deref();
        if named.is_some_and(|named| named != claims.tenant_id.to_string()) {
            let detail = format!("CODITECT_TENANT_ID is not {}", claims.tenant_id);
            return Ok(Check::warning("login", detail).hint("unset CODITECT_TENANT_ID"));
        }
        let until = claims.exp.map(|seconds| seconds * 1_000);
        let ended = until.is_some_and(|until| until <= clock::now_ms());
        Ok(match (renewable, ended) {
            (true, _) => Check::ok("login", "renews itself"),
            (false, true) => Check::error("login", "the access token has ended, nothing renews it")
                .hint("coditect login, or another CODITECT_ACCESS_TOKEN"),
            (false, false) => {
                let until = until.map_or_else(|| "it is revoked".to_owned(), clock::rfc3339);
                Check::ok("login", format!("until {until}; nothing renews it"))
            }
        })
    };
    Check::of("login", check())
}
