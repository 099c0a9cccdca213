//! Bodies: long values that the server keeps apart from their rows. A row names them by hash; the
//! bytes are fetched by hash, through a row that names them and that the caller may read.

use crate::{DeviceId, Scope};
use serde::{Deserialize, Serialize};

/// What a row says of a value that is not in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BodyName {
    /// SHA-256 of the value's text, 64 lowercase hexadecimal digits. The text of a JSON value is
    /// its RFC 8785 form.
    pub hash: String,
    /// Bytes of the text.
    pub bytes: u64,
    /// First 64 bits of SHA-256 of the beginning that stays in the row, 16 hexadecimal digits;
    /// none for JSON, of which nothing stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

/// Asks for bodies of one stream, or which of them the server has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BodiesRequest {
    /// API version of the client.
    pub api_version: String,
    /// The device that asks.
    pub device: DeviceId,
    /// The scope whose rows name the bodies.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub scope: Scope,
    /// Hashes, at most [`crate::limits::BODIES_NAMED_MAX`].
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<crate::openapi::ContentHash>))]
    pub hashes: Vec<String>,
    /// Whether the caller takes bodies that are JSON as values, which pack tighter beside texts
    /// with the same content.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub values: bool,
}

/// A body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Body {
    /// SHA-256 of the text, 64 lowercase hexadecimal digits.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::openapi::ContentHash))]
    pub hash: String,
    /// The text.
    pub text: String,
}

/// A body that is JSON, as the value that it is; its text is the RFC 8785 form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BodyValue {
    /// SHA-256 of the text, 64 lowercase hexadecimal digits.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::openapi::ContentHash))]
    pub hash: String,
    /// The value.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub value: serde_json::Value,
}

/// Bodies that were asked for: in the order of the request, as many as fit, one at least.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BodiesReply {
    /// The bodies.
    pub bodies: Vec<Body>,
    /// Those that are JSON, if the request says that it takes values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<BodyValue>,
    /// Hashes that no row which the caller may read names, as far as the request was looked at.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<crate::openapi::ContentHash>))]
    pub missing: Vec<String>,
}

/// Which bodies need not be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BodiesKnown {
    /// Those of the hashes that a row names which the caller may read.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<crate::openapi::ContentHash>))]
    pub known: Vec<String>,
}
