//! Schemas of the types whose form on the wire is not that of their fields.

use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{KnownFormat, RefOr, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

use crate::{
    BatchId, Cursor, DeviceId, Epoch, ErrorCode, OrganizationId, Problem, RowId, Scope, UserId,
    Version,
};

/// Schema of a time in canonical form.
#[derive(Debug)]
pub struct Timestamp;

/// Schema of the hash of a row's register.
#[derive(Debug)]
pub struct ContentHash;

macro_rules! texts {
    ($($name:ident, $pattern:expr, $description:literal;)+) => {
        $(
            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    let schema = text().pattern(Some($pattern)).description(Some($description));
                    schema.into()
                }
            }
            impl ToSchema for $name {}
        )+
    };
}

macro_rules! ids {
    ($($name:ident, $description:literal;)+) => {
        $(
            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    let format = SchemaFormat::KnownFormat(KnownFormat::Uuid);
                    text().format(Some(format)).description(Some($description)).into()
                }
            }
            impl ToSchema for $name {}
        )+
    };
}

/// A decimal number of 64 bits that a version or position may have.
macro_rules! number {
    () => {
        "([0-9]{1,18}|[1-8][0-9]{18}|9[01][0-9]{17})"
    };
}

texts! {
    Version, concat!("^", number!(), "$"), "Version of a row: hybrid clock as a decimal string";
    Epoch, "^[0-9a-f]{16}$", "Life of the server's database";
    Cursor, concat!("^[0-9a-f]{16}:", number!(), "$"), "Position in a stream, EPOCH:N";
    Scope, "^(platform|(user|team|project|org):\
        [0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$", "Who a row belongs to";
    Timestamp, "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:\
        [0-5][0-9]\\.[0-9]{6}Z$", "RFC 3339 UTC with microseconds";
    ContentHash, "^[0-9a-f]{64}$", "SHA-256 of a row's register";
}

ids! {
    UserId, "A person within one organisation";
    DeviceId, "One installation on one machine";
    RowId, "A row, unique within organisation and scope";
    BatchId, "One push; sending it again changes nothing";
    OrganizationId, "An organisation";
}

impl PartialSchema for ErrorCode {
    fn schema() -> RefOr<Schema> {
        let codes = Self::ALL.iter().map(|code| code.as_str());
        text()
            .enum_values(Some(codes))
            .description(Some("Stable code of a refusal"))
            .into()
    }
}
impl ToSchema for ErrorCode {}

impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        let integer = || ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer));
        let tenants = ArrayBuilder::new().items(ObjectBuilder::new());
        ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::Object))
            .description(Some(
                "Problem document (RFC 9457); further fields depend on the code",
            ))
            .property("type", text())
            .property("title", text())
            .property("status", integer())
            .property("code", ErrorCode::schema())
            .property("detail", text())
            .property("request_id", text())
            .property("retry_after", integer().description(Some("Seconds")))
            .property("device_id", DeviceId::schema())
            .property("epoch", Epoch::schema())
            .property("tenants", tenants)
            .required("type")
            .required("title")
            .required("status")
            .required("code")
            .into()
    }
}
impl ToSchema for Problem {}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String))
}
