//! Where small pushes meet: while some transactions of a tenant are in the database, the pushes
//! that come wait, and the next transaction takes them together. A push that comes alone goes at
//! once. Knows nothing of rows.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coditect_protocol::wire::push::{PushReply, PushRequest};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::joined::{self, Answer};
use super::{PushContext, push};
use crate::StoreError;
use crate::credential::{Caller, TenantId};
use crate::db::Db;
use crate::sync::guards::Guard;
use crate::sync::{SyncError, TokenKey};

/// Most changes of a push that waits for others; a larger one fills a transaction by itself.
const SMALL_CHANGES_MAX: usize = 50;
/// Most pushes in one transaction.
const JOINED_MAX: usize = 64;
/// Most changes in one transaction of several pushes.
const JOINED_CHANGES_MAX: usize = 500;
/// Transactions of one tenant that are in the database at a time.
const TRANSACTIONS_MAX: usize = 3;
/// Most pushes of one tenant that wait.
const WAITING_MAX: usize = 1_024;

type Reply = Result<PushReply, SyncError>;

/// Carries pushes out, small ones together. Clones share the queue.
#[derive(Clone, Debug)]
pub struct PushQueue {
    db: Db,
    key: Arc<TokenKey>,
    lanes: Arc<Mutex<HashMap<TenantId, Lane>>>,
    /// Pushes that shared a transaction with another one.
    joined: Arc<AtomicU64>,
    #[cfg(feature = "fault-injection")]
    faults: crate::sync::Faults,
}

/// The pushes of one tenant.
#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Waiting>,
    /// Streams that a transaction in the database holds; their next pushes gather meanwhile.
    busy: HashSet<Uuid>,
    workers: usize,
}

#[derive(Debug)]
struct Waiting {
    caller: Caller,
    request: PushRequest,
    now_ms: i64,
    reply: oneshot::Sender<Reply>,
}

impl PushQueue {
    /// Makes a queue in front of the store, with the key of the file tokens.
    #[must_use]
    pub fn new(db: Db, key: Arc<TokenKey>) -> Self {
        Self {
            db,
            key,
            lanes: Arc::default(),
            joined: Arc::default(),
            #[cfg(feature = "fault-injection")]
            faults: crate::sync::Faults::default(),
        }
    }

    /// Takes guards out, for the tests that show what they are good for.
    #[cfg(feature = "fault-injection")]
    #[doc(hidden)]
    #[must_use]
    pub fn with_faults(mut self, faults: crate::sync::Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Stores the batch and answers each of its changes, as [`push`] does; `now_ms` is the
    /// server's time, milliseconds since 1970. What was begun is carried out even when the
    /// caller stops waiting.
    ///
    /// # Errors
    ///
    /// As [`push`]; [`StoreError::Retry`] when too many pushes of the tenant wait.
    pub async fn push(&self, caller: &Caller, request: PushRequest, now_ms: i64) -> Reply {
        if request.changes.len() > SMALL_CHANGES_MAX {
            return self.alone(caller, &request, now_ms).await;
        }
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting {
            caller: caller.clone(),
            request,
            now_ms,
            reply,
        };
        self.add(waiting)?;
        answer.await.unwrap_or_else(|_| {
            let reason = "the push was given up";
            Err(StoreError::Retry { reason }.into())
        })
    }

    /// Carries the pushes of several callers out in one transaction, for tests that cannot wait
    /// for them to meet.
    #[cfg(feature = "fault-injection")]
    #[doc(hidden)]
    pub async fn push_together(
        &self,
        pushes: Vec<(Caller, PushRequest)>,
        now_ms: i64,
    ) -> Vec<Reply> {
        let (mut waiting, mut answers) = (Vec::new(), Vec::new());
        for (caller, request) in pushes {
            let (reply, answer) = oneshot::channel();
            answers.push(answer);
            waiting.push(Waiting {
                caller,
                request,
                now_ms,
                reply,
            });
        }
        self.order(&mut waiting);
        self.carry_out(waiting).await;
        let mut replies = Vec::new();
        for answer in answers {
            replies.push(answer.await.unwrap_or_else(|_| {
                let reason = "the push was given up";
                Err(StoreError::Retry { reason }.into())
            }));
        }
        replies
    }

    /// Returns how many pushes shared a transaction with another one so far, for metrics.
    #[must_use]
    pub fn joined_count(&self) -> u64 {
        self.joined.load(Ordering::Relaxed)
    }

    /// Lets a push wait, and starts a transaction when one more may be in the database.
    fn add(&self, waiting: Waiting) -> Result<(), SyncError> {
        let tenant = waiting.caller.tenant();
        let mut lanes = self.lock();
        let lane = lanes.entry(tenant).or_default();
        if lane.waiting.len() >= WAITING_MAX {
            let reason = "too many pushes of the organisation wait";
            return Err(StoreError::Retry { reason }.into());
        }
        lane.waiting.push_back(waiting);
        if lane.workers < TRANSACTIONS_MAX {
            lane.workers += 1;
            self.start(tenant);
        }
        Ok(())
    }

    fn start(&self, tenant: TenantId) {
        let worker = Worker {
            queue: self.clone(),
            tenant,
        };
        tokio::spawn(async move {
            while let Some(turn) = worker.take() {
                turn.run().await;
            }
        });
    }

    fn context(&self, now_ms: i64) -> PushContext<'_> {
        #[cfg_attr(
            not(feature = "fault-injection"),
            expect(unused_mut, reason = "for tests")
        )]
        let mut context = PushContext::new(now_ms, &self.key);
        #[cfg(feature = "fault-injection")]
        {
            context.faults = self.faults;
        }
        context
    }

    /// Carries out one push in a transaction of its own.
    async fn alone(&self, caller: &Caller, request: &PushRequest, now_ms: i64) -> Reply {
        let context = &self.context(now_ms);
        self.db
            .tenant("sync.push", caller, |mut tx| async move {
                push(&mut tx, request, context).await
            })
            .await
    }

    /// Carries out several in one transaction.
    async fn together(&self, pushes: &[Waiting]) -> Result<Vec<Answer>, SyncError> {
        let callers = pushes.iter().map(|push| push.caller.clone());
        let callers: Vec<Caller> = callers.collect();
        let requests: Vec<&PushRequest> = pushes.iter().map(|push| &push.request).collect();
        let now_ms = pushes.iter().map(|push| push.now_ms).max();
        let (context, requests) = (&self.context(now_ms.unwrap_or_default()), &requests);
        #[cfg(feature = "fault-injection")]
        let early = &crate::sync::faults::Early::default();
        let answers = self
            .db
            .joined("sync.push", &callers, |mut tx| async move {
                let answers = joined::push(&mut tx, requests, context).await;
                #[cfg(feature = "fault-injection")]
                let answers = early.keep(answers);
                answers
            })
            .await;
        #[cfg(feature = "fault-injection")]
        let answers = early.or(answers);
        answers
    }

    fn order(&self, pushes: &mut [Waiting]) {
        #[cfg(feature = "fault-injection")]
        if self.faults.joined_order_off {
            return;
        }
        pushes.sort_by_key(|push| push.request.scope.id());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of a tenant's transactions after the other; gone when nothing waits any more.
struct Worker {
    queue: PushQueue,
    tenant: TenantId,
}

impl Worker {
    /// Takes pushes of streams that no transaction holds, in the order in which they came, of
    /// each file of a device one.
    fn take(&self) -> Option<Turn<'_>> {
        let mut lanes = self.queue.lock();
        let lane = lanes.get_mut(&self.tenant)?;
        let mut taken: Vec<Waiting> = Vec::new();
        let mut left = VecDeque::with_capacity(lane.waiting.len());
        let (mut files, mut changes) = (HashSet::new(), 0);
        for waiting in lane.waiting.drain(..) {
            let request = &waiting.request;
            let fits = taken.len() < JOINED_MAX
                && (taken.is_empty() || changes + request.changes.len() <= JOINED_CHANGES_MAX)
                && !lane.busy.contains(&request.scope.id())
                && files.insert((request.device, request.file));
            if fits {
                changes += request.changes.len();
                taken.push(waiting);
            } else {
                left.push_back(waiting);
            }
        }
        lane.waiting = left;
        if taken.is_empty() {
            return None;
        }
        let streams: HashSet<Uuid> = taken.iter().map(|it| it.request.scope.id()).collect();
        lane.busy.extend(&streams);
        self.queue.order(&mut taken);
        Some(Turn {
            worker: self,
            pushes: taken,
            streams,
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let mut lanes = self.queue.lock();
        let Some(lane) = lanes.get_mut(&self.tenant) else {
            return;
        };
        lane.workers -= 1;
        let takeable = |push: &Waiting| !lane.busy.contains(&push.request.scope.id());
        if lane.waiting.is_empty() && lane.workers == 0 {
            lanes.remove(&self.tenant);
        } else if lane.waiting.iter().any(takeable) {
            // Came since the last look.
            lane.workers += 1;
            self.queue.start(self.tenant);
        }
    }
}

/// Pushes that are carried out together.
struct Turn<'a> {
    worker: &'a Worker,
    pushes: Vec<Waiting>,
    streams: HashSet<Uuid>,
}

impl Turn<'_> {
    async fn run(mut self) {
        let pushes = std::mem::take(&mut self.pushes);
        self.worker.queue.carry_out(pushes).await;
    }
}

impl PushQueue {
    /// Carries pushes out together, and by themselves those that do not go together.
    async fn carry_out(&self, pushes: Vec<Waiting>) {
        let queue = self;
        let answers = match queue.together(&pushes).await {
            Ok(answers) => answers,
            Err(error) if Guard::JoinedAlone.is_on() => {
                // Whoever it was about is found by running each by itself.
                tracing::debug!(%error, pushes = pushes.len(), "pushes do not go together");
                pushes.iter().map(|_| Answer::Alone).collect()
            }
            Err(_) => {
                let refused = |_| Answer::Refused(StoreError::Aborted.into());
                pushes.iter().map(refused).collect()
            }
        };
        let replied = answers.iter();
        let replied = replied.filter(|answer| matches!(answer, Answer::Replied(_)));
        let joined = replied.count() as u64;
        if joined > 1 {
            self.joined.fetch_add(joined, Ordering::Relaxed);
        }
        for (push, answer) in pushes.into_iter().zip(answers) {
            let reply = match answer {
                Answer::Replied(reply) => Ok(reply),
                Answer::Refused(error) => Err(error),
                Answer::Alone => {
                    let Waiting {
                        caller,
                        request,
                        now_ms,
                        ..
                    } = &push;
                    queue.alone(caller, request, *now_ms).await
                }
            };
            // Who stopped waiting asks again.
            let _ = push.reply.send(reply);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut lanes = self.worker.queue.lock();
        if let Some(lane) = lanes.get_mut(&self.worker.tenant) {
            lane.busy.retain(|stream| !self.streams.contains(stream));
        }
    }
}
