//! The outermost layer: gives the request its id, turns refusals into problem documents with
//! that id, and writes the one log line of the request.

use std::any::Any;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use coditect_protocol::{DeviceId, ErrorCode, Problem, UserId};
use coditect_server_store::credential::{Caller, TenantId};
use ring::rand::SecureRandom as _;
use tracing::Instrument as _;
use tracing::field::display;

use crate::error::{AppError, OperatorText, REQUEST_ID, problem_response};
use crate::limits::Rate;
use crate::metrics::Metrics;

const REQUEST_ID_BYTES_MAX: usize = 64;

/// What the layers and extractors learn about a request, for its log line.
#[derive(Debug, Clone, Default)]
pub struct RequestLog(Arc<Mutex<Known>>);

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    caller: Option<(TenantId, UserId, DeviceId)>,
    client: Option<IpAddr>,
    rate: Option<Rate>,
}

impl RequestLog {
    /// Notes who makes the request.
    pub fn set_caller(&self, caller: &Caller) {
        self.lock().caller = Some((caller.tenant(), caller.user_id(), caller.device_id()));
    }

    /// Notes where the request came from.
    pub(crate) fn set_client(&self, client: IpAddr) {
        self.lock().client = Some(client);
    }

    /// Returns where the request came from; none from within the process.
    pub(crate) fn client(&self) -> Option<IpAddr> {
        self.lock().client
    }

    /// Notes where the caller stands in the minute.
    pub(crate) fn set_rate(&self, rate: Rate) {
        self.lock().rate = Some(rate);
    }

    fn known(&self) -> Known {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the rest of the stack and finishes the response.
pub(crate) async fn observe(
    State(metrics): State<Metrics>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let log = RequestLog::default();
    request.extensions_mut().insert(log.clone());
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let span = tracing::info_span!("request", request.id = %id);
    let response = next.run(request).instrument(span).await;
    let mut response = as_problem(response, &id);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    if let Some(rate) = log.known().rate {
        add_rate(response.headers_mut(), rate);
    }
    metrics.answered(&route, &method, response.status(), started.elapsed());
    write_line(
        &Line {
            id: &id,
            method: &method,
            route: &route,
            started,
        },
        &log,
        &response,
    );
    response
}

/// Adds the headers that clients know from other services.
fn add_rate(headers: &mut HeaderMap, rate: Rate) {
    for (name, value) in [
        ("ratelimit-limit", rate.limit),
        ("ratelimit-remaining", rate.remaining),
        ("ratelimit-reset", rate.reset_seconds),
    ] {
        headers.insert(name, HeaderValue::from(value));
    }
}

/// Turns a panic of a handler into a fault of the server.
pub(crate) fn handle_panic(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    AppError::Panic(text.unwrap_or_else(|| "no message".to_owned())).into_response()
}

/// Takes the caller's id when it is harmless, so that both sides' logs meet; else makes one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok());
    let harmless = |text: &&str| {
        !text.is_empty()
            && text.len() <= REQUEST_ID_BYTES_MAX
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    match given.filter(harmless) {
        Some(text) => text.to_owned(),
        None => fresh_id(),
    }
}

fn fresh_id() -> String {
    let mut bytes = [0_u8; 16];
    // Without random numbers ids repeat, which harms the log's reader only.
    let _ = ring::rand::SystemRandom::new().fill(&mut bytes);
    uuid::Builder::from_random_bytes(bytes)
        .into_uuid()
        .to_string()
}

/// Gives a problem its request id. Refusals that layers of the framework made without a body
/// become problems, too.
fn as_problem(mut response: Response, id: &str) -> Response {
    let status = response.status();
    let problem = match response.extensions_mut().remove::<Problem>() {
        Some(problem) => problem,
        None if status.is_success() || has_json(&response) => return response,
        None if status.is_client_error() || status.is_server_error() => {
            Problem::new(code_of(status.as_u16()), "the request was refused")
        }
        None => return response,
    };
    let (parts, _) = response.into_parts();
    let problem = Problem {
        request_id: Some(id.to_owned()),
        ..problem
    };
    let mut finished = problem_response(problem);
    for name in [header::WWW_AUTHENTICATE, header::ALLOW] {
        if let Some(value) = parts.headers.get(&name) {
            finished.headers_mut().insert(name, value.clone());
        }
    }
    if let Some(text) = parts.extensions.get::<OperatorText>() {
        finished.extensions_mut().insert(text.clone());
    }
    finished
}

fn has_json(response: &Response<Body>) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/json"))
}

fn code_of(status: u16) -> ErrorCode {
    match status {
        404 => ErrorCode::NotFound,
        405 => ErrorCode::MethodNotAllowed,
        413 => ErrorCode::BodyTooLarge,
        415 => ErrorCode::UnsupportedMediaType,
        503 => ErrorCode::Unavailable,
        400..500 => ErrorCode::BadRequest,
        _ => ErrorCode::Internal,
    }
}

struct Line<'a> {
    id: &'a str,
    method: &'a Method,
    route: &'a str,
    started: Instant,
}

/// Writes the line of a request: never paths as sent, headers, bodies or tokens.
fn write_line(line: &Line<'_>, log: &RequestLog, response: &Response) {
    let known = log.known();
    let status = response.status().as_u16();
    let duration_ms = u64::try_from(line.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let operator = response
        .extensions()
        .get::<OperatorText>()
        .map(|text| text.0.as_str());
    let client = known.client.map(display);
    let (tenant, user, device) = match known.caller {
        Some((tenant, user, device)) => (
            Some(display(tenant)),
            Some(display(user)),
            Some(display(device)),
        ),
        None => (None, None, None),
    };
    macro_rules! write_at {
        ($level:ident) => {
            tracing::$level!(
                request.id = line.id,
                http.method = %line.method,
                http.route = line.route,
                http.status = status,
                duration_ms,
                tenant.id = tenant,
                user.id = user,
                device.id = device,
                client.address = client,
                error = operator,
                "{} {} answered {}", line.method, line.route, status
            )
        };
    }
    match status {
        500.. if status != 503 => write_at!(error),
        503 => write_at!(warn),
        _ if line.route.starts_with("/health") => write_at!(debug),
        _ => write_at!(info),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_request_id_is_kept_and_others_are_replaced() {
        let id = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, text.parse().unwrap());
            request_id(&headers)
        };
        assert_eq!(id("abc-1.2_3"), "abc-1.2_3");
        for text in ["", "a b", "a\"b", "<x>", &"x".repeat(65)] {
            let made = id(text);
            assert_eq!(made.len(), 36, "{text} gave {made}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }

    #[test]
    fn panic_is_a_fault_whose_text_stays_inside() {
        let response = as_problem(handle_panic(Box::new("boom")), "r1");
        let problem = response.extensions().get::<Problem>().unwrap();
        assert_eq!((problem.status, problem.code), (500, ErrorCode::Internal));
        assert!(!format!("{problem:?}").contains("boom"));
        let operator = response.extensions().get::<OperatorText>().unwrap();
        assert!(operator.0.contains("boom"));
    }

    #[test]
    fn bare_refusal_becomes_a_problem() {
        let response = (axum::http::StatusCode::PAYLOAD_TOO_LARGE, "plain").into_response();
        let response = as_problem(response, "r1");
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "application/problem+json"
        );
        let problem = response.extensions().get::<Problem>().unwrap();
        assert_eq!(problem.request_id.as_deref(), Some("r1"));
        assert_eq!(problem.code, ErrorCode::BodyTooLarge);
    }
}
