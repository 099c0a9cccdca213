//! Every table, every column: what one device pushes is what another pulls.

use coditect_protocol::catalogue::{Class, Direction, TABLES, Table};
use coditect_protocol::wire::pull::Position;
use coditect_protocol::wire::push::Status;
use coditect_protocol::wire::{Op, Stored};
use coditect_testkit::TestDb;

use crate::support::{
    EDIT_MS, Peer, assert_digests, count, delete, full_row, insert, per_device, pushed_tables,
    table, update,
};

async fn two_devices(db: &TestDb) -> (Peer, Peer) {
    let tenant = db.with_tenant("acme").await;
    let user = db.with_user(&tenant, "ann@acme.example").await;
    let other = db.log_in(&user.license_key, &Default::default()).await;
    (Peer::new(db, &user), Peer::on(db, &other.caller))
}

/// Returns the table's rows as the other device gets them: `up` tables by name.
async fn pulled(reader: &Peer, table: &Table) -> Vec<Stored> {
    let position = Position {
        scope: reader.own(),
        file: table.file,
        cursor: None,
        token: None,
        descent: None,
    };
    let mut request = reader.pull_request(vec![position]);
    request.table = (table.direction == Direction::Up).then(|| table.cloud.to_owned());
    let page = reader.ask(&request).await.unwrap().pages.remove(0);
    assert!(page.at_head);
    page.changes
        .into_iter()
        .filter(|stored| stored.table == table.cloud)
        .collect()
}

#[tokio::test]
async fn every_column_of_every_table_arrives_as_it_was_sent() {
    let db = TestDb::new().await;
    let (mut writer, reader) = two_devices(&db).await;
    let mut tables = 0;
    for table in pushed_tables() {
        tables += 1;
        let row = full_row(table, 1);
        // The names of long values that are elsewhere: none here is long.
        let names = usize::from(table.body_names().is_some());
        assert_eq!(row.len() + names, table.columns.len(), "{}", table.cloud);
        let change = insert(table, row.clone(), writer.device);
        let outcome = writer.push_one(writer.own(), change.clone()).await;
        assert_eq!(
            outcome.status,
            Status::Applied,
            "{}: {:?}",
            table.cloud,
            outcome.reason
        );
        let stored = outcome.stored.unwrap();
        assert_eq!(
            (stored.row, stored.version),
            (None, change.proposed),
            "{}",
            table.cloud
        );

        let got = pulled(&reader, table).await;
        assert_eq!(got.len(), 1, "{}", table.cloud);
        assert_eq!(got[0].row.as_ref(), Some(&row), "{}", table.cloud);
        assert_eq!((got[0].id, &got[0].hash), (change.id, &change.hash));
        assert_eq!(
            (got[0].device, got[0].origin),
            (writer.device, writer.device)
        );
        assert_eq!(got[0].user_id, Some(writer.caller.user_id()));
        assert_eq!(
            (&got[0].created_at, &got[0].updated_at),
            (&change.created_at, &change.updated_at)
        );
    }
    let catalogue = TABLES
        .iter()
        .filter(|table| table.class == Class::Catalogue)
        .count();
    assert_eq!(tables + catalogue, 28);
    assert_digests(&db).await;
}

#[tokio::test]
async fn every_table_takes_edits_and_deletes_by_its_rules() {
    let db = TestDb::new().await;
    let (mut writer, reader) = two_devices(&db).await;
    for table in pushed_tables() {
        let change = insert(table, full_row(table, 1), writer.device);
        let first = writer.push_one(writer.own(), change).await.stored.unwrap();
        let mut row = full_row(table, 2);
        for key in table.identity.columns() {
            row[*key] = full_row(table, 1)[*key].clone();
        }
        let edit = update(&first, row.clone(), Some(first.version), EDIT_MS + 1_000);
        let edited = writer.push_one(writer.own(), edit).await;
        let got = pulled(&reader, table).await.remove(0);
        if table.class == Class::Fact {
            assert_eq!(edited.status, Status::Duplicate, "{}", table.cloud);
            assert_eq!(got.row, Some(full_row(table, 1)), "{}", table.cloud);
            assert_eq!(edited.stored.unwrap().row, got.row, "{}", table.cloud);
        } else {
            assert!(
                matches!(edited.status, Status::Applied | Status::Merged),
                "{}: {edited:?}",
                table.cloud
            );
            let mut expected = row;
            for column in table.columns_by(coditect_protocol::catalogue::Merge::Counter) {
                // No part was pushed with the edit, so the sum is still that of the insert.
                expected[column.name] = full_row(table, 1)[column.name].clone();
            }
            assert_eq!(got.row, Some(expected), "{}", table.cloud);
            assert!(got.version > first.version && got.cursor > first.cursor);
        }
        let gone = delete(&got, Some(got.version), EDIT_MS + 2_000);
        let gone = writer.push_one(writer.own(), gone).await;
        assert_eq!(
            gone.status,
            Status::Applied,
            "{}: {:?}",
            table.cloud,
            gone.reason
        );
        let got = pulled(&reader, table).await.remove(0);
        assert_eq!((got.op, got.row), (Op::Delete, None), "{}", table.cloud);
    }
    assert_digests(&db).await;
    let overwritten = "record_history where reason = 'overwritten'";
    assert!(
        count(&db, overwritten).await >= 28,
        "deletes and edits are kept"
    );
}

#[tokio::test]
async fn rows_of_another_device_are_refused_where_only_one_may_write() {
    let db = TestDb::new().await;
    let (mut writer, mut other) = two_devices(&db).await;
    for table in pushed_tables() {
        let change = insert(table, full_row(table, 1), writer.device);
        let first = writer.push_one(writer.own(), change).await.stored.unwrap();
        let gone = delete(&first, Some(first.version), EDIT_MS + 2_000);
        let outcome = other.push_one(other.own(), gone).await;
        let refused = table.direction == Direction::Up;
        let expected = if refused {
            Status::Rejected
        } else {
            Status::Applied
        };
        assert_eq!(outcome.status, expected, "{}", table.cloud);
        if per_device(table) {
            let copy = update(
                &first,
                full_row(table, 1),
                Some(first.version),
                EDIT_MS + 3_000,
            );
            let outcome = other.push_one(other.own(), copy).await;
            assert_eq!(outcome.status, Status::Rejected, "{}", table.cloud);
        }
    }
    assert_digests(&db).await;
}

#[tokio::test]
async fn a_batch_over_all_tables_of_a_file_comes_back_in_its_order() {
    let db = TestDb::new().await;
    let (mut writer, mut reader) = two_devices(&db).await;
    let file = table("context_messages").file;
    let changes: Vec<_> = (0..20)
        .flat_map(|seed| file.tables().map(move |table| (table, seed)))
        .map(|(table, seed)| insert(table, full_row(table, seed), writer.device))
        .collect();
    let outcomes = writer.push(writer.own(), changes.clone()).await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.status == Status::Applied)
    );
    let cursors: Vec<_> = outcomes
        .iter()
        .map(|it| it.stored.as_ref().unwrap().cursor)
        .collect();
    assert!(cursors.is_sorted() && cursors[0] == 1);
    let got: Vec<_> = reader
        .pull(reader.own(), file)
        .await
        .into_iter()
        .map(|it| it.id)
        .collect();
    let down = changes
        .iter()
        .filter(|change| table(&change.table).comes_down());
    assert_eq!(got, down.map(|change| change.id).collect::<Vec<_>>());
    assert!(got.len() < changes.len());
    assert_digests(&db).await;
}

#[test]
fn push_and_pull_can_run_on_any_thread() {
    fn assert_send<T: Send>(_: T) {}
    use coditect_server_store::{TenantTx, sync};
    #[expect(dead_code, reason = "compiling is the test")]
    fn check(
        tx: &mut TenantTx,
        push: &coditect_protocol::wire::push::PushRequest,
        context: &sync::PushContext<'_>,
    ) {
        assert_send(sync::push(tx, push, context));
    }
    #[expect(dead_code, reason = "compiling is the test")]
    fn check_pull(
        tx: &mut TenantTx,
        pull: &coditect_protocol::wire::pull::PullRequest,
        key: &sync::TokenKey,
        cache: &sync::PageCache,
    ) {
        assert_send(sync::pull(tx, pull, key, cache));
    }
}
