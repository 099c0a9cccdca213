//! Change capture. The triggers run inside the writer's SQLite, whoever it is, so they use plain
//! SQL of 3.24 and stamp nothing but the wall time (DESIGN 4, Capture).
//!
//! A mark of a live row names its `row_seq`; a mark of a removed one names only its key, because
//! a `seq` may be used again. A replaced mark is deleted and inserted anew, never updated, so
//! that its number is fresh. Inside a trigger there is no OR IGNORE and no OR REPLACE: the
//! conflict clause of the outer statement would override it.

use coditect_protocol::catalogue::Table;
use std::fmt::Write as _;

/// Message of the trigger that keeps ids and key columns.
pub const KEY_IS_IMMUTABLE: &str = "the key of an adopted row cannot change";

const FREE: &str = "coalesce((select max(applying) from sync_flag), 0) = 0";
const NOW: &str = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')";
const COLUMNS: &str = "(event_type, table_name, row_seq, row_scope, row_id, action, gone_seq, \
                       created_at)";

/// Appends the table's triggers.
pub(crate) fn push(sql: &mut String, table: &Table) {
    push_inserted(sql, table);
    push_updated(sql, table);
    sql.push_str(&deleted(table));
    push_replaced(sql, table);
    push_immutable(sql, table);
}

/// Returns the event of the seeds' SYNC_EVENTS that a change of the table belongs to.
pub(crate) fn event(table: &Table) -> &'static str {
    match table.cloud {
        "org_decisions" => "on_decision_created",
        "org_skill_learnings" => "on_learning_added",
        "context_task_tracking" => "on_task_complete",
        "context_sessions" => "on_session_end",
        _ => "on_change",
    }
}

fn push_inserted(sql: &mut String, table: &Table) {
    let (name, cloud, event) = (table.local, table.cloud, event(table));
    let _ = write!(
        sql,
        "create trigger \"{name}_inserted\" after insert on \"{name}\" when {FREE}
begin
  delete from sync_queue where table_name = '{cloud}' and row_seq = new.seq;
  delete from sync_queue where table_name = '{cloud}' and row_id = new.id
    and row_scope = new.scope;
  insert into sync_queue {COLUMNS} values
    ('{event}', '{cloud}', new.seq, new.scope, new.id, 'insert', null, {NOW});
end;
"
    );
}

fn push_updated(sql: &mut String, table: &Table) {
    let (name, cloud, event) = (table.local, table.cloud, event(table));
    let _ = write!(
        sql,
        "create trigger \"{name}_updated\" after update on \"{name}\" when {FREE}
begin
  delete from sync_queue where table_name = '{cloud}' and row_seq in (old.seq, new.seq);
  delete from sync_queue where table_name = '{cloud}' and row_id = new.id
    and row_scope = new.scope;
  insert into sync_queue {COLUMNS} values
    ('{event}', '{cloud}', new.seq, new.scope, new.id, 'update', null, {NOW});
end;
"
    );
}

/// A row that never got an id was never sent: its mark goes with it.
pub(crate) fn deleted(table: &Table) -> String {
    let (name, cloud) = (table.local, table.cloud);
    format!(
        "create trigger \"{name}_deleted\" after delete on \"{name}\" when {FREE}
begin
  delete from sync_queue where table_name = '{cloud}' and row_seq = old.seq;
  delete from sync_queue where table_name = '{cloud}' and row_id = old.id
    and row_scope = old.scope;
  insert into sync_queue {COLUMNS}
    select 'on_change', '{cloud}', null, old.scope, old.id, 'delete', old.seq, {NOW}
    where old.id is not null;
end;
"
    )
}

/// REPLACE removes rows without firing delete triggers (unless `recursive_triggers` is on), so
/// rows in its way are marked before. Whether they are then removed (REPLACE), kept (IGNORE) or
/// updated (UPSERT) is not known here; adoption looks at what is there. A row without an id
/// keeps a mark by its `seq`, which a removal makes void.
fn push_replaced(sql: &mut String, table: &Table) {
    let by_key = "(v.id = new.id and v.scope = coalesce(new.scope, 'user'))";
    push_victims(
        sql,
        table,
        "replaced",
        "before insert",
        &format!("(v.seq = new.seq or {by_key})"),
        "",
    );
    push_victims(
        sql,
        table,
        "displaced",
        "before update",
        &format!("v.seq <> old.seq and (v.seq = new.seq or {by_key})"),
        "and (old.seq is not new.seq or old.id is not new.id or old.scope is not new.scope) ",
    );
}

fn push_victims(sql: &mut String, table: &Table, suffix: &str, when: &str, of: &str, and: &str) {
    let (name, cloud) = (table.local, table.cloud);
    let _ = write!(
        sql,
        "create trigger \"{name}_{suffix}\" {when} on \"{name}\"
when {FREE} {and}and exists (select 1 from \"{name}\" v where {of})
begin
  delete from sync_queue where table_name = '{cloud}'
    and row_seq in (select v.seq from \"{name}\" v where {of});
  delete from sync_queue where n in (
    select q.n from \"{name}\" v join sync_queue q
      on q.table_name = '{cloud}' and q.row_id = v.id and q.row_scope = v.scope
    where {of});
  insert into sync_queue {COLUMNS}
    select 'on_change', '{cloud}', case when v.id is null then v.seq end, v.scope, v.id,
      'replace', v.seq, {NOW}
    from \"{name}\" v where {of};
end;
"
    );
}

fn push_immutable(sql: &mut String, table: &Table) {
    let name = table.local;
    let mut changed = String::from("new.id is not old.id");
    for column in table.identity.columns() {
        let _ = write!(changed, " or new.\"{column}\" is not old.\"{column}\"");
    }
    let _ = write!(
        sql,
        "create trigger \"{name}_key_kept\" before update on \"{name}\"
when {FREE} and old.id is not null and ({changed})
begin
  select raise(abort, '{KEY_IS_IMMUTABLE}');
end;
"
    );
}
