//! Positions in the write-ahead log, and the names of its files.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Bytes of a segment of the WAL, as `initdb` makes them unless it is told otherwise.
pub const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
const SEGMENTS_PER_LOG: u64 = 0x1_0000_0000 / SEGMENT_BYTES;

/// A position in the WAL, written as PostgreSQL does: `0/16B3748`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Lsn(pub u64);

/// A text that is no position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no position in the write-ahead log")]
pub struct NotAnLsn(pub String);

impl Lsn {
    /// Returns the number of the segment that the position lies in.
    #[must_use]
    pub const fn segment(self) -> u64 {
        self.0 / SEGMENT_BYTES
    }

    /// Returns the number of the segment with the last byte before the position.
    #[must_use]
    pub const fn segment_before(self) -> u64 {
        self.0.saturating_sub(1) / SEGMENT_BYTES
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = NotAnLsn;

    fn from_str(text: &str) -> Result<Self, NotAnLsn> {
        let wrong = || NotAnLsn(text.chars().take(40).collect());
        let (high, low) = text.split_once('/').ok_or_else(wrong)?;
        let part = |part: &str| u32::from_str_radix(part, 16).map_err(|_| wrong());
        Ok(Self(u64::from(part(high)?) << 32 | u64::from(part(low)?)))
    }
}

impl TryFrom<String> for Lsn {
    type Error = NotAnLsn;

    fn try_from(text: String) -> Result<Self, NotAnLsn> {
        text.parse()
    }
}

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> Self {
        lsn.to_string()
    }
}

/// What a file of the WAL is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WalName {
    /// A whole segment.
    Segment {
        /// The timeline.
        timeline: u32,
        /// Its number, which goes on across timelines.
        number: u64,
    },
    /// Where a timeline branched off.
    History {
        /// The timeline.
        timeline: u32,
    },
    /// Where a base backup began and ended; for people.
    Label {
        /// Number of the segment in which it began.
        number: u64,
    },
    /// The part of a segment that a timeline had when another branched off; no recovery reads it.
    Partial {
        /// Number of the segment.
        number: u64,
    },
}

impl WalName {
    /// Reads a name; none for one that PostgreSQL does not give.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let hex = |text: &str, digits: usize| {
            let all = text
                .bytes()
                .all(|it| it.is_ascii_digit() || (b'A'..=b'F').contains(&it));
            (text.len() == digits && all).then(|| u64::from_str_radix(text, 16).ok())?
        };
        if let Some(timeline) = name.strip_suffix(".history") {
            let timeline = u32::try_from(hex(timeline, 8)?).ok()?;
            return Some(Self::History { timeline });
        }
        let (segment, ending) = match name.split_once('.') {
            Some((segment, ending)) => (segment, Some(ending)),
            None => (name, None),
        };
        let timeline = u32::try_from(hex(segment.get(..8)?, 8)?).ok()?;
        let log = hex(segment.get(8..16)?, 8)?;
        let part = hex(segment.get(16..)?, 8)?;
        if part >= SEGMENTS_PER_LOG || timeline == 0 {
            return None;
        }
        let number = log * SEGMENTS_PER_LOG + part;
        match ending {
            None => Some(Self::Segment { timeline, number }),
            Some("partial") => Some(Self::Partial { number }),
            Some(label) => {
                hex(label.strip_suffix(".backup")?, 8)?;
                Some(Self::Label { number })
            }
        }
    }

    /// Returns the name of a segment.
    #[must_use]
    pub fn segment(timeline: u32, number: u64) -> String {
        let (log, part) = (number / SEGMENTS_PER_LOG, number % SEGMENTS_PER_LOG);
        format!("{timeline:08X}{log:08X}{part:08X}")
    }

    /// Returns the number of the segment that the file belongs to; none of a history.
    #[must_use]
    pub const fn number(self) -> Option<u64> {
        match self {
            Self::Segment { number, .. } | Self::Label { number } | Self::Partial { number } => {
                Some(number)
            }
            Self::History { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_read_as_they_are_written() {
        for text in ["0/0", "0/16B3748", "1/FFFFFFFF", "FFFFFFFF/1"] {
            let lsn: Lsn = text.parse().unwrap();
            assert_eq!(lsn.to_string(), text);
            assert_eq!(serde_json::to_string(&lsn).unwrap(), format!("\"{text}\""));
        }
        for text in ["", "0", "0/", "0/x", "0/100000000"] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
        assert_eq!("0/2000000".parse::<Lsn>().unwrap().segment(), 2);
        assert_eq!("0/2000000".parse::<Lsn>().unwrap().segment_before(), 1);
    }

    #[test]
    fn every_kind_of_file_is_known_by_its_name() {
        let segment = |timeline, number| Some(WalName::Segment { timeline, number });
        assert_eq!(WalName::parse("000000010000000000000001"), segment(1, 1));
        assert_eq!(WalName::parse("0000000A00000001000000FF"), segment(10, 511));
        assert_eq!(WalName::segment(10, 511), "0000000A00000001000000FF");
        let history = Some(WalName::History { timeline: 2 });
        assert_eq!(WalName::parse("00000002.history"), history);
        let label = Some(WalName::Label { number: 2 });
        let name = "000000010000000000000002.00000028.backup";
        assert_eq!(WalName::parse(name), label);
        let partial = Some(WalName::Partial { number: 3 });
        assert_eq!(WalName::parse("000000010000000000000003.partial"), partial);
        for odd in [
            "",
            ".000000010000000000000001",
            "00000001000000000000000g",
            "000000010000000000000100",
            "000000000000000000000001",
            "000000010000000000000001.tmp",
            "0000000100000000000000010",
            "+0000002.history",
            "ä00000010000000000000001",
        ] {
            assert_eq!(WalName::parse(odd), None, "{odd}");
        }
    }
}
