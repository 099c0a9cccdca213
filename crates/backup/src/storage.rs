//! Where archives are kept. Today a local folder; the interface is that of an object store, so
//! that others come by their URL.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tokio::io::AsyncWriteExt as _;

/// Why an archive could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The address is none that this program knows.
    #[error("'{0}' is no place for backups\nhint: name an absolute folder, or a file:// URL")]
    Address(String),
    /// The archive is not there.
    #[error("{path} is not there")]
    NotFound {
        /// Its path below the storage's root.
        path: String,
    },
    /// The storage failed.
    #[error("the storage of backups failed")]
    Failed(#[source] object_store::Error),
    /// The folder or a file of it failed.
    #[error("{path} cannot be used")]
    Folder {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl From<object_store::Error> for StorageError {
    fn from(error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { path, .. } => Self::NotFound { path },
            error => Self::Failed(error),
        }
    }
}

/// A place for archives; cheap to clone.
#[derive(Clone, Debug)]
pub struct Storage {
    store: Arc<dyn ObjectStore>,
    root: PathBuf,
}

impl Storage {
    /// Opens the storage at `address`, an absolute path or a `file://` URL; makes the folder,
    /// for its owner alone, where it is missing.
    ///
    /// # Errors
    /// [`StorageError::Address`], [`StorageError::Folder`].
    pub fn open(address: &str) -> Result<Self, StorageError> {
        let root = PathBuf::from(address.strip_prefix("file://").unwrap_or(address));
        if !root.is_absolute() || address.contains("://") && !address.starts_with("file://") {
            return Err(StorageError::Address(address.to_owned()));
        }
        let failed = |source| StorageError::Folder {
            path: root.clone(),
            source,
        };
        let mut folder = std::fs::DirBuilder::new();
        folder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
        folder.create(&root).map_err(failed)?;
        let store = LocalFileSystem::new_with_prefix(&root)?.with_automatic_cleanup(true);
        Ok(Self {
            store: Arc::new(store),
            root,
        })
    }

    /// Returns the address of the archive at `path`, for people.
    #[must_use]
    pub fn address(&self, path: &str) -> String {
        format!("file://{}", self.root.join(path).display())
    }

    /// Begins to write the archive at `path`; it appears, whole, when the upload is finished.
    #[must_use]
    pub fn upload(&self, path: &str) -> Upload {
        Upload {
            writer: BufWriter::new(Arc::clone(&self.store), Path::from(path)),
            file: self.root.join(path),
        }
    }

    /// Returns the packed bytes of the archive at `path`, piece by piece.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], [`StorageError::Failed`]; the pieces' own likewise.
    pub async fn download(
        &self,
        path: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, StorageError>> + Send + use<>, StorageError> {
        let found = self.store.get(&Path::from(path)).await?;
        Ok(found
            .into_stream()
            .map(|piece| piece.map_err(StorageError::from)))
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

/// An archive on its way into the storage. Dropped before it is finished, nothing appears.
#[derive(Debug)]
pub struct Upload {
    writer: BufWriter,
    file: PathBuf,
}

impl Upload {
    /// Adds bytes.
    ///
    /// # Errors
    /// [`StorageError::Folder`] when they cannot be written.
    pub async fn write(&mut self, piece: Vec<u8>) -> Result<(), StorageError> {
        let written = self.writer.write_all(&piece).await;
        written.map_err(|source| self.failed(source))
    }

    /// Makes the archive appear and waits until it is on the disk.
    ///
    /// # Errors
    /// As [`Upload::write`].
    pub async fn finish(mut self) -> Result<(), StorageError> {
        let shut = self.writer.shutdown().await;
        shut.map_err(|source| self.failed(source))?;
        // The store renames into place without asking the disk.
        let synced = sync(&self.file).await;
        synced.map_err(|source| self.failed(source))
    }

    /// Gives the archive up.
    pub async fn abort(mut self) {
        // What was written so far goes by itself if this fails, at the latest with the folder.
        let _ = self.writer.abort().await;
    }

    fn failed(&self, source: std::io::Error) -> StorageError {
        StorageError::Folder {
            path: self.file.clone(),
            source,
        }
    }
}

async fn sync(file: &std::path::Path) -> std::io::Result<()> {
    tokio::fs::File::open(file).await?.sync_all().await?;
    match file.parent() {
        Some(folder) => tokio::fs::File::open(folder).await?.sync_all().await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(storage: &Storage, path: &str) -> Result<Vec<u8>, StorageError> {
        let mut pieces = std::pin::pin!(storage.download(path).await?);
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.next().await {
            bytes.extend_from_slice(&piece?);
        }
        Ok(bytes)
    }

    #[tokio::test]
    async fn an_upload_appears_when_it_is_finished_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let address = folder.path().join("backups");
        let storage = Storage::open(address.to_str().unwrap()).unwrap();
        let path = "tenants/a/users/b/full/2026-11-20.jsonl.gz";
        let mut upload = storage.upload(path);
        let content: Vec<u8> = (0..25_000_000_u32).map(|n| (n % 251) as u8).collect();
        for piece in content.chunks(1 << 20) {
            upload.write(piece.to_vec()).await.unwrap();
        }
        assert!(matches!(
            read(&storage, path).await,
            Err(StorageError::NotFound { .. })
        ));
        upload.finish().await.unwrap();
        assert!(read(&storage, path).await.unwrap() == content);
        assert!(storage.address(path).ends_with(path));
        storage.remove(path).await.unwrap();
        storage.remove(path).await.unwrap();
        assert!(read(&storage, path).await.is_err());
    }

    #[tokio::test]
    async fn an_upload_that_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(folder.path().to_str().unwrap()).unwrap();
        let mut upload = storage.upload("a/b");
        upload.write(vec![1; 25_000_000]).await.unwrap();
        upload.abort().await;
        assert!(read(&storage, "a/b").await.is_err());
        let left: Vec<_> = std::fs::read_dir(folder.path().join("a"))
            .map(|entries| entries.map(|entry| entry.unwrap().file_name()).collect())
            .unwrap_or_default();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn other_addresses_are_refused() {
        for address in ["", "backups", "s3://bucket/x", "http:///x"] {
            let opened = Storage::open(address);
            assert!(matches!(opened, Err(StorageError::Address(_))), "{address}");
        }
    }
}
