//! Fetches what a recovery needs: decides by the archive's lists, unpacks the base backup, and puts
//! the write-ahead log (WAL) beside it. Everything is checked before PostgreSQL sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use coditect_backup::Storage;
use coditect_backup::database::{self, Entry, History, Plan, TarReader, Until, WalName};
use futures_util::{StreamExt as _, TryStreamExt as _};
use uuid::Uuid;

use super::contents::{Contents, archives, head, lineage};
use super::{ArchiveError, base, blocking, wal};

/// Pieces of the WAL that are fetched at once.
const AT_ONCE: usize = 4;

/// What is to be fetched, and from where.
#[derive(Debug)]
pub struct Source {
    /// The archive.
    pub archive: Uuid,
    /// What is needed of it and of those that it goes on from.
    pub plan: Plan,
    /// Paths of the pieces of the WAL, by name.
    paths: BTreeMap<String, String>,
    storage: Storage,
}

/// Returns the archive that is meant: the one that was named, else the one of the server's own
/// folder, else the only one that no other goes on from.
///
/// # Errors
/// [`ArchiveError::Empty`], [`ArchiveError::Several`], those of the storage.
pub async fn choose(
    storage: &Storage,
    named: Option<Uuid>,
    own: Option<Uuid>,
) -> Result<Uuid, ArchiveError> {
    if let Some(named) = named {
        return Ok(named);
    }
    let all = archives(storage).await?;
    if let Some(own) = own.filter(|own| all.contains(own)) {
        return Ok(own);
    }
    let mut parents = BTreeSet::new();
    for id in &all {
        parents.extend(head(storage, *id).await?.and_then(|head| head.parent_id));
    }
    let last: Vec<Uuid> = all.into_iter().filter(|it| !parents.contains(it)).collect();
    match last[..] {
        [] => Err(ArchiveError::Empty(storage.address(database::FOLDER))),
        [only] => Ok(only),
        _ => Err(ArchiveError::Several(last)),
    }
}

impl Source {
    /// Decides what a recovery of `archive` needs.
    ///
    /// # Errors
    /// [`ArchiveError::Plan`], [`ArchiveError::NoArchive`], those of the storage.
    pub async fn find(
        storage: &Storage,
        archive: Uuid,
        until: Until,
    ) -> Result<Self, ArchiveError> {
        let all = lineage(storage, archive).await?;
        let (mut bases, mut paths) = (Vec::new(), BTreeMap::new());
        // What is nearer wins over what it goes on from.
        for Contents {
            bases: more, wal, ..
        } in all.into_iter().rev()
        {
            bases.extend(more);
            paths.extend(wal.into_iter().map(|(name, stored)| (name, stored.path)));
        }
        let mut histories = BTreeMap::new();
        for (name, path) in &paths {
            if let Some(WalName::History { timeline }) = WalName::parse(name) {
                let text = wal::read(storage, path).await?;
                let text = String::from_utf8_lossy(&text).into_owned();
                histories.insert(timeline, History::parse(&text));
            }
        }
        let names: BTreeSet<String> = paths.keys().cloned().collect();
        let plan = database::plan(&bases, &names, &histories, until)?;
        Ok(Self {
            archive,
            plan,
            paths,
            storage: storage.clone(),
        })
    }

    /// Unpacks the base backup into `data`, which is empty; returns its bytes.
    ///
    /// # Errors
    /// [`ArchiveError`] when it is not what its manifest says.
    pub async fn unpack(&self, data: &Path) -> Result<u64, ArchiveError> {
        let base = &self.plan.base;
        let path = database::base_path(base.archive_id, &base.id);
        let (mut tar, mut target) = (TarReader::default(), Target::new(data));
        let read = base::read(&self.storage, &path, |bytes| {
            tar.feed(bytes, |entry| target.take(&entry))
        });
        let (bytes, checksum) = read.await?;
        tar.finish()?;
        if (bytes, &checksum) != (base.size_bytes, &base.checksum) {
            return Err(ArchiveError::Different { path });
        }
        Ok(bytes)
    }

    /// Puts the WAL into `folder`; returns how many segments there are.
    ///
    /// # Errors
    /// [`ArchiveError::Damaged`] when one of them is.
    pub async fn fetch_wal(&self, folder: &Path) -> Result<usize, ArchiveError> {
        let histories = self.plan.histories.iter();
        let histories = histories.map(|timeline| format!("{timeline:08X}.history"));
        let names = self.plan.segments.iter().cloned().chain(histories);
        let fetched = names.map(|name| {
            let to = folder.join(&name);
            async move {
                let Some(path) = self.paths.get(&name) else {
                    return Ok(());
                };
                let content = wal::read(&self.storage, path).await?;
                blocking(move || fs::write(&to, content).map_err(ArchiveError::file("write", &to)))
                    .await
            }
        });
        let fetched = futures_util::stream::iter(fetched).buffer_unordered(AT_ONCE);
        fetched.try_collect::<()>().await?;
        Ok(self.plan.segments.len())
    }
}

/// Writes the files of a tar.
struct Target {
    folder: PathBuf,
    open: Option<(PathBuf, File)>,
}

impl Target {
    fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            open: None,
        }
    }

    fn take(&mut self, entry: &Entry<'_>) -> Result<(), ArchiveError> {
        match entry {
            Entry::Folder(path) => {
                let path = self.folder.join(path);
                fs::create_dir_all(&path).map_err(ArchiveError::file("make", &path))
            }
            Entry::File { path, .. } => {
                let path = self.folder.join(path);
                if let Some(above) = path.parent() {
                    fs::create_dir_all(above).map_err(ArchiveError::file("make", above))?;
                }
                let file = File::create_new(&path);
                let file = file.map_err(ArchiveError::file("make", &path))?;
                self.open = Some((path, file));
                Ok(())
            }
            Entry::Bytes(bytes) => match &mut self.open {
                Some((path, file)) => {
                    let written = file.write_all(bytes);
                    written.map_err(ArchiveError::file("write", path.clone()))
                }
                None => Ok(()),
            },
            Entry::End => {
                self.open = None;
                Ok(())
            }
        }
    }
}
