//! Two servers on one database, one of them with a read replica that lags: nobody notices.

use axum::Router;
use coditect_protocol::limits::PULL_CHANGES_MAX;
use coditect_protocol::wire::pull::{Position, PullReply, PullRequest};
use coditect_protocol::wire::push::PushReply;
use coditect_protocol::{Cursor, ErrorCode, OrganizationId, Scope};
use coditect_server::router;
use coditect_server::state::{AppState, Clock};
use coditect_server_store::{Db, ReplicaCounts, admin, cluster};
use coditect_testkit::{Replicated, TestUser};
use serde::Serialize;
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::support::{
    PULL, PUSH, Reply, bearer, decision, fresh_row, http, own_scope, post, pull_request,
    push_request,
};

/// A server of the two.
struct Instance {
    db: Db,
    router: Router,
}

impl Instance {
    fn new(world: &Replicated, db: Db) -> Self {
        let clock = world.db.clock().clone();
        let clock = Clock::new(move || clock.now());
        let state = AppState::new(db.clone(), world.db.secrets().clone(), clock, http());
        Self {
            db,
            router: router::router(state),
        }
    }

    async fn post(&self, user: &TestUser, path: &str, body: &impl Serialize) -> Reply {
        let request = bearer(post(path, body), &user.access_token);
        Reply::read(self.router.clone().oneshot(request).await.unwrap()).await
    }

    async fn pull(&self, user: &TestUser, scope: Scope, cursor: Option<Cursor>) -> PullReply {
        let request = asked(user, scope, cursor);
        self.post(user, PULL, &request).await.ok()
    }

    fn counts(&self) -> (u64, u64) {
        let ReplicaCounts { served, passed_on } = self.db.replica_counts();
        (served, passed_on)
    }
}

fn asked(user: &TestUser, scope: Scope, cursor: Option<Cursor>) -> PullRequest {
    let mut request = pull_request(user.device_id, scope);
    request.positions[0].cursor = cursor;
    request
}

/// A database with a replica, two servers, and a person with a device.
struct World {
    replicated: Replicated,
    /// Knows nothing of the replica.
    plain: Instance,
    reading: Instance,
    tenant: OrganizationId,
    ann: TestUser,
    token: Option<String>,
}

impl World {
    async fn start() -> Option<Self> {
        let replicated = Replicated::start().await?;
        let tenant = replicated.db.with_tenant("acme").await;
        let ann = replicated.db.with_user(&tenant, "ann@acme.example").await;
        let plain = Instance::new(&replicated, replicated.db.db().clone());
        let db = Db::connect(&replicated.settings()).await.unwrap();
        Some(Self {
            plain,
            reading: Instance::new(&replicated, db),
            tenant: tenant.id,
            ann,
            token: None,
            replicated,
        })
    }

    /// Pushes decisions through the server with the replica.
    async fn push(&mut self, count: usize) {
        let changes = (0..count).map(|n| decision(fresh_row(), &format!("decision {n}"), 0));
        let changes: Vec<_> = changes.collect();
        for changes in changes.chunks(500) {
            let (device, scope) = (self.ann.device_id, own_scope(&self.ann));
            let token = self.token.as_deref();
            let request = push_request(device, scope, token, changes.to_vec());
            let reply: PushReply = self.reading.post(&self.ann, PUSH, &request).await.ok();
            self.token = Some(reply.token);
        }
    }

    /// Pulls from a position on both servers, which must answer the same.
    async fn pull(&self, cursor: Option<Cursor>) -> PullReply {
        let scope = own_scope(&self.ann);
        let one = self.plain.pull(&self.ann, scope, cursor).await;
        let other = self.reading.pull(&self.ann, scope, cursor).await;
        assert_eq!(one, other);
        other
    }
}

#[tokio::test]
async fn a_replica_reads_much_and_what_it_lacks_the_primary_reads() {
    let Some(mut world) = World::start().await else {
        return;
    };
    world.push(300).await;
    world.replicated.go_on().await;
    let reply = world.pull(None).await;
    let page = &reply.pages[0];
    assert_eq!((page.changes.len(), page.at_head), (300, true));
    assert_eq!(world.reading.counts(), (1, 0));
    // Nothing new: one look at the primary.
    let before = page.cursor;
    assert_eq!(world.pull(Some(before)).await.pages[0].changes.len(), 0);
    assert_eq!(world.reading.counts(), (1, 0));

    world.replicated.hold().await;
    world.push(150).await;
    // Own writes are there, digests are those of the head, and a cursor that the replica never
    // heard of is no fault.
    let reply = world.pull(Some(before)).await;
    assert_eq!(reply.pages[0].changes.len(), 150);
    assert_eq!(world.reading.counts(), (1, 1));
    let head = reply.pages[0].cursor;
    let nothing = world.pull(Some(head)).await;
    assert_eq!(
        (nothing.pages[0].changes.len(), nothing.pages[0].cursor),
        (0, head)
    );
    let all = world.pull(None).await;
    assert_eq!(all.pages[0].changes.len(), 450);
    assert_eq!(all.pages[0].digests, reply.pages[0].digests);
    assert_eq!(world.reading.counts(), (1, 2));
    // The future is the primary's to refuse.
    let beyond = Cursor {
        n: head.n + 500,
        ..head
    };
    let request = asked(&world.ann, own_scope(&world.ann), Some(beyond));
    let refused = world.reading.post(&world.ann, PULL, &request).await;
    refused.problem(ErrorCode::InvalidCursor);

    world.replicated.go_on().await;
    world.pull(None).await;
    assert_eq!(world.reading.counts(), (2, 2));
    // What lies before the head may come from a replica that has not got there.
    world.push(PULL_CHANGES_MAX).await;
    world.replicated.go_on().await;
    world.replicated.hold().await;
    world.push(10).await;
    let scope = own_scope(&world.ann);
    let reply = world.reading.pull(&world.ann, scope, None).await;
    assert!(!reply.pages[0].at_head && reply.pages[0].digests.is_none());
    assert_eq!(world.reading.counts(), (3, 2));
    world.pull(Some(reply.pages[0].cursor)).await;
    assert_eq!(world.reading.counts(), (3, 3));
}

/// Returns SQL that makes a team, which the world's person owns.
fn team_sql(world: &World, team: Scope) -> String {
    let (tenant, user) = (world.tenant, world.ann.user_id);
    format!(
        "insert into scopes (tenant_id, scope_id, kind, name, created_at)
         values ('{tenant}', '{0}', 'team', 't', now());
         insert into streams (tenant_id, scope_id) values ('{tenant}', '{0}');
         insert into scope_members (tenant_id, scope_id, user_id, role, created_at)
         values ('{tenant}', '{0}', '{user}', 'owner', now())",
        team.id()
    )
}

/// Pulls the own rows and a team's in one request.
async fn pull_both(world: &World, team: Scope) -> PullReply {
    let mut request = asked(&world.ann, own_scope(&world.ann), None);
    request.positions.push(Position {
        scope: team,
        ..request.positions[0].clone()
    });
    world.reading.post(&world.ann, PULL, &request).await.ok()
}

/// Returns how many changes came, for each scope.
fn lengths(reply: &PullReply) -> Vec<(Scope, usize)> {
    let pages = reply.pages.iter();
    pages.map(|page| (page.scope, page.changes.len())).collect()
}

#[tokio::test]
async fn who_may_read_what_is_decided_on_the_primary() {
    let Some(mut world) = World::start().await else {
        return;
    };
    let team = Scope::Team(Uuid::from_u128(0x7ea));
    let superuser = world.replicated.db.superuser_client().await;
    let member = team_sql(&world, team);
    superuser.batch_execute(&member).await.unwrap();
    let changes: Vec<_> = (0..200)
        .map(|n| decision(fresh_row(), &n.to_string(), 0))
        .collect();
    let request = push_request(world.ann.device_id, team, None, changes);
    let reply: PushReply = world.reading.post(&world.ann, PUSH, &request).await.ok();
    world.token = Some(reply.token);
    world.push(200).await;
    world.replicated.go_on().await;
    let reply = pull_both(&world, team).await;
    let own = own_scope(&world.ann);
    assert_eq!(lengths(&reply), [(own, 200), (team, 200)]);
    assert_eq!(world.reading.counts(), (1, 0));

    // The replica still takes the person for a member of the team.
    world.replicated.hold().await;
    let leave = "delete from scope_members where role = 'owner'";
    superuser.batch_execute(leave).await.unwrap();
    let reply = pull_both(&world, team).await;
    assert_eq!(lengths(&reply), [(own, 200)]);
    assert!(
        !reply.scopes.contains(&team),
        "the device drops the team's rows"
    );
    assert_eq!(
        world.reading.counts(),
        (2, 0),
        "the own rows came from the replica"
    );

    // Another life of the database: the replica speaks of the one before.
    cluster::change_epoch(&world.reading.db).await.unwrap();
    let cursor = reply.pages[0].cursor;
    let request = asked(&world.ann, own, Some(cursor));
    let refused = world.reading.post(&world.ann, PULL, &request).await;
    refused.problem(ErrorCode::EpochChanged);
    let reply = world.reading.pull(&world.ann, own, None).await;
    assert_ne!(reply.epoch, cursor.epoch);
    assert_eq!(world.reading.counts(), (2, 1));

    // A device that was lost gets nothing, and neither does somebody who left.
    let now = world.replicated.db.clock().now();
    let device = world.ann.device_id;
    admin::revoke_device(&world.reading.db, world.tenant, device, now)
        .await
        .unwrap();
    let refused = world
        .reading
        .post(&world.ann, PULL, &asked(&world.ann, own, None))
        .await;
    refused.problem(ErrorCode::DeviceUnknown);
    assert_eq!(world.reading.counts(), (2, 1));
}

#[tokio::test]
async fn a_replica_that_is_away_costs_nobody_an_answer() {
    let Some(mut world) = World::start().await else {
        return;
    };
    world.push(200).await;
    world.replicated.stop_replica();
    for _ in 0..3 {
        assert_eq!(world.pull(None).await.pages[0].changes.len(), 200);
    }
    let (served, passed_on) = world.reading.counts();
    // It is left alone for a while after it failed once.
    assert_eq!((served, passed_on), (0, 1));
}
