//! Local search, and the large local store that it and the hook are measured on.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use coditect_local_store::{LocalStore, Profile, Random as StoreRandom, SearchQuery};
use coditect_protocol::catalogue::File;

use super::Plan;
use crate::clock;
use crate::messages::{Pool, TABLE, Vocabulary};
use crate::random::Random;
use crate::report::{Budget, Line, Report};
use crate::statistics::percentile;

const POOL_MESSAGES: usize = 20_000;
const ROWS_PER_WRITE: usize = 1_000;

/// A local store with generated messages, below a home.
pub(crate) struct Filled {
    pub(crate) home: PathBuf,
    pub(crate) messages: usize,
    store: LocalStore,
    pool: Pool,
    random: Random,
}

impl Filled {
    /// Makes an empty one.
    pub(crate) fn new(home: &Path) -> anyhow::Result<Self> {
        let store = open(&Profile::new(home, None).databases())?;
        Ok(Self {
            home: home.to_owned(),
            messages: 0,
            store,
            pool: Pool::new(POOL_MESSAGES, 5),
            random: Random::new(51),
        })
    }

    /// Adds messages until there are so many; returns how many it stored in a second.
    pub(crate) fn grow(&mut self, messages: usize) -> anyhow::Result<f64> {
        let (started, before) = (Instant::now(), self.messages);
        self.store.set_bulk(true)?;
        while self.messages < messages {
            let size = ROWS_PER_WRITE.min(messages - self.messages);
            let rows = (0..size).map(|row| {
                (
                    TABLE,
                    self.pool.message(self.messages + row, &mut self.random),
                )
            });
            let rows: Vec<_> = rows.collect();
            self.store
                .ingest(File::Sessions, rows, None, clock::now_ms())?;
            self.messages += size;
            self.store
                .index_new(File::Sessions, ROWS_PER_WRITE as i64)?;
        }
        self.store.set_bulk(false)?;
        Ok((self.messages - before) as f64 / started.elapsed().as_secs_f64())
    }

    /// Closes the store, so that others open it as they would.
    pub(crate) fn close(self) -> (PathBuf, usize) {
        (self.home, self.messages)
    }
}

/// Opens the four databases of a folder.
pub(crate) fn open(folder: &Path) -> anyhow::Result<LocalStore> {
    let random = StoreRandom::System;
    LocalStore::open(folder, clock::now_ms(), random).context("opening the local store")
}

/// Measures queries of one to three words, common and seldom ones.
pub(crate) fn run(plan: &Plan, filled: &mut Filled, report: &mut Report) -> anyhow::Result<()> {
    let wanted = plan.size(300_000, 30_000);
    let rate = filled.grow(wanted)?;
    let what = format!("rows stored by the library with full text, 1,000 at once, to {wanted}");
    report.add(Line::new(what, "/s", rate));
    let mut random = Random::new(5);
    let vocabulary = Vocabulary::new(&mut random);
    let mut random = Random::new(61);
    let (mut times, mut found) = (Vec::new(), 0);
    for number in 0..plan.size(600, 100) {
        let words: Vec<&str> = (0..1 + number % 3)
            .map(|_| vocabulary.word(&mut random))
            .collect();
        let query = SearchQuery {
            text: words.join(" "),
            tables: vec![TABLE.to_owned()],
            limit: 20,
            ..SearchQuery::default()
        };
        let started = Instant::now();
        found += filled.store.search(&query, clock::now_ms())?.len();
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    anyhow::ensure!(found > 0, "no query found anything");
    let what = format!("local search over {wanted} messages");
    report.add(Line::new(
        format!("{what}, p50"),
        "ms",
        percentile(&times, 0.5),
    ));
    let late = Line::new(format!("{what}, p99"), "ms", percentile(&times, 0.99));
    report.add(late.within(Budget::AtMost(20.0)));
    Ok(())
}
