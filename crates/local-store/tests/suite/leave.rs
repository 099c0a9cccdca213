//! What a device keeps of a team that its owner does not belong to any more.

use crate::support::{NOW, Server, TENANT, USER, own, row, store};
use coditect_local_store::{LocalStore, Random, RowFilter};
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::Stored;
use coditect_protocol::{Epoch, OrganizationId, Scope, UserId};
use serde_json::json;
use uuid::Uuid;

const DECISIONS: &str = "org_decisions";
const MESSAGES: &str = "context_messages";
pub(crate) const TEAM: Scope = Scope::Team(Uuid::from_u128(0x7ea));
const ORG: Scope = Scope::Org(TENANT);

/// Pulls everything that the person may read, with the team or without it.
pub(crate) fn pull(store: &mut LocalStore, server: &Server, member: bool) {
    let mut reply = server.pull(store);
    reply.scopes = vec![own(), ORG, Scope::Platform];
    if member {
        reply.scopes.push(TEAM);
    }
    reply
        .pages
        .retain(|page| reply.scopes.contains(&page.scope));
    store.apply_reply(&reply).unwrap();
}

/// Returns a device that holds a decision of its own, one of a colleague and the colleague's
/// message, all of the team.
pub(crate) fn member(server: &mut Server) -> LocalStore {
    let other = UserId::new(Uuid::from_u128(0xb0b));
    let mut colleague = LocalStore::in_memory(NOW, Random::Seeded(2)).unwrap();
    colleague.bind(OrganizationId::new(TENANT), other).unwrap();
    let local = colleague.local_scope(TEAM).unwrap();
    let theirs = row(json!({"title": "theirs"}));
    colleague.insert(DECISIONS, &local, theirs, NOW).unwrap();
    let said = row(json!({"message_id": "m", "session_id": "s", "role": "user",
        "content": "walrus"}));
    colleague.insert(MESSAGES, &local, said, NOW).unwrap();
    crate::support::push(&mut colleague, server);
    for stored in server.rows.values_mut() {
        stored.user_id = Some(other);
    }
    let mut store = store(1);
    // The first pull says which scopes there are, the next ones read them.
    pull(&mut store, server, true);
    let mine = row(json!({"title": "mine"}));
    store.insert(DECISIONS, &local, mine, NOW).unwrap();
    crate::support::push(&mut store, server);
    pull(&mut store, server, true);
    assert_eq!(titles(&store), ["mine", "theirs"]);
    assert_eq!(found(&mut store), 1);
    store
}

pub(crate) fn titles(store: &LocalStore) -> Vec<String> {
    let filter = RowFilter {
        limit: 100,
        ..RowFilter::default()
    };
    let rows = store.list(DECISIONS, &filter).unwrap();
    let mut titles: Vec<String> = rows
        .iter()
        .map(|view| view.row["title"].as_str().unwrap().to_owned())
        .collect();
    titles.sort();
    titles
}

fn found(store: &mut LocalStore) -> usize {
    let query = coditect_local_store::SearchQuery {
        text: "walrus".to_owned(),
        limit: 10,
        ..Default::default()
    };
    store.search(&query, NOW).unwrap().len()
}

fn edit(store: &mut LocalStore, from: &str, to: &str) {
    let local = store.local_scope(TEAM).unwrap();
    let filter = RowFilter {
        equals: vec![("title".to_owned(), json!(from))],
        limit: 1,
        ..RowFilter::default()
    };
    let id = store.list(DECISIONS, &filter).unwrap()[0].id.clone();
    let patch = row(json!({"title": to}));
    assert!(
        store
            .update(DECISIONS, &local, &id.unwrap(), &patch, NOW + 1)
            .unwrap()
    );
}

fn assert_nothing_of_the_team(store: &LocalStore) {
    let local = store.local_scope(TEAM).unwrap();
    for file in File::ALL {
        assert_eq!(store.digests(file, TEAM).unwrap(), [], "{file}");
        assert_eq!(store.cursor(file, TEAM).unwrap(), None, "{file}");
        let dump = store.canonical_dump(file).unwrap();
        assert!(dump.iter().all(|row| row.scope != TEAM.to_string()));
        let queued = store.queue_entries(file, false, 100).unwrap();
        assert!(
            queued
                .iter()
                .all(|one| one.scope.as_deref() != Some(&local))
        );
    }
    assert!(
        store
            .streams()
            .unwrap()
            .iter()
            .all(|(scope, _)| *scope != TEAM)
    );
}

#[test]
fn after_a_removal_the_next_poll_takes_the_rows_away() {
    let mut server = Server::new();
    let mut store = member(&mut server);
    pull(&mut store, &server, false);
    assert_eq!(titles(&store), Vec::<String>::new());
    assert_eq!(found(&mut store), 0, "the index forgets them, too");
    assert_nothing_of_the_team(&store);
    // And back again, in full.
    pull(&mut store, &server, true);
    pull(&mut store, &server, true);
    assert_eq!(titles(&store), ["mine", "theirs"]);
    let heads = store.apply_reply(&server.pull(&store)).unwrap().heads;
    assert!(heads.iter().all(|head| head.equal()));
}

#[test]
fn what_the_server_never_got_stays_as_a_private_row() {
    let mut server = Server::new();
    let mut store = member(&mut server);
    let local = store.local_scope(TEAM).unwrap();
    let late = row(json!({"title": "late"}));
    store.insert(DECISIONS, &local, late, NOW).unwrap();
    edit(&mut store, "mine", "mine, edited");
    edit(&mut store, "theirs", "theirs, edited by me");
    store.adopt(File::Org, NOW + 2).unwrap();
    pull(&mut store, &server, false);
    assert_eq!(titles(&store), ["late", "mine, edited"]);
    assert_nothing_of_the_team(&store);
    let sent = crate::support::push(&mut store, &mut server);
    assert_eq!(sent.len(), 2);
    let stored: Vec<&Stored> = server
        .rows
        .iter()
        .filter(|((scope, ..), _)| *scope == Scope::User(USER))
        .map(|(_, stored)| stored)
        .collect();
    assert_eq!(stored.len(), 2);
    pull(&mut store, &server, false);
    assert_eq!(titles(&store), ["late", "mine, edited"]);
}

#[test]
fn a_scope_that_was_not_seen_since_a_set_back_stays() {
    let mut server = Server::new();
    let mut store = member(&mut server);
    // The database that the server was set back to may be older than the membership.
    store.begin_reconcile(Epoch(3)).unwrap();
    server.epoch = Epoch(3);
    pull(&mut store, &server, false);
    assert_eq!(titles(&store), ["mine", "theirs"]);
    pull(&mut store, &server, true);
    pull(&mut store, &server, false);
    assert_eq!(titles(&store), Vec::<String>::new());
}

#[test]
fn more_rows_than_one_transaction_removes_go_too() {
    let mut server = Server::new();
    let mut store = member(&mut server);
    let local = store.local_scope(TEAM).unwrap();
    for n in 0..450 {
        let one = row(json!({"title": format!("n{n}")}));
        store.insert(DECISIONS, &local, one, NOW).unwrap();
    }
    crate::support::push(&mut store, &mut server);
    pull(&mut store, &server, true);
    assert_eq!(titles(&store).len(), 100, "the list's limit");
    pull(&mut store, &server, false);
    assert_eq!(titles(&store).len(), 0);
    assert_nothing_of_the_team(&store);
}
