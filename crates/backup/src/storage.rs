//! Where archives are kept: a folder, or a bucket of S3, Google Cloud Storage or Azure.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tokio::io::AsyncWriteExt as _;
use url::Url;

use crate::encryption::{Decryptor, EncryptionError, Encryptor, Keys};
use crate::staged::Staged;

/// Bytes of a part of an upload into a bucket, and what is held of an archive at once: parts that
/// are on their way count each.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// Parts that are on their way at once.
const PARTS_AT_ONCE: usize = 2;

/// Why an archive could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The address is none that this program knows.
    #[error(
        "'{0}' is no place for backups\n\
         hint: name an absolute folder, or a URL that begins with file://, s3://, gs:// or az://"
    )]
    Address(String),
    /// The bucket cannot be used as it is configured.
    #[error("the bucket '{address}' cannot be used: {source}")]
    Bucket {
        /// Its URL.
        address: String,
        /// Why.
        source: object_store::Error,
    },
    /// The archive is not there.
    #[error("{path} is not there")]
    NotFound {
        /// Its path below the storage's root.
        path: String,
    },
    /// The storage failed.
    #[error("the storage of backups failed")]
    Failed(#[source] object_store::Error),
    /// The folder or a file of it failed, or an upload into a bucket.
    #[error("{path} cannot be used")]
    Folder {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The archive cannot be encrypted, or not be read back.
    #[error(transparent)]
    Encryption(#[from] EncryptionError),
}

impl From<object_store::Error> for StorageError {
    fn from(error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { path, .. } => Self::NotFound { path },
            error => Self::Failed(error),
        }
    }
}

/// Where archives are kept, and how.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// An absolute path, or a URL: `file://`, `s3://bucket/prefix`, `gs://bucket/prefix`,
    /// `az://container/prefix`.
    pub address: String,
    /// What a bucket needs, under the names that its own tools read from the environment, such as
    /// `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT`, `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_NAME`.
    /// Others do no harm.
    pub options: Vec<(String, String)>,
    /// Encrypts archives with the first key, and reads those of all keys.
    pub keys: Option<Keys>,
}

/// What lies in a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Where.
    pub path: String,
    /// Bytes that it takes, packed and encrypted as it is.
    pub bytes: u64,
    /// When it was written.
    pub modified: DateTime<Utc>,
}

/// A place for archives; cheap to clone.
#[derive(Clone, Debug)]
pub struct Storage {
    store: Arc<dyn ObjectStore>,
    /// Its URL, without a slash at the end.
    url: String,
    /// The folder, if it is one.
    folder: Option<PathBuf>,
    keys: Option<Keys>,
}

impl Storage {
    /// Opens the storage. A folder that is missing is made, for its owner alone; whether a bucket
    /// can be reached shows when it is used.
    ///
    /// # Errors
    /// [`StorageError::Address`], [`StorageError::Folder`], [`StorageError::Bucket`].
    pub fn open(settings: Settings) -> Result<Self, StorageError> {
        let address = settings.address;
        let folder = match address.split_once("://") {
            None => PathBuf::from(&address),
            Some(("file", folder)) => PathBuf::from(folder),
            Some(("s3" | "gs" | "az", _)) => {
                return Self::bucket(address, settings.options, settings.keys);
            }
            Some(_) => return Err(StorageError::Address(address)),
        };
        if !folder.is_absolute() {
            return Err(StorageError::Address(address));
        }
        let failed = |source| StorageError::Folder {
            path: folder.clone(),
            source,
        };
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&folder).map_err(failed)?;
        let store = LocalFileSystem::new_with_prefix(&folder)?.with_automatic_cleanup(true);
        Ok(Self {
            store: Arc::new(store),
            url: format!("file://{}", folder.display()),
            folder: Some(folder),
            keys: settings.keys,
        })
    }

    fn bucket(
        address: String,
        options: Vec<(String, String)>,
        keys: Option<Keys>,
    ) -> Result<Self, StorageError> {
        // Whoever installed one before has chosen the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = Url::parse(&address).map_err(|_| StorageError::Address(address.clone()))?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(StorageError::Address(address));
        }
        let opened = object_store::parse_url_opts(&url, options);
        let (store, prefix) = opened.map_err(|source| StorageError::Bucket {
            address: address.clone(),
            source,
        })?;
        Ok(Self {
            store: Arc::new(PrefixStore::new(store, prefix)),
            url: address.trim_end_matches('/').to_owned(),
            folder: None,
            keys,
        })
    }

    /// Returns the address of the archive at `path`, for people.
    #[must_use]
    pub fn address(&self, path: &str) -> String {
        format!("{}/{path}", self.url)
    }

    /// Returns the name of the key that archives are encrypted with; `None` when they are not.
    #[must_use]
    pub fn key_id(&self) -> Option<String> {
        self.keys.as_ref().map(Keys::current_id)
    }

    /// Begins to write the archive at `path`; it appears, whole, when the upload is finished.
    ///
    /// # Errors
    /// [`StorageError::Encryption`].
    pub fn upload(&self, path: &str) -> Result<Upload, StorageError> {
        let encryptor = self.keys.as_ref().map(Keys::encryptor).transpose()?;
        let writer = match &self.folder {
            Some(folder) => Writer::Folder(Some(Staged::new(folder.join(path)))),
            None => {
                let store = Arc::clone(&self.store);
                let writer = BufWriter::with_capacity(store, Path::from(path), PART_BYTES);
                Writer::Bucket(writer.with_max_concurrency(PARTS_AT_ONCE))
            }
        };
        Ok(Upload {
            writer,
            encryptor,
            address: self.address(path),
        })
    }

    /// Returns the packed bytes of the archive at `path`, piece by piece.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], [`StorageError::Failed`]; the pieces' own likewise, and
    /// [`StorageError::Encryption`].
    pub async fn download(
        &self,
        path: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, StorageError>> + Send + use<>, StorageError> {
        let found = self.store.get(&Path::from(path)).await?;
        let stored = found.into_stream().map_err(StorageError::from).boxed();
        let open = Some(Decryptor::new(self.keys.clone()));
        Ok(futures_util::stream::try_unfold(
            (stored, open),
            |(mut stored, open)| async move {
                let Some(mut open) = open else {
                    return Ok(None);
                };
                match stored.try_next().await? {
                    Some(piece) => {
                        let plain = Bytes::from(open.feed(&piece)?);
                        Ok(Some((plain, (stored, Some(open)))))
                    }
                    None => Ok(Some((Bytes::from(open.finish()?), (stored, None)))),
                }
            },
        ))
    }

    /// Returns what lies below `folder`, in no order.
    ///
    /// # Errors
    /// [`StorageError::Failed`].
    pub fn list(
        &self,
        folder: &str,
    ) -> impl Stream<Item = Result<Stored, StorageError>> + Send + use<> {
        let found = self.store.list(Some(&Path::from(folder)));
        found.map_err(StorageError::from).map_ok(|one| Stored {
            path: one.location.to_string(),
            bytes: one.size,
            modified: one.last_modified,
        })
    }

    /// Returns whether something lies at `path`.
    ///
    /// # Errors
    /// [`StorageError::Failed`].
    pub async fn has(&self, path: &str) -> Result<bool, StorageError> {
        match self.store.head(&Path::from(path)).await {
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            found => Ok(found.map(|_| true)?),
        }
    }

    /// Reads the small file at `path`; what lies behind its first `bytes_max` bytes is left out.
    ///
    /// # Errors
    /// As [`Storage::download`] and its pieces.
    pub async fn read(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>, StorageError> {
        let mut pieces = std::pin::pin!(self.download(path).await?);
        let mut content = Vec::new();
        while let Some(piece) = pieces.try_next().await? {
            content.extend_from_slice(&piece);
            if content.len() >= bytes_max {
                content.truncate(bytes_max);
                break;
            }
        }
        Ok(content)
    }

    /// Writes a small file to `path`, whole or not at all.
    ///
    /// # Errors
    /// As [`Storage::upload`] and [`Upload::finish`].
    pub async fn write(&self, path: &str, content: Vec<u8>) -> Result<(), StorageError> {
        let mut upload = self.upload(path)?;
        upload.write(content).await?;
        upload.finish().await
    }

    /// Returns the paths of what lies below `folder` and was last written before `before`, in no
    /// order.
    ///
    /// # Errors
    /// [`StorageError::Failed`].
    pub fn older(
        &self,
        folder: &str,
        before: DateTime<Utc>,
    ) -> impl Stream<Item = Result<String, StorageError>> + Send + use<> {
        self.list(folder).try_filter_map(move |one| {
            let old = one.modified < before;
            std::future::ready(Ok(old.then_some(one.path)))
        })
    }

    /// Removes what is left of uploads that were cut off before `before`; returns how many files.
    /// In a bucket the bucket's own rules do that: none are removed there.
    ///
    /// # Errors
    /// [`StorageError::Folder`].
    pub async fn remove_unfinished(&self, before: DateTime<Utc>) -> Result<u64, StorageError> {
        let Some(folder) = self.folder.clone() else {
            return Ok(0);
        };
        let root = folder.clone();
        let removal =
            tokio::task::spawn_blocking(move || remove_unfinished(&root, SystemTime::from(before)));
        let removed = removal.await.map_err(io::Error::from);
        removed.flatten().map_err(|source| StorageError::Folder {
            path: folder,
            source,
        })
    }

    /// Removes the archive at `path`; one that is not there is no error.
    ///
    /// # Errors
    /// [`StorageError::Failed`].
    pub async fn remove(&self, path: &str) -> Result<(), StorageError> {
        match self.store.delete(&Path::from(path)).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            removed => Ok(removed?),
        }
    }
}

/// Removes what uploads into a folder left behind that were cut off before `before`; returns how
/// many files. The name of a file that is being written ends in `#` and digits, which the store
/// leaves out when it lists.
fn remove_unfinished(folder: &std::path::Path, before: SystemTime) -> io::Result<u64> {
    let (mut removed, mut folders) = (0, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            // Others clean up, too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            }
            let name = entry.file_name();
            let end = name.to_str().and_then(|name| name.rsplit_once('#'));
            let digits = |end: &str| !end.is_empty() && end.bytes().all(|it| it.is_ascii_digit());
            if !kind.is_file() || !end.is_some_and(|(_, end)| digits(end)) {
                continue;
            }
            let old = entry.metadata().and_then(|about| about.modified());
            if old.is_ok_and(|modified| modified < before) {
                std::fs::remove_file(entry.path())?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

/// An archive on its way into the storage. Dropped before it is finished, nothing appears.
pub struct Upload {
    writer: Writer,
    encryptor: Option<Encryptor>,
    address: String,
}

enum Writer {
    Bucket(BufWriter),
    /// None once it failed.
    Folder(Option<Staged>),
}

impl Writer {
    async fn write(&mut self, piece: Vec<u8>) -> io::Result<()> {
        match self {
            Self::Bucket(writer) => writer.write_all(&piece).await,
            Self::Folder(staged) => {
                *staged = Some(taken(staged)?.write(piece).await?);
                Ok(())
            }
        }
    }

    async fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Bucket(writer) => writer.shutdown().await,
            Self::Folder(staged) => taken(staged)?.finish().await,
        }
    }
}

fn taken(staged: &mut Option<Staged>) -> io::Result<Staged> {
    let failed = || io::Error::other("writing it failed before");
    staged.take().ok_or_else(failed)
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Upload").field(&self.address).finish()
    }
}

impl Upload {
    /// Adds bytes.
    ///
    /// # Errors
    /// [`StorageError::Folder`] when they cannot be written.
    pub async fn write(&mut self, piece: Vec<u8>) -> Result<(), StorageError> {
        let stored = match &mut self.encryptor {
            Some(encryptor) => encryptor.feed(&piece),
            None => piece,
        };
        let written = self.writer.write(stored).await;
        written.map_err(|source| self.failed(source))
    }

    /// Makes the archive appear and waits until it is on the disk, or the bucket has it.
    ///
    /// # Errors
    /// As [`Upload::write`].
    pub async fn finish(mut self) -> Result<(), StorageError> {
        if let Some(encryptor) = self.encryptor.take() {
            self.write(encryptor.finish()).await?;
        }
        let finished = self.writer.finish().await;
        finished.map_err(|source| self.failed(source))
    }

    /// Gives the archive up.
    pub async fn abort(self) {
        if let Writer::Bucket(mut writer) = self.writer {
            // What was written so far goes by itself if this fails: the bucket ends uploads that
            // were left.
            let _ = writer.abort().await;
        }
    }

    fn failed(&self, source: io::Error) -> StorageError {
        StorageError::Folder {
            path: PathBuf::from(&self.address),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coditect_testkit::S3;

    fn open(address: &str, options: Vec<(String, String)>, key: Option<&str>) -> Storage {
        Storage::open(Settings {
            address: address.to_owned(),
            options,
            keys: key.map(|key| Keys::parse(key).unwrap()),
        })
        .unwrap()
    }

    async fn read(storage: &Storage, path: &str) -> Result<Vec<u8>, StorageError> {
        let mut pieces = std::pin::pin!(storage.download(path).await?);
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.next().await {
            bytes.extend_from_slice(&piece?);
        }
        Ok(bytes)
    }

    /// What every place does.
    async fn contract(storage: &Storage) {
        let path = "tenants/a/users/b/full/2026-11-20.jsonl.gz";
        let mut upload = storage.upload(path).unwrap();
        let content: Vec<u8> = (0..25_000_000_u32).map(|n| (n % 251) as u8).collect();
        for piece in content.chunks(1 << 20) {
            upload.write(piece.to_vec()).await.unwrap();
        }
        let before = read(storage, path).await;
        assert!(
            matches!(before, Err(StorageError::NotFound { .. })),
            "{before:?}"
        );
        upload.finish().await.unwrap();
        assert!(read(storage, path).await.unwrap() == content);
        assert!(storage.address(path).ends_with(path));
        storage.remove(path).await.unwrap();
        storage.remove(path).await.unwrap();
        assert!(read(storage, path).await.is_err());

        let mut upload = storage.upload("a/b").unwrap();
        upload.write(vec![1; 25_000_000]).await.unwrap();
        upload.abort().await;
        assert!(read(storage, "a/b").await.is_err());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn folders_and_buckets_do_the_same() {
        let key = "5e".repeat(32);
        let s3 = S3::start("backups").await;
        for key in [None, Some(key.as_str())] {
            let folder = tempfile::tempdir().unwrap();
            let address = folder.path().join("new").display().to_string();
            contract(&open(&address, Vec::new(), key)).await;
            contract(&open(&format!("file://{address}"), Vec::new(), key)).await;
            contract(&open("s3://backups", s3.options(), key)).await;
            contract(&open("s3://backups/below/this/", s3.options(), key)).await;
        }
    }

    #[tokio::test]
    async fn an_encrypted_archive_shows_nothing_and_needs_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let address = folder.path().display().to_string();
        let storage = open(&address, Vec::new(), Some(&"5e".repeat(32)));
        let mut upload = storage.upload("a").unwrap();
        upload
            .write(b"what nobody may read".to_vec())
            .await
            .unwrap();
        upload.finish().await.unwrap();
        let stored = std::fs::read(folder.path().join("a")).unwrap();
        assert!(!stored.windows(6).any(|bytes| bytes == b"nobody"));
        assert_eq!(read(&storage, "a").await.unwrap(), b"what nobody may read");
        let other = read(&open(&address, Vec::new(), Some(&"5f".repeat(32))), "a").await;
        let missing = EncryptionError::KeyMissing(storage.key_id().unwrap());
        assert!(matches!(other, Err(StorageError::Encryption(error)) if error == missing));
    }

    #[tokio::test]
    async fn an_upload_that_is_given_up_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let storage = open(folder.path().to_str().unwrap(), Vec::new(), None);
        let mut upload = storage.upload("a/b").unwrap();
        upload.write(vec![1; 25_000_000]).await.unwrap();
        upload.abort().await;
        let left: Vec<_> = std::fs::read_dir(folder.path().join("a"))
            .map(|entries| entries.map(|entry| entry.unwrap().file_name()).collect())
            .unwrap_or_default();
        assert!(left.is_empty(), "{left:?}");
    }

    #[tokio::test]
    async fn old_archives_are_found_and_unfinished_uploads_removed() {
        let folder = tempfile::tempdir().unwrap();
        let storage = open(folder.path().to_str().unwrap(), Vec::new(), None);
        let below = folder.path().join("tenants/a");
        std::fs::create_dir_all(&below).unwrap();
        let then = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        for (name, old) in [
            ("old.gz", true),
            ("new.gz", false),
            ("old.gz#1", true),
            ("new.gz#12", false),
            ("a#b", true),
        ] {
            let file = std::fs::File::create(below.join(name)).unwrap();
            if old {
                file.set_modified(then).unwrap();
            }
        }
        let before = DateTime::<Utc>::from(then) + chrono::Duration::seconds(1);
        let found = storage.older("tenants", before);
        let mut found: Vec<String> = found.try_collect().await.unwrap();
        found.sort();
        assert_eq!(found, ["tenants/a/a#b", "tenants/a/old.gz"]);
        assert_eq!(storage.remove_unfinished(before).await.unwrap(), 1);
        assert_eq!(storage.remove_unfinished(before).await.unwrap(), 0);
        let mut left: Vec<_> = std::fs::read_dir(below)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["a#b", "new.gz", "new.gz#12", "old.gz"]);
        let s3 = S3::start("bkt").await;
        let bucket = open("s3://bkt", s3.options(), None);
        assert_eq!(bucket.remove_unfinished(before).await.unwrap(), 0);
    }

    #[test]
    fn other_addresses_are_refused() {
        for address in [
            "",
            "backups",
            "ftp://bucket/x",
            "http:///x",
            "s3://",
            "file://x",
        ] {
            let settings = Settings {
                address: address.to_owned(),
                ..Settings::default()
            };
            let opened = Storage::open(settings);
            assert!(matches!(opened, Err(StorageError::Address(_))), "{address}");
        }
    }
}
