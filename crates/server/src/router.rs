//! Every URL of the server, once: the router and the OpenAPI document are both made of this
//! list, so that neither can have a route that the other lacks.

use axum::Router;
use axum::handler::Handler;
use axum::middleware;
use axum::routing::{MethodRouter, delete, get, post, put};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

use crate::error::AppError;
use crate::layers::{guard_transport, handle_panic, limit_requests, observe};
use crate::openapi::Operation;
use crate::routes::{audit, auth, context, devices, health, membership, openapi_json, sync};
use crate::state::AppState;

/// A route: where it is, what it does, how it is described.
#[derive(Debug)]
pub struct Endpoint {
    /// HTTP method, uppercase.
    pub method: &'static str,
    /// Path as documented; it is served with and without a slash at its end.
    pub path: &'static str,
    /// Its description.
    pub operation: &'static Operation,
    handler: MethodRouter<AppState>,
}

/// Returns all routes.
#[must_use]
pub fn endpoints() -> Vec<Endpoint> {
    let mut all = access();
    all.extend(views());
    all.extend(records());
    all.extend(membership());
    all.extend(shared_scopes());
    all.extend(backups());
    all.extend(sync());
    all.extend(vec![
        gets("/api/v1/audit/", audit::handle, &audit::OPERATION),
        gets(
            "/api/v1/audit/export",
            audit::export::handle,
            &audit::export::OPERATION,
        ),
        gets(
            "/api/v1/openapi.json",
            openapi_json::handle,
            &openapi_json::OPERATION,
        ),
        gets("/health/", health::ready::handle, &health::ready::OPERATION),
        gets(
            "/health/live",
            health::live::handle,
            &health::live::OPERATION,
        ),
    ]);
    all
}

/// Returns the routes of rows: their sync, conflicts and history.
fn sync() -> Vec<Endpoint> {
    vec![
        posts(
            "/api/v1/sync/push",
            sync::push::handle,
            &sync::push::OPERATION,
        ),
        posts(
            "/api/v1/sync/pull",
            sync::pull::handle,
            &sync::pull::OPERATION,
        ),
        posts(
            "/api/v1/sync/move",
            sync::moves::handle,
            &sync::moves::OPERATION,
        ),
        posts(
            "/api/v1/sync/bodies",
            sync::bodies::handle,
            &sync::bodies::OPERATION,
        ),
        posts(
            "/api/v1/sync/bodies/known",
            sync::bodies::known::handle,
            &sync::bodies::known::OPERATION,
        ),
        gets(
            "/api/v1/sync/conflicts",
            sync::conflicts::handle,
            &sync::conflicts::OPERATION,
        ),
        gets(
            "/api/v1/sync/hints",
            sync::hints::handle,
            &sync::hints::OPERATION,
        ),
        posts(
            "/api/v1/sync/conflicts/{id}/resolve",
            sync::conflicts::resolve::handle,
            &sync::conflicts::resolve::OPERATION,
        ),
        gets(
            "/api/v1/sync/history",
            sync::history::handle,
            &sync::history::OPERATION,
        ),
        posts(
            "/api/v1/sync/history/restore",
            sync::history::restore::handle,
            &sync::history::restore::OPERATION,
        ),
    ]
}

/// Returns the routes of logins, keys and devices.
fn access() -> Vec<Endpoint> {
    vec![
        posts(
            "/api/v1/auth/license/",
            auth::license::handle,
            &auth::license::OPERATION,
        ),
        posts(
            "/api/v1/auth/login/",
            auth::login::handle,
            &auth::login::OPERATION,
        ),
        posts(
            "/api/v1/auth/refresh/",
            auth::refresh::handle,
            &auth::refresh::OPERATION,
        ),
        posts(
            "/api/v1/auth/logout/",
            auth::logout::handle,
            &auth::logout::OPERATION,
        ),
        gets(
            "/api/v1/auth/jwks.json",
            auth::jwks::handle,
            &auth::jwks::OPERATION,
        ),
        gets(
            "/.well-known/jwks.json",
            auth::jwks::handle,
            &auth::jwks::WELL_KNOWN,
        ),
        gets(
            "/api/v1/devices/",
            devices::list::handle,
            &devices::list::OPERATION,
        ),
        deletes(
            "/api/v1/devices/{id}/",
            devices::revoke::handle,
            &devices::revoke::OPERATION,
        ),
    ]
}

/// Returns the views on the caller's own stream.
fn views() -> Vec<Endpoint> {
    vec![
        posts(
            "/api/v1/context/push",
            context::push::handle,
            &context::push::OPERATION,
        ),
        gets(
            "/api/v1/context/pull",
            context::pull::handle,
            &context::pull::OPERATION,
        ),
        gets(
            "/api/v1/context/status",
            context::status::handle,
            &context::status::OPERATION,
        ),
        posts(
            "/api/v1/context/tasks/",
            context::tasks::put::handle,
            &context::tasks::put::OPERATION,
        ),
        gets(
            "/api/v1/context/tasks/",
            context::tasks::list::handle,
            &context::tasks::list::OPERATION,
        ),
        gets(
            "/api/v1/context/decisions/",
            context::decisions::handle,
            &context::decisions::OPERATION,
        ),
        gets(
            "/api/v1/context/learnings/",
            context::learnings::handle,
            &context::learnings::OPERATION,
        ),
    ]
}

/// Returns the routes of records, the same for each kind; facts are not changed.
fn records() -> Vec<Endpoint> {
    use context::records::{
        Calibrations, Checkpoints, Metrics, Sprints, Tracks, create, create_operation, edit,
        edit_operation, list, list_operation, remove, remove_operation, show, show_operation,
    };
    macro_rules! of {
        ($kind:ident, $name:literal, $plural:literal, $folder:literal) => {
            vec![
                posts(
                    concat!("/api/v1/context/", $folder, "/"),
                    create::<$kind>,
                    const {
                        &create_operation::<$kind>(
                            concat!("create", $name),
                            concat!("New", $name),
                        )
                    },
                ),
                gets(
                    concat!("/api/v1/context/", $folder, "/"),
                    list::<$kind>,
                    const {
                        &list_operation::<$kind>(
                            concat!("list", $plural),
                            concat!($name, "Page"),
                        )
                    },
                ),
                gets(
                    concat!("/api/v1/context/", $folder, "/{id}/"),
                    show::<$kind>,
                    const { &show_operation(concat!("show", $name), $name) },
                ),
                deletes(
                    concat!("/api/v1/context/", $folder, "/{id}/"),
                    remove::<$kind>,
                    const { &remove_operation(concat!("delete", $name)) },
                ),
            ]
        };
        ($kind:ident, $name:literal, $plural:literal, $folder:literal, edited) => {{
            let mut all = of!($kind, $name, $plural, $folder);
            all.push(puts(
                concat!("/api/v1/context/", $folder, "/{id}/"),
                edit::<$kind>,
                const { &edit_operation(concat!("edit", $name), concat!($name, "Edit")) },
            ));
            all
        }};
    }
    let mut all = of!(Sprints, "Sprint", "Sprints", "sprints", edited);
    all.extend(of!(Tracks, "Track", "Tracks", "tracks", edited));
    all.extend(of!(Metrics, "Metric", "Metrics", "metrics"));
    all.extend(of!(
        Calibrations,
        "Calibration",
        "Calibrations",
        "calibrations"
    ));
    all.extend(of!(Checkpoints, "Checkpoint", "Checkpoints", "checkpoints"));
    all
}

/// Returns the routes of backups, the same for each kind of scope.
fn backups() -> Vec<Endpoint> {
    use context::backups::{
        Organizations, Projects, Teams, Users, create, create_operation, list, list_operation,
        restore, restore_operation, restores, restores_operation, show_restore,
        show_restore_operation,
    };
    macro_rules! of {
        ($kind:ident, $folder:literal, $name:literal) => {
            [
                posts(
                    concat!("/api/v1/", $folder, "/{id}/context/backup"),
                    create::<$kind>,
                    const { &create_operation(concat!("create", $name, "Backup")) },
                ),
                gets(
                    concat!("/api/v1/", $folder, "/{id}/context/backups"),
                    list::<$kind>,
                    const { &list_operation(concat!("list", $name, "Backups")) },
                ),
                posts(
                    concat!("/api/v1/", $folder, "/{id}/context/restore"),
                    restore::<$kind>,
                    const { &restore_operation(concat!("restore", $name)) },
                ),
                gets(
                    concat!("/api/v1/", $folder, "/{id}/context/restores"),
                    restores::<$kind>,
                    const { &restores_operation(concat!("list", $name, "Restores")) },
                ),
                gets(
                    concat!("/api/v1/", $folder, "/{id}/context/restores/{restore_id}"),
                    show_restore::<$kind>,
                    const { &show_restore_operation(concat!("show", $name, "Restore")) },
                ),
            ]
        };
    }
    let mut all = Vec::new();
    all.extend(of!(Users, "users", "User"));
    all.extend(of!(Teams, "teams", "Team"));
    all.extend(of!(Projects, "projects", "Project"));
    all.extend(of!(Organizations, "organizations", "Organization"));
    all
}

/// Returns the routes of the organisation, of teams and projects, and of invitations.
fn membership() -> Vec<Endpoint> {
    use membership::{account, invitations, organization, projects, repositories, teams};
    let team_invitations = "/api/v1/teams/{id}/invitations/";
    let organization_invitations = "/api/v1/organization/invitations/";
    let member = "/api/v1/organization/members/{user_id}/";
    let repositories_of = "/api/v1/projects/{id}/repositories/";
    let team_of = "/api/v1/projects/{id}/teams/{team_id}/";
    vec![
        posts("/api/v1/teams/", teams::create, &teams::CREATE),
        gets("/api/v1/teams/", teams::list, &teams::LIST),
        gets("/api/v1/teams/{id}/", teams::show, &teams::SHOW),
        puts("/api/v1/teams/{id}/", teams::edit, &teams::EDIT),
        posts(
            team_invitations,
            invitations::create_in_team,
            const { &invitations::create_operation("inviteToTeam") },
        ),
        gets(
            team_invitations,
            invitations::list_of_team,
            const { &invitations::list_operation("listTeamInvitations") },
        ),
        deletes(
            "/api/v1/teams/{id}/invitations/{invitation_id}/",
            invitations::revoke_of_team,
            const { &invitations::revoke_operation("revokeTeamInvitation") },
        ),
        posts("/api/v1/projects/", projects::create, &projects::CREATE),
        gets("/api/v1/projects/", projects::list, &projects::LIST),
        gets("/api/v1/projects/{id}/", projects::show, &projects::SHOW),
        puts("/api/v1/projects/{id}/", projects::edit, &projects::EDIT),
        puts(team_of, projects::put_team, &projects::PUT_TEAM),
        deletes(team_of, projects::remove_team, &projects::REMOVE_TEAM),
        posts(repositories_of, repositories::link, &repositories::LINK),
        deletes(repositories_of, repositories::unlink, &repositories::UNLINK),
        gets(
            "/api/v1/organization/",
            organization::show,
            &organization::SHOW,
        ),
        gets(
            "/api/v1/organization/members/",
            organization::members,
            &organization::MEMBERS,
        ),
        puts(member, organization::edit, &organization::EDIT),
        deletes(member, organization::remove, &organization::REMOVE_MEMBER),
        posts("/api/v1/users/{id}/erase", account::erase, &account::ERASE),
        posts(
            organization_invitations,
            invitations::create_in_organization,
            const { &invitations::create_operation("inviteToOrganization") },
        ),
        gets(
            organization_invitations,
            invitations::list_of_organization,
            const { &invitations::list_operation("listOrganizationInvitations") },
        ),
        deletes(
            "/api/v1/organization/invitations/{invitation_id}/",
            invitations::revoke_of_organization,
            const { &invitations::revoke_operation("revokeOrganizationInvitation") },
        ),
        posts(
            "/api/v1/invitations/accept/",
            invitations::accept,
            &invitations::ACCEPT,
        ),
    ]
}

/// Returns the routes that teams and projects have in common.
fn shared_scopes() -> Vec<Endpoint> {
    use crate::routes::context::backups::{Projects, Teams};
    use membership::{context, members};
    macro_rules! of {
        ($kind:ident, $folder:literal, $name:literal) => {
            [
                gets(
                    concat!("/api/v1/", $folder, "/{id}/members/"),
                    members::list::<$kind>,
                    const { &members::list_operation(concat!("list", $name, "Members")) },
                ),
                puts(
                    concat!("/api/v1/", $folder, "/{id}/members/{user_id}/"),
                    members::put::<$kind>,
                    const { &members::put_operation(concat!("put", $name, "Member")) },
                ),
                deletes(
                    concat!("/api/v1/", $folder, "/{id}/members/{user_id}/"),
                    members::remove::<$kind>,
                    const { &members::remove_operation(concat!("remove", $name, "Member")) },
                ),
                posts(
                    concat!("/api/v1/", $folder, "/{id}/context/push"),
                    context::push::<$kind>,
                    const { &context::push_operation(concat!("push", $name, "Context")) },
                ),
                gets(
                    concat!("/api/v1/", $folder, "/{id}/context/pull"),
                    context::pull::<$kind>,
                    const { &context::pull_operation(concat!("pull", $name, "Context")) },
                ),
            ]
        };
    }
    let mut all = Vec::new();
    all.extend(of!(Teams, "teams", "Team"));
    all.extend(of!(Projects, "projects", "Project"));
    all
}

/// Returns the service: all routes below all layers.
pub fn router(state: AppState) -> Router {
    let mut router = Router::new();
    for endpoint in endpoints() {
        let bare = endpoint.path.trim_end_matches('/');
        router = router
            .route(bare, endpoint.handler.clone())
            .route(&format!("{bare}/"), endpoint.handler);
    }
    // Layers are added from the inside out.
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(
            state.clone(),
            limit_requests,
        ))
        .layer(CompressionLayer::new().gzip(true).zstd(true))
        .layer(middleware::from_fn_with_state(
            state.clone(),
            guard_transport,
        ))
        .layer(CatchPanicLayer::custom(handle_panic))
        .layer(middleware::from_fn_with_state(
            state.metrics.clone(),
            observe,
        ))
        .with_state(state)
}

fn posts<H, T>(path: &'static str, handler: H, operation: &'static Operation) -> Endpoint
where
    H: Handler<T, AppState>,
    T: 'static,
{
    Endpoint {
        method: "POST",
        path,
        operation,
        handler: post(handler),
    }
}

fn gets<H, T>(path: &'static str, handler: H, operation: &'static Operation) -> Endpoint
where
    H: Handler<T, AppState>,
    T: 'static,
{
    Endpoint {
        method: "GET",
        path,
        operation,
        handler: get(handler),
    }
}

fn puts<H, T>(path: &'static str, handler: H, operation: &'static Operation) -> Endpoint
where
    H: Handler<T, AppState>,
    T: 'static,
{
    Endpoint {
        method: "PUT",
        path,
        operation,
        handler: put(handler),
    }
}

fn deletes<H, T>(path: &'static str, handler: H, operation: &'static Operation) -> Endpoint
where
    H: Handler<T, AppState>,
    T: 'static,
{
    Endpoint {
        method: "DELETE",
        path,
        operation,
        handler: delete(handler),
    }
}

async fn no_route() -> AppError {
    AppError::NotFound
}

async fn no_method() -> AppError {
    AppError::MethodNotAllowed
}
