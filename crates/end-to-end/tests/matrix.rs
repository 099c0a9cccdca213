//! Every table × its direction × {insert, edit, delete, refused}, every column filled and
//! different, between two devices, a colleague and a server. The rows of the matrix come from
//! the catalogue, so that a table without a line cannot be forgotten.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use coditect_end_to_end::{Device, Dump, Server, assert_same};
use coditect_protocol::catalogue::{Class, Column, ColumnType, Direction, Merge, TABLES, Table};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A component that is none of the matrix.
const OTHER: &str = "another-component";

/// One test's world: a server, two devices of one person, one of a viewer, one of a colleague.
struct World {
    server: Server,
    tenant: String,
    own: String,
    org: String,
    a: Device,
    b: Device,
    viewer: Device,
    colleague: Device,
}

#[test]
fn every_table_travels_as_its_direction_says() {
    let world = World::new();
    let mut matrix = Matrix::default();
    world.insert(&mut matrix);
    world.edit(&mut matrix);
    world.refuse(&mut matrix);
    world.delete(&mut matrix);
    matrix.print();
    for table in TABLES {
        for action in ["insert", "edit", "delete", "refused"] {
            assert!(matrix.has(table, action), "{}: no {action}", table.cloud);
        }
    }
}

impl World {
    fn new() -> Self {
        let server = Server::start();
        let tenant = server.bootstrap("tenant_id");
        let license = server.bootstrap("license_key");
        let (_, viewing) = server.user(&tenant, "viewer@example.com", "viewer");
        let (_, working) = server.user(&tenant, "colleague@example.com", "member");
        Self {
            own: format!("user:{}", server.bootstrap("user_id")),
            org: format!("org:{tenant}"),
            a: Device::linked(&server, &license),
            b: Device::linked(&server, &license),
            viewer: Device::linked(&server, &viewing),
            colleague: Device::linked(&server, &working),
            server,
            tenant,
        }
    }

    fn insert(&self, matrix: &mut Matrix) {
        self.import_catalogue(1);
        for table in TABLES
            .iter()
            .filter(|table| table.direction != Direction::Down)
        {
            self.a
                .sql(table.file.as_str(), &insert_sql(table, "user", 1));
        }
        self.sync_all();
        let server = self.server.dump(&self.tenant);
        let (_, b) = self.b.dump();
        for table in TABLES {
            let stored = only(&server, table).unwrap();
            assert_row(table, stored, &expected(table, 1));
            let there = only(&b, table);
            assert_eq!(there.is_some(), table.comes_down(), "{}", table.cloud);
            let way = match table.direction {
                Direction::Down => "S→A,B",
                Direction::Up => "A→S",
                Direction::Mirror | Direction::Both => "A→S→B",
            };
            matrix.set(table, "insert", way);
        }
        self.assert_equal(&server);
        // Nothing moves twice.
        let again = self.a.sync();
        assert_eq!(
            (&again["pushed"], &again["pulled"]),
            (&json!(0), &json!(0)),
            "{again}"
        );
    }

    fn edit(&self, matrix: &mut Matrix) {
        self.import_catalogue(2);
        for table in TABLES
            .iter()
            .filter(|table| table.direction != Direction::Down)
        {
            self.a.sql(table.file.as_str(), &update_sql(table, 2));
        }
        self.sync_all();
        let server = self.server.dump(&self.tenant);
        for table in TABLES {
            let stored = only(&server, table).unwrap();
            // Of a fact the first accepted row stays, and the device takes it back.
            let round = if table.class == Class::Fact { 1 } else { 2 };
            assert_row(table, stored, &expected(table, round));
            let seen = match round {
                1 => "first stays",
                // Such a row has nothing that could be edited: importing it again changes nothing.
                _ if expected(table, 1) == expected(table, 2) => "all key",
                _ => "new version",
            };
            matrix.set(table, "edit", seen);
        }
        self.assert_equal(&server);
    }

    /// What each direction refuses: `down` any push, `up` an edit of another device's row,
    /// `mirror` a delete of another author's row, `both` a viewer's write into the organisation.
    fn refuse(&self, matrix: &mut Matrix) {
        self.share_mirrored();
        for table in TABLES {
            let file = table.file.as_str();
            let (device, code) = match table.direction {
                Direction::Down => {
                    self.b.sql(file, &insert_sql(table, "user", 3));
                    (&self.b, "direction_refused")
                }
                Direction::Up => {
                    let _ = self.b.json(&["pull", "--table", table.cloud]);
                    self.b.sql(file, &update_sql(table, 3));
                    (&self.b, "direction_refused")
                }
                Direction::Mirror => {
                    self.colleague
                        .sql(file, &format!("delete from {};", table.local));
                    // Whether somebody may delete checkpoints at all comes first.
                    let code = match table.cloud {
                        "context_checkpoints" => "SYNC_005",
                        _ => "direction_refused",
                    };
                    (&self.colleague, code)
                }
                Direction::Both => {
                    self.viewer.sql(file, &insert_sql(table, &self.org, 3));
                    (&self.viewer, "SYNC_005")
                }
            };
            let _ = device.run(&["sync"]);
            let query = format!(
                "select code from sync_queue where table_name = '{}' and code is not null",
                table.cloud
            );
            let refused = device.sql(file, &query);
            assert_eq!(refused.trim(), code, "{}", table.cloud);
            matrix.set(table, "refused", code);
        }
        let server = self.server.dump(&self.tenant);
        for table in TABLES {
            let round = if table.class == Class::Fact { 1 } else { 2 };
            let rows = of_table(&server, table);
            // Where every column is part of the key, all rounds are the same row.
            let third = expected(table, 3);
            let stored = rows.iter().any(|(_, row)| row["row"] == third);
            assert!(
                !stored || third == expected(table, round),
                "{}: stored",
                table.cloud
            );
            assert!(
                rows.iter()
                    .any(|(_, row)| row["row"] == expected(table, round))
            );
        }
    }

    fn delete(&self, matrix: &mut Matrix) {
        self.import_catalogue(0);
        for table in TABLES
            .iter()
            .filter(|table| table.direction != Direction::Down)
        {
            let local = table.local;
            self.a.sql(
                table.file.as_str(),
                &format!("delete from {local} where scope = 'user'"),
            );
        }
        self.a.converge();
        let server = self.server.dump(&self.tenant);
        for table in TABLES {
            let own = of_table(&server, table)
                .into_iter()
                .filter(|((_, scope, _), _)| *scope == self.own || *scope == "platform")
                .collect::<Vec<_>>();
            let own: Vec<_> = own
                .into_iter()
                .filter(|(_, row)| row["row"]["component_id"] != OTHER)
                .collect();
            assert!(!own.is_empty(), "{}: no tombstone", table.cloud);
            for (key, row) in own {
                assert_eq!(
                    (&row["deleted"], &row["row"]),
                    (&json!(true), &Value::Null),
                    "{key:?}"
                );
            }
            matrix.set(table, "delete", "tombstone");
        }
        assert_same(&server, &self.a, &[&self.own, &self.org, "platform"]);
    }

    /// The mirrored tables of the organisation's scope, where a colleague sees them.
    fn share_mirrored(&self) {
        for table in TABLES
            .iter()
            .filter(|table| table.direction == Direction::Mirror)
        {
            self.a
                .sql(table.file.as_str(), &insert_sql(table, &self.org, 2));
        }
        self.a.converge();
        self.colleague.converge();
    }

    /// Makes the platform's catalogue one row per table, or none of them but another component:
    /// an empty file is refused.
    fn import_catalogue(&self, round: usize) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalogue.jsonl");
        let other = json!({"component_id": OTHER, "component_type": "agent", "name": OTHER});
        let mut lines = format!(
            "{}\n",
            json!({"table": "platform_components", "row": other})
        );
        if round > 0 {
            let down = TABLES
                .iter()
                .filter(|table| table.direction == Direction::Down);
            let line =
                |table: &&Table| json!({"table": table.cloud, "row": expected(table, round)});
            lines = down.map(|table| format!("{}\n", line(table))).collect();
        }
        std::fs::write(&path, lines).unwrap();
        let path = path.to_str().unwrap();
        let _ = self.server.admin(&["catalogue", "import", path]);
    }

    fn sync_all(&self) {
        self.a.converge();
        self.b.converge();
        self.a.converge();
    }

    fn assert_equal(&self, server: &Dump) {
        for device in [&self.a, &self.b] {
            assert_same(server, device, &[&self.own, &self.org, "platform"]);
        }
    }
}

/// A value of the column's type that no other column of the table has. Rounds differ in
/// everything but the key; greater rounds have greater values.
fn value(table: &Table, column: &Column, round: usize) -> Value {
    let at = table
        .columns
        .iter()
        .position(|other| other.name == column.name)
        .unwrap();
    let number = (round * 1_000 + at) as i64;
    if table.identity.columns().contains(&column.name) {
        return json!(format!("{}-key-{at}", table.cloud));
    }
    match column.ty {
        ColumnType::Text | ColumnType::Blob => json!(format!("{} r{round}", column.name)),
        ColumnType::Integer => json!(number),
        ColumnType::Real => json!(number as f64 + 0.25),
        ColumnType::Boolean => json!(round % 2 == 1),
        ColumnType::Timestamp => json!(format!("2026-01-0{round}T00:{at:02}:00.000000Z")),
        ColumnType::Json => json!({"column": at, "round": round, "text": ["ä", "\u{1F600}"]}),
    }
}

/// Returns the columns that people fill: not the names of long values that are kept elsewhere,
/// which the engine writes.
fn filled(table: &Table) -> impl Iterator<Item = &Column> + Clone {
    let names = table.body_names().map(|column| column.name);
    let columns = table.columns.iter();
    columns.filter(move |column| Some(column.name) != names)
}

fn expected(table: &Table, round: usize) -> Value {
    Value::Object(
        filled(table)
            .map(|c| (c.name.to_owned(), value(table, c, round)))
            .collect::<Map<_, _>>(),
    )
}

fn literal(value: &Value) -> String {
    match value {
        Value::Bool(flag) => i64::from(*flag).to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        other => format!("'{}'", other.to_string().replace('\'', "''")),
    }
}

fn insert_sql(table: &Table, scope: &str, round: usize) -> String {
    let names: Vec<_> = filled(table).map(|column| column.name).collect();
    let values: Vec<_> = filled(table)
        .map(|column| literal(&value(table, column, round)))
        .collect();
    let (names, values) = (names.join(", "), values.join(", "));
    format!(
        "insert into {} (scope, {names}) values ('{scope}', {values});",
        table.local
    )
}

fn update_sql(table: &Table, round: usize) -> String {
    let key = table.identity.columns();
    let pairs: Vec<_> = filled(table)
        .filter(|column| !key.contains(&column.name))
        .map(|column| {
            format!(
                "{} = {}",
                column.name,
                literal(&value(table, column, round))
            )
        })
        .collect();
    if pairs.is_empty() {
        // All columns are the key: a record that was touched is still the same row.
        return format!(
            "update {} set updated_at = '2026-01-01T00:00:00Z';",
            table.local
        );
    }
    format!("update {} set {};", table.local, pairs.join(", "))
}

fn of_table<'a>(dump: &'a Dump, table: &Table) -> Vec<(&'a (String, String, String), &'a Value)> {
    dump.iter()
        .filter(|((name, ..), _)| name == table.cloud)
        .collect()
}

fn only<'a>(dump: &'a Dump, table: &Table) -> Option<&'a Value> {
    let rows = of_table(dump, table);
    assert!(rows.len() <= 1, "{}: {} rows", table.cloud, rows.len());
    rows.first().map(|(_, row)| *row)
}

fn assert_row(table: &Table, stored: &Value, expected: &Value) {
    let row = &stored["row"];
    for column in filled(table) {
        let name = column.name;
        let counted = column.merge == Merge::Counter;
        assert_eq!(
            row[name], expected[name],
            "{}.{name} (counter: {counted})",
            table.cloud
        );
    }
    let distinct: std::collections::HashSet<_> = filled(table)
        .filter(|c| c.ty != ColumnType::Boolean)
        .map(|c| row[c.name].to_string())
        .collect();
    let comparable = filled(table)
        .filter(|c| c.ty != ColumnType::Boolean)
        .count();
    assert_eq!(
        distinct.len(),
        comparable,
        "{}: two columns hold the same",
        table.cloud
    );
}

/// What was seen, by table and action.
#[derive(Default)]
struct Matrix(BTreeMap<(&'static str, &'static str), String>);

impl Matrix {
    fn set(&mut self, table: &Table, action: &'static str, seen: &str) {
        self.0.insert((table.cloud, action), seen.to_owned());
    }

    fn has(&self, table: &Table, action: &'static str) -> bool {
        self.0.contains_key(&(table.cloud, action))
    }

    #[expect(
        clippy::print_stdout,
        reason = "the matrix is what the test is run for"
    )]
    fn print(&self) {
        println!(
            "{:<32} {:<7} {:<10} {:<12} {:<10} refused",
            "table", "way", "insert", "edit", "delete"
        );
        for table in TABLES {
            let cell = |action| {
                self.0
                    .get(&(table.cloud, action))
                    .map_or("-", String::as_str)
            };
            let way = format!("{:?}", table.direction).to_lowercase();
            println!(
                "{:<32} {way:<7} {:<10} {:<12} {:<10} {}",
                table.cloud,
                cell("insert"),
                cell("edit"),
                cell("delete"),
                cell("refused")
            );
        }
    }
}
