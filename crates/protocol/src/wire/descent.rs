//! Descent: finding the rows in which two replicas differ by comparing ranges of ids, from coarse
//! to fine (DESIGN 4, "Reconciliation"). It travels inside a pull, so that both sides compare the
//! same moment: the page brings the device to the head at which the server took its sums.

use super::Stored;
use crate::version::InvalidPosition;
use crate::{RowId, Version};
use serde::{Deserialize, Serialize};

/// What a device asks about one stream and file, beside the changes behind its position. It is
/// answered by the page that reaches the head.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Descent {
    /// Ranges to compare; at most [`crate::limits::DESCENT_RANGES_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(max_items = 64))]
    pub ranges: Vec<Range>,
    /// Rows to read again; at most [`crate::limits::DESCENT_ROWS_MAX`] ids in all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(max_items = 64))]
    pub rows: Vec<NamedRows>,
}

impl Descent {
    /// Returns whether nothing is asked.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.rows.is_empty()
    }
}

/// A range of a table's ids, both ends included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Cloud name of the table.
    pub table: String,
    /// Lowest id.
    pub first: RowId,
    /// Highest id.
    pub last: RowId,
    /// How many rows and tombstones the server said are in it; decides how it is divided.
    pub count: i64,
}

impl Range {
    /// Returns the range of all ids of a table.
    #[must_use]
    pub fn whole(table: &str, count: i64) -> Self {
        Self {
            table: table.to_owned(),
            first: RowId::new(uuid::Uuid::nil()),
            last: RowId::new(uuid::Uuid::max()),
            count,
        }
    }
}

/// Rows of a table, by id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NamedRows {
    /// Cloud name of the table.
    pub table: String,
    /// Their ids.
    #[cfg_attr(feature = "openapi", schema(max_items = 500))]
    pub ids: Vec<RowId>,
}

/// The answer to a [`Descent`], of the same moment as the page's digests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Descended {
    /// One for each range asked, in that order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<Divided>,
    /// The rows that were asked for and are there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<Stored>,
    /// Rows asked for that are not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<NamedRows>,
    /// What the asking device has added to the counters of these rows, as far as it was
    /// acknowledged: a device that lost its notes goes on from there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<OwnPart>,
    /// Rows whose bytes the server found damaged. They come without being asked for: a device
    /// that holds the bytes which fit the hash sends them again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<NamedRows>,
}

/// A device's share of a counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OwnPart {
    /// Cloud name of the table.
    pub table: String,
    /// Row id.
    pub id: RowId,
    /// The counter.
    pub column: String,
    /// All that the device has added.
    pub total: i64,
}

/// A range divided by the server, or its rows when they are few.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Divided {
    /// Cloud name of the table.
    pub table: String,
    /// Lowest id of the range.
    pub first: RowId,
    /// Highest id of the range.
    pub last: RowId,
    /// Its parts in order, without gaps; none when the rows are listed. Each is a text of highest
    /// id, count and XOR of the terms, such as
    /// `01a31973-763f-732c-b351-4a39cfa4bd5f:977:00c0ffee00c0ffee`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub parts: Vec<Part>,
    /// Its rows in order; none when it was divided. Each is a text of id, version and term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<String>>))]
    pub listed: Option<Vec<Listed>>,
}

/// A part of a range: from behind the part before it up to `last`. A text on the wire, because
/// there are many of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Part {
    /// Highest id of the part.
    pub last: RowId,
    /// Rows and tombstones.
    pub count: i64,
    /// XOR of their terms.
    pub xor: u64,
}

/// A row in a list: enough to tell whether, and which way, it differs. A text on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Listed {
    /// Its id.
    pub id: RowId,
    /// Its version.
    pub version: Version,
    /// Its term in the digest.
    pub term: u64,
}

impl From<Part> for String {
    fn from(part: Part) -> Self {
        format!("{}:{}:{:016x}", part.last, part.count, part.xor)
    }
}

impl From<Listed> for String {
    fn from(listed: Listed) -> Self {
        format!("{}:{}:{:016x}", listed.id, listed.version, listed.term)
    }
}

/// Reads the three fields of a part or a listed row.
fn fields(text: &str) -> Option<(RowId, &str, u64)> {
    let mut fields = text.split(':');
    let id = fields.next()?.parse().ok()?;
    let number = fields.next()?;
    let sum = fields.next().filter(|sum| sum.len() == 16)?;
    let sum = u64::from_str_radix(sum, 16).ok()?;
    fields.next().is_none().then_some((id, number, sum))
}

impl TryFrom<String> for Part {
    type Error = InvalidPosition;

    fn try_from(text: String) -> Result<Self, InvalidPosition> {
        let (last, count, xor) = fields(&text).ok_or(InvalidPosition)?;
        let count = count.parse().map_err(|_| InvalidPosition)?;
        Ok(Self { last, count, xor })
    }
}

impl TryFrom<String> for Listed {
    type Error = InvalidPosition;

    fn try_from(text: String) -> Result<Self, InvalidPosition> {
        let (id, version, term) = fields(&text).ok_or(InvalidPosition)?;
        let version = version.parse().map_err(|_| InvalidPosition)?;
        Ok(Self { id, version, term })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_rows_are_short_texts_that_read_back() {
        let part = Part {
            last: RowId::new(uuid::Uuid::max()),
            count: 977,
            xor: 0xc0ff_ee00,
        };
        let text = serde_json::to_string(&part).unwrap();
        assert_eq!(
            text,
            "\"ffffffff-ffff-ffff-ffff-ffffffffffff:977:00000000c0ffee00\""
        );
        assert_eq!(serde_json::from_str::<Part>(&text).unwrap(), part);
        let listed = Listed {
            id: part.last,
            version: Version::from_parts(5, 1),
            term: 7,
        };
        let text = serde_json::to_string(&listed).unwrap();
        assert_eq!(serde_json::from_str::<Listed>(&text).unwrap(), listed);
        for odd in [
            "",
            "x",
            "1:2:3",
            "ffffffff-ffff-ffff-ffff-ffffffffffff:1:0:0",
        ] {
            assert!(Part::try_from(odd.to_owned()).is_err(), "{odd}");
            assert!(Listed::try_from(odd.to_owned()).is_err(), "{odd}");
        }
    }
}
