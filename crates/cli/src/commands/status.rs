//! `coditect status`.

use clap::Args;
use coditect_client::SyncState;
use coditect_daemon::archive::Archive;
use coditect_local_store::LocalStore;
use coditect_protocol::catalogue::{File, by_cloud_name};
use coditect_protocol::wire::pull::TableDigest;
use serde_json::{Value, json};

use crate::clock;
use crate::context::Context;
use crate::exit::Exit;
use crate::names;
use crate::table::{Table, grouped, short_time};

const HELP: &str = "\
Asks nobody: the server's side is what the last sync saw. It says `converged` when nothing is
queued and every digest equals the server's.

--json: tenant_id, user_id, device_id, server, profile, offline_mode, queue_depth (changes that
wait, all files), parked, conflicts, bodies_to_fetch (rows whose long texts are not here yet),
bodies_to_send (queued rows with long texts), oldest_queued_at, last_sync_at, last_error, converged
(null before the first sync), daily_backup (whether org.db is backed up by itself), last_backup_at
(of org.db, any kind), archive {files, chunks, bytes_original, bytes_stored, redactions},
streams [{scope, table, rows, digest, server_digest, cursor}].";

/// Shows what is linked, queued and in step.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Status {}

/// One line of `streams`.
struct Stream {
    scope: String,
    table: String,
    rows: i64,
    digest: String,
    server_digest: Option<String>,
    cursor: Option<String>,
    equal: Option<bool>,
}

/// Runs the command.
pub(crate) fn run(context: &Context) -> anyhow::Result<Exit> {
    let mut store = context.store()?;
    let mut oldest: Option<String> = None;
    let (mut queued, mut parked, mut conflicts, mut unmarked) = (0, 0, 0, 0);
    for file in File::ALL {
        context.adopt(&mut store, file)?;
        let state = store.queue_state(file)?;
        queued += state.queued;
        parked += state.parked;
        oldest = match (oldest, state.oldest) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        conflicts += store.conflicts(file, false)?.len() as u64;
        unmarked += store.count_unmarked(file)?;
    }
    let bodies = store.pending_bodies()?;
    let state = context.state();
    let streams = streams(&store, &state)?;
    let equal = streams.iter().all(|stream| stream.equal == Some(true));
    let converged = state
        .converged
        .map(|converged| converged && equal && queued == 0 && unmarked == 0 && bodies.down == 0);
    let owner = store.owner_of_folder();
    let offline = context.is_offline() || state.offline;
    let document = json!({
        "tenant_id": owner.map(|owner| owner.tenant),
        "user_id": owner.map(|owner| owner.user),
        "device_id": store.device(),
        "server": context.cloud.server,
        "profile": context.paths.profile(),
        "logged_in": context.credentials().load()?.is_some(),
        "offline_mode": offline,
        "queue_depth": queued,
        "parked": parked,
        "conflicts": conflicts,
        "bodies_to_fetch": bodies.down,
        "bodies_to_send": bodies.up,
        "archive": Archive::new(&context.paths.data_dir()).space()?,
        "daily_backup": context.cloud.daily_backup,
        "last_backup_at": last_backup(context)?,
        "oldest_queued_at": oldest,
        "last_sync_at": state.last_sync_at,
        "last_error": state.last_error,
        "converged": converged,
        "streams": streams.iter().map(Stream::document).collect::<Vec<_>>(),
    });
    context
        .printer
        .either(&document, |_| print(context, &document, &streams))?;
    Ok(Exit::Ok)
}

/// Returns when org.db was backed up last; what cannot be read does not count.
fn last_backup(context: &Context) -> anyhow::Result<Option<String>> {
    let listed = super::backup::own(context).list()?;
    let manifests = listed.into_iter().rev().filter_map(|one| one.manifest.ok());
    let mut of_org = manifests.filter(|manifest| manifest.saved(File::Org).is_some());
    Ok(of_org.next().map(|manifest| manifest.created_at))
}

fn streams(store: &LocalStore, state: &SyncState) -> anyhow::Result<Vec<Stream>> {
    let mut streams = Vec::new();
    if store.owner_of_folder().is_none() {
        return Ok(streams);
    }
    for (scope, file) in store.streams()? {
        let local = store.digests(file, scope)?;
        for table in file.tables() {
            let none = TableDigest {
                table: table.cloud.to_owned(),
                rows: 0,
                count: 0,
                digest: format!("{:016x}", 0),
            };
            let own = local
                .iter()
                .find(|digest| digest.table == table.cloud)
                .unwrap_or(&none);
            let server = state.stream(scope, table.cloud);
            if own.count == 0 && server.is_none_or(|server| server.count == 0) {
                continue;
            }
            streams.push(Stream {
                scope: scope.to_string(),
                table: table.cloud.to_owned(),
                rows: own.rows,
                digest: own.digest.clone(),
                server_digest: server.map(|server| server.digest.clone()),
                cursor: server.map(|server| server.cursor.to_string()),
                equal: server.map(|server| {
                    (server.rows, server.count, &server.digest)
                        == (own.rows, own.count, &own.digest)
                }),
            });
        }
    }
    Ok(streams)
}

impl Stream {
    fn document(&self) -> Value {
        json!({
            "scope": self.scope,
            "table": self.table,
            "rows": self.rows,
            "digest": self.digest,
            "server_digest": self.server_digest,
            "cursor": self.cursor,
        })
    }
}

fn print(context: &Context, document: &Value, streams: &[Stream]) -> anyhow::Result<()> {
    let printer = &context.printer;
    let text = |name: &str| document[name].as_str().unwrap_or("-").to_owned();
    let number = |name: &str| grouped(document[name].as_u64().unwrap_or(0));
    let in_step = match document["converged"].as_bool() {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not known yet",
    };
    let offline = document["offline_mode"] == true;
    let login = match (document["logged_in"] == true, offline) {
        (false, _) => "not logged in",
        (true, true) => "offline",
        (true, false) => "logged in",
    };
    printer.line(&format!("server       {} ({login})", text("server")))?;
    printer.line(&format!("organisation {}", text("tenant_id")))?;
    printer.line(&format!("user         {}", text("user_id")))?;
    printer.line(&format!("device       {}", text("device_id")))?;
    let last = short_time(document["last_sync_at"].as_str());
    printer.line(&format!("last sync    {last}"))?;
    let backup = short_time(document["last_backup_at"].as_str());
    let daily = match document["daily_backup"].as_bool() {
        Some(false) => " (none by itself)",
        _ => "",
    };
    printer.line(&format!("last backup  {backup}{daily}"))?;
    printer.line(&format!("in step      {in_step}"))?;
    let waiting = [number("queue_depth"), number("parked"), number("conflicts")];
    let [queued, parked, conflicts] = waiting;
    printer.line(&format!(
        "queued {queued}, parked {parked}, conflicts {conflicts}"
    ))?;
    let (down, up) = (number("bodies_to_fetch"), number("bodies_to_send"));
    if (down.as_str(), up.as_str()) != ("0", "0") {
        printer.line(&format!(
            "rows with long texts: {down} to fetch, {up} to send"
        ))?;
    }
    if !streams.is_empty() {
        printer.line("")?;
        let mut table = Table::new(&["scope", "table", "#rows", "in step"]);
        for stream in streams {
            let name = by_cloud_name(&stream.table).map_or(stream.table.clone(), names::full_name);
            let equal = match stream.equal {
                Some(true) => "yes",
                Some(false) => "no",
                None => "-",
            };
            let scope = super::records::scope_word(&stream.scope);
            let rows = grouped(stream.rows.unsigned_abs());
            table.row([scope, name, rows, equal.to_owned()]);
        }
        table.print(printer)?;
    }
    if let Some(error) = document["last_error"].as_str() {
        printer.warning(&format!("the last sync broke off: {error}"));
    }
    hints(context, document);
    Ok(())
}

fn hints(context: &Context, document: &Value) {
    let printer = &context.printer;
    let is_some = |name: &str| document[name].as_u64().unwrap_or(0) > 0;
    if document["logged_in"] != true {
        printer.hint("coditect login --server URL --license -");
    } else if is_some("queue_depth") && document["offline_mode"] != true {
        printer.hint("coditect sync");
    }
    if is_some("parked") {
        printer.hint("coditect queue list --parked");
    }
    if is_some("conflicts") {
        printer.hint("coditect conflict list");
    }
    let oldest = document["oldest_queued_at"].as_str();
    if let Some(hours) = oldest.and_then(age_hours)
        && hours > context.cloud.queue_max_age_hours
    {
        printer.warning(&format!("changes have waited for {hours} hours"));
    }
}

/// Returns the whole hours since a stored time.
pub(super) fn age_hours(time: &str) -> Option<i64> {
    let then = coditect_core::canonical::ms_from_time(time)?;
    Some((clock::now_ms() - then) / 3_600_000)
}
