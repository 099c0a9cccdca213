//! News of streams: which head a transaction moved, told once it is committed; and the
//! connection over which instances tell each other.
//!
//! `NOTIFY` inside a push would serialise all commits of the database, so it runs afterwards, on
//! a connection of its own, with all the heads that moved meanwhile in one statement. `LISTEN`
//! does not pass a transaction pooler; where no direct connection is configured there is none,
//! and whoever subscribes has to look for himself now and then.

mod link;
mod payload;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use coditect_protocol::catalogue::File;
use coditect_protocol::{Cursor, Scope};
use tokio::sync::Notify;
use uuid::Uuid;

pub use link::{Link, follow};

/// A stream's file has got as far as this; committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Tenant of the stream.
    pub tenant: Uuid,
    /// Stream.
    pub scope: Scope,
    /// File of the stream.
    pub file: File,
    /// Its head.
    pub cursor: Cursor,
}

/// What is told about committed heads. It must not wait for anything.
pub type Sink = Arc<dyn Fn(&[Head]) + Send + Sync>;

/// Who is told about the commits of a [`crate::Db`].
#[derive(Clone, Default)]
pub(crate) struct Announcer(Arc<RwLock<Vec<Sink>>>);

impl Announcer {
    /// Adds somebody.
    pub(crate) fn add(&self, sink: Sink) {
        let mut sinks = self.0.write().unwrap_or_else(PoisonError::into_inner);
        sinks.push(sink);
    }

    /// Tells everybody.
    pub(crate) fn announce(&self, heads: &[Head]) {
        if heads.is_empty() {
            return;
        }
        let sinks = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for sink in sinks.iter() {
            sink(heads);
        }
    }
}

impl fmt::Debug for Announcer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Announcer")
    }
}

/// Key of a head.
type Key = (Uuid, Scope, File);

/// Heads that wait for their `NOTIFY`: of each stream only the last one.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    waiting: Arc<Mutex<HashMap<Key, Cursor>>>,
    filled: Arc<Notify>,
}

/// Streams that may wait; with more the oldest news is dropped, and the others' own looks make
/// up for it.
const WAITING_MAX: usize = 100_000;

impl Outbox {
    /// Takes heads in.
    pub fn put(&self, heads: &[Head]) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for head in heads {
            if waiting.len() < WAITING_MAX {
                waiting.insert((head.tenant, head.scope, head.file), head.cursor);
            }
        }
        self.filled.notify_one();
    }

    /// Waits for heads and takes them all.
    pub(crate) async fn take(&self) -> Vec<Head> {
        loop {
            let filled = self.filled.notified();
            let taken = {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *waiting)
            };
            if !taken.is_empty() {
                let head = |((tenant, scope, file), cursor)| Head {
                    tenant,
                    scope,
                    file,
                    cursor,
                };
                return taken.into_iter().map(head).collect();
            }
            filled.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coditect_protocol::Epoch;

    fn head(n: i64) -> Head {
        Head {
            tenant: Uuid::from_u128(1),
            scope: Scope::Org(Uuid::from_u128(1)),
            file: File::Org,
            cursor: Cursor { epoch: Epoch(7), n },
        }
    }

    #[tokio::test]
    async fn of_each_stream_the_last_head_goes_out() {
        let outbox = Outbox::default();
        outbox.put(&[head(1), head(2)]);
        outbox.put(&[head(3)]);
        assert_eq!(outbox.take().await, [head(3)]);
        let later = async {
            tokio::task::yield_now().await;
            outbox.put(&[head(4)]);
        };
        let (taken, ()) = tokio::join!(outbox.take(), later);
        assert_eq!(taken, [head(4)]);
    }
}
