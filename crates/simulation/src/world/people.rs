//! What people and their programs do to a device's files: plain SQL, as a script or an agent's
//! hook would run it, with capture by the triggers alone.

use super::device::Device;
use super::ledger::{Ledger, Token};
use super::program;
use crate::random::Random;
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::Row;
use serde_json::Value;

/// One kind of writing.
type Write = fn(&mut Writer<'_>) -> Option<String>;

/// Kinds of writing, each as often as it is listed.
const WRITES: &[Write] = &[
    insert_decision,
    insert_decision,
    edit_decision,
    edit_decision,
    edit_decision,
    replace_decision,
    delete_decision,
    displace_decision,
    move_decision,
    ignore_decision,
    insert_learning,
    edit_learning,
    use_learning,
    use_learning,
    use_learning,
    delete_learning,
    import_message,
    import_message,
    edit_message,
    delete_message,
    write_task,
    write_task,
    write_task,
    count_task,
    count_task,
    count_task,
    delete_task,
    rename_task,
    write_sprint,
    write_sprint,
    grow_session,
    grow_session,
    write_node,
    write_node,
    delete_node,
    stream_tokens,
    stream_tokens,
    use_component,
    use_component,
];

/// Somebody at a device.
pub(super) struct Writer<'a> {
    pub(super) device: &'a mut Device,
    pub(super) number: usize,
    pub(super) ledger: &'a mut Ledger,
    pub(super) random: &'a mut Random,
    /// Whether nearly all is written to the organisation's scope.
    pub(super) crowd: bool,
    /// The organisation's scope, as files store it.
    pub(super) organization: String,
    /// A word to write that the server refuses.
    pub(super) refused_word: Option<&'a str>,
    /// Whether an import may be killed.
    pub(super) kills: bool,
}

/// Has somebody write something; says what.
pub(super) fn write(writer: &mut Writer<'_>) -> Option<String> {
    if writer.random.chance(250) {
        return program::write(writer);
    }
    let kind = *writer.random.pick(WRITES)?;
    kind(writer)
}

/// Has somebody write into every file that takes part, so that each of them is sent.
pub(super) fn write_everywhere(writer: &mut Writer<'_>) {
    insert_decision(writer);
    write_task(writer);
    use_component(writer);
    write_sprint(writer);
}

impl Writer<'_> {
    pub(super) fn scope(&mut self) -> String {
        if self.random.chance(if self.crowd { 950 } else { 350 }) {
            self.organization.clone()
        } else {
            "user".to_owned()
        }
    }

    /// A random row's `seq` and name.
    fn row(&mut self, file: File, table: &str, name: &str) -> Option<(i64, String)> {
        let sql = format!("select seq, {name} from {table} order by seq");
        let rows = self.device.rows(file, &sql);
        let row = self.random.pick(&rows)?;
        Some((
            row[0].as_i64()?,
            row[1].as_str().unwrap_or_default().to_owned(),
        ))
    }

    /// The text that somebody sees in a row.
    fn text(&self, file: File, table: &str, seq: i64) -> Option<Token> {
        let column = match table {
            "decisions" => "rationale",
            "skill_learnings" => "learning",
            "task_tracking" => "description",
            "sprints" => "goal",
            _ => "content",
        };
        let sql = format!("select {column} from {table} where seq = {seq}");
        Token::read(self.device.rows(file, &sql).first()?[0].as_str()?)
    }

    fn run(&mut self, file: File, sql: &str) {
        self.device.write_sql(file, sql);
    }

    /// Runs an INSERT and notes its text.
    fn insert(&mut self, file: File, table: &'static str, sql: &str, token: Option<Token>) {
        self.run(file, sql);
        let last = format!("select max(seq) from {table}");
        let seq = self.device.rows(file, &last)[0][0].as_i64().unwrap_or(0);
        if token.is_some() {
            self.ledger
                .wrote((self.number, file, table, seq), None, token);
        }
    }

    /// Runs an UPDATE of one row and notes its text.
    fn edit(&mut self, file: File, table: &'static str, seq: i64, set: &str, token: Token) {
        let before = self.text(file, table, seq);
        self.run(file, &format!("update {table} set {set} where seq = {seq}"));
        let place = (self.number, file, table, seq);
        self.ledger.wrote(place, before, Some(token));
    }

    fn delete(&mut self, file: File, table: &'static str, name: &str) -> Option<String> {
        let (seq, named) = self.row(file, table, name)?;
        let before = self.text(file, table, seq);
        self.run(file, &format!("delete from {table} where seq = {seq}"));
        self.ledger
            .wrote((self.number, file, table, seq), before, None);
        if table == "skill_learnings" {
            // What was added and not sent yet is gone with the row, unless another revives it.
            self.ledger.blur(named.clone());
        }
        Some(format!("delete {table} {named}"))
    }
}

fn insert_decision(w: &mut Writer<'_>) -> Option<String> {
    let (scope, token) = (w.scope(), w.ledger.token());
    let title = match w.refused_word {
        Some(word) if w.random.chance(300) => word,
        _ => "a decision",
    };
    let text = token.text();
    let sql = format!(
        "insert into decisions (scope, title, rationale) values ('{scope}', '{title}', '{text}')"
    );
    w.insert(File::Org, "decisions", &sql, Some(token));
    Some(format!("insert decision {text} into {scope}: {title}"))
}

fn edit_decision(w: &mut Writer<'_>) -> Option<String> {
    let (seq, old) = w.row(File::Org, "decisions", "rationale")?;
    let token = w.ledger.token();
    let text = token.text();
    w.edit(
        File::Org,
        "decisions",
        seq,
        &format!("rationale = '{text}'"),
        token,
    );
    Some(format!("edit decision {old} to {text}"))
}

/// INSERT OR REPLACE fires no delete trigger for the row that it removes.
fn replace_decision(w: &mut Writer<'_>) -> Option<String> {
    let (seq, old) = w.row(File::Org, "decisions", "rationale")?;
    let token = w.ledger.token();
    let text = token.text();
    let sql = format!(
        "insert or replace into decisions (seq, id, scope, title, rationale)
         select seq, id, scope, title, '{text}' from decisions where seq = {seq}"
    );
    w.run(File::Org, &sql);
    let place = (w.number, File::Org, "decisions", seq);
    w.ledger.wrote(place, Token::read(&old), Some(token));
    Some(format!("replace decision {old} by {text}"))
}

/// A REPLACE by position only: the row in the way is gone, and a new one has its place.
fn displace_decision(w: &mut Writer<'_>) -> Option<String> {
    let (seq, old) = w.row(File::Org, "decisions", "rationale")?;
    let token = w.ledger.token();
    let text = token.text();
    let sql = format!(
        "insert or replace into decisions (seq, scope, title, rationale)
         select seq, scope, title, '{text}' from decisions where seq = {seq}"
    );
    w.run(File::Org, &sql);
    let place = (w.number, File::Org, "decisions", seq);
    w.ledger.wrote(place, Token::read(&old), Some(token));
    w.ledger.deleted(Token::read(&old));
    Some(format!("displace decision {old} by a new one, {text}"))
}

/// UPDATE OR REPLACE of a row's position: the row that had it is gone.
fn move_decision(w: &mut Writer<'_>) -> Option<String> {
    let (from, moved) = w.row(File::Org, "decisions", "rationale")?;
    let (to, gone) = w.row(File::Org, "decisions", "rationale")?;
    if from == to {
        return None;
    }
    let sql = format!("update or replace decisions set seq = {to} where seq = {from}");
    w.run(File::Org, &sql);
    let place = |seq| (w.number, File::Org, "decisions", seq);
    w.ledger.wrote(place(to), Token::read(&gone), None);
    w.ledger.moved(place(from), place(to));
    Some(format!("move decision {moved} to the place of {gone}"))
}

/// An INSERT that is ignored leaves the row in its way as it is.
fn ignore_decision(w: &mut Writer<'_>) -> Option<String> {
    let (seq, old) = w.row(File::Org, "decisions", "rationale")?;
    let sql = format!(
        "insert or ignore into decisions (id, scope, title, rationale)
         select id, scope, title, 'ignored' from decisions where seq = {seq} and id is not null"
    );
    w.run(File::Org, &sql);
    Some(format!("insert decision {old} again, in vain"))
}

fn delete_decision(w: &mut Writer<'_>) -> Option<String> {
    w.delete(File::Org, "decisions", "rationale")
}

fn insert_learning(w: &mut Writer<'_>) -> Option<String> {
    let (scope, token) = (w.scope(), w.ledger.token());
    let (text, name) = (token.text(), format!("skill {}", token.0));
    let sql = format!(
        "insert into skill_learnings (scope, skill_name, learning)
         values ('{scope}', '{name}', '{text}')"
    );
    w.insert(File::Org, "skill_learnings", &sql, Some(token));
    w.ledger.added(&name, 1);
    Some(format!("insert learning {name}, {text}, into {scope}"))
}

fn edit_learning(w: &mut Writer<'_>) -> Option<String> {
    let (seq, name) = w.row(File::Org, "skill_learnings", "skill_name")?;
    let token = w.ledger.token();
    let text = token.text();
    w.edit(
        File::Org,
        "skill_learnings",
        seq,
        &format!("learning = '{text}'"),
        token,
    );
    Some(format!("edit {name} to {text}"))
}

fn use_learning(w: &mut Writer<'_>) -> Option<String> {
    let (seq, name) = w.row(File::Org, "skill_learnings", "skill_name")?;
    let more = w.random.between(1, 3);
    let sql =
        format!("update skill_learnings set usage_count = usage_count + {more} where seq = {seq}");
    w.run(File::Org, &sql);
    w.ledger.added(&name, more);
    Some(format!("use {name} {more} times"))
}

fn delete_learning(w: &mut Writer<'_>) -> Option<String> {
    if w.random.chance(600) {
        return None;
    }
    w.delete(File::Org, "skill_learnings", "skill_name")
}

/// A record of a transcript: the same on every device that imports it.
fn import_message(w: &mut Writer<'_>) -> Option<String> {
    let id = format!("message {}", w.random.below(25));
    let known = format!("select seq from messages where message_id = '{id}' and scope = 'user'");
    if !w.device.rows(File::Sessions, &known).is_empty() {
        return None;
    }
    let sql = format!(
        "insert into messages (message_id, session_id, role, content)
         values ('{id}', 'session', 'user', 'content of {id}')"
    );
    w.insert(File::Sessions, "messages", &sql, None);
    w.ledger.fact_again(w.number, &id);
    Some(format!("import {id}"))
}

fn edit_message(w: &mut Writer<'_>) -> Option<String> {
    if w.random.chance(700) {
        return None;
    }
    // One that was not sent yet is what this device imported: the first accepted one stays.
    let sent = "(select * from messages where version is not null) as messages";
    let (seq, id) = w.row(File::Sessions, sent, "message_id")?;
    let token = w.ledger.token();
    let text = token.text();
    w.edit(
        File::Sessions,
        "messages",
        seq,
        &format!("content = '{text}'"),
        token,
    );
    Some(format!("edit {id} to {text}"))
}

fn delete_message(w: &mut Writer<'_>) -> Option<String> {
    if w.random.chance(700) {
        return None;
    }
    let acknowledged = "(select * from messages where version is not null) as messages";
    let (seq, name) = w.row(File::Sessions, acknowledged, "message_id")?;
    let before = w.text(File::Sessions, "messages", seq);
    let sql = format!("delete from messages where seq = {seq}");
    w.run(File::Sessions, &sql);
    let place = (w.number, File::Sessions, "messages", seq);
    w.ledger.wrote(place, before, None);
    w.ledger.fact_gone(w.number, name.clone());
    Some(format!("delete {name}"))
}

/// A session that two machines follow: its numbers grow on each of them.
fn grow_session(w: &mut Writer<'_>) -> Option<String> {
    let session = format!("session {}", w.random.below(3));
    let known = format!("select seq, message_count from sessions where session_id = '{session}'");
    if let Some(row) = w.device.rows(File::Sessions, &known).first() {
        let (seq, more) = (row[0].as_i64()?, w.random.between(1, 9));
        let sql = format!(
            "update sessions set message_count = coalesce(message_count, 0) + {more}
             where seq = {seq}"
        );
        w.run(File::Sessions, &sql);
        return Some(format!("{session} grows by {more}"));
    }
    let count = w.random.between(1, 9);
    let sql =
        format!("insert into sessions (session_id, message_count) values ('{session}', {count})");
    w.insert(File::Sessions, "sessions", &sql, None);
    Some(format!("{session} has {count} messages"))
}

/// Tasks have natural keys: several devices make the same one, and some writers insert without
/// looking.
fn write_task(w: &mut Writer<'_>) -> Option<String> {
    let (task, scope, token) = (w.random.below(6), w.scope(), w.ledger.token());
    let text = token.text();
    let known = format!(
        "select seq from task_tracking where task_id = 't{task}' and scope = '{scope}' order by seq"
    );
    let known = w.device.rows(File::Sessions, &known);
    if let Some(row) = known.first().filter(|_| !w.random.chance(100)) {
        let seq = row[0].as_i64()?;
        w.edit(
            File::Sessions,
            "task_tracking",
            seq,
            &format!("description = '{text}'"),
            token,
        );
        return Some(format!("edit task t{task} of {scope} to {text}"));
    }
    let sql = format!(
        "insert into task_tracking (scope, session_id, task_id, description)
         values ('{scope}', 's', 't{task}', '{text}')"
    );
    w.insert(File::Sessions, "task_tracking", &sql, Some(token));
    Some(format!("insert task t{task} of {scope}: {text}"))
}

fn count_task(w: &mut Writer<'_>) -> Option<String> {
    let (seq, task) = w.row(File::Sessions, "task_tracking", "task_id")?;
    let more = w.random.between(1, 5);
    let sql = format!(
        "update task_tracking set tool_success_count = tool_success_count + {more}
         where seq = {seq}"
    );
    w.run(File::Sessions, &sql);
    Some(format!("count {more} successes of {task}"))
}

fn delete_task(w: &mut Writer<'_>) -> Option<String> {
    w.delete(File::Sessions, "task_tracking", "task_id")
}

/// A key column of a row that was sent: the triggers refuse it.
fn rename_task(w: &mut Writer<'_>) -> Option<String> {
    let sent = "(select * from task_tracking where id is not null) as task_tracking";
    let (seq, task) = w.row(File::Sessions, sent, "task_id")?;
    let sql = format!("update task_tracking set task_id = 't99' where seq = {seq}");
    let refused = w.device.is_refused(File::Sessions, &sql);
    Some(format!("rename task {task}: refused {refused}"))
}

fn write_sprint(w: &mut Writer<'_>) -> Option<String> {
    let token = w.ledger.token();
    let text = token.text();
    let known = w.random.chance(600);
    if let Some((seq, old)) = w.row(File::Projects, "sprints", "goal").filter(|_| known) {
        let set = format!("goal = '{text}'");
        w.edit(File::Projects, "sprints", seq, &set, token);
        return Some(format!("edit sprint {old} to {text}"));
    }
    let scope = w.scope();
    let sql = format!(
        "insert into sprints (scope, project_id, name, goal)
         values ('{scope}', 'p', 'sprint', '{text}')"
    );
    w.insert(File::Projects, "sprints", &sql, Some(token));
    Some(format!("insert sprint {text} into {scope}"))
}

fn write_node(w: &mut Writer<'_>) -> Option<String> {
    let (node, scope, token) = (w.random.below(5), w.scope(), w.ledger.token());
    let text = token.text();
    let known = format!(
        "select seq from kg_nodes where node_key = 'k{node}' and scope = '{scope}' order by seq"
    );
    if let Some(row) = w.device.rows(File::Org, &known).first() {
        let seq = row[0].as_i64()?;
        w.edit(
            File::Org,
            "kg_nodes",
            seq,
            &format!("content = '{text}'"),
            token,
        );
        return Some(format!("edit node k{node} of {scope} to {text}"));
    }
    let sql = format!(
        "insert into kg_nodes (scope, node_type, node_key, content)
         values ('{scope}', 'file', 'k{node}', '{text}')"
    );
    w.insert(File::Org, "kg_nodes", &sql, Some(token));
    Some(format!("insert node k{node} of {scope}: {text}"))
}

fn delete_node(w: &mut Writer<'_>) -> Option<String> {
    w.delete(File::Org, "kg_nodes", "node_key")
}

/// Numbers of a model's answer; they grow while it streams. Few answers are seen by two devices.
fn stream_tokens(w: &mut Writer<'_>) -> Option<String> {
    let owner = if w.random.chance(150) { 99 } else { w.number };
    let answer = format!("answer {owner}-{}", w.random.below(4));
    let more = w.random.between(1, 50);
    let known = format!("select seq from token_economics where api_message_id = '{answer}'");
    if let Some(row) = w.device.rows(File::Sessions, &known).first() {
        let seq = row[0].as_i64().filter(|_| owner != 99 || more > 40)?;
        let sql = format!(
            "update token_economics set output_tokens = output_tokens + {more} where seq = {seq}"
        );
        w.run(File::Sessions, &sql);
        return Some(format!("{answer} grows by {more}"));
    }
    let more = if owner == 99 && more < 40 { 7 } else { more };
    let sql = format!(
        "insert into token_economics (session_id, api_message_id, output_tokens)
         values ('s', '{answer}', {more})"
    );
    w.insert(File::Sessions, "token_economics", &sql, None);
    Some(format!("{answer} has {more} tokens"))
}

fn use_component(w: &mut Writer<'_>) -> Option<String> {
    let component = format!("component {}", w.random.below(3));
    let known = format!(
        "select seq from component_usage_stats where component_id = '{component}' order by seq desc"
    );
    if let Some(row) = w.device.rows(File::Platform, &known).first() {
        let seq = &row[0];
        let sql = format!(
            "update component_usage_stats set invocation_count = invocation_count + 1
             where seq = {seq}"
        );
        w.run(File::Platform, &sql);
        return Some(format!("use {component} again"));
    }
    let sql = format!(
        "insert into component_usage_stats (component_id, invocation_count)
         values ('{component}', 1)"
    );
    w.insert(File::Platform, "component_usage_stats", &sql, None);
    Some(format!("use {component}"))
}

/// Inserts decisions of which the server refuses some; returns how many it refuses.
pub(super) fn insert_many(
    w: &mut Writer<'_>,
    rows: usize,
    refused_each: usize,
    word: &str,
) -> usize {
    let mut refused = 0;
    for at in 1..=rows {
        let token = w.ledger.token();
        let bad = refused_each > 0 && at % refused_each == 0;
        let title = if bad { word } else { "a decision" };
        refused += usize::from(bad);
        let sql = format!(
            "insert into decisions (scope, title, rationale)
             values ('{}', '{title}', '{}')",
            w.organization,
            token.text()
        );
        w.insert(File::Org, "decisions", &sql, Some(token));
    }
    refused
}

/// Makes a decision that everybody sees.
pub(super) fn decide(w: &mut Writer<'_>) -> Token {
    let token = w.ledger.token();
    let (scope, text) = (w.organization.clone(), token.text());
    let sql = format!(
        "insert into decisions (scope, title, rationale) values ('{scope}', 'shared', '{text}')"
    );
    w.insert(File::Org, "decisions", &sql, Some(token));
    token
}

/// Whether a row is a decision that everybody sees, made by [`decide`].
pub(super) fn is_shared(row: &Row) -> bool {
    row.get("title").and_then(Value::as_str) == Some("shared")
}

/// Changes the decision that has a text, if it is there.
pub(super) fn decide_anew(w: &mut Writer<'_>, old: Token) -> Option<Token> {
    let sql = format!(
        "select seq from decisions where rationale = '{}'",
        old.text()
    );
    let seq = w.device.rows(File::Org, &sql).first()?[0].as_i64()?;
    let token = w.ledger.token();
    let set = format!("rationale = '{}'", token.text());
    w.edit(File::Org, "decisions", seq, &set, token);
    Some(token)
}

/// Deletes the decision that has a text, if it is there.
pub(super) fn reverse_decision(w: &mut Writer<'_>, old: Token) -> Option<()> {
    let sql = format!(
        "select seq from decisions where rationale = '{}'",
        old.text()
    );
    let seq = w.device.rows(File::Org, &sql).first()?[0].as_i64()?;
    w.run(
        File::Org,
        &format!("delete from decisions where seq = {seq}"),
    );
    let place = (w.number, File::Org, "decisions", seq);
    w.ledger.wrote(place, Some(old), None);
    Some(())
}

/// Makes a learning that everybody sees; returns its name.
pub(super) fn learn(w: &mut Writer<'_>) -> String {
    let token = w.ledger.token();
    let (scope, name) = (w.organization.clone(), format!("skill {}", token.0));
    let sql = format!(
        "insert into skill_learnings (scope, skill_name, learning)
         values ('{scope}', '{name}', '{}')",
        token.text()
    );
    w.insert(File::Org, "skill_learnings", &sql, Some(token));
    w.ledger.added(&name, 1);
    name
}

fn learned(w: &Writer<'_>, name: &str) -> Option<i64> {
    let sql = format!("select seq from skill_learnings where skill_name = '{name}'");
    w.device.rows(File::Org, &sql).first()?[0].as_i64()
}

/// Changes the text of a learning, if it is there.
pub(super) fn learn_anew(w: &mut Writer<'_>, name: &str) -> Option<()> {
    let (seq, token) = (learned(w, name)?, w.ledger.token());
    let set = format!("learning = '{}'", token.text());
    w.edit(File::Org, "skill_learnings", seq, &set, token);
    Some(())
}

/// Counts on a learning, if it is there.
pub(super) fn use_again(w: &mut Writer<'_>, name: &str) -> Option<()> {
    let seq = learned(w, name)?;
    let sql = format!("update skill_learnings set usage_count = usage_count + 2 where seq = {seq}");
    w.run(File::Org, &sql);
    w.ledger.added(name, 2);
    Some(())
}

/// Deletes a message that the server has.
pub(super) fn delete_fact(w: &mut Writer<'_>) -> Option<()> {
    let acknowledged = "(select * from messages where version is not null) as messages";
    let (seq, name) = w.row(File::Sessions, acknowledged, "message_id")?;
    w.run(
        File::Sessions,
        &format!("delete from messages where seq = {seq}"),
    );
    w.ledger.fact_gone(w.number, name);
    Some(())
}

/// Makes a row of numbers that other devices have as well, with others.
pub(super) fn answer(w: &mut Writer<'_>, tokens: i64) {
    let sql = format!(
        "insert into token_economics (session_id, api_message_id, output_tokens)
         values ('s', 'answer of all', {tokens})"
    );
    w.insert(File::Sessions, "token_economics", &sql, None);
}

/// Makes a task that another device makes as well.
pub(super) fn insert_task(w: &mut Writer<'_>) {
    let token = w.ledger.token();
    let sql = format!(
        "insert into task_tracking (session_id, task_id, description)
         values ('s', 'both', '{}')",
        token.text()
    );
    w.insert(File::Sessions, "task_tracking", &sql, Some(token));
}

/// Removes all queue entries of a file.
pub(super) fn empty_queue(w: &mut Writer<'_>, file: File) {
    w.run(file, "delete from sync_queue");
}

/// Removes the queue entries of rows that were never sent, as a published hint tells people to.
pub(super) fn clear_queue(w: &mut Writer<'_>) -> Option<String> {
    let file = *w.random.pick(&[File::Org, File::Sessions])?;
    // Of rows that were sent before, the scrub finds what differs; that is not tried here.
    let of = "from sync_queue where action in ('insert', 'update') and not exists (
                select 1 from sync_base b where b.table_name = sync_queue.table_name
                  and b.id = sync_queue.row_id and b.scope = sync_queue.row_scope)";
    let count = w.device.number(file, &format!("select count(*) {of}"));
    w.run(file, &format!("delete {of}"));
    Some(format!("delete {count} queue entries of {file}"))
}
