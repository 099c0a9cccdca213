//! Hints over real sockets: who hears of what, and until when.

use std::net::SocketAddr;

use chrono::TimeDelta;
use coditect_protocol::ErrorCode;
use coditect_protocol::catalogue::File;
use coditect_protocol::limits::HINT_SOCKETS_PER_USER_MAX;
use coditect_protocol::wire::hints::{Hint, HintMessage};
use coditect_protocol::wire::membership::Project;
use coditect_protocol::wire::push::PushReply;
use coditect_protocol::{Cursor, Scope};
use coditect_server::state::{AppState, Clock};
use coditect_server::{router, server};
use coditect_server_store::hints::Link;
use coditect_server_store::identity::Role;
use coditect_server_store::{Db, devices};
use coditect_testkit::TestUser;
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::support::{
    PUSH, TestApp, bearer, decision, delete, fresh_row, http, own_scope, push_decision,
    push_request,
};
use crate::tenancy::membership::put;

const HINTS: &str = "/api/v1/sync/hints";

/// A listening server.
struct Serving {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn serve(state: &AppState) -> Serving {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let (router, hints) = (router::router(state.clone()), state.hints.clone());
    let task = tokio::spawn(async move {
        let stop = async {
            let _ = stopped.await;
            hints.stop().await;
        };
        server::serve(listener, None, router, &http(), stop).await;
    });
    Serving {
        address,
        stop,
        task,
    }
}

struct Client(WebSocketStream<TcpStream>);

impl Client {
    /// Connects with a token and reads the first message.
    async fn connect(server: &Serving, token: &str) -> (Self, Vec<Hint>) {
        let mut client = Self::try_connect(server, token).await.unwrap();
        let first = client.hints().await;
        (client, first)
    }

    async fn try_connect(server: &Serving, token: &str) -> Result<Self, Error> {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let mut request = format!("ws://{}{HINTS}", server.address)
            .into_client_request()
            .unwrap();
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert("authorization", bearer);
        client_async(request, stream)
            .await
            .map(|(socket, _)| Self(socket))
    }

    async fn hints(&mut self) -> Vec<Hint> {
        loop {
            match self.0.next().await.unwrap().unwrap() {
                Message::Text(text) => {
                    let message: HintMessage = serde_json::from_str(&text).unwrap();
                    return message.hints;
                }
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reads to the end and returns why the server closed; panics on a hint.
    async fn closed(&mut self) -> CloseFrame {
        loop {
            match self.0.next().await.unwrap().unwrap() {
                Message::Close(frame) => return frame.unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn hint(scope: Scope, reply: &PushReply) -> Hint {
    let stored = reply.outcomes.last().unwrap().stored.as_ref().unwrap();
    Hint {
        scope,
        file: File::Org,
        cursor: Cursor {
            epoch: reply.epoch,
            n: stored.cursor,
        },
    }
}

async fn push_to(app: &TestApp, user: &TestUser, scope: Scope) -> PushReply {
    let device = app.db.log_in(&user.license_key, &Default::default()).await;
    let change = decision(fresh_row(), "shared", 0);
    let request = push_request(device.caller.device_id(), scope, None, vec![change]);
    app.post_as(user, PUSH, &request).await.ok()
}

#[tokio::test]
async fn push_is_hinted_to_those_who_may_read_it_and_nobody_else() {
    let app = TestApp::start().await;
    let (acme, beta) = (
        app.db.with_tenant("acme").await,
        app.db.with_tenant("beta").await,
    );
    let ann = app.db.with_user(&acme, "ann@acme.example").await;
    let cat = app.db.with_user(&acme, "cat@acme.example").await;
    let eve = app.db.with_user(&beta, "eve@beta.example").await;
    let server = serve(&app.state).await;
    let (mut of_ann, first) = Client::connect(&server, &ann.access_token).await;
    assert_eq!(first, []);
    let (mut of_cat, _) = Client::connect(&server, &cat.access_token).await;
    let (mut of_eve, _) = Client::connect(&server, &eve.access_token).await;

    let private = push_decision(&app, &ann, "mine").await;
    assert_eq!(of_ann.hints().await, [hint(own_scope(&ann), &private)]);
    let org = Scope::Org(acme.id.get());
    let shared = push_to(&app, &ann, org).await;
    assert_eq!(of_ann.hints().await, [hint(org, &shared)]);
    // The first that the colleague hears of is the organisation's; of another tenant only the
    // own.
    assert_eq!(of_cat.hints().await, [hint(org, &shared)]);
    let of_beta = push_decision(&app, &eve, "hers").await;
    assert_eq!(of_eve.hints().await, [hint(own_scope(&eve), &of_beta)]);

    // Who connects later hears at once how far the streams are.
    let (_, first) = Client::connect(&server, &cat.access_token).await;
    assert_eq!(first, [hint(org, &shared)]);
    server.stop.send(()).unwrap();
    assert_eq!(u16::from(of_ann.closed().await.code), 1001);
    server.task.await.unwrap();
}

#[tokio::test]
async fn refused_push_and_repeated_push_move_no_head() {
    let app = TestApp::start().await;
    let acme = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&acme, "ann@acme.example").await;
    let server = serve(&app.state).await;
    let (mut client, _) = Client::connect(&server, &ann.access_token).await;
    let scope = own_scope(&ann);
    let request = push_request(
        ann.device_id,
        scope,
        None,
        vec![decision(fresh_row(), "a", 0)],
    );
    let first: PushReply = app.post_as(&ann, PUSH, &request).await.ok();
    assert_eq!(client.hints().await, [hint(scope, &first)]);
    let _: PushReply = app.post_as(&ann, PUSH, &request).await.ok();
    let fenced = push_request(
        ann.device_id,
        scope,
        None,
        vec![decision(fresh_row(), "b", 0)],
    );
    let fenced = app.post_as(&ann, PUSH, &fenced).await;
    fenced.problem(ErrorCode::FileFenced);
    let last = push_to(&app, &ann, scope).await;
    assert_eq!(client.hints().await, [hint(scope, &last)]);
}

#[tokio::test]
async fn expired_token_and_revoked_device_end_the_connection() {
    let app = TestApp::start().await;
    let acme = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&acme, "ann@acme.example").await;
    let server = serve(&app.state).await;
    let lost = app.db.log_in(&ann.license_key, &Default::default()).await;
    let (mut of_lost, _) = Client::connect(&server, &lost.access_token).await;
    let (mut client, _) = Client::connect(&server, &ann.access_token).await;
    let now = app.db.clock().now();
    devices::revoke(app.db.db(), &ann.caller, lost.caller.device_id(), now)
        .await
        .unwrap();
    app.state.hints.members_changed(ann.caller.tenant());
    assert_eq!(u16::from(of_lost.closed().await.code), 1008);
    // The other device goes on until its token ends.
    let pushed = push_to(&app, &ann, own_scope(&ann)).await;
    assert_eq!(client.hints().await, [hint(own_scope(&ann), &pushed)]);
    app.db.clock().advance(TimeDelta::minutes(16));
    app.state.hints.look_again();
    let closed = client.closed().await;
    assert!(closed.reason.contains("expired"), "{closed:?}");
    let refused = Client::try_connect(&server, &ann.access_token).await;
    assert!(matches!(refused, Err(Error::Http(reply)) if reply.status() == 401));
}

#[tokio::test]
async fn a_person_has_a_limited_number_of_connections() {
    let app = TestApp::start().await;
    let acme = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&acme, "ann@acme.example").await;
    let cat = app.db.with_user(&acme, "cat@acme.example").await;
    let server = serve(&app.state).await;
    let mut clients = Vec::new();
    for _ in 0..HINT_SOCKETS_PER_USER_MAX {
        clients.push(Client::connect(&server, &ann.access_token).await);
    }
    let refused = Client::try_connect(&server, &ann.access_token).await;
    assert!(matches!(refused, Err(Error::Http(reply)) if reply.status() == 429));
    Client::connect(&server, &cat.access_token).await;
    assert_eq!(app.state.hints.subscribers(), HINT_SOCKETS_PER_USER_MAX + 1);
}

#[tokio::test]
async fn who_joins_a_project_hears_of_it_and_who_leaves_does_not() {
    let app = TestApp::start().await;
    let acme = app.db.with_tenant("acme").await;
    let olga = app
        .db
        .with_role(&acme, "olga@acme.example", Role::Owner)
        .await;
    let ann = app.db.with_user(&acme, "ann@acme.example").await;
    let server = serve(&app.state).await;
    let (mut client, _) = Client::connect(&server, &ann.access_token).await;
    let body = json!({ "name": "app" });
    let made = app.post_as(&olga, "/api/v1/projects/", &body).await;
    let project: Project = serde_json::from_slice(&made.body).unwrap();
    let scope = Scope::Project(project.id);
    let member = format!("/api/v1/projects/{}/members/{}/", project.id, ann.user_id);
    let joined = put(&member, &json!({ "role": "member" }));
    let joined = app.send(bearer(joined, &olga.access_token)).await;
    assert_eq!(joined.status, 204, "{}", joined.text());
    let pushed = push_to(&app, &olga, scope).await;
    assert_eq!(client.hints().await, [hint(scope, &pushed)]);

    let left = app.send(bearer(delete(&member), &olga.access_token)).await;
    assert_eq!(left.status, 204, "{}", left.text());
    push_to(&app, &olga, scope).await;
    let org = Scope::Org(acme.id.get());
    let shared = push_to(&app, &olga, org).await;
    assert_eq!(client.hints().await, [hint(org, &shared)]);
}

/// Another instance of the server on the same database.
async fn another(app: &TestApp) -> AppState {
    let db = Db::connect(&app.db.settings()).await.unwrap();
    let clock = app.db.clock().clone();
    let clock = Clock::new(move || clock.now());
    AppState::new(db, app.db.secrets().clone(), clock, http())
}

#[tokio::test]
async fn hint_crosses_from_one_instance_to_another() {
    let app = TestApp::start().await;
    let acme = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&acme, "ann@acme.example").await;
    let other = another(&app).await;
    let up = |link: &Link| matches!(link, Link::Up(_));
    for state in [&app.state, &other] {
        state.hints.follow_others(&state.db);
        state.hints.link().wait_for(up).await.unwrap();
    }
    let server = serve(&other).await;
    let (mut client, _) = Client::connect(&server, &ann.access_token).await;
    let pushed = push_decision(&app, &ann, "here").await;
    assert_eq!(client.hints().await, [hint(own_scope(&ann), &pushed)]);

    // A connection that breaks comes back, and what was missed meanwhile is found by looking.
    let end = "select pg_terminate_backend(pid) from pg_stat_activity
        where application_name = 'coditect-server hints' and datname = current_database()";
    let mut link = other.hints.link();
    let superuser = app.db.superuser_client().await;
    assert_eq!(superuser.query_typed(end, &[]).await.unwrap().len(), 2);
    link.wait_for(|link| *link != Link::Up(1)).await.unwrap();
    let missed = push_to(&app, &ann, own_scope(&ann)).await;
    assert_eq!(client.hints().await, [hint(own_scope(&ann), &missed)]);
    assert_eq!(*link.borrow(), Link::Up(2));
    other.db.close();
}

#[tokio::test]
async fn without_a_direct_connection_looking_finds_the_news() {
    let app = TestApp::start().await;
    let acme = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&acme, "ann@acme.example").await;
    let other = another(&app).await;
    let server = serve(&other).await;
    let (mut client, _) = Client::connect(&server, &ann.access_token).await;
    let pushed = push_decision(&app, &ann, "here").await;
    other.hints.look_again();
    assert_eq!(client.hints().await, [hint(own_scope(&ann), &pushed)]);
    other.db.close();
}
