//! `/api/v1/context/{sprints,tracks,metrics,calibrations,checkpoints}/` and `…/{id}/`: the same
//! routes for each kind of record, in the caller's own scope or the one that `scope` names.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use coditect_protocol::wire::Row;
use coditect_protocol::wire::context::{RecordWritten, ViewStatus};
use coditect_protocol::{ErrorCode, RowId, Scope};
use coditect_server_store::sync::views::{Filter, View};
use serde::Deserialize;
use serde_json::Value;

use super::{NamedDevice, RANGE, VIEW};
use crate::app::context::records::{self, Kind};
use crate::app::context::{Asker, Range};
use crate::auth::Authenticated;
use crate::body::{CheckedPath, CheckedQuery, SyncJson};
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

/// A query parameter: name, schema type, description.
type Parameter = (&'static str, &'static str, &'static str);

/// A kind of record in a path.
pub(crate) trait Described {
    /// The kind.
    const KIND: &'static Kind;
    /// Query parameters of its list: those of every list, then those of its own.
    const QUERY: &'static [Parameter];
}

const SCOPE: Parameter = ("scope", "string", "Scope; the caller's own when left out");
const OF_PROJECT: Parameter = ("project_id", "string", "Only those of this project");
const IN_STATE: Parameter = ("status", "string", "Only those in this state");
const OF_COMPONENT: Parameter = ("component_id", "string", "Only those of this component");

/// Makes a type for each kind that can stand in a path.
macro_rules! described {
    ($($(#[$doc:meta])* $name:ident, $kind:ident, [$($parameter:expr),+ $(,)?];)+) => {
        $(
            $(#[$doc])*
            pub(crate) enum $name {}

            impl Described for $name {
                const KIND: &'static Kind = &records::$kind;
                const QUERY: &'static [Parameter] =
                    &[SCOPE, RANGE[0], RANGE[1], RANGE[2], $($parameter),+];
            }
        )+
    };
}

described! {
    /// `/sprints/`.
    Sprints, SPRINT, [OF_PROJECT, IN_STATE];
    /// `/tracks/`.
    Tracks, TRACK, [OF_PROJECT, ("track_id", "string", "Only the one of this letter"), IN_STATE];
    /// `/metrics/`.
    Metrics, METRIC, [
        ("metric_name", "string", "Only measurements of this"),
        OF_COMPONENT,
        OF_PROJECT,
    ];
    /// `/calibrations/`.
    Calibrations, CALIBRATION, [
        ("model", "string", "Only those of this model"),
        OF_COMPONENT,
        ("metric", "string", "Only predictions of this"),
    ];
    /// `/checkpoints/`.
    Checkpoints, CHECKPOINT, [
        ("checkpoint_type", "string", "Only those of this type"),
        OF_PROJECT,
        ("session_id", "string", "Only those of this session"),
        ("phase", "string", "Only those of this phase"),
        ("focus_area", "string", "Only those about this"),
        ("git_branch", "string", "Only those of this branch"),
    ];
}

/// Codes of everything about a record that is named.
const NAMED_ERRORS: &[ErrorCode] = &[
    ErrorCode::BadRequest,
    ErrorCode::DeviceUnknown,
    ErrorCode::NotFound,
    ErrorCode::PermissionDenied,
];
const LIST_ERRORS: &[ErrorCode] = &[
    ErrorCode::BadRequest,
    ErrorCode::DeviceUnknown,
    ErrorCode::NotFound,
    ErrorCode::PermissionDenied,
    ErrorCode::InvalidCursor,
];
const WRITE_ERRORS: &[ErrorCode] = &[
    ErrorCode::BadRequest,
    ErrorCode::DeviceUnknown,
    ErrorCode::NotFound,
    ErrorCode::PermissionDenied,
    ErrorCode::BodyTooLarge,
    ErrorCode::RowTooLarge,
    ErrorCode::UnsupportedMediaType,
    ErrorCode::MalformedRow,
    ErrorCode::DirectionRefused,
    ErrorCode::QuotaExceeded,
];
const REMOVE_ERRORS: &[ErrorCode] = &[
    ErrorCode::BadRequest,
    ErrorCode::DeviceUnknown,
    ErrorCode::NotFound,
    ErrorCode::PermissionDenied,
    ErrorCode::DirectionRefused,
];

/// Describes a list.
pub(crate) const fn list_operation<K: Described>(
    id: &'static str,
    page: &'static str,
) -> Operation {
    Operation {
        id,
        summary: "Return the records of a scope behind a position",
        query: K::QUERY,
        reply: Reply::Json(page),
        errors: LIST_ERRORS,
        ..VIEW
    }
}

/// Describes the making of a record.
pub(crate) const fn create_operation<K: Described>(
    id: &'static str,
    body: &'static str,
) -> Operation {
    Operation {
        id,
        summary: match K::KIND.known_by {
            [] => "Make a record, or change the one of that id where its kind can be changed",
            _ => "Make a record, or change the one of that name",
        },
        query: &[SCOPE],
        request: Some(body),
        reply: Reply::JsonOrCreated("RecordWritten"),
        errors: WRITE_ERRORS,
        ..VIEW
    }
}

/// Describes the showing of a record.
pub(crate) const fn show_operation(id: &'static str, record: &'static str) -> Operation {
    Operation {
        id,
        summary: "Return a record in full",
        query: &[SCOPE],
        reply: Reply::Json(record),
        errors: NAMED_ERRORS,
        ..VIEW
    }
}

/// Describes the changing of a record.
pub(crate) const fn edit_operation(id: &'static str, body: &'static str) -> Operation {
    Operation {
        id,
        summary: "Change a record: a field left out stays, null or an empty text clears one",
        query: &[SCOPE],
        request: Some(body),
        reply: Reply::Json("RecordWritten"),
        errors: WRITE_ERRORS,
        ..VIEW
    }
}

/// Describes the deleting of a record.
pub(crate) const fn remove_operation(id: &'static str) -> Operation {
    Operation {
        id,
        summary: "Delete a record, here and on every device that holds it",
        query: &[SCOPE],
        errors: REMOVE_ERRORS,
        ..VIEW
    }
}

/// The scope that a request names, if it names one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InScope {
    scope: Option<Scope>,
}

impl InScope {
    fn asker<'a>(&self, device: NamedDevice, caller: &'a Authenticated) -> Asker<'a> {
        asker(self.scope, device, caller)
    }
}

fn asker(scope: Option<Scope>, device: NamedDevice, caller: &Authenticated) -> Asker<'_> {
    let own = Scope::User(caller.0.user_id().get());
    device.about(scope.unwrap_or(own), caller)
}

/// The query string of a list.
#[derive(Debug, Default)]
struct Selection {
    scope: Option<Scope>,
    range: Range,
    filter: Filter,
}

impl Selection {
    /// Reads the parameters, each of which may stand there once.
    fn read(view: View, given: Vec<(String, String)>) -> Result<Self, String> {
        let mut selection = Self::default();
        let mut seen: Vec<String> = Vec::new();
        for (name, value) in given {
            if seen.contains(&name) {
                return Err("a parameter stands there twice".to_owned());
            }
            let range = &mut selection.range;
            let bad = |what: &str| format!("{name} is no {what}");
            match name.as_str() {
                "scope" => selection.scope = Some(value.parse().map_err(|_| bad("scope"))?),
                "cursor" => range.cursor = Some(value.parse().map_err(|_| bad("integer"))?),
                "limit" => range.limit = Some(value.parse().map_err(|_| bad("number of rows"))?),
                "epoch" => range.epoch = Some(value.parse().map_err(|_| bad("epoch"))?),
                other => {
                    let mut filters = view.filters().iter();
                    let column = filters.find(|column| **column == other);
                    let column = column.ok_or_else(|| {
                        let names = view.filters().join(", ");
                        format!("a parameter other than scope, cursor, limit, epoch, {names}")
                    })?;
                    selection.filter = selection.filter.with(column, Some(value));
                }
            }
            seen.push(name);
        }
        Ok(selection)
    }
}

pub(crate) async fn list<K: Described>(
    State(state): State<AppState>,
    caller: Authenticated,
    device: NamedDevice,
    query: CheckedQuery<Vec<(String, String)>>,
) -> Result<Json<Value>, AppError> {
    let selection = Selection::read(K::KIND.view, query.0)
        .map_err(|detail| AppError::BadRequest(format!("the query string: {detail}")))?;
    let asker = asker(selection.scope, device, &caller);
    records::list(&state, asker, K::KIND, selection.range, selection.filter)
        .await
        .map(Json)
}

pub(crate) async fn create<K: Described>(
    State(state): State<AppState>,
    caller: Authenticated,
    device: NamedDevice,
    query: CheckedQuery<InScope>,
    body: SyncJson<Row>,
) -> Result<(StatusCode, Json<RecordWritten>), AppError> {
    let asker = query.0.asker(device, &caller);
    let reply = records::create(&state, asker, K::KIND, body.0).await?;
    let status = match reply.status {
        ViewStatus::Created => StatusCode::CREATED,
        ViewStatus::Updated | ViewStatus::Duplicate => StatusCode::OK,
    };
    Ok((status, Json(reply)))
}

pub(crate) async fn show<K: Described>(
    State(state): State<AppState>,
    caller: Authenticated,
    device: NamedDevice,
    CheckedPath(id): CheckedPath<RowId>,
    query: CheckedQuery<InScope>,
) -> Result<Json<Value>, AppError> {
    let asker = query.0.asker(device, &caller);
    records::show(&state, asker, K::KIND, id).await.map(Json)
}

pub(crate) async fn edit<K: Described>(
    State(state): State<AppState>,
    caller: Authenticated,
    device: NamedDevice,
    CheckedPath(id): CheckedPath<RowId>,
    query: CheckedQuery<InScope>,
    body: SyncJson<Row>,
) -> Result<Json<RecordWritten>, AppError> {
    let asker = query.0.asker(device, &caller);
    records::edit(&state, asker, K::KIND, id, body.0)
        .await
        .map(Json)
}

pub(crate) async fn remove<K: Described>(
    State(state): State<AppState>,
    caller: Authenticated,
    device: NamedDevice,
    CheckedPath(id): CheckedPath<RowId>,
    query: CheckedQuery<InScope>,
) -> Result<StatusCode, AppError> {
    let asker = query.0.asker(device, &caller);
    records::remove(&state, asker, K::KIND, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(view: View, query: &str) -> Result<Selection, String> {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Selection::read(view, pairs.collect())
    }

    #[test]
    fn lists_are_documented_with_the_filters_that_they_take() {
        fn check<K: Described>() {
            let documented = K::QUERY.iter().map(|parameter| parameter.0);
            let taken = ["scope", "cursor", "limit", "epoch"].into_iter();
            let taken = taken.chain(K::KIND.view.filters().iter().copied());
            assert!(documented.eq(taken), "{}", K::KIND.noun);
        }
        check::<Sprints>();
        check::<Tracks>();
        check::<Metrics>();
        check::<Calibrations>();
        check::<Checkpoints>();
    }

    #[test]
    fn a_selection_reads_each_parameter_once_and_no_other() {
        let query = "cursor=5&limit=2&project_id=p&status=";
        let selection = read(View::Sprints, query).unwrap();
        assert_eq!(
            (selection.range.cursor, selection.range.limit),
            (Some(5), Some(2))
        );
        let filter = Filter::default()
            .with("project_id", Some("p".to_owned()))
            .with("status", Some(String::new()));
        assert_eq!(selection.filter, filter);
        for query in [
            "cursor=x",
            "limit=-1",
            "epoch=1",
            "scope=me",
            "status=a&status=a",
            "curser=1",
            "session_id=s",
        ] {
            assert!(read(View::Sprints, query).is_err(), "{query}");
        }
    }
}
