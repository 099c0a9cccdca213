//! What a recovery needs: a base backup and the WAL behind it, on one line of timelines.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::{Base, Lsn, WalName};

/// How far a recovery goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// As far as there is WAL.
    Latest,
    /// What was committed by then.
    Time(DateTime<Utc>),
}

/// Where a timeline branched off, and its ancestors before it, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History(Vec<(u32, Lsn)>);

impl History {
    /// Reads a history file; lines that say nothing are passed over, as PostgreSQL does.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let mut words = line.split_whitespace();
            let timeline = words.next()?.parse().ok()?;
            Some((timeline, words.next()?.parse().ok()?))
        };
        Self(text.lines().filter_map(line).collect())
    }
}

/// What to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The base backup.
    pub base: Base,
    /// The timeline that is followed.
    pub timeline: u32,
    /// Names of the segments, in order.
    pub segments: Vec<String>,
    /// Timelines whose histories are needed.
    pub histories: Vec<u32>,
    /// A segment that is not there, and behind which the moment may lie.
    pub missing: Option<String>,
}

/// Why there is nothing to recover.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No base backup was finished.
    #[error(
        "the archive has no base backup\n\
         hint: one is made two minutes after a server's first start, or by coditect-server admin \
         database base"
    )]
    NoBase,
    /// The moment lies before the first base backup.
    #[error("the archive goes back to {earliest} only")]
    TooEarly {
        /// When the first base backup was finished.
        earliest: DateTime<Utc>,
    },
    /// A segment is not there.
    #[error(
        "{missing} is not in the archive, {after} segments behind it are\n\
         hint: --to a moment before it recovers what was written until then"
    )]
    Gap {
        /// The first one that is missing.
        missing: String,
        /// How many there are behind it.
        after: usize,
    },
}

/// Decides what a recovery needs. `wal` are all names in the archive and in those that it goes on
/// from, `histories` the histories among them.
///
/// # Errors
/// [`PlanError`].
pub fn plan(
    bases: &[Base],
    wal: &BTreeSet<String>,
    histories: &BTreeMap<u32, History>,
    until: Until,
) -> Result<Plan, PlanError> {
    let newest = bases.iter().map(|base| base.timeline);
    let newest = newest.chain(histories.keys().copied()).max();
    let timeline = newest.ok_or(PlanError::NoBase)?;
    let nothing = History::default();
    let ancestors = &histories.get(&timeline).unwrap_or(&nothing).0;
    let timeline_at = |number: u64| {
        let before = ancestors.iter().find(|(_, end)| number < end.segment());
        before.map_or(timeline, |(ancestor, _)| *ancestor)
    };
    // A base backup behind the branch belongs to a branch that is not followed.
    let followed = |base: &&Base| {
        let branch = ancestors.iter().find(|(it, _)| *it == base.timeline);
        base.timeline == timeline || branch.is_some_and(|(_, end)| base.end_lsn <= *end)
    };
    let bases: Vec<&Base> = bases.iter().filter(followed).collect();
    let fits = |base: &&&Base| match until {
        Until::Latest => true,
        Until::Time(time) => base.finished_at <= time,
    };
    let base = bases.iter().filter(fits).max_by_key(|it| it.finished_at);
    let earliest = bases.iter().map(|it| it.finished_at).min();
    let earliest = earliest.ok_or(PlanError::NoBase)?;
    let base = base.ok_or(PlanError::TooEarly { earliest })?;

    let there = |number: &u64| wal.contains(&WalName::segment(timeline_at(*number), *number));
    let numbers: BTreeSet<u64> = wal
        .iter()
        .filter_map(|name| WalName::parse(name)?.number())
        .filter(there)
        .collect();
    let needed = base.end_lsn.segment_before();
    let last = numbers.last().copied().unwrap_or(0).max(needed);
    // What was written by then lies before the end of a base backup that was begun later.
    let later = bases.iter().filter(|it| match until {
        Until::Latest => false,
        Until::Time(time) => it.started_at > time,
    });
    let last = later
        .map(|it| it.end_lsn.segment())
        .min()
        .map_or(last, |it| it.min(last));
    let first = base.start_lsn.segment();
    let missing = (first..=last).find(|number| !numbers.contains(number));
    let name = |number: u64| WalName::segment(timeline_at(number), number);
    if let Some(gap) = missing
        && (until == Until::Latest || gap <= needed)
    {
        return Err(PlanError::Gap {
            missing: name(gap),
            after: numbers.range(gap..).count(),
        });
    }
    let end = missing.unwrap_or(last + 1);
    Ok(Plan {
        base: (*base).clone(),
        timeline,
        segments: (first..end).map(name).collect(),
        histories: histories.keys().copied().collect(),
        missing: missing.map(name),
    })
}

#[cfg(test)]
mod tests {
    use super::super::SEGMENT_BYTES;
    use super::super::manifest::{FORMAT, FORMAT_VERSION};
    use super::*;
    use uuid::Uuid;

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::<Utc>::UNIX_EPOCH + chrono::Duration::minutes(minute)
    }

    fn base(timeline: u32, segment: u64, minute: i64) -> Base {
        Base {
            format: FORMAT.to_owned(),
            format_version: FORMAT_VERSION,
            id: format!("b{minute}"),
            archive_id: Uuid::from_u128(1),
            system_identifier: 1,
            postgres_major: 18,
            timeline,
            start_lsn: Lsn(segment * SEGMENT_BYTES + 40),
            end_lsn: Lsn(segment * SEGMENT_BYTES + 400),
            started_at: at(minute) - chrono::Duration::seconds(5),
            finished_at: at(minute),
            size_bytes: 1,
            checksum: String::new(),
        }
    }

    fn wal(timeline: u32, numbers: std::ops::RangeInclusive<u64>) -> BTreeSet<String> {
        numbers.map(|it| WalName::segment(timeline, it)).collect()
    }

    fn planned(
        bases: &[Base],
        wal: &BTreeSet<String>,
        until: Until,
    ) -> Result<(String, usize, Option<String>), PlanError> {
        let planned = plan(bases, wal, &BTreeMap::new(), until)?;
        Ok((planned.base.id, planned.segments.len(), planned.missing))
    }

    #[test]
    fn the_closest_base_and_what_follows_it_are_taken() {
        let (bases, wal) = ([base(1, 2, 10), base(1, 6, 20)], wal(1, 1..=9));
        let latest = planned(&bases, &wal, Until::Latest);
        assert_eq!(latest, Ok(("b20".to_owned(), 4, None)));
        // Up to the segment in which the next base backup ends, and no further.
        let earlier = planned(&bases, &wal, Until::Time(at(15)));
        assert_eq!(earlier, Ok(("b10".to_owned(), 5, None)));
        let exact = planned(&bases, &wal, Until::Time(at(20)));
        assert_eq!(exact, Ok(("b20".to_owned(), 4, None)));
        let early = planned(&bases, &wal, Until::Time(at(9)));
        let earliest = at(10);
        assert_eq!(early, Err(PlanError::TooEarly { earliest }));
        assert_eq!(planned(&[], &wal, Until::Latest), Err(PlanError::NoBase));
    }

    #[test]
    fn a_segment_that_is_missing_is_named() {
        let (bases, mut wal) = ([base(1, 2, 10)], wal(1, 1..=9));
        wal.remove(&WalName::segment(1, 5));
        let missing = WalName::segment(1, 5);
        let gap = PlanError::Gap {
            missing: missing.clone(),
            after: 4,
        };
        assert_eq!(planned(&bases, &wal, Until::Latest), Err(gap));
        let before = planned(&bases, &wal, Until::Time(at(12)));
        assert_eq!(before, Ok(("b10".to_owned(), 3, Some(missing))));
        // Without it the files do not fit together.
        wal.remove(&WalName::segment(1, 2));
        let unfit = planned(&bases, &wal, Until::Time(at(12)));
        assert!(matches!(unfit, Err(PlanError::Gap { .. })), "{unfit:?}");
        let none = planned(&bases, &BTreeSet::new(), Until::Latest);
        assert!(
            matches!(none, Err(PlanError::Gap { after: 0, .. })),
            "{none:?}"
        );
    }

    #[test]
    fn the_last_branch_is_followed_from_its_ancestors_base() {
        let text = "1\t0/4000140\tbefore 2026-11-21\n";
        let histories = BTreeMap::from([(2, History::parse(text))]);
        let mut all = wal(1, 1..=8);
        all.extend(wal(2, 4..=6));
        let bases = [base(1, 2, 10), base(1, 7, 30)];
        let planned = plan(&bases, &all, &histories, Until::Latest).unwrap();
        assert_eq!((planned.timeline, planned.base.id.as_str()), (2, "b10"));
        let names: Vec<String> = (2..=6)
            .map(|it| WalName::segment(1 + u32::from(it > 3), it))
            .collect();
        assert_eq!(planned.segments, names);
        assert_eq!(planned.histories, [2]);
        // A segment of the old branch does not stand in for one that is missing on the new.
        all.remove(&WalName::segment(2, 5));
        let gap = plan(&bases, &all, &histories, Until::Latest);
        let missing = WalName::segment(2, 5);
        assert_eq!(gap, Err(PlanError::Gap { missing, after: 1 }));
    }
}
