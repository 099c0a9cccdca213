//! Teams and projects from the first invitation to the last owner.

use coditect_protocol::wire::context::MessagePage;
use coditect_protocol::wire::membership::{
    Accepted, Invitation, InvitationList, OrganizationMemberList, Project, ProjectList,
    ScopeMemberList, Team, TeamList,
};
use coditect_protocol::wire::pull::PullReply;
use coditect_protocol::{ErrorCode, Scope};
use coditect_server_store::identity::Role;
use coditect_testkit::{TestTenant, TestUser};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::{
    PULL, PUSH, Reply, TestApp, bearer, decision, delete, fresh_row, get, own_scope, post,
    pull_request, push_request,
};
use crate::tenancy::membership::put;

const TEAMS: &str = "/api/v1/teams/";
const PROJECTS: &str = "/api/v1/projects/";
const MEMBERS: &str = "/api/v1/organization/members/";
const ACCEPT: &str = "/api/v1/invitations/accept/";

struct World {
    app: TestApp,
    acme: TestTenant,
    olga: TestUser,
    ann: TestUser,
    ben: TestUser,
}

async fn world() -> World {
    let app = TestApp::start().await;
    let acme = app.db.with_tenant("acme").await;
    let olga = app
        .db
        .with_role(&acme, "olga@acme.example", Role::Owner)
        .await;
    let ann = app.db.with_user(&acme, "ann@acme.example").await;
    let ben = app.db.with_user(&acme, "ben@acme.example").await;
    World {
        app,
        acme,
        olga,
        ann,
        ben,
    }
}

fn made<T: DeserializeOwned>(reply: &Reply) -> T {
    assert_eq!(reply.status, 201, "{}", reply.text());
    serde_json::from_slice(&reply.body).unwrap()
}

impl World {
    async fn put(&self, user: &TestUser, path: &str, body: &Value) -> Reply {
        self.app
            .send(bearer(put(path, body), &user.access_token))
            .await
    }

    async fn delete(&self, user: &TestUser, path: &str) -> Reply {
        self.app
            .send(bearer(delete(path), &user.access_token))
            .await
    }

    async fn team(&self) -> Team {
        made(
            &self
                .app
                .post_as(&self.olga, TEAMS, &json!({ "name": "core" }))
                .await,
        )
    }

    async fn invite(&self, by: &TestUser, team: &Team, email: &str, role: &str) -> Invitation {
        let path = format!("{TEAMS}{}/invitations/", team.id);
        let body = json!({ "email": email, "role": role });
        made(&self.app.post_as(by, &path, &body).await)
    }

    async fn accept(&self, secret: &str) -> Reply {
        self.app.post(ACCEPT, &json!({ "secret": secret })).await
    }

    async fn join(&self, team: &Team, user: &TestUser, role: &str) {
        let invited = self.invite(&self.olga, team, &user.email, role).await;
        let reply = self.accept(&invited.secret.unwrap()).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }

    async fn pull(&self, user: &TestUser, scope: Scope) -> PullReply {
        let mut request = pull_request(user.device_id, scope);
        request
            .positions
            .extend(pull_request(user.device_id, own_scope(user)).positions);
        self.app.post_as(user, PULL, &request).await.ok()
    }
}

#[tokio::test]
async fn a_team_is_joined_by_invitation_and_left_at_once() {
    let world = world().await;
    let team = world.team().await;
    let scope = Scope::Team(team.id);
    let invited = world
        .invite(&world.olga, &team, "Ann@ACME.example", "member")
        .await;
    assert_eq!(invited.email, world.ann.email);
    let secret = invited.secret.unwrap();
    // The secret is shown once.
    let path = format!("{TEAMS}{}/invitations/", team.id);
    let listed: InvitationList = world.app.get_as(&world.olga, &path).await.ok();
    assert_eq!(
        (listed.invitations.len(), &listed.invitations[0].secret),
        (1, &None)
    );
    let accepted: Accepted = world.accept(&secret).await.ok();
    assert_eq!(
        (accepted.user_id, accepted.scope),
        (world.ann.user_id, scope)
    );
    let again: Accepted = world.accept(&secret).await.ok();
    assert_eq!(accepted, again);

    let change = decision(fresh_row(), "of the team", 0);
    let request = push_request(world.ann.device_id, scope, None, vec![change]);
    assert_eq!(
        world.app.post_as(&world.ann, PUSH, &request).await.status,
        200
    );
    let change = decision(fresh_row(), "planted", 0);
    let request = push_request(world.ben.device_id, scope, None, vec![change]);
    world
        .app
        .post_as(&world.ben, PUSH, &request)
        .await
        .problem(ErrorCode::NotFound);
    let reply = world.pull(&world.ann, scope).await;
    assert!(reply.scopes.contains(&scope));
    assert_eq!((reply.pages.len(), reply.pages[0].changes.len()), (2, 1));

    let path = format!("{TEAMS}{}/members/{}/", team.id, world.ann.user_id);
    assert_eq!(world.delete(&world.olga, &path).await.status, 204);
    // The other position is answered all the same.
    let reply = world.pull(&world.ann, scope).await;
    assert!(!reply.scopes.contains(&scope));
    assert_eq!(reply.pages.len(), 1);
    // Who was removed does not come back by the old invitation.
    world.accept(&secret).await.problem(ErrorCode::NotFound);
}

#[tokio::test]
async fn messages_of_a_team_say_who_contributed_them() {
    let world = world().await;
    let team = world.team().await;
    world.join(&team, &world.ann, "member").await;
    world.join(&team, &world.ben, "member").await;
    let push = format!("{TEAMS}{}/context/push", team.id);
    let body = json!({ "messages": [{ "type": "pattern", "content": "validate input",
        "metadata": { "source": "s" } }] });
    let reply: Value = world.app.post_as(&world.ann, &push, &body).await.ok();
    assert_eq!(
        (&reply["synced"], &reply["skipped"]),
        (&json!(1), &json!(0))
    );
    let pull = format!("{TEAMS}{}/context/pull?cursor=0&limit=100", team.id);
    let page: MessagePage = world.app.get_as(&world.ben, &pull).await.ok();
    assert_eq!(page.messages[0].contributed_by, Some(world.ann.user_id));
    assert_eq!(page.messages[0].content, "validate input");
    // The own stream stays as it was printed.
    let own: Value = world
        .app
        .get_as(&world.ann, "/api/v1/context/pull")
        .await
        .ok();
    assert_eq!(own["messages"], json!([]));
}

#[tokio::test]
async fn the_last_owner_stays_and_nobody_gives_more_than_the_own_role() {
    let world = world().await;
    let team = world.team().await;
    world.join(&team, &world.ann, "admin").await;
    world.join(&team, &world.ben, "member").await;
    let member = |user: &TestUser| format!("{TEAMS}{}/members/{}/", team.id, user.user_id);
    let role = |role: &str| json!({ "role": role });
    for (user, path, body) in [
        (&world.ann, member(&world.ben), role("owner")),
        (&world.ann, member(&world.olga), role("member")),
        (&world.ben, member(&world.ben), role("admin")),
    ] {
        world
            .put(user, &path, &body)
            .await
            .problem(ErrorCode::PermissionDenied);
    }
    world
        .delete(&world.ann, &member(&world.olga))
        .await
        .problem(ErrorCode::PermissionDenied);
    for reply in [
        world
            .put(&world.olga, &member(&world.olga), &role("admin"))
            .await,
        world.delete(&world.olga, &member(&world.olga)).await,
    ] {
        reply.problem(ErrorCode::LastOwner);
    }
    assert_eq!(
        world
            .put(&world.ann, &member(&world.ben), &role("admin"))
            .await
            .status,
        204
    );
    assert_eq!(
        world
            .put(&world.olga, &member(&world.ben), &role("owner"))
            .await
            .status,
        204
    );
    assert_eq!(
        world.delete(&world.olga, &member(&world.olga)).await.status,
        204
    );
    // Everybody may leave, but for the last owner.
    assert_eq!(
        world.delete(&world.ann, &member(&world.ann)).await.status,
        204
    );
    world
        .delete(&world.ben, &member(&world.ben))
        .await
        .problem(ErrorCode::LastOwner);
    let listed: ScopeMemberList = world
        .app
        .get_as(&world.ben, &format!("{TEAMS}{}/members/", team.id))
        .await
        .ok();
    assert_eq!(listed.members.len(), 1);
}

#[tokio::test]
async fn the_last_owner_of_the_organization_stays_and_so_does_one_of_a_team() {
    let world = world().await;
    let role = |role: &str| json!({ "role": role });
    let team = world.team().await;
    world.join(&team, &world.ben, "owner").await;
    let own = format!("{TEAMS}{}/members/{}/", team.id, world.olga.user_id);
    assert_eq!(world.delete(&world.olga, &own).await.status, 204);
    let own = format!("{MEMBERS}{}/", world.olga.user_id);
    world
        .put(&world.olga, &own, &role("admin"))
        .await
        .problem(ErrorCode::LastOwner);
    world
        .delete(&world.olga, &own)
        .await
        .problem(ErrorCode::LastOwner);
    let other = format!("{MEMBERS}{}/", world.ben.user_id);
    world
        .delete(&world.olga, &other)
        .await
        .problem(ErrorCode::LastOwner);
}

#[tokio::test]
async fn strangers_join_the_organisation_with_a_password_of_their_own() {
    let world = world().await;
    let path = "/api/v1/organization/invitations/";
    let body = json!({ "email": "new@else.example", "role": "viewer" });
    world
        .app
        .post_as(&world.ann, path, &body)
        .await
        .problem(ErrorCode::PermissionDenied);
    let invited: Invitation = made(&world.app.post_as(&world.olga, path, &body).await);
    let secret = invited.secret.unwrap();
    world.accept(&secret).await.problem(ErrorCode::BadRequest);
    let short = json!({ "secret": secret, "password": "short" });
    world
        .app
        .post(ACCEPT, &short)
        .await
        .problem(ErrorCode::BadRequest);
    let password = "correct horse battery";
    let body = json!({ "secret": secret, "password": password });
    let accepted: Accepted = world.app.post(ACCEPT, &body).await.ok();
    assert_eq!(
        (accepted.role.as_str(), accepted.scope),
        ("viewer", Scope::Org(world.acme.id.get()))
    );
    let login = json!({ "email": "new@else.example", "password": password });
    assert_eq!(
        world.app.post("/api/v1/auth/login/", &login).await.status,
        200
    );
    // A team's admin brings nobody into the organisation.
    let team = world.team().await;
    world.join(&team, &world.ann, "admin").await;
    let path = format!("{TEAMS}{}/invitations/", team.id);
    let body = json!({ "email": "third@else.example", "role": "member" });
    world
        .app
        .post_as(&world.ann, &path, &body)
        .await
        .problem(ErrorCode::PermissionDenied);
    let listed: OrganizationMemberList = world.app.get_as(&world.ann, MEMBERS).await.ok();
    assert_eq!(listed.members.len(), 4);
}

#[tokio::test]
async fn an_invitation_ends_by_time_and_by_being_taken_back() {
    let world = world().await;
    let team = world.team().await;
    let first = world
        .invite(&world.olga, &team, &world.ann.email, "member")
        .await;
    let path = format!("{TEAMS}{}/invitations/{}/", team.id, first.id);
    assert_eq!(world.delete(&world.olga, &path).await.status, 204);
    world
        .delete(&world.olga, &path)
        .await
        .problem(ErrorCode::NotFound);
    world
        .accept(&first.secret.unwrap())
        .await
        .problem(ErrorCode::NotFound);
    let second = world
        .invite(&world.olga, &team, &world.ann.email, "member")
        .await;
    world.app.db.clock().advance(chrono::TimeDelta::days(8));
    world
        .accept(&second.secret.unwrap())
        .await
        .problem(ErrorCode::NotFound);
}

#[tokio::test]
async fn a_project_is_known_by_its_repository() {
    let world = world().await;
    let body = json!({ "name": "app", "repository": {
        "remote": "git@git.example:Acme/App.git", "root_commit": "0a".repeat(20) } });
    let project: Project = made(&world.app.post_as(&world.olga, PROJECTS, &body).await);
    assert_eq!(project.remotes, ["git.example/acme/app"]);
    let body = json!({ "name": "again", "repository": {
        "remote": "https://git.example/acme/app" } });
    let found: Project = world.app.post_as(&world.olga, PROJECTS, &body).await.ok();
    assert_eq!((found.id, found.name.as_str()), (project.id, "app"));
    // Members may not make projects, and this one is not theirs to know of.
    world
        .app
        .post_as(&world.ann, PROJECTS, &body)
        .await
        .problem(ErrorCode::PermissionDenied);
    let find = format!("{PROJECTS}?remote=https://git.example/acme/app");
    let none: ProjectList = world.app.get_as(&world.ann, &find).await.ok();
    assert_eq!(none.projects, []);

    let other: Project = made(
        &world
            .app
            .post_as(&world.olga, PROJECTS, &json!({ "name": "other" }))
            .await,
    );
    let path = format!("{PROJECTS}{}/repositories/", other.id);
    let remote = json!({ "remote": "https://git.example/acme/app.git" });
    world
        .app
        .post_as(&world.olga, &path, &remote)
        .await
        .problem(ErrorCode::AlreadyTaken);
}

#[tokio::test]
async fn a_team_is_a_member_of_a_project_and_the_highest_role_counts() {
    let world = world().await;
    let created = world
        .app
        .post_as(&world.olga, PROJECTS, &json!({ "name": "app" }))
        .await;
    let project: Project = made(&created);
    let team = world.team().await;
    world.join(&team, &world.ann, "member").await;
    let link = format!("{PROJECTS}{}/teams/{}/", project.id, team.id);
    assert_eq!(
        world
            .put(&world.olga, &link, &json!({ "role": "viewer" }))
            .await
            .status,
        204
    );
    let scope = Scope::Project(project.id);
    assert!(world.pull(&world.ann, scope).await.scopes.contains(&scope));
    let push = format!("{PROJECTS}{}/context/push", project.id);
    let message = json!({ "content": "seen" });
    world
        .app
        .post_as(&world.ann, &push, &message)
        .await
        .problem(ErrorCode::PermissionDenied);
    // The highest role counts.
    let member = format!("{PROJECTS}{}/members/{}/", project.id, world.ann.user_id);
    assert_eq!(
        world
            .put(&world.olga, &member, &json!({ "role": "member" }))
            .await
            .status,
        204
    );
    assert_eq!(
        world.app.post_as(&world.ann, &push, &message).await.status,
        200
    );
    // Out of the project, but still in it through the team; then out of that.
    assert_eq!(world.delete(&world.olga, &member).await.status, 204);
    world
        .app
        .post_as(&world.ann, &push, &message)
        .await
        .problem(ErrorCode::PermissionDenied);
    assert_eq!(world.delete(&world.olga, &link).await.status, 204);
    world
        .app
        .post_as(&world.ann, &push, &message)
        .await
        .problem(ErrorCode::NotFound);
}

#[tokio::test]
async fn the_archive_is_read_and_not_written() {
    let world = world().await;
    let team = world.team().await;
    world.join(&team, &world.ann, "member").await;
    let push = format!("{TEAMS}{}/context/push", team.id);
    assert_eq!(
        world
            .app
            .post_as(&world.ann, &push, &json!({ "content": "a" }))
            .await
            .status,
        200
    );
    let path = format!("{TEAMS}{}/", team.id);
    world
        .put(&world.ann, &path, &json!({ "archived": true }))
        .await
        .problem(ErrorCode::PermissionDenied);
    assert_eq!(
        world
            .put(&world.olga, &path, &json!({ "archived": true }))
            .await
            .status,
        200
    );
    let refused = world
        .app
        .post_as(&world.ann, &push, &json!({ "content": "b" }))
        .await;
    refused.problem(ErrorCode::PermissionDenied);
    let pull = format!("{TEAMS}{}/context/pull", team.id);
    let page: MessagePage = world.app.get_as(&world.ann, &pull).await.ok();
    assert_eq!(page.messages.len(), 1);
    let listed: TeamList = world.app.get_as(&world.ann, TEAMS).await.ok();
    assert!(listed.teams[0].archived_at.is_some());
    assert_eq!(
        world
            .put(&world.olga, &path, &json!({ "archived": false }))
            .await
            .status,
        200
    );
    assert_eq!(
        world
            .app
            .post_as(&world.ann, &push, &json!({ "content": "b" }))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn single_permissions_are_granted_and_denied() {
    let world = world().await;
    let path = format!("{MEMBERS}{}/", world.ann.user_id);
    let deny = json!({ "permissions": { "sync:push": false } });
    assert_eq!(world.put(&world.olga, &path, &deny).await.status, 204);
    let org = Scope::Org(world.acme.id.get());
    let change = decision(fresh_row(), "x", 0);
    let request = push_request(world.ann.device_id, org, None, vec![change]);
    world
        .app
        .post_as(&world.ann, PUSH, &request)
        .await
        .problem(ErrorCode::PermissionDenied);
    let clear = json!({ "permissions": {} });
    assert_eq!(world.put(&world.olga, &path, &clear).await.status, 204);
    assert_eq!(
        world.app.post_as(&world.ann, PUSH, &request).await.status,
        200
    );
    for name in ["members:update", "nothing:at_all"] {
        let body = json!({ "permissions": { name: true } });
        world
            .put(&world.olga, &path, &body)
            .await
            .problem(ErrorCode::BadRequest);
    }
    let removed = bearer(delete(&path), &world.olga.access_token);
    assert_eq!(world.app.send(removed).await.status, 204);
    let asked = bearer(get(TEAMS), &world.ann.access_token);
    world
        .app
        .send(asked)
        .await
        .problem(ErrorCode::Unauthenticated);
    assert_eq!(
        world
            .app
            .send(post(ACCEPT, &json!({ "secret": "cdi_x" })))
            .await
            .status,
        404
    );
}
