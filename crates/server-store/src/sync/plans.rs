//! Every statement over a synced table is planned against the migrated schema, as the app's
//! role: none reads a whole tenant table.

use coditect_protocol::catalogue::{Class, TABLES};
use coditect_testkit::TestDb;

use super::sql;
use super::views::View;

/// Writes literals in place of the parameters, because not every server plans without values.
fn with_values(sql: &str, values: &[&str]) -> String {
    let numbered = values.iter().enumerate().rev();
    numbered.fold(sql.to_owned(), |sql, (n, value)| {
        sql.replace(&format!("${}", n + 1), value)
    })
}

#[tokio::test]
async fn no_statement_reads_a_whole_tenant_table() {
    let db = TestDb::new().await;
    let client = db.app_client().await;
    // The tables are empty, so the planner must be told that reading all of them is no option.
    let setup = "begin; set local enable_seqscan = off;
        set local app.current_tenant = '00000000-0000-0000-0000-000000000001';
        set local app.scopes = '{00000000-0000-0000-0000-000000000002}'";
    client.batch_execute(setup).await.unwrap();
    let id = "'00000000-0000-0000-0000-000000000003'::uuid";
    let ids = "'{00000000-0000-0000-0000-000000000003}'::uuid[]";
    let mut planned = 0;
    for table in TABLES
        .iter()
        .filter(|table| table.class != Class::Catalogue)
    {
        let sql = sql::of(table);
        let scrub = sql::scrub(table).unwrap();
        for (statement, values) in [
            (&scrub.again, vec![id, id, ids]),
            (&scrub.refresh, vec![id, id, ids]),
            (&scrub.recount, vec![id, id, id, "5", "5", "5"]),
            (&sql.fetch, vec![id, id, ids]),
            (&sql.cursors, vec![id, id, "5", "100"]),
            (&sql.page, vec![id, id, "5", "100"]),
            (&sql.parts, vec![id, id, id, id, "5", id]),
            (&sql.listed, vec![id, id, id, id, "5", id]),
        ] {
            check(&client, &with_values(statement, &values)).await;
            planned += 1;
        }
    }
    assert_eq!(planned, 24 * 8);
    for view in View::ALL {
        let mut values = vec![id, id, "5", "100"];
        values.extend(view.filters().iter().map(|_| "'x'"));
        check(&client, &with_values(view.places(), &values)).await;
    }
}

/// Fails unless the statement is planned by an index over tenant and scope.
async fn check(client: &tokio_postgres::Client, statement: &str) {
    let explain = format!("explain {statement}");
    let rows = client.query_typed(&explain, &[]).await.unwrap();
    let lines = rows.iter().map(|row| row.get::<_, String>(0));
    let plan = lines.collect::<Vec<_>>().join("\n");
    let by_index = plan.lines().any(|line| {
        line.contains("Index Cond") && line.contains("tenant_id") && line.contains("scope_id")
    });
    assert!(by_index && !plan.contains("Seq Scan"), "{explain}\n{plan}");
}
