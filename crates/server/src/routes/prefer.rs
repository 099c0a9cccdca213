//! What a request prefers about its answer (RFC 7240): `respond-async` and `wait`. What nobody here
//! knows is passed over, as the standard says.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;

use crate::state::AppState;

/// Name of the header.
const PREFER: &str = "prefer";

/// The preferences of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prefer {
    /// Whether the answer need not wait for the work.
    pub(crate) respond_async: bool,
    /// How long it shall wait for it.
    wait: Option<Duration>,
}

impl Prefer {
    /// Returns how long the answer waits for the work; none for as long as the server likes.
    pub(crate) fn wait(self) -> Option<Duration> {
        match (self.wait, self.respond_async) {
            (None, true) => Some(Duration::ZERO),
            (wait, _) => wait,
        }
    }

    fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        let values = headers.get_all(PREFER).iter();
        let texts = values.filter_map(|value| value.to_str().ok());
        for preference in texts.flat_map(|text| text.split(',')) {
            let preference = preference.split(';').next().unwrap_or_default();
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "respond-async" => found.respond_async = true,
                // Of one that is given twice the first counts.
                "wait" if found.wait.is_none() => {
                    let seconds = value.trim().trim_matches('"').parse().ok();
                    found.wait = seconds.map(Duration::from_secs);
                }
                _ => {}
            }
        }
        found
    }
}

impl FromRequestParts<AppState> for Prefer {
    type Rejection = Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        _state: &AppState,
    ) -> Result<Self, Self::Rejection> {
        Ok(Self::of(&parts.headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_of(values: &[&'static str]) -> (bool, Option<u64>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PREFER, value.parse().unwrap());
        }
        let prefer = Prefer::of(&headers);
        (
            prefer.respond_async,
            prefer.wait().map(|wait| wait.as_secs()),
        )
    }

    #[test]
    fn preferences_are_read_as_the_standard_writes_them() {
        assert_eq!(wait_of(&[]), (false, None));
        assert_eq!(wait_of(&["respond-async"]), (true, Some(0)));
        assert_eq!(wait_of(&["Respond-Async, wait=10"]), (true, Some(10)));
        assert_eq!(wait_of(&["wait=\"7\""]), (false, Some(7)));
        assert_eq!(
            wait_of(&["foo; bar=1", "wait = 5;x, wait=9"]),
            (false, Some(5))
        );
        assert_eq!(wait_of(&["wait=soon, return=minimal, ,=;"]), (false, None));
    }
}
