//! Schema versions of the files. Append-only: a step that was released is never edited. The
//! critical file is copied before a step changes it.

use coditect_protocol::catalogue::File;
use rusqlite::{Connection, TransactionBehavior};
use std::path::Path;

use crate::error::{Error, InFile as _, Result};
use crate::profile::{make_private_file, path_of};
use crate::schema;

/// One step: the SQL that brings a file from the version before it to `version`.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub(crate) version: i64,
    pub(crate) sql: fn(File) -> &'static str,
    /// Table and column that a file made by a later catalogue has already; then the step has
    /// nothing to do.
    pub(crate) unless: Option<(&'static str, &'static str)>,
}

/// All steps, in order.
pub(crate) const STEPS: &[Step] = &[
    Step {
        version: 1,
        sql: schema::of,
        unless: None,
    },
    Step {
        version: 2,
        sql: |_| schema::REPAIR,
        unless: None,
    },
    Step {
        version: 3,
        sql: schema::indexed,
        unless: None,
    },
    Step {
        version: 4,
        sql: |file| match file {
            File::Sessions => "alter table messages add column bodies text;",
            _ => "",
        },
        unless: Some(("messages", "bodies")),
    },
    Step {
        version: 5,
        sql: |_| schema::MOVES,
        unless: None,
    },
    Step {
        version: 6,
        sql: |_| schema::PAST,
        unless: None,
    },
    Step {
        version: 7,
        sql: |file| match file {
            File::Sessions => schema::BODIES,
            _ => schema::QUEUE,
        },
        unless: None,
    },
    Step {
        version: 8,
        sql: |_| schema::LOST,
        unless: None,
    },
];

/// Returns the highest version of `steps`.
pub(crate) fn latest(steps: &[Step]) -> i64 {
    steps.last().map_or(0, |step| step.version)
}

/// Brings a file to the highest version.
pub(crate) fn run(
    connection: &mut Connection,
    file: File,
    folder: Option<&Path>,
    steps: &[Step],
) -> Result<()> {
    let found = version(connection).in_file(file)?;
    if found >= latest(steps) {
        return Ok(());
    }
    if let Some(folder) = folder
        && file == File::Org
        && found > 0
    {
        snapshot(connection, folder, found)?;
    }
    for step in steps {
        apply(connection, file, step).in_file(file)?;
    }
    Ok(())
}

/// Returns the file's schema version; 0 for a new file.
pub(crate) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn apply(connection: &mut Connection, file: File, step: &Step) -> rusqlite::Result<()> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have done it while we waited for the lock.
    if version(&tx)? < step.version {
        let done = match step.unless {
            Some((table, column)) => tx
                .prepare("select 1 from pragma_table_info(?1) where name = ?2")?
                .exists([table, column])?,
            None => false,
        };
        if !done {
            tx.execute_batch((step.sql)(file))?;
        }
        tx.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", step.version)?;
        tx.execute(
            "insert into sync_meta (key, value) values ('file', ?1) on conflict (key) do nothing",
            [file.as_str()],
        )?;
    }
    tx.commit()
}

/// Copies the critical file to `org.db.before-vN`, unless that copy exists already.
fn snapshot(connection: &Connection, folder: &Path, found: i64) -> Result<()> {
    let path = path_of(folder, File::Org).with_extension(format!("db.before-v{}", found + 1));
    if path.exists() {
        return Ok(());
    }
    let unfinished = path.with_extension("unfinished");
    let failed = |source| Error::Io {
        path: path.clone(),
        source,
    };
    if unfinished.exists() {
        std::fs::remove_file(&unfinished).map_err(failed)?;
    }
    make_private_file(&unfinished)?;
    connection
        .backup(
            rusqlite::MAIN_DB,
            &unfinished,
            None::<fn(rusqlite::backup::Progress)>,
        )
        .in_file(File::Org)?;
    std::fs::rename(&unfinished, &path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Today's steps and one of tomorrow.
    fn next() -> Vec<Step> {
        let later = Step {
            version: latest(STEPS) + 1,
            sql: |_| "alter table decisions add column later text;",
            unless: None,
        };
        STEPS.iter().copied().chain([later]).collect()
    }

    #[test]
    fn the_critical_file_is_copied_before_it_is_migrated() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_of(folder.path(), File::Org);
        let mut connection = Connection::open(&path).unwrap();
        run(&mut connection, File::Org, Some(folder.path()), STEPS).unwrap();
        let today = latest(STEPS);
        let copy = folder.path().join(format!("org.db.before-v{}", today + 1));
        assert!(!copy.exists());
        let insert = "insert into decisions (title) values ('kept')";
        connection.execute(insert, []).unwrap();
        run(&mut connection, File::Org, Some(folder.path()), &next()).unwrap();
        assert_eq!(version(&connection).unwrap(), today + 1);
        let copy = Connection::open(copy).unwrap();
        assert_eq!(version(&copy).unwrap(), today);
        let title: String = copy
            .query_row("select title from decisions", [], |row| row.get(0))
            .unwrap();
        assert_eq!(title, "kept");
    }

    #[test]
    fn what_an_older_version_indexed_is_not_indexed_again() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection, File::Org, None, &STEPS[..2]).unwrap();
        let insert = "insert into decisions (title) values ('a'), ('b')";
        connection.execute(insert, []).unwrap();
        run(&mut connection, File::Org, None, STEPS).unwrap();
        let noted = |table| crate::database::meta(&connection, &format!("indexed:{table}"));
        assert_eq!(noted("decisions").unwrap().as_deref(), Some("2"));
        assert_eq!(noted("error_solutions").unwrap().as_deref(), Some("0"));
    }

    #[test]
    fn a_file_of_an_older_catalogue_gets_the_column() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection, File::Sessions, None, &STEPS[..2]).unwrap();
        let drop = "alter table messages drop column bodies";
        connection.execute(drop, []).unwrap();
        run(&mut connection, File::Sessions, None, STEPS).unwrap();
        let read = "select bodies from messages";
        assert!(!connection.prepare(read).unwrap().exists([]).unwrap());
    }

    #[test]
    fn running_again_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection, File::Projects, None, STEPS).unwrap();
        run(&mut connection, File::Projects, None, STEPS).unwrap();
        assert_eq!(version(&connection).unwrap(), latest(STEPS));
    }
}
