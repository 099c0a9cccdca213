//! Request bodies and query strings: read within limits, unpacked within limits, parsed with
//! the position of the first mistake.

use std::error::Error;
use std::io::{self, Read};

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use coditect_protocol::limits::{BODY_BYTES_MAX, BODY_COMPRESSED_BYTES_MAX};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::error::AppError;
use crate::state::AppState;

/// Most bytes of a body of the authentication routes.
pub(crate) const SMALL_BODY_BYTES_MAX: usize = 16 * 1024;
/// A packed stream may ask for this much memory to look back into (2 to the power of it).
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Bodies up to this size are unpacked and parsed on the thread at hand.
const INLINE_BYTES_MAX: usize = 64 * 1024;

/// A JSON body of at most `MAX` bytes after unpacking, plain or packed with zstd or gzip.
#[derive(Debug)]
pub(crate) struct JsonBody<T, const MAX: usize>(pub(crate) T);

/// The body of an authentication route.
pub(crate) type SmallJson<T> = JsonBody<T, SMALL_BODY_BYTES_MAX>;
/// The body of a sync route.
pub(crate) type SyncJson<T> = JsonBody<T, BODY_BYTES_MAX>;

impl<T, const MAX: usize> FromRequest<AppState> for JsonBody<T, MAX>
where
    T: DeserializeOwned + Send + 'static,
{
    type Rejection = AppError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Self::Rejection> {
        let (parts, body) = request.into_parts();
        let encoding = encoding(&parts.headers)?;
        check_content_type(&parts.headers)?;
        let packed = collect(body, MAX.min(BODY_COMPRESSED_BYTES_MAX)).await?;
        let read = move || parse(&unpack(packed, encoding, MAX)?).map(Self);
        if encoding == Encoding::Identity && MAX <= INLINE_BYTES_MAX {
            return read();
        }
        // Closed never; and then there would be nothing to hold it for.
        let _place = state.unpacking.acquire().await.ok();
        let worked = tokio::task::spawn_blocking(read).await;
        worked.map_err(|error| AppError::Panic(error.to_string()))?
    }
}

/// A query string, checked; unknown fields are refused where the type says so.
#[derive(Debug)]
pub(crate) struct CheckedQuery<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for CheckedQuery<T> {
    type Rejection = AppError;

    async fn from_request_parts(
        parts: &mut Parts,
        _state: &AppState,
    ) -> Result<Self, Self::Rejection> {
        let Query(value) = Query::try_from_uri(&parts.uri)
            .map_err(|error| AppError::BadRequest(format!("the query string: {error}")))?;
        Ok(Self(value))
    }
}

/// The one parameter of a path; text that cannot be one names nothing that exists.
#[derive(Debug)]
pub(crate) struct CheckedPath<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for CheckedPath<T> {
    type Rejection = AppError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &AppState,
    ) -> Result<Self, Self::Rejection> {
        let Path(value) = Path::from_request_parts(parts, state)
            .await
            .map_err(|_| AppError::NotFound)?;
        Ok(Self(value))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Identity,
    Zstd,
    Gzip,
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, AppError> {
    let text = match headers.get(header::CONTENT_ENCODING) {
        None => return Ok(Encoding::Identity),
        Some(value) => value
            .to_str()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase(),
    };
    match text.as_str() {
        "" | "identity" => Ok(Encoding::Identity),
        "zstd" => Ok(Encoding::Zstd),
        "gzip" | "x-gzip" => Ok(Encoding::Gzip),
        _ => {
            let detail = "the body's encoding is neither zstd nor gzip";
            Err(AppError::UnsupportedMediaType(detail.to_owned()))
        }
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), AppError> {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(AppError::UnsupportedMediaType(
        "send the body as application/json".to_owned(),
    ))
}

async fn collect(body: Body, bytes_max: usize) -> Result<Vec<u8>, AppError> {
    match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes().into()),
        Err(error) if is_length_limit(error.as_ref()) => Err(AppError::BodyTooLarge { bytes_max }),
        Err(_) => Err(AppError::BadRequest(
            "the body ended before it was whole".to_owned(),
        )),
    }
}

fn is_length_limit(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Unpacks a body and stops at the limit, however small the packed form was.
fn unpack(packed: Vec<u8>, encoding: Encoding, bytes_max: usize) -> Result<Vec<u8>, AppError> {
    let damaged = |_: io::Error| AppError::BadRequest("the packed body is damaged".to_owned());
    match encoding {
        Encoding::Identity => Ok(packed),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(&packed[..]).map_err(damaged)?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG_MAX)
                .map_err(damaged)?;
            read_bounded(decoder, bytes_max)?.map_err(damaged)
        }
        Encoding::Gzip => read_bounded(flate2::read::MultiGzDecoder::new(&packed[..]), bytes_max)?
            .map_err(damaged),
    }
}

fn read_bounded(reader: impl Read, bytes_max: usize) -> Result<io::Result<Vec<u8>>, AppError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    match reader.take(limit).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() > bytes_max => Err(AppError::BodyTooLarge { bytes_max }),
        Ok(_) => Ok(Ok(bytes)),
        Err(error) => Ok(Err(error)),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, AppError> {
    serde_json::from_slice(bytes).map_err(|error| AppError::BadRequest(explain(&error)))
}

/// Says what is wrong where, without repeating what was sent: it may be a secret.
fn explain(error: &serde_json::Error) -> String {
    let place = format!("line {} column {}", error.line(), error.column());
    match error.classify() {
        Category::Data => {
            let text = error.to_string();
            let text = text.split(" at line ").next().unwrap_or_default();
            let invalid = text.starts_with("invalid type") || text.starts_with("invalid value");
            let text = match text.rsplit_once(", expected ") {
                Some((_, expected)) if invalid => format!("expected {expected}"),
                _ if invalid => "a value of the wrong type".to_owned(),
                _ => text.to_owned(),
            };
            format!("the body does not fit the route at {place}: {text}")
        }
        Category::Eof => format!("the body ends too early at {place}"),
        Category::Syntax | Category::Io => format!("the body is not JSON at {place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coditect_protocol::wire::auth::Refresh;
    use std::io::Write as _;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn both_encodings_unpack_to_the_same() {
        let text = b"{\"refresh_token\":\"x\"}".to_vec();
        let packed = zstd::encode_all(&text[..], 3).unwrap();
        assert_eq!(unpack(packed, Encoding::Zstd, 100).unwrap(), text);
        assert_eq!(unpack(gzip(&text), Encoding::Gzip, 100).unwrap(), text);
        assert_eq!(unpack(text.clone(), Encoding::Identity, 100).unwrap(), text);
    }

    #[test]
    fn bomb_stops_at_the_limit() {
        let zeros = vec![0_u8; 8 * 1024 * 1024];
        let packed = zstd::encode_all(&zeros[..], 19).unwrap();
        assert!(packed.len() < 2_000, "{}", packed.len());
        for (packed, encoding) in [(packed, Encoding::Zstd), (gzip(&zeros), Encoding::Gzip)] {
            let error = unpack(packed, encoding, 1_000_000).unwrap_err();
            assert!(matches!(
                error,
                AppError::BodyTooLarge {
                    bytes_max: 1_000_000
                }
            ));
        }
    }

    #[test]
    fn huge_window_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(27).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(&[7; 100]).unwrap();
        let packed = encoder.finish().unwrap();
        let error = unpack(packed, Encoding::Zstd, 1_000_000).unwrap_err();
        assert!(matches!(error, AppError::BadRequest(_)), "{error}");
    }

    #[test]
    fn damaged_and_truncated_bodies_are_refused() {
        let packed = zstd::encode_all(&b"some text that is long enough"[..], 3).unwrap();
        let cut = packed[..packed.len() - 4].to_vec();
        assert!(unpack(cut, Encoding::Zstd, 100).is_err());
        assert!(unpack(b"not packed".to_vec(), Encoding::Gzip, 100).is_err());
    }

    #[test]
    fn mistakes_are_placed_and_values_not_repeated() {
        let explain = |text: &str| match parse::<Refresh>(text.as_bytes()) {
            Err(AppError::BadRequest(detail)) => detail,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            explain("{\"refresh_token\":"),
            "the body ends too early at line 1 column 17"
        );
        assert_eq!(explain("\n{x"), "the body is not JSON at line 2 column 2");
        let missing = explain("{}");
        assert!(
            missing.ends_with("missing field `refresh_token`"),
            "{missing}"
        );
        let Err(AppError::BadRequest(wrong)) = parse::<Vec<u64>>(b"[\"hunter2\"]") else {
            panic!("a text is no number");
        };
        assert!(
            wrong.ends_with("expected u64") && !wrong.contains("hunter2"),
            "{wrong}"
        );
    }
}
