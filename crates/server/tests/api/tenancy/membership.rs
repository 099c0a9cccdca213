//! The matrix's entries for the organisation, teams, projects and invitations.

use axum::body::Body;
use axum::http::{Request, header};
use coditect_protocol::wire::membership::{Invitation, Project, Team};
use coditect_testkit::TestUser;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Probe, Target};
use crate::support::{TestApp, bearer, delete, fresh_uuid, get, post};

pub(super) const TEAMS: &str = "/api/v1/teams/";
pub(super) const PROJECTS: &str = "/api/v1/projects/";
pub(super) const INVITATIONS: &str = "/api/v1/organization/invitations/";
pub(super) const ACCEPT: &str = "/api/v1/invitations/accept/";
const REMOTE: &str = "https://git.example/acme/app.git";

/// What somebody manages.
#[derive(Debug, Clone)]
pub(super) struct Belongings {
    pub(super) team: Uuid,
    /// A member of the project that is taken out of it.
    other_team: Uuid,
    pub(super) project: Uuid,
    remote: String,
    /// Somebody whose role is changed.
    member: Uuid,
    /// Somebody who is taken out of the organisation.
    removed: Uuid,
    /// Somebody who is taken out of team and project.
    left: Uuid,
    team_invitation: Uuid,
    invitation: Uuid,
    pub(super) secret: String,
}

impl Belongings {
    /// The same in form, but of nobody.
    pub(super) fn missing() -> Self {
        Self {
            team: fresh_uuid(),
            other_team: fresh_uuid(),
            project: fresh_uuid(),
            remote: "https://git.example/nobody/nothing".to_owned(),
            member: fresh_uuid(),
            removed: fresh_uuid(),
            left: fresh_uuid(),
            team_invitation: fresh_uuid(),
            invitation: fresh_uuid(),
            secret: format!("cdi_{}", "A".repeat(86)),
        }
    }

    /// Makes what `owner` manages, with `people` of the same organisation.
    pub(super) async fn make(app: &TestApp, owner: &TestUser, people: [&TestUser; 3]) -> Self {
        let [member, removed, left] = people;
        let team: Team = created(app, owner, TEAMS, &json!({ "name": "core" })).await;
        let other: Team = created(app, owner, TEAMS, &json!({ "name": "second" })).await;
        let body = json!({ "name": "app", "repository": { "remote": REMOTE } });
        let project: Project = created(app, owner, PROJECTS, &body).await;
        for person in [member, left] {
            let path = format!("{TEAMS}{}/invitations/", team.id);
            let body = json!({ "email": person.email, "role": "member" });
            let invited: Invitation = created(app, owner, &path, &body).await;
            let body = json!({ "secret": invited.secret });
            assert_eq!(app.post(ACCEPT, &body).await.status, 200);
            let path = format!("{PROJECTS}{}/members/{}/", project.id, person.user_id);
            let put = bearer(
                put(&path, &json!({ "role": "member" })),
                &owner.access_token,
            );
            assert_eq!(app.send(put).await.status, 204);
        }
        let path = format!("{PROJECTS}{}/teams/{}/", project.id, other.id);
        let link = bearer(
            put(&path, &json!({ "role": "viewer" })),
            &owner.access_token,
        );
        assert_eq!(app.send(link).await.status, 204);
        let path = format!("{TEAMS}{}/invitations/", team.id);
        let body = json!({ "email": removed.email, "role": "member" });
        let open: Invitation = created(app, owner, &path, &body).await;
        let closed: Invitation = created(app, owner, &path, &body).await;
        let body = json!({ "email": "new@acme.example", "role": "viewer" });
        let invitation: Invitation = created(app, owner, INVITATIONS, &body).await;
        // Not the one who is removed: the invitation is accepted later.
        let body = json!({ "email": member.email, "role": "member" });
        let secret: Invitation = created(app, owner, &path, &body).await;
        assert_ne!(open.id, closed.id);
        Self {
            team: team.id,
            other_team: other.id,
            project: project.id,
            remote: REMOTE.to_owned(),
            member: member.user_id.get(),
            removed: removed.user_id.get(),
            left: left.user_id.get(),
            team_invitation: closed.id,
            invitation: invitation.id,
            secret: secret.secret.unwrap(),
        }
    }
}

async fn created<T: serde::de::DeserializeOwned>(
    app: &TestApp,
    user: &TestUser,
    path: &str,
    body: &Value,
) -> T {
    let reply = app.post_as(user, path, body).await;
    assert_eq!(reply.status, 201, "{path}: {}", reply.text());
    serde_json::from_slice(&reply.body).unwrap()
}

pub(crate) fn put(path: &str, body: &Value) -> Request<Body> {
    Request::put(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_string()))
        .unwrap()
}

pub(super) const fn probe(
    route: &'static str,
    own_status: u16,
    request: fn(&Target, coditect_protocol::DeviceId, &TestUser) -> Request<Body>,
) -> Probe {
    Probe {
        route,
        bearer: true,
        own_status,
        request,
    }
}

fn team(target: &Target, rest: &str) -> String {
    format!("{TEAMS}{}/{rest}", target.belongings.team)
}

fn project(target: &Target, rest: &str) -> String {
    format!("{PROJECTS}{}/{rest}", target.belongings.project)
}

fn role() -> Value {
    json!({ "role": "admin" })
}

fn member_of_organization(id: Uuid) -> String {
    format!("/api/v1/organization/members/{id}/")
}

/// Requests that make something are refused for their form: what is made would have another id
/// each time. `own_things_are_reached_by_the_same_requests` sends whole ones.
pub(super) const PROBES: &[Probe] = &[
    probe("POST /api/v1/teams/", 201, |_, _, _| {
        post(TEAMS, &json!({ "name": "" }))
    }),
    probe("GET /api/v1/teams/", 200, |_, _, _| get(TEAMS)),
    probe("GET /api/v1/teams/{id}/", 200, |t, _, _| get(&team(t, ""))),
    probe("PUT /api/v1/teams/{id}/", 200, |t, _, _| {
        put(&team(t, ""), &json!({ "name": "other" }))
    }),
    probe("GET /api/v1/teams/{id}/members/", 200, |t, _, _| {
        get(&team(t, "members/"))
    }),
    probe(
        "PUT /api/v1/teams/{id}/members/{user_id}/",
        204,
        |t, _, _| {
            put(
                &team(t, &format!("members/{}/", t.belongings.member)),
                &role(),
            )
        },
    ),
    probe(
        "DELETE /api/v1/teams/{id}/members/{user_id}/",
        204,
        |t, _, _| delete(&team(t, &format!("members/{}/", t.belongings.left))),
    ),
    probe("POST /api/v1/teams/{id}/invitations/", 201, |t, _, _| {
        let body = json!({ "email": "x@acme.example", "role": "member" });
        post(&team(t, "invitations/"), &body)
    }),
    probe("GET /api/v1/teams/{id}/invitations/", 200, |t, _, _| {
        get(&team(t, "invitations/"))
    }),
    probe(
        "DELETE /api/v1/teams/{id}/invitations/{invitation_id}/",
        204,
        |t, _, _| {
            delete(&team(
                t,
                &format!("invitations/{}/", t.belongings.team_invitation),
            ))
        },
    ),
    probe("POST /api/v1/teams/{id}/context/push", 200, |t, _, _| {
        post(&team(t, "context/push"), &json!({ "content": "planted" }))
    }),
    probe("GET /api/v1/teams/{id}/context/pull", 200, |t, _, _| {
        get(&team(t, "context/pull"))
    }),
    probe("POST /api/v1/projects/", 201, |_, _, _| {
        post(PROJECTS, &json!({ "name": "" }))
    }),
    probe("GET /api/v1/projects/", 200, |t, _, _| {
        get(&format!("{PROJECTS}?remote={}", t.belongings.remote))
    }),
    probe("GET /api/v1/projects/{id}/", 200, |t, _, _| {
        get(&project(t, ""))
    }),
    probe("PUT /api/v1/projects/{id}/", 200, |t, _, _| {
        put(&project(t, ""), &json!({ "archived": false }))
    }),
    probe("GET /api/v1/projects/{id}/members/", 200, |t, _, _| {
        get(&project(t, "members/"))
    }),
    probe(
        "PUT /api/v1/projects/{id}/members/{user_id}/",
        204,
        |t, _, _| {
            put(
                &project(t, &format!("members/{}/", t.belongings.member)),
                &role(),
            )
        },
    ),
    probe(
        "DELETE /api/v1/projects/{id}/members/{user_id}/",
        204,
        |t, _, _| delete(&project(t, &format!("members/{}/", t.belongings.left))),
    ),
    probe(
        "PUT /api/v1/projects/{id}/teams/{team_id}/",
        204,
        |t, _, _| {
            put(
                &project(t, &format!("teams/{}/", t.belongings.team)),
                &role(),
            )
        },
    ),
    probe(
        "DELETE /api/v1/projects/{id}/teams/{team_id}/",
        204,
        |t, _, _| delete(&project(t, &format!("teams/{}/", t.belongings.other_team))),
    ),
    probe(
        "POST /api/v1/projects/{id}/repositories/",
        200,
        |t, _, _| {
            let body = json!({ "root_commit": "0a".repeat(20) });
            post(&project(t, "repositories/"), &body)
        },
    ),
    probe(
        "DELETE /api/v1/projects/{id}/repositories/",
        200,
        |t, _, _| delete(&project(t, &format!("repositories/?remote={REMOTE}"))),
    ),
    probe("POST /api/v1/projects/{id}/context/push", 200, |t, _, _| {
        post(
            &project(t, "context/push"),
            &json!({ "content": "planted" }),
        )
    }),
    probe("GET /api/v1/projects/{id}/context/pull", 200, |t, _, _| {
        get(&project(t, "context/pull"))
    }),
    probe("GET /api/v1/organization/", 200, |_, _, _| {
        get("/api/v1/organization/")
    }),
    probe("GET /api/v1/organization/members/", 200, |_, _, _| {
        get("/api/v1/organization/members/")
    }),
    probe(
        "PUT /api/v1/organization/members/{user_id}/",
        204,
        |t, _, _| put(&member_of_organization(t.belongings.member), &role()),
    ),
    probe(
        "DELETE /api/v1/organization/members/{user_id}/",
        204,
        |t, _, _| delete(&member_of_organization(t.belongings.removed)),
    ),
    // The only owner; `erasure.rs` has those who may go.
    probe("POST /api/v1/users/{id}/erase", 409, |t, _, caller| {
        post(
            &format!("/api/v1/users/{}/erase", t.scope.id()),
            &json!({ "email": caller.email, "dry_run": true }),
        )
    }),
    probe("POST /api/v1/organization/invitations/", 201, |_, _, _| {
        post(
            INVITATIONS,
            &json!({ "email": "y@acme.example", "role": "nobody" }),
        )
    }),
    probe("GET /api/v1/organization/invitations/", 200, |_, _, _| {
        get(INVITATIONS)
    }),
    probe(
        "DELETE /api/v1/organization/invitations/{invitation_id}/",
        204,
        |t, _, _| delete(&format!("{INVITATIONS}{}/", t.belongings.invitation)),
    ),
    Probe {
        route: "POST /api/v1/invitations/accept/",
        bearer: false,
        own_status: 200,
        // The target's invitation, but another secret.
        request: |target, _, _| {
            let secret = super::forged(&target.belongings.secret);
            post(ACCEPT, &json!({ "secret": secret }))
        },
    },
];

/// Returns the whole request of a route whose probe is refused for its form.
pub(super) fn whole(route: &str, target: &Target) -> Option<Request<Body>> {
    let (path, body) = match route {
        "POST /api/v1/teams/" => (TEAMS, json!({ "name": "third" })),
        "POST /api/v1/projects/" => (PROJECTS, json!({ "name": "other" })),
        "POST /api/v1/organization/invitations/" => (
            INVITATIONS,
            json!({ "email": "y@acme.example", "role": "member" }),
        ),
        "POST /api/v1/invitations/accept/" => {
            (ACCEPT, json!({ "secret": target.belongings.secret }))
        }
        _ => return None,
    };
    Some(post(path, &body))
}
