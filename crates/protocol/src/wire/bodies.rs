//! Bodies: long values that the server keeps apart from their rows. A row names them by hash; the
//! bytes are fetched by hash, through a row that names them and that the caller may read.

use crate::{DeviceId, Scope};
use serde::{Deserialize, Serialize};

/// Key of a pushed row that holds the numbers taken off the lines of its values: an object, for
/// each such column a list of [`Numbering`]. The server puts them back before it looks at the row.
pub const LINE_NUMBERS: &str = "line_numbers";

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
    /// Whether the caller takes bodies without the numbers of their lines and puts them back; in
    /// a question for known bodies, whether it would send rows so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub numbers: bool,
}

/// What stands between a line's number and the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// A tab.
    Tab,
    /// An arrow, U+2192.
    Arrow,
}

/// Numbers that were taken off lines which follow each other: each is one more than the last, is
/// preceded by spaces up to a width, and followed by a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Numbering {
    /// Which text of the value, counted from 0: those within it, keys of objects in the order of
    /// their bytes; 0 for a value that is a text.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub text: u32,
    /// First of the lines, counted from 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub line: u32,
    /// How many lines.
    pub lines: u32,
    /// Number of the first one.
    pub first: u32,
    /// Characters of a number with the spaces before it, at least.
    pub width: u8,
    /// What follows the number.
    pub mark: Mark,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
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
    pub value: serde_json::Value,
}

/// A body without the numbers of its lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NumberedBody {
    /// SHA-256 of the text with its numbers, 64 lowercase hexadecimal digits.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::openapi::ContentHash))]
    pub hash: String,
    /// The text, or the value that a body is which is JSON.
    pub value: serde_json::Value,
    /// The numbers.
    pub numbers: Vec<Numbering>,
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
    /// Those with numbered lines, if the request says that it puts the numbers back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub numbered: Vec<NumberedBody>,
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
    /// Whether a pushed row may come without the numbers of its lines; they are then in its key
    /// `line_numbers`. Said to those only who ask.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub numbers: bool,
}
