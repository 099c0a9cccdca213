//! `admin database`: base backups of the embedded PostgreSQL, and recovery as of any moment.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail};
use coditect_backup::Storage;
use coditect_backup::database::{Until, WalName};
use coditect_server_store::cluster;
use coditect_server_store::embedded::{
    ArchiveRecord, Archiving, EmbeddedOptions, EmbeddedPostgres, Reached, Recovered, Site,
};
use coditect_server_store::{Db, admin};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cli::{DatabaseCommand, Output};
use crate::commands::data_dir::DataDir;
use crate::commands::{database, report, serve};
use crate::config::{Config, Target};
use crate::database_archive::base::{self, Fetching};
use crate::database_archive::contents::{self, Contents};
use crate::database_archive::recover::{Source, choose};
use crate::database_archive::{Archive, keep};
use crate::jobs::scrub;
use crate::state::Clock;

/// Marks a folder that a recovery is at work in; without it nothing is removed.
const MARK: &str = "recovery.unfinished";

/// Does what was asked and returns what to print.
pub(super) async fn run(
    config: &Config,
    command: DatabaseCommand,
) -> anyhow::Result<(Output, Value)> {
    match command {
        DatabaseCommand::Base { output } => Ok((output, make_base(config).await?)),
        DatabaseCommand::List { archive, output } => Ok((output, list(config, archive).await?)),
        DatabaseCommand::Recover {
            to,
            latest: _,
            into,
            archive,
            verify,
            output,
        } => {
            let until = to.map_or(Until::Latest, Until::Time);
            let folder = absolute(&into)?;
            let recovered = recover(config, until, &folder, archive, verify).await;
            let recovered = recovered.context("nothing was recovered")?;
            Ok((output, recovered))
        }
        DatabaseCommand::Use { from, yes, output } => {
            Ok((output, put_in_place(config, &absolute(&from)?, yes)?))
        }
    }
}

fn absolute(folder: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(folder).with_context(|| format!("no folder {}", folder.display()))
}

fn storage(config: &Config) -> anyhow::Result<Storage> {
    let backups = serve::backups(config)?;
    let backups = backups.context("there is no place for backups\nhint: --backup-url names it")?;
    Ok(backups.storage)
}

/// Makes a base backup now, of a server that runs or of one that is started for it.
async fn make_base(config: &Config) -> anyhow::Result<Value> {
    if config.target != Target::Embedded {
        bail!("only the embedded PostgreSQL is archived\nhint: leave DATABASE_URL out");
    }
    let storage = storage(config)?;
    let data_dir = DataDir::open(&config.data_dir).context("no server was ever started there")?;
    let join = database::Join::IfRunning;
    let postgres = database::start(config, &data_dir, join, Archiving::AsBefore).await?;
    let made = base_of(&postgres, storage).await;
    database::stop(postgres).await?;
    made
}

async fn base_of(postgres: &EmbeddedPostgres, storage: Storage) -> anyhow::Result<Value> {
    let record = postgres.archive().context(
        "the server's write-ahead log is not archived\n\
         hint: start it with database_archive_seconds above 0",
    )?;
    let folder = postgres.folder().to_owned();
    let (clock, program) = (Clock::system(), postgres.base_backup());
    let archive = Archive::new(storage, folder, program, record, clock.now());
    let lock = archive.spool.lock()?;
    let fetching = match lock {
        Some(_) => Fetching::Here,
        None => Fetching::Elsewhere,
    };
    let started = Instant::now();
    let made = base::make(&archive, &clock, fetching).await;
    let made = made.context("no base backup was made")?;
    let removed = keep::expire(&archive, clock.now()).await?;
    Ok(json!({
        "archive_id": made.archive_id,
        "base_id": made.id,
        "finished_at": made.finished_at,
        "start_lsn": made.start_lsn.to_string(),
        "end_lsn": made.end_lsn.to_string(),
        "size_bytes": made.size_bytes,
        "checksum": made.checksum,
        "seconds": started.elapsed().as_secs_f64(),
        "removed": removed,
    }))
}

/// Lists the base backups of all archives, or of one, and the time that each archive covers.
async fn list(config: &Config, archive: Option<Uuid>) -> anyhow::Result<Value> {
    let storage = storage(config)?;
    let own = ArchiveRecord::last(&config.data_dir.join("postgres"));
    let ids = match archive {
        Some(id) => vec![id],
        None => contents::archives(&storage).await?,
    };
    let mut bases = Vec::new();
    for id in ids {
        let Contents {
            head,
            bases: found,
            wal,
            ..
        } = contents::contents(&storage, id).await?;
        let is_segment = |name: &str| matches!(WalName::parse(name), Some(WalName::Segment { .. }));
        let last = wal.iter().rfind(|(name, _)| is_segment(name));
        let own = own.as_ref().is_some_and(|own| own.archive_id == id);
        let of_archive = json!({
            "archive_id": id,
            "own": own,
            "parent_id": head.parent_id,
            "wal_segments": wal.iter().filter(|(name, _)| is_segment(name)).count(),
            "wal_bytes": wal.iter().map(|(_, stored)| stored.bytes).sum::<u64>(),
            "wal_last": last.map(|(name, _)| name),
            "wal_kept_at": last.map(|(_, stored)| stored.modified),
        });
        if found.is_empty() {
            bases.push(json!({ "base_id": null, "archive": of_archive }));
        }
        for base in found {
            bases.push(json!({
                "base_id": base.id,
                "recoverable_from": base.finished_at,
                "timeline": base.timeline,
                "start_lsn": base.start_lsn.to_string(),
                "size_bytes": base.size_bytes,
                "archive": of_archive,
            }));
        }
    }
    Ok(json!({ "bases": bases }))
}

/// Recovers into `folder`: beside it first, and there only when all is done.
async fn recover(
    config: &Config,
    until: Until,
    folder: &Path,
    archive: Option<Uuid>,
    verify: bool,
) -> anyhow::Result<Value> {
    let started = Instant::now();
    check_empty(folder)?;
    let storage = storage(config)?;
    let own = ArchiveRecord::last(&config.data_dir.join("postgres"));
    let own_id = own.as_ref().map(|own| own.archive_id);
    let chosen = choose(&storage, archive, own_id).await?;
    let source = Source::find(&storage, chosen, until).await?;
    let work = unfinished(folder)?;
    report(&format!(
        "recovering from the base backup {} and {} segments",
        source.plan.base.id,
        source.plan.segments.len()
    ));
    let site = Site::prepare(&work)?;
    let bytes = source.unpack(site.data()).await?;
    let segments = source.fetch_wal(&site.wal()).await?;
    let fetched = started.elapsed();
    let seconds = config.database_archive_seconds.max(1);
    let record = ArchiveRecord::fresh(Some(chosen), seconds)?;
    let (site, reached) = replay(config, site, record.clone(), until, &source).await?;
    let replayed = started.elapsed();
    if reached.system_identifier != source.plan.base.system_identifier {
        bail!("what was recovered is another database than the manifest names");
    }
    let opened = open(config, &work, &record, verify).await?;
    note_of(&record, &source, until, &reached).write(&work)?;
    tokio::task::spawn_blocking(move || site.sync()).await??;
    let failed = || format!("cannot finish {}", folder.display());
    std::fs::remove_file(work.join(MARK)).with_context(failed)?;
    std::fs::rename(&work, folder).with_context(failed)?;
    Ok(json!({
        "folder": folder,
        "archive_id": chosen,
        "base_id": source.plan.base.id,
        "base_bytes": bytes,
        "wal_segments": segments,
        "last_transaction": reached.last_transaction,
        "lsn": reached.lsn,
        "timeline": reached.timeline,
        "epoch": opened.epoch,
        "organisations": opened.organisations,
        "rows_verified": opened.rows,
        "rows_damaged": opened.damaged,
        "fetch_seconds": fetched.as_secs_f64(),
        "replay_seconds": (replayed - fetched).as_secs_f64(),
        "seconds": started.elapsed().as_secs_f64(),
        "next": format!(
            "coditect-server admin database use {} --data-dir {}",
            folder.display(),
            config.data_dir.display()
        ),
    }))
}

fn check_empty(folder: &Path) -> anyhow::Result<()> {
    let is_empty = match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if is_empty {
        return Ok(());
    }
    bail!(
        "{} is not an empty folder\nhint: --into names one that is not there yet",
        folder.display()
    )
}

/// Returns what the trails will say when a server serves what was recovered.
fn note_of(record: &ArchiveRecord, source: &Source, until: Until, reached: &Reached) -> Recovered {
    Recovered {
        // Of the archive that begins with this recovery.
        id: record.archive_id,
        archive_id: source.archive,
        base_id: source.plan.base.id.clone(),
        asked_for: match until {
            Until::Latest => None,
            Until::Time(time) => Some(time),
        },
        as_of: reached.last_transaction,
        lsn: reached.lsn.clone(),
        recovered_at: Clock::system().now(),
    }
}

/// Makes the folder that the recovery works in, without what an attempt before left there.
fn unfinished(folder: &Path) -> anyhow::Result<PathBuf> {
    let name = folder.file_name().context("--into names no folder")?;
    let mut work = name.to_owned();
    work.push(".unfinished");
    let work = folder.with_file_name(work);
    let failed = || format!("cannot make {}", work.display());
    if work.exists() {
        if !work.join(MARK).exists() {
            bail!("{} is in the way", work.display());
        }
        std::fs::remove_dir_all(&work).with_context(failed)?;
    }
    std::fs::create_dir_all(&work).with_context(failed)?;
    std::fs::write(work.join(MARK), "").with_context(failed)?;
    Ok(work)
}

async fn replay(
    config: &Config,
    site: Site,
    record: ArchiveRecord,
    until: Until,
    source: &Source,
) -> anyhow::Result<(Site, Reached)> {
    let search = config.postgres.clone();
    let time = match until {
        Until::Latest => None,
        Until::Time(time) => Some(time),
    };
    // A thread of its own: PostgreSQL ends with the one that starts it.
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("recovery".to_owned());
    let spawned = thread.spawn(move || {
        let reached = site.replay(&search, &record, time);
        // Nobody waits when the program is being ended.
        let _ = sender.send((site, reached));
    });
    spawned.context("cannot start a thread")?;
    let (site, reached) = receiver.await.context("the recovery was interrupted")?;
    let reached = reached.with_context(|| match (time, &source.plan.missing) {
        (Some(time), Some(missing)) => format!(
            "the archive lacks {missing}, and {time} was not reached before it\n\
             hint: --to an earlier moment"
        ),
        (Some(time), None) => {
            format!("{time} was not reached; if nothing was written after it, --latest is the same")
        }
        (None, _) => "the write-ahead log cannot be replayed".to_owned(),
    })?;
    Ok((site, reached))
}

/// What the recovered database says.
struct Opened {
    epoch: String,
    organisations: usize,
    rows: Option<u64>,
    damaged: Option<u64>,
}

/// Starts the recovered PostgreSQL as a server would, and ends the epoch: devices then push again
/// what it lacks.
async fn open(
    config: &Config,
    work: &Path,
    record: &ArchiveRecord,
    verify: bool,
) -> anyhow::Result<Opened> {
    let mut options = EmbeddedOptions::new(work);
    options.search = config.postgres.clone();
    options.archiving = Archiving::On {
        seconds: record.seconds,
    };
    let started = tokio::task::spawn_blocking(move || EmbeddedPostgres::start(&options));
    let postgres = started
        .await?
        .context("the recovered PostgreSQL does not start")?;
    let opened = async {
        database::prepare(&postgres).await?;
        let db = database::connect(&postgres, 2).await?;
        let opened = end_epoch(&db, verify).await;
        db.close();
        opened
    };
    let opened = opened.await;
    database::stop(postgres).await?;
    opened
}

async fn end_epoch(db: &Db, verify: bool) -> anyhow::Result<Opened> {
    let epoch = cluster::change_epoch(db).await;
    let epoch = epoch.context("cannot change the epoch")?.to_string();
    let tenants = admin::list_tenants(db).await;
    let tenants = tenants.context("cannot list organisations")?;
    let (mut rows, mut damaged) = (None, None);
    for tenant in tenants.iter().filter(|_| verify) {
        let read = scrub::run_now(db, &Clock::system(), tenant.tenant_id).await;
        if let Some(whole) = read.context("cannot read the rows")? {
            rows = Some(rows.unwrap_or(0) + whole.rows);
            damaged = Some(damaged.unwrap_or(0) + whole.found);
        }
    }
    Ok(Opened {
        epoch,
        organisations: tenants.len(),
        rows,
        damaged,
    })
}

/// Puts a recovered folder in the place of the server's; the one of before stays beside it.
fn put_in_place(config: &Config, from: &Path, yes: bool) -> anyhow::Result<Value> {
    let data_dir = DataDir::prepare(&config.data_dir)?;
    let _server = data_dir.lock_server()?;
    let _start = data_dir.lock_start()?;
    let place = data_dir.postgres();
    let record = ArchiveRecord::last(from).filter(|record| record.parent_id.is_some());
    let record = record.filter(|_| from.join("data/PG_VERSION").is_file());
    let record =
        record.with_context(|| format!("{} is nothing that was recovered", from.display()))?;
    let aside = place.with_file_name(format!(
        "postgres.before-{}",
        Clock::system().now().format("%Y%m%dT%H%M%SZ")
    ));
    let stays = place.exists();
    if !yes {
        confirm(&format!(
            "{} takes the place of {}, which stays as {}. Go on?",
            from.display(),
            place.display(),
            aside.display()
        ))?;
    }
    let failed = || format!("cannot put {} in place", from.display());
    if let Some(replaced) = ArchiveRecord::last(&place) {
        let mut next = record;
        next.former = replaced.former;
        next.former.push(replaced.archive_id);
        next.write(from).with_context(failed)?;
    }
    if stays {
        std::fs::rename(&place, &aside).with_context(failed)?;
    }
    if let Err(error) = std::fs::rename(from, &place) {
        if stays {
            std::fs::rename(&aside, &place).with_context(failed)?;
        }
        return Err(error).with_context(failed);
    }
    std::fs::File::open(data_dir.path())
        .and_then(|folder| folder.sync_all())
        .with_context(failed)?;
    Ok(json!({ "folder": place, "before": stays.then_some(aside) }))
}

/// Asks on the terminal; elsewhere nobody can agree.
fn confirm(question: &str) -> anyhow::Result<()> {
    if !std::io::stdin().is_terminal() {
        bail!("{question}\nhint: --yes agrees");
    }
    report(&format!("{question} [y/N]"));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer.trim().eq_ignore_ascii_case("y") {
        return Ok(());
    }
    bail!("nothing was changed")
}
