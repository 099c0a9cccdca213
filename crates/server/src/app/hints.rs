//! Who follows which streams: takes the heads that commits move, here or on another instance,
//! to the connections that may read them.
//!
//! A subscriber holds a mailbox with the last head of each of its streams, so a slow one costs
//! memory for its streams and nothing more. What it may read is looked up again now and then
//! and whenever somebody says that memberships changed; that look also finds what was missed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coditect_protocol::catalogue::File;
use coditect_protocol::limits::HINT_SOCKETS_PER_USER_MAX;
use coditect_protocol::wire::hints::Hint;
use coditect_protocol::{Cursor, ErrorCode, Scope};
use coditect_server_store::TenantId;
use coditect_server_store::credential::Caller;
use coditect_server_store::hints::{self, Head, Link, Outbox};
use coditect_server_store::sync::{Readable, readable};
use coditect_server_store::{Db, StoreError};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::error::AppError;

/// Subscribers of one instance.
const SUBSCRIBERS_MAX: usize = 20_000;
/// Time between two looks at what a subscriber may read, while instances tell each other.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The same while they cannot, and the look is all that brings news of other instances.
const LOOK_EVERY_ALONE: Duration = Duration::from_secs(10);
/// Time over which the looks of all subscribers are spread when all are due at once.
const SPREAD_PER_SUBSCRIBER: Duration = Duration::from_millis(2);

/// All subscribers of this instance. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    subscribers: Mutex<Subscribers>,
    outbox: Outbox,
    link: watch::Sender<Link>,
    /// Grows when all subscribers shall look at once.
    looks: watch::Sender<u64>,
    stopping: watch::Sender<bool>,
    /// Resolves when the last subscriber has gone.
    gone: Notify,
}

#[derive(Debug, Default)]
struct Subscribers {
    /// Mailboxes by what they follow; under no scope those whose scopes are not known yet.
    topics: HashMap<(Uuid, Option<Scope>), Vec<Arc<Mailbox>>>,
    per_user: HashMap<(Uuid, Uuid), usize>,
    count: usize,
}

/// What waits to be sent to one subscriber.
#[derive(Debug, Default)]
struct Mailbox {
    state: Mutex<Mail>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Mail {
    waiting: BTreeMap<(Scope, File), Cursor>,
    sent: BTreeMap<(Scope, File), Cursor>,
    /// Whether the subscriber shall look at what it may read.
    shall_look: bool,
    scopes: Vec<Scope>,
}

impl Default for Hub {
    fn default() -> Self {
        Self(Arc::new(Inner {
            subscribers: Mutex::default(),
            outbox: Outbox::default(),
            link: watch::Sender::new(Link::Down),
            looks: watch::Sender::new(0),
            stopping: watch::Sender::new(false),
            gone: Notify::new(),
        }))
    }
}

impl Hub {
    /// Takes the heads that commits of `db` move from now on.
    #[must_use]
    pub fn of(db: &Db) -> Self {
        let hub = Self::default();
        // Weak, because the store lives as long as the hub.
        let inner = Arc::downgrade(&hub.0);
        db.announce_to(Arc::new(move |heads| {
            if let Some(inner) = inner.upgrade() {
                inner.deliver(heads);
                inner.outbox.put(heads);
            }
        }));
        hub
    }

    /// Runs the connection to the other instances until the hub stops; does nothing where no
    /// direct connection to the database is configured.
    pub fn follow_others(&self, db: &Db) {
        let Some(url) = db.direct_url() else {
            tracing::info!("no direct connection to the database: hints of others by looking");
            return;
        };
        let inner = Arc::clone(&self.0);
        let hub = self.clone();
        let deliver: hints::Sink = Arc::new(move |heads| inner.deliver(heads));
        let follow = hints::follow(url, self.0.outbox.clone(), deliver, self.0.link.clone());
        tokio::spawn(async move {
            let mut stopping = hub.0.stopping.subscribe();
            let mut link = hub.0.link.subscribe();
            let again = async {
                // What others told before a new connection stood was missed.
                while link.changed().await.is_ok() {
                    if matches!(*link.borrow_and_update(), Link::Up(n) if n > 1) {
                        hub.look_again();
                    }
                }
            };
            tokio::select! {
                () = follow => {}
                () = again => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        });
    }

    /// Returns what is known about the connection to the other instances.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<Link> {
        self.0.link.subscribe()
    }

    /// Has every subscriber look at what it may read: after memberships changed, for instance.
    pub fn look_again(&self) {
        self.0.looks.send_modify(|looks| *looks += 1);
    }

    /// Has the subscribers of a tenant look at what they may read: its memberships have changed,
    /// or one of its devices was locked out. Those of other instances look when their time comes.
    pub fn members_changed(&self, tenant: TenantId) {
        let subscribers = self.0.lock();
        let of_tenant = |topic: &&(Uuid, Option<Scope>)| topic.0 == tenant.get();
        for topic in subscribers.topics.keys().filter(of_tenant) {
            for mailbox in &subscribers.topics[topic] {
                mailbox.lock().shall_look = true;
                mailbox.filled.notify_one();
            }
        }
    }

    /// Returns how many subscribers there are.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.0.lock().count
    }

    /// Ends all subscriptions and waits until they have gone, a moment at most.
    pub async fn stop(&self) {
        self.0.stopping.send_replace(true);
        let gone = async {
            loop {
                let gone = self.0.gone.notified();
                if self.subscribers() == 0 {
                    return;
                }
                gone.await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(2), gone)
            .await
            .is_err()
        {
            tracing::warn!("connections for hints did not end in time");
        }
    }

    /// Adds a subscriber that follows nothing yet: [`Subscription::look`] comes next.
    ///
    /// # Errors
    /// [`AppError::Refused`] with `SYNC_006` when the person has too many,
    /// [`AppError::Unavailable`] when the instance has.
    pub fn subscribe(&self, caller: &Caller) -> Result<Subscription, AppError> {
        let (tenant, user) = (caller.tenant().get(), caller.user_id().get());
        let mailbox = Arc::<Mailbox>::default();
        let mut subscribers = self.0.lock();
        if *self.0.stopping.borrow() || subscribers.count >= SUBSCRIBERS_MAX {
            let reason = "no place for another connection that waits for hints";
            return Err(AppError::Unavailable { reason });
        }
        let of_user = subscribers.per_user.entry((tenant, user)).or_default();
        if *of_user >= HINT_SOCKETS_PER_USER_MAX {
            let detail = format!("a person may have {HINT_SOCKETS_PER_USER_MAX} connections");
            return Err(AppError::refused(ErrorCode::RateLimited, detail));
        }
        *of_user += 1;
        subscribers.count += 1;
        subscribers.add((tenant, None), &mailbox);
        drop(subscribers);
        Ok(Subscription {
            hub: self.clone(),
            caller: caller.clone(),
            mailbox,
            looks: self.0.looks.subscribe(),
            stopping: self.0.stopping.subscribe(),
        })
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Subscribers> {
        self.subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts heads into the mailboxes of those who follow their streams.
    fn deliver(&self, heads: &[Head]) {
        let subscribers = self.lock();
        for head in heads {
            for scope in [Some(head.scope), None] {
                let topic = subscribers.topics.get(&(head.tenant, scope));
                for mailbox in topic.into_iter().flatten() {
                    mailbox.put(head.scope, head.file, head.cursor);
                }
            }
        }
    }
}

impl Subscribers {
    fn add(&mut self, topic: (Uuid, Option<Scope>), mailbox: &Arc<Mailbox>) {
        let followers = self.topics.entry(topic).or_default();
        followers.push(Arc::clone(mailbox));
    }

    fn remove(&mut self, topic: (Uuid, Option<Scope>), mailbox: &Arc<Mailbox>) {
        if let Some(followers) = self.topics.get_mut(&topic) {
            followers.retain(|other| !Arc::ptr_eq(other, mailbox));
            if followers.is_empty() {
                self.topics.remove(&topic);
            }
        }
    }
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, scope: Scope, file: File, cursor: Cursor) {
        self.lock().put(scope, file, cursor);
        self.filled.notify_one();
    }
}

impl Mail {
    /// Takes a head in, unless a later one of the same life is there: two instances' news may
    /// overtake each other.
    fn put(&mut self, scope: Scope, file: File, cursor: Cursor) {
        let key = (scope, file);
        let known = self.waiting.get(&key).or_else(|| self.sent.get(&key));
        let is_old = |known: &Cursor| known.epoch == cursor.epoch && known.n >= cursor.n;
        if !known.is_some_and(is_old) {
            self.waiting.insert(key, cursor);
        }
    }
}

/// One subscriber; leaves the hub when dropped.
#[derive(Debug)]
pub struct Subscription {
    hub: Hub,
    caller: Caller,
    mailbox: Arc<Mailbox>,
    looks: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
}

/// Why a subscriber woke up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// There are hints.
    Hints,
    /// It shall look at what it may read.
    Look,
    /// The server stops.
    Stopping,
}

impl Subscription {
    /// Looks up what the caller may read now, follows exactly that, and puts into the mailbox
    /// what has moved since it was last told.
    ///
    /// # Errors
    /// [`AppError::DeviceUnknown`] and [`StoreError::NotMember`] for a caller who may nothing
    /// any more; others when the database does not answer.
    pub async fn look(&mut self, db: &Db) -> Result<(), AppError> {
        let device = self.caller.device_id();
        let found = db
            .tenant_snapshot("sync.hints", &self.caller, |mut tx| async move {
                readable(&mut tx, device).await
            })
            .await?;
        self.follow(found);
        Ok(())
    }

    fn follow(&self, found: Readable) {
        let tenant = self.caller.tenant().get();
        let mut subscribers = self.hub.0.lock();
        let mut mail = self.mailbox.lock();
        let before = std::mem::take(&mut mail.scopes);
        for scope in before.iter().filter(|scope| !found.scopes.contains(scope)) {
            subscribers.remove((tenant, Some(*scope)), &self.mailbox);
        }
        for scope in found.scopes.iter().filter(|scope| !before.contains(scope)) {
            subscribers.add((tenant, Some(*scope)), &self.mailbox);
        }
        subscribers.remove((tenant, None), &self.mailbox);
        // What came before the scopes were known, or was of one that is lost.
        let allowed = |scope: Scope| found.scopes.contains(&scope);
        mail.waiting.retain(|(scope, _), _| allowed(*scope));
        mail.sent.retain(|(scope, _), _| allowed(*scope));
        for (scope, file, cursor) in &found.heads {
            mail.put(*scope, *file, *cursor);
        }
        mail.scopes = found.scopes;
        mail.scopes.shrink_to_fit();
    }

    /// Takes the hints that wait.
    #[must_use]
    pub fn take(&self) -> Vec<Hint> {
        let mut mail = self.mailbox.lock();
        let taken = std::mem::take(&mut mail.waiting);
        mail.sent
            .extend(taken.iter().map(|(key, cursor)| (*key, *cursor)));
        let hint = |((scope, file), cursor)| Hint {
            scope,
            file,
            cursor,
        };
        taken.into_iter().map(hint).collect()
    }

    /// Waits until there is something to do.
    pub async fn woken(&mut self) -> Woken {
        tokio::select! {
            () = self.mailbox.filled.notified() => {
                match std::mem::take(&mut self.mailbox.lock().shall_look) {
                    true => Woken::Look,
                    false => Woken::Hints,
                }
            }
            looks = self.looks.changed() => match looks {
                Ok(()) => Woken::Look,
                Err(_) => Woken::Stopping,
            },
            _ = self.stopping.wait_for(|stopping| *stopping) => Woken::Stopping,
        }
    }

    /// Returns the time until the next look; `share` (0 to 1) spreads those of all subscribers.
    #[must_use]
    pub fn look_after(&self, share: f64) -> Duration {
        let every = match *self.hub.0.link.borrow() {
            Link::Up(_) => LOOK_EVERY,
            Link::Down => LOOK_EVERY_ALONE,
        };
        every.mul_f64(0.75 + share.clamp(0.0, 1.0) / 2.0)
    }

    /// Returns how long to put off a look that all subscribers were asked for.
    #[must_use]
    pub fn look_delay(&self, share: f64) -> Duration {
        let all = u32::try_from(self.hub.subscribers()).unwrap_or(u32::MAX);
        let few = all < 50;
        let spread = SPREAD_PER_SUBSCRIBER.saturating_mul(if few { 0 } else { all });
        spread.mul_f64(share.clamp(0.0, 1.0))
    }
}

/// Returns whether a look says that the caller may nothing any more.
#[must_use]
pub fn is_final(error: &AppError) -> bool {
    matches!(
        error,
        AppError::DeviceUnknown
            | AppError::Store(StoreError::NotMember | StoreError::DeviceRevoked)
    )
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let tenant = self.caller.tenant().get();
        let user = self.caller.user_id().get();
        let mut subscribers = self.hub.0.lock();
        let scopes = std::mem::take(&mut self.mailbox.lock().scopes);
        for scope in scopes {
            subscribers.remove((tenant, Some(scope)), &self.mailbox);
        }
        subscribers.remove((tenant, None), &self.mailbox);
        subscribers.count -= 1;
        if let Some(count) = subscribers.per_user.get_mut(&(tenant, user)) {
            *count -= 1;
            if *count == 0 {
                subscribers.per_user.remove(&(tenant, user));
            }
        }
        if subscribers.count == 0 {
            self.hub.0.gone.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coditect_protocol::Epoch;

    fn at(epoch: u64, n: i64) -> Cursor {
        Cursor {
            epoch: Epoch(epoch),
            n,
        }
    }

    #[test]
    fn older_news_of_the_same_life_is_dropped() {
        let (scope, mut mail) = (Scope::Platform, Mail::default());
        let key = (scope, File::Org);
        mail.put(scope, File::Org, at(1, 5));
        mail.put(scope, File::Org, at(1, 4));
        assert_eq!(mail.waiting.get(&key), Some(&at(1, 5)));
        let taken = std::mem::take(&mut mail.waiting);
        mail.sent.extend(taken);
        mail.put(scope, File::Org, at(1, 5));
        assert!(mail.waiting.is_empty());
        mail.put(scope, File::Org, at(2, 3));
        assert_eq!(mail.waiting.get(&key), Some(&at(2, 3)));
    }
}
