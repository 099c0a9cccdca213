//! Versions, epochs and cursors. All three are strings on the wire, because a browser rounds
//! 64-bit numbers (DESIGN 4).

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use std::str::FromStr;

macro_rules! string_on_the_wire {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(D::Error::custom)
            }
        }
    };
}

/// A string that is no version, epoch or cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidPosition;

impl fmt::Display for InvalidPosition {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("not a version, epoch or cursor of this API")
    }
}

impl std::error::Error for InvalidPosition {}

/// Hybrid clock value: 48-bit milliseconds since 1970, then a 16-bit counter. Only the server
/// decides a row's version; a device proposes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// The highest value; fits a signed 64-bit column.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// Makes a version from milliseconds and a counter. Milliseconds beyond 47 bits are cut to
    /// the highest that fits.
    #[must_use]
    pub const fn from_parts(unix_ms: u64, counter: u16) -> Self {
        const MS_MAX: u64 = (1 << 47) - 1;
        let unix_ms = if unix_ms > MS_MAX { MS_MAX } else { unix_ms };
        Self((unix_ms << 16) | counter as u64)
    }

    /// Returns the version stored in a signed column; negative values become 0.
    #[must_use]
    pub const fn from_i64(value: i64) -> Self {
        Self(if value < 0 { 0 } else { value as u64 })
    }

    /// Returns the value for a signed 64-bit column.
    #[must_use]
    pub const fn to_i64(self) -> i64 {
        self.0 as i64
    }

    /// Returns the milliseconds part.
    #[must_use]
    pub const fn unix_ms(self) -> u64 {
        self.0 >> 16
    }

    /// Returns the counter part.
    #[must_use]
    pub const fn counter(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    /// Returns the next version: one counter step, carried into the milliseconds when full.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(if self.0 >= Self::MAX.0 {
            Self::MAX.0
        } else {
            self.0 + 1
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl FromStr for Version {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let value: u64 = text.parse().map_err(|_| InvalidPosition)?;
        if value > Self::MAX.0 {
            Err(InvalidPosition)
        } else {
            Ok(Self(value))
        }
    }
}

string_on_the_wire!(Version);

/// One life of the server's database; random, so that two lives never share one. A restore or
/// promotion changes it. 16 lowercase hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:016x}", self.0)
    }
}

impl FromStr for Epoch {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits =
            text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !digits {
            return Err(InvalidPosition);
        }
        u64::from_str_radix(text, 16)
            .map(Self)
            .map_err(|_| InvalidPosition)
    }
}

string_on_the_wire!(Epoch);

/// A position in a stream: `EPOCH:N`. Everything up to and including `n` has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The database's life in which the position was given.
    pub epoch: Epoch,
    /// Position in the stream; the first change has 1.
    pub n: i64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.epoch, self.n)
    }
}

impl FromStr for Cursor {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, n) = text.split_once(':').ok_or(InvalidPosition)?;
        let n: i64 = n.parse().map_err(|_| InvalidPosition)?;
        if n < 0 {
            return Err(InvalidPosition);
        }
        Ok(Self {
            epoch: epoch.parse()?,
            n,
        })
    }
}

string_on_the_wire!(Cursor);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_orders_by_time_then_counter() {
        let a = Version::from_parts(1_700_000_000_000, 5);
        assert!(a < Version::from_parts(1_700_000_000_000, 6));
        assert!(a < Version::from_parts(1_700_000_000_001, 0));
        assert_eq!(a.unix_ms(), 1_700_000_000_000);
        assert_eq!(
            Version::from_parts(5, u16::MAX).next(),
            Version::from_parts(6, 0)
        );
        assert!(Version::from_parts(u64::MAX, u16::MAX).to_i64() > 0);
    }

    #[test]
    fn cursor_reads_back_and_refuses_nonsense() {
        let cursor = Cursor {
            epoch: Epoch(0xab),
            n: 12,
        };
        assert_eq!(cursor.to_string(), "00000000000000ab:12");
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in [
            "",
            "12",
            "ab:12",
            "00000000000000ab:-1",
            "00000000000000AB:1",
        ] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }
}
