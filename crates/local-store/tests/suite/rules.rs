//! New rows that go to a shared scope by themselves, and those that must not.

use coditect_local_store::{LocalStore, Random, RowFilter};
use coditect_protocol::Scope;
use coditect_protocol::catalogue::File;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{NOW, Server, TENANT, assert_converged, bind, folder, row, store, sync};

const APP: &str = "git.example.com/acme/app";
const DECISIONS: &str = "org_decisions";
const ORG: Scope = Scope::Org(TENANT);

fn rule(store: &mut LocalStore, scope: &str, to: &str) {
    let rule = json!({ "to": to, "tables": [DECISIONS] });
    let project = json!({ "project_id": APP, "name": "app", "metadata": { "sharing": rule } });
    store
        .insert("projects_projects", scope, row(project), NOW)
        .unwrap();
}

/// Returns title and scope of all decisions, sorted.
fn decisions(store: &LocalStore) -> Vec<(String, String)> {
    let filter = RowFilter {
        limit: 100,
        ..RowFilter::default()
    };
    let all = store.list(DECISIONS, &filter).unwrap();
    let title = |row: &Value| row.as_str().unwrap().to_owned();
    let mut found: Vec<_> = all
        .into_iter()
        .map(|view| (title(&view.row["title"]), view.scope))
        .collect();
    found.sort();
    found
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    let one = |(title, scope): &(&str, &str)| ((*title).to_owned(), (*scope).to_owned());
    all.iter().map(one).collect()
}

#[test]
fn a_rule_takes_new_rows_of_its_project_and_table_alone() {
    let folder = folder();
    let mut store = LocalStore::open(folder.path(), NOW, Random::Seeded(1)).unwrap();
    bind(&mut store);
    let mut server = Server::new();
    let decision = |title: &str| row(json!({ "title": title, "project_id": APP }));
    let early = store
        .insert(DECISIONS, "user", decision("early"), NOW)
        .unwrap();
    sync(&mut store, &mut server);
    let org = ORG.to_string();
    rule(&mut store, "user", &org);
    assert_eq!(store.rules().unwrap()[0].project_id, APP);
    store
        .insert(DECISIONS, "user", decision("ruled"), NOW)
        .unwrap();
    let other = json!({ "title": "other", "project_id": "git.example.com/acme/other" });
    store.insert(DECISIONS, "user", row(other), NOW).unwrap();
    let path = folder.path().join("org.db");
    // By SQL: a new row, one of another table, and a private one written anew under its id.
    let sql = format!(
        "insert into decisions (title, project_id) values ('sql', '{APP}');
         insert into error_solutions (error_pattern, solution, project_id)
            values ('e', 's', '{APP}');
         delete from decisions where id = '{early}';
         insert into decisions (id, title, project_id) values ('{early}', 'anew', '{APP}');"
    );
    let sqlite = rusqlite::Connection::open(path).unwrap();
    sqlite.execute_batch(&sql).unwrap();
    sync(&mut store, &mut server);
    let expected = [
        ("anew", "user"),
        ("other", "user"),
        ("ruled", org.as_str()),
        ("sql", org.as_str()),
    ];
    assert_eq!(decisions(&store), pairs(&expected));
    let table = |scope: Scope, cloud: &str| {
        let of = |(at, table, _): &&(Scope, String, _)| *at == scope && table == cloud;
        server.rows.keys().filter(of).count()
    };
    assert_eq!(table(ORG, DECISIONS), 2);
    assert_eq!(table(ORG, "org_error_solutions"), 0);
    assert_converged(&mut store, &server);
}

#[test]
fn a_rule_of_somebody_elses_record_or_of_a_scope_that_was_left_takes_nothing() {
    let org = ORG.to_string();
    let left = Scope::Project(Uuid::from_u128(9)).to_string();
    for (scope, to) in [(org.as_str(), org.as_str()), ("user", left.as_str())] {
        let mut store = store(1);
        rule(&mut store, scope, to);
        let decision = json!({ "title": "private", "project_id": APP });
        store.insert(DECISIONS, "user", row(decision), NOW).unwrap();
        assert_eq!(decisions(&store), pairs(&[("private", "user")]));
    }
}

#[test]
fn a_rule_is_no_reason_to_fail_when_it_cannot_be_read() {
    let mut store = store(1);
    let broken = json!({ "sharing": { "to": 7 } });
    let project = json!({ "project_id": APP, "name": "app", "metadata": broken });
    store
        .insert("projects_projects", "user", row(project), NOW)
        .unwrap();
    let decision = json!({ "title": "private", "project_id": APP });
    store.insert(DECISIONS, "user", row(decision), NOW).unwrap();
    assert_eq!(decisions(&store), pairs(&[("private", "user")]));
    assert!(store.rules().unwrap().is_empty());
}

#[test]
fn what_is_imported_goes_to_where_its_session_is_without_a_rule() {
    let mut store = store(1);
    let mut server = Server::new();
    let session = |name: &str| ("context_sessions", row(json!({ "session_id": name })));
    let message = |name: &str, session: &str| {
        let message = json!({
            "message_id": name, "session_id": session, "role": "user", "content": name
        });
        ("context_messages", row(message))
    };
    let first = vec![session("shared"), session("own"), message("m1", "shared")];
    store.ingest(File::Sessions, first, None, NOW).unwrap();
    let filter = RowFilter {
        limit: 100,
        ..RowFilter::default()
    };
    let is_shared = |row: &Value| row == "shared";
    let sessions = store.list("context_sessions", &filter).unwrap();
    let shared = sessions
        .into_iter()
        .find(|view| is_shared(&view.row["session_id"]));
    let id = shared.unwrap().id.unwrap();
    let rows = [("context_sessions", "user".to_owned(), id)];
    let org = ORG.to_string();
    store.share(File::Sessions, &rows, &org, NOW).unwrap();
    let later = vec![message("m2", "shared"), message("m3", "own")];
    store.ingest(File::Sessions, later, None, NOW).unwrap();
    sync(&mut store, &mut server);
    let messages = store.list("context_messages", &filter).unwrap();
    let mut places: Vec<_> = messages
        .iter()
        .map(|view| (view.row["message_id"].as_str().unwrap(), &*view.scope))
        .collect();
    places.sort_unstable();
    // What was there before the session was shared is shared by name.
    let expected = [("m1", "user"), ("m2", &*org), ("m3", "user")];
    assert_eq!(places, expected);
    assert_converged(&mut store, &server);
}
