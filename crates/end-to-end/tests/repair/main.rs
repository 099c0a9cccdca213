//! Rows that differ between a device and the server are noticed, found by comparing ranges and
//! mended one by one, while another device keeps writing. Bytes that changed under an unchanged
//! hash are found by reading every row, on either side.
//!
//! `REPAIR_ROWS` says how many rows both sides have; a million shows the budget. `REPAIR_CASE` is a
//! part of a case's name: then only those run. What counts as a
//! round trip of the repair: every pull that brought an answer to its questions, and the push that
//! sends a row again. The pull that notices the fault is an ordinary one, and so is a pull that met
//! a stream which others had written to meanwhile and brought that instead of an answer; those are
//! printed beside.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]
#![expect(
    clippy::print_stdout,
    reason = "what a repair costs is part of the result"
)]

mod writers;

use coditect_end_to_end::{Device, Server, assert_same, rounds_asked_for};
use serde_json::Value;
use std::time::Instant;

use writers::Writers;

/// Rows of an ordinary run.
const ROWS: u64 = 3_000;
/// Rows of one statement while the device's file is filled.
const CHUNK: u64 = 500;
/// Rows a second that others write, in a long run and in an ordinary one.
const RATE: f64 = 1_150.0;
const RATE_ORDINARY: f64 = 300.0;
/// From so many rows on a run is long.
const ROWS_LONG: u64 = 100_000;
/// What one differing row may cost.
const ROUNDS_MAX: u64 = 5;
const BYTES_MAX: u64 = 32 * 1024;

/// A row's term of the digest, in SQL of its own.
const TERM: &str = "('x' || encode(substr(sha256('\\x000000000000000d'::bytea
    || 'org_decisions'::bytea || uuid_send(id) || int8send(version) || uuid_send(device_id)
    || content_hash || '\\x00'::bytea), 1, 8), 'hex'))::bit(64)::bigint";

struct World {
    server: Server,
    device: Device,
    license: String,
    tenant: String,
    scope: String,
}

#[test]
fn one_differing_row_is_found_and_mended_while_others_write() {
    let rows = rounds_asked_for("REPAIR_ROWS").unwrap_or(ROWS);
    let picked = asked_case();
    let is_picked = |name: &str| name.contains(&picked);
    let world = World::new(rows);
    let rate = if rows < ROWS_LONG {
        RATE_ORDINARY
    } else {
        RATE
    };
    let writers = Writers::new(world.server.url(), &world.license, rate);
    std::thread::scope(|scope| {
        let _stops = writers.start(scope);
        for (name, inject) in CASES.iter().filter(|(name, _)| is_picked(name)) {
            world.try_case(name, *inject);
        }
        if is_picked("a flipped byte on the device") {
            world.flip_on_device();
        }
        if is_picked("a flipped byte on the server") {
            world.flip_on_server();
        }
        let (written, rate) = writers.rate();
        println!("{rows} rows; meanwhile {written} rows were written, {rate:.0} a second");
    });
    Device::converge_all(&[&world.device]);
    if rows <= 10_000 {
        let reader = Device::linked(&world.server, &world.license);
        Device::converge_all(&[&reader]);
        let dump = world.server.dump(&world.tenant);
        let own = format!("user:{}", world.scope);
        let org = format!("org:{}", world.tenant);
        assert_same(&dump, &world.device, &[&own, &org, "platform"]);
        assert_same(&dump, &reader, &[&own, &org, "platform"]);
    }
}

/// Returns a part of the names of the cases that are asked for; empty for all.
#[expect(
    clippy::disallowed_methods,
    reason = "one case is asked for by the environment; no program reads this"
)]
fn asked_case() -> String {
    std::env::var("REPAIR_CASE").unwrap_or_default()
}

type Case = (&'static str, fn(&World) -> String);

/// Each damages one row, which must be as it was afterwards; returns its id.
const CASES: &[Case] = &[
    ("the device lacks a row", |world| {
        let id = world.some_id(1);
        world.on_device(&format!(
            "delete from decisions where id = '{id}'; delete from sync_base where id = '{id}';"
        ));
        id
    }),
    ("the device has an older version", |world| {
        let id = world.some_id(2);
        let hash = "sha256('{\"status\":\"proposed\",\"title\":\"older\"}'::bytea)";
        let (term, hash) = world.term_with(&id, "version - 65536", hash);
        world.on_device(&format!(
            "update decisions set title = 'older', content_hash = '{hash}',
               version = version - 65536 where id = '{id}';
             update sync_base set version = version - 65536, hash = X'{hash}',
               fingerprint = {term} where id = '{id}';"
        ));
        id
    }),
    ("the device has a wrong hash", |world| {
        let id = world.some_id(3);
        let (term, hash) = world.term_with(&id, "version", "sha256('nonsense')");
        world.on_device(&format!(
            "update sync_base set hash = X'{hash}', fingerprint = {term} where id = '{id}';"
        ));
        id
    }),
    ("the server lacks a row", |world| {
        let id = world.some_id(4);
        world.on_server(&format!("delete from org_decisions where id = '{id}'"));
        id
    }),
    ("the server has an older version", |world| {
        let id = world.some_id(5);
        world.on_server(&format!(
            "update org_decisions set version = version - 65536, title = 'older',
               content_hash = sha256('{{\"status\":\"proposed\",\"title\":\"older\"}}'::bytea)
             where id = '{id}'"
        ));
        id
    }),
    ("the server has a wrong hash", |world| {
        let id = world.some_id(6);
        world.on_server(&format!(
            "update org_decisions set content_hash = sha256('nonsense') where id = '{id}'"
        ));
        id
    }),
    ("the server has a row more", |world| {
        world.on_server(&format!(
            "insert into org_decisions (tenant_id, scope_id, id, user_id, device_id,
               origin_device, content_hash, version, cursor, created_at, updated_at, title)
             select tenant_id, scope_id, '00000000-0000-4000-8000-00000000000a', user_id,
               device_id, origin_device,
               sha256('{{\"status\":\"proposed\",\"title\":\"more\"}}'::bytea), version, cursor,
               created_at, updated_at, 'more'
             from org_decisions where id = '{}'",
            world.some_id(7)
        ));
        "00000000-0000-4000-8000-00000000000a".to_owned()
    }),
    ("the device has a row more", |world| {
        let (like, id) = (world.some_id(8), "00000000-0000-4000-8000-00000000000b");
        world.on_device(&format!(
            "insert into decisions (id, scope, user_id, device_id, content_hash, version,
               created_at, updated_at, title, status)
             select '{id}', scope, user_id, device_id, content_hash, version, created_at,
               updated_at, title, status from decisions where id = '{like}';
             create temp table more as select * from sync_base where id = '{like}';
             update more set id = '{id}', fingerprint = fingerprint + 1;
             insert into sync_base select * from more; drop table more;"
        ));
        id.to_owned()
    }),
];

impl World {
    /// Makes a server and a device that have the same rows, carried over by hand.
    fn new(rows: u64) -> Self {
        let server = Server::start();
        let license = server.bootstrap("license_key");
        let device = Device::linked(&server, &license);
        device.sql("org", "insert into decisions (title) values ('the first')");
        Device::converge_all(&[&device]);
        let row = server.ask("select tenant_id, scope_id, device_id from org_decisions");
        let ids: Vec<_> = row[0].split('|').map(str::to_owned).collect();
        let world = Self {
            tenant: ids[0].clone(),
            scope: ids[1].clone(),
            server,
            device,
            license,
        };
        world.fill(rows);
        let report = world.device.converge();
        assert_eq!(
            (&report["pulled"], &report["rounds"]),
            (&0.into(), &0.into())
        );
        world
    }

    /// Fills the server by one statement, in the order of the ids, with titles in another one:
    /// 7,919 is a prime.
    fn fill(&self, rows: u64) {
        let began = Instant::now();
        let sql = format!(
            "begin; set local synchronous_commit = off;
             insert into org_decisions (tenant_id, scope_id, id, user_id, device_id,
               origin_device, content_hash, version, cursor, created_at, updated_at, title)
             select d.tenant_id, d.scope_id, given.id, d.user_id, d.device_id, d.origin_device,
               sha256(('{{\"status\":\"proposed\",\"title\":\"decision ' || at * 7919 % {rows}
                 || '\"}}')::bytea),
               d.version, s.n + at, d.created_at, d.updated_at,
               'decision ' || at * 7919 % {rows}
             from (select * from org_decisions limit 1) d, streams s,
               (select row_number() over () as at, id from
                 (select gen_random_uuid() as id from generate_series(1, {rows}) order by 1) made
               ) given
             where s.scope_id = d.scope_id;
             update streams set n = n + {rows}, head_org = n + {rows}
             where scope_id = '{}'; commit",
            self.scope
        );
        let _ = self.server.ask(&sql);
        let _ = self.server.ask("vacuum analyze org_decisions");
        self.on_server("select 1");
        let on_server = began.elapsed();
        self.carry();
        let head = self.server.ask(&format!(
            "select n from streams where scope_id = '{}'",
            self.scope
        ));
        self.on_device(&format!(
            "update sync_cursor set n = {} where scope = 'user';",
            head[0]
        ));
        println!(
            "{rows} rows on the server after {:.0} s, on both sides after {:.0} s",
            on_server.as_secs_f64(),
            began.elapsed().as_secs_f64()
        );
    }

    /// Makes rows of the server rows of the device. PostgreSQL writes the statements; the rows
    /// go into a table of their own first, because a statement on a table with triggers takes
    /// long to prepare.
    fn carry(&self) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("given.sql");
        let copied = self.server.query(&format!(
            "\\copy (select 'insert into given values ' || string_agg( \
             format('(%L,%s,%L,X%L,%L,%s)', \
             id, version, device_id, encode(content_hash, 'hex'), title, term), ',') || ';' \
             from (select *, row_number() over (order by id) / {CHUNK} as chunk \
             from org_decisions where title <> 'the first') rows group by chunk order by chunk) \
             to '{}'",
            path.display()
        ));
        assert!(copied.is_some(), "the rows were not copied");
        let at = "2026-01-01T00:00:00.000000Z";
        let statements = format!(
            "pragma synchronous = off; pragma cache_size = -200000;
             create temp table given (id, version, device, hash, title, term);
             begin immediate; update sync_flag set applying = 1;
             \n.read {}\n
             insert into decisions (id, scope, device_id, content_hash, version, created_at,
               updated_at, title) select id, 'user', device, lower(hex(hash)), version, '{at}',
               '{at}', title from given;
             insert into sync_base (table_name, scope, id, version, device, origin, hash,
               fingerprint, created_at) select 'org_decisions', 'user', id, version, device,
               device, hash, term, '{at}' from given;
             update sync_flag set applying = 0; commit;",
            path.display()
        );
        self.device.sql("org", &statements);
    }

    /// Runs statements on the device's file as a fault would: nothing is captured.
    fn on_device(&self, statements: &str) {
        self.device.sql(
            "org",
            &format!(
                "begin immediate; update sync_flag set applying = 1; {statements}
                 update sync_flag set applying = 0; commit;"
            ),
        );
    }

    /// Runs a statement on the server as a lost or misguided push would leave it: the digests
    /// are those of the rows.
    fn on_server(&self, statement: &str) {
        let scope = &self.scope;
        let _ = self.server.ask(&format!(
            "begin; select n from streams where scope_id = '{scope}' for update; {statement};
             update stream_digests d set rows = s.rows, count = s.count, xor = s.xor
             from (select origin_device, count(*) filter (where deleted_at is null) as rows,
                 count(*) as count, bit_xor(term) as xor
               from org_decisions where scope_id = '{scope}' group by origin_device) s
             where d.scope_id = '{scope}' and d.table_name = 'org_decisions'
               and d.origin_device = s.origin_device; commit"
        ));
    }

    /// Returns a row of those that the world was made with.
    fn some_id(&self, n: u64) -> String {
        let sql = format!(
            "select id from org_decisions where title = 'decision {}'",
            n * 7
        );
        self.server.ask(&sql).remove(0)
    }

    /// Returns the term and the hash that a row would have with another version and hash.
    fn term_with(&self, id: &str, version: &str, hash: &str) -> (String, String) {
        let term = TERM
            .replace("int8send(version)", &format!("int8send({version})"))
            .replace("content_hash", hash);
        let sql =
            format!("select {term}, encode({hash}, 'hex') from org_decisions where id = '{id}'");
        let line = self.server.ask(&sql).remove(0);
        let (term, hash) = line.split_once('|').unwrap();
        (term.to_owned(), hash.to_owned())
    }

    fn state(&self, id: &str) -> (Vec<String>, String) {
        let server = self.server.ask(&format!(
            "select title, encode(content_hash, 'hex') from org_decisions where id = '{id}'"
        ));
        let device = self.device.sql(
            "org",
            &format!(
                "select title, lower(hex(b.hash)) from decisions d
                 join sync_base b on b.id = d.id and b.scope = d.scope where d.id = '{id}'"
            ),
        );
        (server, device.trim().to_owned())
    }

    /// Damages one row, syncs once, and looks at what that took.
    fn try_case(&self, name: &str, inject: fn(&Self) -> String) {
        let _ = self.device.sync();
        let id = inject(self);
        let began = Instant::now();
        let report = self.device.sync();
        let took_ms = began.elapsed().as_millis();
        let sum = |field: &str| -> u64 {
            let repairs = report["repairs"].as_array().unwrap();
            repairs
                .iter()
                .filter_map(|repair| repair[field].as_u64())
                .sum()
        };
        let pushes = u64::from(sum("queued") > 0);
        let rounds = report["rounds"].as_u64().unwrap() + pushes;
        let bytes = report["repair_bytes"].as_u64().unwrap();
        let mended = sum("fetched") + sum("queued");
        println!(
            "{name}: noticed at the next pull, {rounds} round trips ({} more brought what others \
             wrote), {bytes} bytes, {took_ms} ms, fetched {}, sent again {}, false repairs {}",
            report["rounds_behind"],
            sum("fetched"),
            sum("queued"),
            mended.saturating_sub(1)
        );
        assert!(
            (1..=ROUNDS_MAX).contains(&rounds) && bytes <= BYTES_MAX,
            "{name}: {report}"
        );
        assert_eq!(report["converged"], true, "{name}: {report}");
        assert_eq!(mended, 1, "{name}: {report}");
        assert_eq!(sum("damaged") + sum("removed"), 0, "{name}: {report}");
        let (server, device) = self.state(&id);
        assert_eq!(server, [device], "{name}");
        assert!(!server[0].starts_with("older"), "{name}: {server:?}");
        assert_eq!(
            self.device.sync()["repairs"],
            Value::Array(Vec::new()),
            "{name}"
        );
    }

    /// Changes a byte here under an unchanged hash: no digest shows it, reading every row does.
    fn flip_on_device(&self) {
        let (id, began) = (self.some_id(9), Instant::now());
        self.on_device(&format!(
            "update decisions set title = 'flipped' where id = '{id}';"
        ));
        let report = self.device.sync();
        assert_eq!(
            report["converged"], true,
            "digests cannot show it: {report}"
        );
        let ran = self.device.run(&["verify", "--full", "--repair", "--json"]);
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!((ran.code, &report["equal"]), (0, &true.into()), "{report}");
        let (wrong, repairs) = (&report["wrong"], &report["repairs"]);
        assert_eq!(
            (wrong.as_array().unwrap().len(), &wrong[0]["id"]),
            (1, &id.clone().into())
        );
        assert_eq!(repairs.as_array().unwrap().len(), 1, "{report}");
        assert_eq!(repairs[0]["fetched"], 1, "{report}");
        println!(
            "a flipped byte on the device: found by reading {} rows, {} round trip, {} bytes, \
             {} ms in all, false repairs 0",
            report["checked"],
            report["rounds"],
            report["repair_bytes"],
            began.elapsed().as_millis()
        );
        let (server, device) = self.state(&id);
        assert_eq!(server, [device]);
        assert!(server[0].starts_with("decision 63|"), "{server:?}");
    }

    /// The same on the server: its scrub finds it, and the device that holds the row sends it.
    fn flip_on_server(&self) {
        let (id, began) = (self.some_id(10), Instant::now());
        let _ = self.server.ask(&format!(
            "update org_decisions set title = 'flipped' where id = '{id}'"
        ));
        let report = self.device.sync();
        assert_eq!(
            report["converged"], true,
            "digests cannot show it: {report}"
        );
        let read = self.server.admin_with_code(&["scrub", "--now"], 5);
        let read = &read["tenants"][0];
        assert_eq!(
            (&read["found"], &read["open"]),
            (&1.into(), &1.into()),
            "{read}"
        );
        let scrub_ms = began.elapsed().as_millis();
        let found = self.server.admin(&["findings"]);
        assert_eq!(found["findings"][0]["id"], id.as_str(), "{found}");
        let began = Instant::now();
        let report = self.device.sync();
        let repairs = &report["repairs"];
        assert_eq!(repairs.as_array().unwrap().len(), 1, "{report}");
        assert_eq!(repairs[0]["queued"], 1, "{report}");
        assert_eq!(report["converged"], true, "{report}");
        println!(
            "a flipped byte on the server: found by its scrub of {} rows in {scrub_ms} ms, sent \
             again at the next sync in {} round trips, {} bytes, {} ms, false repairs 0",
            read["rows_read"],
            report["rounds"].as_u64().unwrap() + 1,
            report["repair_bytes"],
            began.elapsed().as_millis()
        );
        let (server, device) = self.state(&id);
        assert_eq!(server, [device]);
        assert!(server[0].starts_with("decision 70|"), "{server:?}");
        let read = self.server.admin(&["scrub", "--now"]);
        let read = &read["tenants"][0];
        assert_eq!(
            (&read["found"], &read["open"]),
            (&0.into(), &0.into()),
            "{read}"
        );
        assert_eq!(self.device.sync()["repairs"], Value::Array(Vec::new()));
    }
}
