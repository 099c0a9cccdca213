//! Bodies of requests and replies.

pub mod audit;
pub mod auth;
pub mod backups;
pub mod bodies;
pub mod context;
pub mod descent;
pub mod devices;
pub mod erasure;
pub mod hints;
pub mod history;
pub mod membership;
pub mod moves;
pub mod pull;
pub mod push;

/// A row's own columns by name; NULL columns are left out. Values have the form that
/// [`crate::catalogue::ColumnType`] says.
pub type Row = serde_json::Map<String, serde_json::Value>;

/// Header of every request: the device's clock when it was sent, in milliseconds since 1970. A
/// batch is sent again byte for byte, so the time in its body may be old.
pub const DEVICE_TIME_HEADER: &str = "x-device-time";

use crate::{DeviceId, RowId, UserId, Version};
use serde::{Deserialize, Serialize};

/// What a change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// The row is as given.
    Upsert,
    /// The row is a tombstone.
    Delete,
}

/// A row as the server stores it, with its place in the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Stored {
    /// Cloud name of the table.
    pub table: String,
    /// Row id.
    pub id: RowId,
    /// Whether it is a tombstone.
    pub op: Op,
    /// Its version.
    pub version: Version,
    /// Device that wrote this version.
    pub device: DeviceId,
    /// Device of the first accepted push; never changes.
    pub origin: DeviceId,
    /// Author of the row; none for the platform catalogue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// Content hash, 64 hexadecimal digits.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::openapi::ContentHash))]
    pub hash: String,
    /// Position in the stream, decimal.
    #[serde(with = "decimal")]
    #[cfg_attr(feature = "openapi", schema(value_type = String, pattern = "^[0-9]{1,19}$"))]
    pub cursor: i64,
    /// When it was made, RFC 3339 UTC with microseconds.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::openapi::Timestamp))]
    pub created_at: String,
    /// When it was last changed, in the same form.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::openapi::Timestamp))]
    pub updated_at: String,
    /// Its columns; none for a tombstone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub row: Option<Row>,
}

/// 64-bit integers as decimal strings.
pub mod decimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    /// Writes the number as a string.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(value: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    /// Reads the number from a string.
    ///
    /// # Errors
    /// When the string is no number of 64 bits.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}
