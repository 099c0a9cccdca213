//! What of an archive has had its time.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Base, WalName};

/// Days back to which a database can be recovered.
pub const KEPT_DAYS: i64 = 7;

/// What can go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Base backups, by their ids.
    pub bases: Vec<String>,
    /// Files of the WAL, by their names.
    pub wal: Vec<String>,
}

/// Returns what is not needed to recover any moment of the last [`KEPT_DAYS`]: base backups older
/// than the newest one of before, and the WAL before the oldest that stays. The last base backup
/// stays for ever, and without one everything does.
#[must_use]
pub fn expired(bases: &[Base], wal: &[String], now: DateTime<Utc>) -> Expired {
    let since = now - TimeDelta::days(KEPT_DAYS);
    let before = bases.iter().filter(|base| base.finished_at <= since);
    let Some(anchor) = before.max_by_key(|base| base.finished_at) else {
        return Expired::default();
    };
    let goes = |base: &&Base| base.finished_at < anchor.finished_at;
    let stay = bases.iter().filter(|base| !goes(base));
    let floor = stay.map(|base| base.start_lsn.segment()).min().unwrap_or(0);
    let number = |name: &str| WalName::parse(name)?.number();
    let wal = wal
        .iter()
        .filter(|name| number(name).is_some_and(|it| it < floor));
    Expired {
        bases: bases
            .iter()
            .filter(goes)
            .map(|base| base.id.clone())
            .collect(),
        wal: wal.cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::manifest::{FORMAT, FORMAT_VERSION};
    use super::super::{Lsn, SEGMENT_BYTES, Until, plan};
    use super::*;
    use uuid::Uuid;

    /// Segments that are written in an hour.
    const PER_HOUR: u64 = 2;

    fn at(hours: i64) -> DateTime<Utc> {
        DateTime::<Utc>::UNIX_EPOCH + TimeDelta::hours(hours)
    }

    fn base(hours: i64) -> Base {
        let segment = hours as u64 * PER_HOUR + 1;
        Base {
            format: FORMAT.to_owned(),
            format_version: FORMAT_VERSION,
            id: format!("b{hours}"),
            archive_id: Uuid::from_u128(1),
            system_identifier: 1,
            postgres_major: 18,
            timeline: 1,
            start_lsn: Lsn(segment * SEGMENT_BYTES + 40),
            end_lsn: Lsn(segment * SEGMENT_BYTES + 400),
            started_at: at(hours),
            finished_at: at(hours),
            size_bytes: 1,
            checksum: String::new(),
        }
    }

    #[test]
    fn a_month_of_days_leaves_what_every_moment_of_the_last_week_needs() {
        let (mut bases, mut wal) = (Vec::new(), Vec::<String>::new());
        for hours in 0..24 * 30 {
            if hours % 24 == 0 {
                bases.push(base(hours));
            }
            let segments = (hours as u64 * PER_HOUR)..((hours as u64 + 1) * PER_HOUR);
            wal.extend(segments.map(|it| WalName::segment(1, it)));
            let gone = expired(&bases, &wal, at(hours));
            bases.retain(|base| !gone.bases.contains(&base.id));
            wal.retain(|name| !gone.wal.contains(name));
            let days =
                (hours / 24 + 1).min(8 + i64::from(hours % 24 > 0 || hours < 24 * 8)) as usize;
            assert!(
                bases.len() <= days.min(9) && bases.len() >= days.min(8),
                "{hours} {}",
                bases.len()
            );
            let names: BTreeSet<String> = wal.iter().cloned().collect();
            let back = at((hours - 24 * KEPT_DAYS).max(0));
            for until in [Until::Time(back), Until::Latest] {
                let planned = plan(&bases, &names, &BTreeMap::new(), until);
                assert!(planned.is_ok(), "{hours} {until:?} {planned:?}");
            }
        }
        assert!(wal.len() as u64 <= 9 * 24 * PER_HOUR, "{}", wal.len());
    }

    #[test]
    fn the_last_base_stays_and_without_one_everything_does() {
        let wal = vec![WalName::segment(1, 1), "00000002.history".to_owned()];
        assert_eq!(expired(&[], &wal, at(10_000)), Expired::default());
        let gone = expired(&[base(0), base(24)], &wal, at(10_000));
        assert_eq!(gone.bases, ["b0"]);
        assert_eq!(gone.wal, [WalName::segment(1, 1)]);
        assert_eq!(expired(&[base(24)], &[], at(10_000)), Expired::default());
    }
}
