//! Rows of random odd values: whatever is canonical is stored and comes back as it was.

use coditect_core::canonical;
use coditect_protocol::catalogue::{ColumnType, Direction, File};
use coditect_protocol::wire::Row;
use coditect_protocol::wire::pull::Position;
use coditect_protocol::wire::push::Status;
use coditect_testkit::TestDb;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::support::{Peer, assert_digests, insert, pushed_tables};

const TEXTS: &[&str] = &[
    "",
    " ",
    "\0",
    "\0\0N",
    "\u{F8FF}",
    "\u{F8FF}N",
    "null",
    "\\u0000",
    "é",
    "\u{10FFFF}",
    "\u{FFFE}",
    "\r\n\t",
    "'\"\\",
    "{}",
    "NaN",
    "🦀",
    "\u{202e}",
    "2026-01-01",
    "\u{1}\u{1f}",
];
const TIMES: &[&str] = &[
    "0000-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999Z",
    "1970-01-01",
    "1969-12-31 23:59:59.5",
    "2026-03-29T02:30:00+02:00",
    "1582-10-10",
    "2000-02-29T00:00:00.0000001Z",
    "2026-06-30T23:59:60Z",
];

fn number(random: &mut StdRng) -> Value {
    match random.random_range(0..9) {
        0 => json!(i64::MAX),
        1 => json!(i64::MIN),
        2 => json!(u64::MAX),
        3 => json!(f64::from_bits(random.random())),
        4 => json!(f64::MIN_POSITIVE / 4.0),
        5 => json!(-0.0),
        6 => json!((1_i64 << 53) - random.random_range(-2..3)),
        7 => json!(random.random_range(-1e22..1e22_f64).trunc()),
        _ => json!(random.random_range(-3..4)),
    }
}

fn value(random: &mut StdRng, depth: u32) -> Value {
    match random.random_range(0..if depth > 4 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => json!(random.random_bool(0.5)),
        2 | 3 => number(random),
        4 => json!(TIMES.choose(random).unwrap()),
        5 => json!(TEXTS.choose(random).unwrap()),
        6 => (0..random.random_range(0..4))
            .map(|_| value(random, depth + 1))
            .collect(),
        _ => {
            let entry = |_| {
                let key = (*TEXTS.choose(random).unwrap()).to_owned();
                (key, value(random, depth + 1))
            };
            Value::Object((0..3).map(entry).collect())
        }
    }
}

/// Returns a value of the column's type, or mostly: a third of them are anything.
fn of_type(random: &mut StdRng, ty: ColumnType) -> Value {
    if random.random_bool(0.33) {
        return value(random, 0);
    }
    match ty {
        ColumnType::Text => json!(TEXTS.choose(random).unwrap()),
        ColumnType::Integer | ColumnType::Real => number(random),
        ColumnType::Boolean => json!(random.random_range(0..2)),
        ColumnType::Timestamp => json!(TIMES.choose(random).unwrap()),
        ColumnType::Json => value(random, 0),
        ColumnType::Blob => json!("AAEC"),
    }
}

#[tokio::test]
async fn whatever_is_canonical_is_stored_and_comes_back_as_it_was() {
    let db = TestDb::new().await;
    let tenant = db.with_tenant("acme").await;
    let mut peer = Peer::new(&db, &db.with_user(&tenant, "ann@acme.example").await);
    let mut random = StdRng::seed_from_u64(4);
    let mut sent = 0;
    for table in pushed_tables() {
        let mut changes = Vec::new();
        for n in 0..60 {
            let mut raw = Row::new();
            for column in table.columns {
                let is_key = table.identity.columns().contains(&column.name);
                let value = match is_key || column.required {
                    true => json!(format!("{}{n}", TEXTS.choose(&mut random).unwrap())),
                    false => of_type(&mut random, column.ty),
                };
                raw.insert(column.name.to_owned(), value);
            }
            let row = canonical::row(table, raw);
            // What travels is text, and what is read from it must be canonical still.
            let wire = serde_json::to_string(&row).unwrap();
            let row: Row = serde_json::from_str(&wire).unwrap();
            changes.push(insert(table, row, peer.device));
        }
        sent += changes.len();
        let outcomes = peer.push(peer.own(), changes.clone()).await;
        for (outcome, change) in outcomes.iter().zip(&changes) {
            assert_eq!(
                outcome.status,
                Status::Applied,
                "{:?} {change:?}",
                outcome.reason
            );
        }
        let position = Position {
            scope: peer.own(),
            file: table.file,
            cursor: None,
            token: None,
            descent: None,
        };
        let mut request = peer.pull_request(vec![position]);
        request.table = (table.direction == Direction::Up).then(|| table.cloud.to_owned());
        let page = peer.ask(&request).await.unwrap().pages.remove(0);
        let got: Vec<_> = page
            .changes
            .iter()
            .filter(|it| it.table == table.cloud)
            .collect();
        assert_eq!(got.len(), changes.len());
        for (got, change) in got.into_iter().zip(changes) {
            assert_eq!(
                (got.id, &got.row),
                (change.id, &change.row),
                "{}",
                table.cloud
            );
        }
    }
    assert_eq!(sent, 24 * 60);
    assert!(peer.pull(peer.own(), File::Org).await.len() >= 60);
    assert_digests(&db).await;
}
