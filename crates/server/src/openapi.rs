//! The OpenAPI document, made of the list of routes and the schemas of the wire types.

mod records;
mod rows;

use std::sync::OnceLock;

use coditect_protocol::openapi::{ContentHash, Timestamp};
use coditect_protocol::wire::DEVICE_TIME_HEADER;
use coditect_protocol::wire::{
    Op, Stored, audit, auth, backups, bodies, context, descent, devices, hints, history, moves,
    pull, push,
};
use coditect_protocol::{
    API_VERSION, BatchId, Cursor, DeviceId, Epoch, ErrorCode, OrganizationId, Problem, RowId,
    Scope, UserId, Version, catalogue,
};
use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema};

use crate::router::{self, Endpoint};

/// What the document says about a route beside its method and path.
#[derive(Debug)]
pub struct Operation {
    /// Name of the operation for generated clients.
    pub id: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Whether a bearer is needed.
    pub needs_bearer: bool,
    /// Whether a header may name the device.
    pub device_header: bool,
    /// Query parameters: name, schema type, description.
    pub query: &'static [(&'static str, &'static str, &'static str)],
    /// Schema of the request body.
    pub request: Option<&'static str>,
    /// What success looks like.
    pub reply: Reply,
    /// Codes that the route answers beside those that every route may answer.
    pub errors: &'static [ErrorCode],
}

impl Operation {
    /// A route without credential, body and errors of its own; to be filled in.
    pub const PUBLIC: Self = Self {
        id: "",
        summary: "",
        needs_bearer: false,
        device_header: false,
        query: &[],
        request: None,
        reply: Reply::Empty,
        errors: &[],
    };
    /// The same for a route that needs a bearer.
    pub const AUTHENTICATED: Self = Self {
        needs_bearer: true,
        ..Self::PUBLIC
    };
}

/// What success looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// 200 with a JSON body of this schema.
    Json(&'static str),
    /// 200 or 201 with a JSON body of this schema.
    JsonOrCreated(&'static str),
    /// 202 with a JSON body of this schema.
    Accepted(&'static str),
    /// 200 with a JSON body of the first schema, or 202 with one of the second and a Location.
    JsonOrAccepted(&'static str, &'static str),
    /// 204.
    Empty,
    /// 200 or 503 with the health schema.
    Health,
    /// 200 with a file of one of these content types.
    Files(&'static [&'static str]),
    /// 200 with an OpenAPI document.
    Document,
    /// 101: a WebSocket on which the server sends text messages of this schema.
    Socket(&'static str),
}

/// Codes that any route may answer.
const COMMON: &[ErrorCode] = &[ErrorCode::Unavailable, ErrorCode::Internal];

/// Returns the document as indented JSON with a newline at its end.
#[must_use]
pub fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| format!("{:#}\n", document()))
}

/// Returns the document.
#[must_use]
pub fn document() -> Value {
    let mut paths = Map::new();
    for endpoint in router::endpoints() {
        let item = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        item[endpoint.method.to_lowercase()] = operation(&endpoint);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "CODITECT",
            "version": API_VERSION,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "Every path is served with and without a slash at its end. Bodies \
                may be packed with zstd or gzip. Errors are problem documents (RFC 9457).",
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
            },
        },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let operation = endpoint.operation;
    let mut responses = Map::new();
    let (status, success) = success(operation.reply);
    responses.insert(status.to_owned(), success);
    if operation.reply == Reply::Health {
        responses.insert("503".to_owned(), json_response("Unhealthy", "Health"));
    }
    if let Reply::JsonOrCreated(schema) = operation.reply {
        responses.insert("201".to_owned(), json_response("Created", schema));
    }
    if let Reply::JsonOrAccepted(_, schema) = operation.reply {
        let mut accepted = json_response("Accepted", schema);
        accepted["headers"] = json!({ "Location": { "schema": { "type": "string" },
            "description": "Where to look how it goes on" } });
        responses.insert("202".to_owned(), accepted);
    }
    for (status, codes) in refusals(operation) {
        responses
            .entry(status)
            .or_insert_with(|| problem_response(&codes));
    }
    let mut out = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "security": if operation.needs_bearer { json!([{ "bearer": [] }]) } else { json!([]) },
        "responses": responses,
    });
    let parameters = parameters(endpoint);
    if !parameters.is_empty() {
        out["parameters"] = parameters.into();
    }
    if let Some(schema) = operation.request {
        out["requestBody"] = json!({ "required": true, "content": content(schema) });
    }
    out
}

/// Returns the parameters in the path, all of them ids, and those of the query.
fn parameters(endpoint: &Endpoint) -> Vec<Value> {
    let names = endpoint.path.split('/').filter_map(|part| {
        let name = part.strip_prefix('{')?;
        name.strip_suffix('}')
    });
    let in_path = names.map(|name| {
        json!({ "name": name, "in": "path", "required": true,
            "schema": { "type": "string", "format": "uuid" } })
    });
    let in_query = endpoint.operation.query.iter();
    let in_query = in_query.map(|(name, kind, description)| {
        json!({ "name": name, "in": "query", "required": false, "description": description,
            "schema": query_schema(name, kind) })
    });
    let in_header = endpoint.operation.device_header.then(|| {
        json!({ "name": "X-Device-ID", "in": "header", "required": false,
            "description": "Device that the request counts for; the caller's web device when \
                left out",
            "schema": { "type": "string", "format": "uuid" } })
    });
    let has_time = endpoint.operation.request == Some("PushRequest");
    let device_time = has_time.then(|| {
        json!({ "name": DEVICE_TIME_HEADER, "in": "header", "required": false,
            "description": "The device's clock when the request left it, in milliseconds since \
                1970; goes before the time in the body, which is that of the batch",
            "schema": { "type": "integer", "format": "int64" } })
    });
    let may_wait = matches!(endpoint.operation.reply, Reply::JsonOrAccepted(..));
    let prefer = may_wait.then(|| {
        json!({ "name": "Prefer", "in": "header", "required": false,
            "description": "RFC 7240: respond-async not to wait for the work, wait=N to wait N \
                seconds at most",
            "schema": { "type": "string" } })
    });
    let in_header = in_header.into_iter().chain(device_time).chain(prefer);
    in_path.chain(in_query).chain(in_header).collect()
}

/// Returns the schema of a query parameter; some names mean the same everywhere.
fn query_schema(name: &str, kind: &str) -> Value {
    match (name, kind) {
        ("epoch", "string") => reference("Epoch"),
        ("scope", "string") => reference("Scope"),
        ("limit", "integer") => json!({ "type": kind, "minimum": 0, "maximum": u32::MAX }),
        ("cursor", "integer") => json!({ "type": kind, "minimum": 0, "maximum": i64::MAX }),
        _ => json!({ "type": kind }),
    }
}

fn success(reply: Reply) -> (&'static str, Value) {
    match reply {
        Reply::Json(schema) | Reply::JsonOrCreated(schema) | Reply::JsonOrAccepted(schema, _) => {
            ("200", json_response("Success", schema))
        }
        Reply::Accepted(schema) => ("202", json_response("Accepted", schema)),
        Reply::Empty => ("204", json!({ "description": "Success" })),
        Reply::Health => ("200", json_response("Healthy", "Health")),
        Reply::Socket(schema) => {
            let description = "WebSocket: the server sends text messages of the schema named \
                by x-message, the client none";
            (
                "101",
                json!({ "description": description, "x-message": reference(schema) }),
            )
        }
        Reply::Files(types) => {
            let types = types.iter().map(|name| {
                (
                    (*name).to_owned(),
                    json!({ "schema": { "type": "string" } }),
                )
            });
            let content: Map<String, Value> = types.collect();
            (
                "200",
                json!({ "description": "The file", "content": content }),
            )
        }
        Reply::Document => {
            let content = json!({ "application/json": { "schema": { "type": "object" } } });
            (
                "200",
                json!({ "description": "OpenAPI document", "content": content }),
            )
        }
    }
}

/// Returns the route's codes by status.
fn refusals(operation: &Operation) -> Vec<(String, Vec<ErrorCode>)> {
    let bearer: &[ErrorCode] = if operation.needs_bearer {
        &[
            ErrorCode::Unauthenticated,
            ErrorCode::DeviceUnknown,
            ErrorCode::RateLimited,
        ]
    } else {
        &[]
    };
    let mut found: Vec<(String, Vec<ErrorCode>)> = Vec::new();
    for code in operation.errors.iter().chain(bearer).chain(COMMON) {
        let status = code.status().to_string();
        match found.iter_mut().find(|(known, _)| *known == status) {
            Some((_, codes)) if codes.contains(code) => {}
            Some((_, codes)) => codes.push(*code),
            None => found.push((status, vec![*code])),
        }
    }
    found
}

fn problem_response(codes: &[ErrorCode]) -> Value {
    let names: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
    json!({
        "description": names.join(", "),
        "content": { "application/problem+json": { "schema": reference("Problem") } },
    })
}

fn json_response(description: &str, schema: &str) -> Value {
    json!({ "description": description, "content": content(schema) })
}

fn content(schema: &str) -> Value {
    json!({ "application/json": { "schema": reference(schema) } })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn schemas() -> Value {
    let mut schemas = Map::new();
    add::<auth::LicenseLogin>(&mut schemas);
    add::<auth::PasswordLogin>(&mut schemas);
    add::<auth::Refresh>(&mut schemas);
    add::<auth::LoginReply>(&mut schemas);
    add::<auth::DeviceInfo>(&mut schemas);
    schemas.insert("JsonWebKeySet".to_owned(), json_web_key_set());
    add::<audit::AuditEntry>(&mut schemas);
    add::<audit::AuditPage>(&mut schemas);
    add::<devices::Device>(&mut schemas);
    add::<devices::DeviceList>(&mut schemas);
    add_context(&mut schemas);
    add_membership(&mut schemas);
    add_backups(&mut schemas);
    add::<bodies::BodiesRequest>(&mut schemas);
    add::<bodies::BodiesReply>(&mut schemas);
    add::<bodies::BodiesKnown>(&mut schemas);
    add::<bodies::Body>(&mut schemas);
    add::<bodies::BodyValue>(&mut schemas);
    add::<bodies::NumberedBody>(&mut schemas);
    add::<bodies::Numbering>(&mut schemas);
    add::<bodies::Mark>(&mut schemas);
    add::<push::PushRequest>(&mut schemas);
    add::<push::PushReply>(&mut schemas);
    add::<push::Change>(&mut schemas);
    add::<push::CounterPart>(&mut schemas);
    add::<push::Outcome>(&mut schemas);
    add::<push::Status>(&mut schemas);
    add::<push::Loser>(&mut schemas);
    add::<moves::MoveRequest>(&mut schemas);
    add::<moves::MoveReply>(&mut schemas);
    add::<moves::Move>(&mut schemas);
    add::<moves::Moved>(&mut schemas);
    add::<hints::HintMessage>(&mut schemas);
    add::<hints::Hint>(&mut schemas);
    add::<pull::PullRequest>(&mut schemas);
    add::<pull::PullReply>(&mut schemas);
    add::<pull::Position>(&mut schemas);
    add::<pull::Page>(&mut schemas);
    add::<pull::TableDigest>(&mut schemas);
    add::<descent::Descent>(&mut schemas);
    add::<descent::Range>(&mut schemas);
    add::<descent::NamedRows>(&mut schemas);
    add::<descent::Descended>(&mut schemas);
    add::<descent::OwnPart>(&mut schemas);
    add::<descent::Divided>(&mut schemas);
    add::<Stored>(&mut schemas);
    add::<Op>(&mut schemas);
    add::<catalogue::File>(&mut schemas);
    add::<Scope>(&mut schemas);
    add::<Version>(&mut schemas);
    add::<Epoch>(&mut schemas);
    add::<Cursor>(&mut schemas);
    add::<UserId>(&mut schemas);
    add::<DeviceId>(&mut schemas);
    add::<RowId>(&mut schemas);
    add::<BatchId>(&mut schemas);
    add::<OrganizationId>(&mut schemas);
    add::<ErrorCode>(&mut schemas);
    add::<Problem>(&mut schemas);
    add::<Timestamp>(&mut schemas);
    add::<ContentHash>(&mut schemas);
    schemas.insert("Health".to_owned(), health());
    schemas.insert("ConflictList".to_owned(), conflict_list());
    schemas.insert("Conflict".to_owned(), conflict());
    records::add(&mut schemas);
    rows::add(&mut schemas);
    Value::Object(schemas)
}

fn add_context(schemas: &mut Map<String, Value>) {
    add::<context::ContextPush>(schemas);
    add::<context::NewMessage>(schemas);
    add::<context::ContextPushReply>(schemas);
    add::<context::PushedMessages>(schemas);
    add::<context::RejectedMessage>(schemas);
    add::<context::PushedMessage>(schemas);
    add::<context::ViewStatus>(schemas);
    add::<context::MessagePage>(schemas);
    add::<context::MessageView>(schemas);
    add::<context::ContextStatus>(schemas);
    add::<context::DeviceStatus>(schemas);
    add::<context::TaskEvent>(schemas);
    add::<context::TaskReply>(schemas);
    add::<context::TaskPage>(schemas);
    add::<context::TaskView>(schemas);
    add::<context::DecisionPage>(schemas);
    add::<context::DecisionView>(schemas);
    add::<context::LearningPage>(schemas);
    add::<context::LearningView>(schemas);
    add::<context::RecordWritten>(schemas);
}

fn add_backups(schemas: &mut Map<String, Value>) {
    add::<history::RecordVersion>(schemas);
    add::<history::RecordHistory>(schemas);
    add::<history::RestoreVersion>(schemas);
    add::<history::Take>(schemas);
    add::<history::ResolveConflict>(schemas);
    add::<history::RecordReply>(schemas);
    add::<backups::BackupType>(schemas);
    add::<backups::BackupStatus>(schemas);
    add::<backups::BackupRequest>(schemas);
    add::<backups::BackupMetadata>(schemas);
    add::<backups::BackupList>(schemas);
    add::<backups::RestoreMode>(schemas);
    add::<backups::RestoreRequest>(schemas);
    add::<backups::RestoreReply>(schemas);
    add::<backups::RestoredBackup>(schemas);
    add::<backups::RestoreStatus>(schemas);
    add::<backups::RestoreJob>(schemas);
    add::<backups::RestoreJobList>(schemas);
}

fn add_membership(schemas: &mut Map<String, Value>) {
    use coditect_protocol::permissions::{OrganizationRole, ScopeRole};
    use coditect_protocol::wire::membership;
    add::<OrganizationRole>(schemas);
    add::<ScopeRole>(schemas);
    add::<membership::NewTeam>(schemas);
    add::<membership::ScopeEdit>(schemas);
    add::<membership::Team>(schemas);
    add::<membership::TeamList>(schemas);
    add::<membership::Repository>(schemas);
    add::<membership::NewProject>(schemas);
    add::<membership::Project>(schemas);
    add::<membership::ProjectList>(schemas);
    add::<membership::ScopeMember>(schemas);
    add::<membership::TeamMember>(schemas);
    add::<membership::ScopeMemberList>(schemas);
    add::<membership::ScopeRoleEdit>(schemas);
    add::<membership::Organization>(schemas);
    add::<membership::OrganizationMember>(schemas);
    add::<membership::OrganizationMemberList>(schemas);
    add::<membership::OrganizationMemberEdit>(schemas);
    add::<coditect_protocol::wire::erasure::AccountErasure>(schemas);
    add::<coditect_protocol::wire::erasure::AccountErased>(schemas);
    add::<membership::NewInvitation>(schemas);
    add::<membership::Invitation>(schemas);
    add::<membership::InvitationList>(schemas);
    add::<membership::AcceptInvitation>(schemas);
    add::<membership::Accepted>(schemas);
}

fn add<T: ToSchema + PartialSchema>(schemas: &mut Map<String, Value>) {
    let schema = serde_json::to_value(T::schema()).unwrap_or(Value::Bool(true));
    schemas.insert(T::name().into_owned(), schema);
}

fn health() -> Value {
    json!({
        "type": "object",
        "required": ["status"],
        "properties": {
            "status": { "type": "string", "enum": ["healthy", "unhealthy"] },
            "error": { "type": "string" },
        },
    })
}

fn conflict_list() -> Value {
    json!({
        "type": "object",
        "required": ["conflicts"],
        "properties": { "conflicts": { "type": "array", "items": reference("Conflict") } },
    })
}

fn conflict() -> Value {
    json!({
        "type": "object",
        "description": "A version that lost, kept until a person settles it",
        "required": ["id", "table", "row_id", "reason", "winner_version", "winner_device",
            "loser_version", "loser_device", "loser_op", "detected_at"],
        "properties": {
            "id": { "type": "string", "format": "uuid" },
            "table": { "type": "string", "description": "Cloud name of the table" },
            "row_id": reference("RowId"),
            "reason": { "type": "string", "description": "conflict or edited_fact" },
            "winner_version": reference("Version"),
            "winner_device": reference("DeviceId"),
            "loser_version": reference("Version"),
            "loser_device": reference("DeviceId"),
            "loser_user": reference("UserId"),
            "loser_op": reference("Op"),
            "row": { "type": "object", "description": "Its columns; none for a delete" },
            "detected_at": { "type": "string", "format": "date-time" },
        },
    })
}

/// The schema of a set of Ed25519 keys (RFC 7517, RFC 8037).
fn json_web_key_set() -> Value {
    let text = || json!({ "type": "string" });
    json!({
        "type": "object",
        "required": ["keys"],
        "properties": { "keys": { "type": "array", "items": {
            "type": "object",
            "required": ["kty", "crv", "alg", "use", "kid", "x"],
            "properties": { "kty": text(), "crv": text(), "alg": text(), "use": text(),
                "kid": text(), "x": text() },
        } } },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    match value.as_str() {
                        Some(text) if key == "$ref" => found.push(text),
                        _ => references(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn operations_are_named_once_and_described() {
        let mut ids = Vec::new();
        for endpoint in router::endpoints() {
            assert!(!endpoint.operation.summary.is_empty(), "{}", endpoint.path);
            assert!(
                !ids.contains(&endpoint.operation.id),
                "{}",
                endpoint.operation.id
            );
            ids.push(endpoint.operation.id);
        }
    }

    /// The file at the top of the repository is what clients are generated from.
    #[test]
    fn file_in_the_repository_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi.json");
        let file = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            file == text(),
            "openapi.json is out of date: cargo run -p coditect-server -- openapi > openapi.json"
        );
    }
}
