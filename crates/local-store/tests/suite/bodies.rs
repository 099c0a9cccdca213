//! Long values that come after their rows.

use crate::support::{NOW, Server, assert_converged, own, pull, row, store, sync};
use coditect_core::body;
use coditect_local_store::{LackingPlace, LocalStore, SearchQuery};
use coditect_protocol::catalogue::{File, by_cloud_name};
use coditect_protocol::wire::bodies::Body;
use serde_json::json;

const MESSAGES: &str = "context_messages";

pub(crate) fn long(word: &str) -> String {
    format!("{word} ").repeat(3_000) + "needle" + word
}

pub(crate) fn say(store: &mut LocalStore, id: &str, content: &str) -> String {
    let message = json!({"message_id": id, "session_id": "s", "role": "user",
        "content": content, "timestamp": format!("2026-01-0{}T00:00:00Z", id.len())});
    let id = store.insert(MESSAGES, "user", row(message), NOW).unwrap();
    id.to_string()
}

/// Keeps long values apart, as the server does; returns them.
pub(crate) fn part_all(server: &mut Server) -> Vec<Body> {
    let table = by_cloud_name(MESSAGES).unwrap();
    let mut bodies = Vec::new();
    for stored in server.rows.values_mut() {
        let parted = stored.row.as_ref().and_then(|row| body::part(table, row));
        if let Some((row, apart)) = parted {
            stored.row = Some(row);
            bodies.extend(apart);
        }
    }
    bodies
}

fn found(store: &mut LocalStore, word: &str) -> usize {
    let query = SearchQuery {
        text: word.to_owned(),
        limit: 10,
        ..SearchQuery::default()
    };
    store.search(&query, NOW).unwrap().len()
}

#[test]
fn a_row_is_there_before_its_body_and_whole_after_it() {
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), store(2));
    say(&mut a, "m", &long("one"));
    let newest = say(&mut a, "mm", &long("two"));
    assert_eq!(a.pending_bodies().unwrap().up, 2);
    sync(&mut a, &mut server);
    assert_eq!(a.pending_bodies().unwrap().up, 0);
    let bodies = part_all(&mut server);
    pull(&mut b, &server);
    assert_eq!(b.pending_bodies().unwrap().down, 2);
    assert_eq!((found(&mut b, "one"), found(&mut b, "needletwo")), (1, 0));
    // Without its body the row is the same row: nothing is queued, and the digests are equal.
    assert_converged(&mut b, &server);
    let dumps = [&a, &b].map(|store| store.canonical_dump(File::Sessions).unwrap());
    assert_eq!(dumps[0], dumps[1]);
    assert!(b.check_rows(File::Sessions).unwrap().wrong.is_empty());

    let mut place = LackingPlace::default();
    let rows = b.lacking_rows(&mut place, 1, 10).unwrap();
    assert_eq!((rows.len(), &rows[0].id), (1, &newest));
    let older = b.lacking_rows(&mut place, u64::MAX, 10).unwrap();
    assert_eq!(older.len(), 1);
    assert!(b.lacking_rows(&mut place, u64::MAX, 10).unwrap().is_empty());
    let wrong = vec![Body {
        hash: rows[0].lacks[0].0.clone(),
        text: long("lie"),
    }];
    assert_eq!(b.put_bodies(&rows, &wrong).unwrap(), 0);
    assert_eq!(b.put_bodies(&rows, &bodies).unwrap(), 1);
    assert_eq!(b.put_bodies(&older, &bodies).unwrap(), 1);
    assert_eq!(b.pending_bodies().unwrap().down, 0);
    assert_eq!(found(&mut b, "needletwo"), 1);
    let view = b.get(MESSAGES, &newest).unwrap().unwrap();
    assert_eq!(view.row["content"], json!(long("two")));
    assert!(view.row.get("bodies").is_none());
    assert_converged(&mut b, &server);
    assert!(b.check_rows(File::Sessions).unwrap().wrong.is_empty());
}

#[test]
fn a_device_that_has_the_text_keeps_it() {
    let mut server = Server::new();
    let mut a = store(1);
    let id = say(&mut a, "m", &long("one"));
    sync(&mut a, &mut server);
    part_all(&mut server);
    // The row comes once more, without its body.
    let page = server.page(own(), File::Sessions, 0, a.device());
    a.apply_page(&page, server.epoch).unwrap();
    assert_eq!(a.pending_bodies().unwrap().down, 0);
    let view = a.get(MESSAGES, &id).unwrap().unwrap();
    assert_eq!(view.row["content"], json!(long("one")));
    assert_converged(&mut a, &server);
}
