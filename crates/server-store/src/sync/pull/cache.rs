//! Pages of shared scopes that many devices ask for at the same moment: each is read and encoded
//! once. A page is found only under the stream's very head, so every change ends it; and it is
//! handed out only behind the same checks as a read, in the same transaction: the caller may pull
//! the scope, and row security shows the caller the stream's head.
//!
//! Conversations are never kept: who sees those of a scope depends on the person.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use coditect_protocol::catalogue::File;
use coditect_protocol::{Epoch, Scope};
use uuid::Uuid;

use super::pulled::Changes;

/// How long a page is kept: as long as devices that were told at once take to ask.
const KEPT: Duration = Duration::from_secs(5);
/// Largest page that is kept, and all of them together, in bytes.
const PAGE_BYTES_MAX: usize = 256 * 1024;
const BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    tenant: Uuid,
    scope: Scope,
    file: &'static str,
    epoch: Epoch,
    from: i64,
    head: i64,
}

#[derive(Debug)]
struct Kept {
    changes: Arc<Changes>,
    at: Instant,
}

#[derive(Debug, Default)]
struct Pages {
    by_key: HashMap<Key, Kept>,
    bytes: usize,
    lookups: Lookups,
}

/// How often pages were asked for that may be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lookups {
    /// They were there.
    pub hits: u64,
    /// They had to be read.
    pub misses: u64,
}

/// Encoded pages of shared scopes. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct PageCache(Arc<Mutex<Pages>>);

impl PageCache {
    /// Returns the key of a page; none for one that is not kept.
    pub(super) fn key(
        tenant: Uuid,
        scope: Scope,
        file: File,
        epoch: Epoch,
        range: &Range<i64>,
    ) -> Option<Key> {
        let shared = matches!(scope, Scope::Org(_) | Scope::Team(_) | Scope::Project(_));
        let of_all = matches!(file, File::Org | File::Projects);
        (shared && of_all && range.start < range.end).then(|| Key {
            tenant,
            scope,
            file: file.as_str(),
            epoch,
            from: range.start,
            head: range.end,
        })
    }

    /// Returns the page's changes, if they are kept.
    pub(super) fn find(&self, key: &Key) -> Option<Arc<Changes>> {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = pages.by_key.get(key);
        let found = kept.filter(|kept| kept.at.elapsed() < KEPT);
        let found = found.map(|kept| Arc::clone(&kept.changes));
        match found {
            Some(_) => pages.lookups.hits += 1,
            None => pages.lookups.misses += 1,
        }
        found
    }

    /// Returns how often pages were asked for since the start.
    #[must_use]
    pub fn lookups(&self) -> Lookups {
        let pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pages.lookups
    }

    /// Keeps the changes of a page that reaches the head.
    pub(super) fn keep(&self, key: Key, changes: &Changes) {
        if changes.json.len() > PAGE_BYTES_MAX {
            return;
        }
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if pages.bytes + changes.json.len() > BYTES_MAX {
            pages.by_key.retain(|_, kept| kept.at + KEPT > now);
            pages.bytes = pages
                .by_key
                .values()
                .map(|kept| kept.changes.json.len())
                .sum();
        }
        if pages.bytes + changes.json.len() > BYTES_MAX {
            pages.by_key.clear();
            pages.bytes = 0;
        }
        pages.bytes += changes.json.len();
        let kept = Kept {
            changes: Arc::new(changes.clone()),
            at: now,
        };
        if let Some(before) = pages.by_key.insert(key, kept) {
            pages.bytes -= before.changes.json.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tenant: u128, scope: Scope, file: File, head: i64) -> Option<Key> {
        PageCache::key(Uuid::from_u128(tenant), scope, file, Epoch(1), &(3..head))
    }

    #[test]
    fn a_page_is_found_by_its_own_tenant_scope_file_and_head_only() {
        let cache = PageCache::default();
        let team = Scope::Team(Uuid::from_u128(5));
        let changes = Changes {
            json: b"{}".to_vec(),
            count: 1,
        };
        let own = key(1, team, File::Org, 9).unwrap();
        cache.keep(own.clone(), &changes);
        assert_eq!(*cache.find(&own).unwrap(), changes);
        let project = Scope::Project(Uuid::from_u128(5));
        let lookups = Lookups { hits: 1, misses: 0 };
        assert_eq!(cache.lookups(), lookups);
        for other in [
            key(2, team, File::Org, 9),
            key(1, project, File::Org, 9),
            key(1, team, File::Projects, 9),
            key(1, team, File::Org, 10),
        ] {
            assert!(cache.find(&other.unwrap()).is_none());
        }
        assert_eq!(cache.lookups(), Lookups { hits: 1, misses: 4 });
    }

    #[test]
    fn private_rows_conversations_and_empty_pages_are_never_kept() {
        let team = Scope::Team(Uuid::from_u128(5));
        assert!(key(1, team, File::Sessions, 9).is_none());
        assert!(key(1, Scope::User(Uuid::from_u128(5)), File::Org, 9).is_none());
        assert!(key(1, team, File::Org, 3).is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let cache = PageCache::default();
        let changes = Changes {
            json: vec![0; PAGE_BYTES_MAX],
            count: 1,
        };
        for head in 10..200 {
            let team = Scope::Team(Uuid::from_u128(5));
            cache.keep(key(1, team, File::Org, head).unwrap(), &changes);
        }
        let pages = cache.0.lock().unwrap();
        let held: usize = pages
            .by_key
            .values()
            .map(|kept| kept.changes.json.len())
            .sum();
        assert_eq!(held, pages.bytes);
        assert!(held <= BYTES_MAX);
    }
}
