//! What a reply means to the engine.

use std::error::Error as _;

use coditect_core::sync::Failure;
use coditect_protocol::{ErrorCode, Problem};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Reply, is_absent};

/// Seconds to wait when a server limits the rate and does not say for how long.
const RETRY_AFTER_DEFAULT_S: u64 = 5;

/// Returns a success as it is, everything else as the failure that it means.
pub(super) fn check(reply: Reply) -> Result<Reply, Failure> {
    if (200..300).contains(&reply.status) {
        return Ok(reply);
    }
    if (300..400).contains(&reply.status) {
        let target = reply.location.as_deref().unwrap_or("elsewhere");
        let detail = format!("the server redirects to {target}; use that address");
        return Err(refused(&reply, Some(detail)));
    }
    let problem = serde_json::from_slice::<Problem>(&reply.body).ok();
    Err(failure(&reply, problem))
}

/// Reads the body of a success.
pub(super) fn decode<T: DeserializeOwned>(reply: &Reply) -> Result<T, Failure> {
    // A portal that wants a login answers every address with its own page.
    if !reply.json {
        let reason = "something else than a CODITECT server answered (a portal or a proxy?)";
        return Err(Failure::Offline(reason.to_owned()));
    }
    serde_json::from_slice(&reply.body).map_err(|error| {
        let detail = format!("the server's reply is not understood: {error}");
        Failure::Refused(Box::new(Problem::new(ErrorCode::ApiVersion, detail)))
    })
}

fn failure(reply: &Reply, problem: Option<Problem>) -> Failure {
    let extra = |name: &str| {
        let extra = problem.as_ref().map(|problem| &problem.extra)?;
        extra.get(name).and_then(Value::as_str)
    };
    match problem.as_ref().map(|problem| problem.code) {
        Some(ErrorCode::EpochChanged) => {
            if let Some(epoch) = extra("epoch").and_then(|epoch| epoch.parse().ok()) {
                return Failure::EpochChanged(epoch);
            }
        }
        Some(ErrorCode::FileFenced) => {
            if let Some(device) = extra("device_id").and_then(|device| device.parse().ok()) {
                return Failure::Fenced(device);
            }
        }
        _ => {}
    }
    if is_absent(reply.status) {
        let detail = problem.and_then(|problem| problem.detail);
        return Failure::Offline(detail.unwrap_or_else(|| format!("status {}", reply.status)));
    }
    let problem = problem.unwrap_or_else(|| unnamed(reply, None));
    match (reply.status, problem.code) {
        (_, ErrorCode::InvalidCursor) => Failure::InvalidCursor(Box::new(problem)),
        (401, _) => Failure::Unauthenticated(Box::new(problem)),
        (429, _) => {
            let seconds = reply.retry_after.or(problem.retry_after);
            Failure::RateLimited(seconds.unwrap_or(RETRY_AFTER_DEFAULT_S), Box::new(problem))
        }
        _ => Failure::Refused(Box::new(problem)),
    }
}

fn refused(reply: &Reply, detail: Option<String>) -> Failure {
    Failure::Refused(Box::new(unnamed(reply, detail)))
}

/// A problem for a reply that brought none, as proxies answer.
fn unnamed(reply: &Reply, detail: Option<String>) -> Problem {
    let code = match reply.status {
        401 => ErrorCode::Unauthenticated,
        404 => ErrorCode::NotFound,
        413 => ErrorCode::BodyTooLarge,
        429 => ErrorCode::RateLimited,
        _ => ErrorCode::Unknown,
    };
    let detail = detail.unwrap_or_else(|| format!("the server answered status {}", reply.status));
    Problem {
        status: reply.status,
        ..Problem::new(code, detail)
    }
}

/// Returns the failure of a request that got no answer, in words that say what to look at.
pub(super) fn unreachable_server(error: &reqwest::Error) -> Failure {
    let what = if error.is_timeout() {
        "the server did not answer in time"
    } else if error.is_connect() {
        "no connection to the server"
    } else {
        "the connection broke"
    };
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    // The outermost text repeats the address, the innermost one says why.
    let why = if error.source().is_some() {
        format!("{what}: {cause}")
    } else {
        what.to_owned()
    };
    Failure::Offline(why)
}

/// Returns a failure in words, without content.
#[must_use]
pub fn describe(failure: &Failure) -> String {
    let problem_text = |problem: &Problem| {
        let text = problem.detail.as_deref().unwrap_or(&problem.title);
        format!("{text} ({})", problem.code)
    };
    match failure {
        Failure::Offline(reason) => reason.clone(),
        Failure::Unauthenticated(problem)
        | Failure::InvalidCursor(problem)
        | Failure::Refused(problem) => problem_text(problem),
        Failure::RateLimited(seconds, problem) => {
            format!("{}, again in {seconds} s", problem_text(problem))
        }
        Failure::EpochChanged(epoch) => format!("the server was set back, its epoch is {epoch}"),
        Failure::Fenced(_) => "this file is a copy or was restored".to_owned(),
    }
}
