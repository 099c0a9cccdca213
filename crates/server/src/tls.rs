//! TLS from certificate files, read again when they change.
//!
//! Connections that are open keep what they began with; new ones get the new certificate. Files
//! that cannot be used leave the old pair in service.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Where the certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and what leads to its authority, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM, not encrypted.
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// The file holds no certificate.
    #[error("{} holds no certificate\nhint: it must be PEM: -----BEGIN CERTIFICATE-----",
        path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The file holds no private key.
    #[error("{} holds no private key\nhint: it must be PEM and not encrypted: \
        openssl pkey -in FILE -out FILE.plain", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The certificate is another key's.
    #[error("the key in {} is not that of the certificate in {}", key.display(),
        certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The pair is of a kind that we cannot use.
    #[error("cannot use the certificate in {}", path.display())]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// A certificate in service.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    current: Arc<Current>,
    config: Arc<ServerConfig>,
    /// The files as they were looked at last.
    seen: Mutex<[Stamp; 2]>,
}

/// The certificate that new connections get.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current))
    }
}

/// Which file it was; none when it cannot be looked at.
type Stamp = Option<(u64, u64, i64, i64, u64)>;

impl Tls {
    /// Reads the certificate.
    ///
    /// # Errors
    /// [`TlsError`] saying which file is wrong and why.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let seen = Mutex::new(stamps(&files));
        let current = Arc::new(Current(RwLock::new(read(&files)?)));
        let unusable = |source| TlsError::Unusable {
            path: files.certificate.clone(),
            source,
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            files,
            current,
            config: Arc::new(config),
            seen,
        })
    }

    /// Returns what takes connections.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// [`TlsError`]; the old certificate then stays in service.
    pub fn reload(&self) -> Result<(), TlsError> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = stamps(&self.files);
        let new = read(&self.files)?;
        let mut current = self
            .current
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = new;
        Ok(())
    }

    /// Returns whether a file is another one than when it was read, or tried to be read, last.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) != stamps(&self.files)
    }

    /// Reads the files again on SIGHUP, and when they change; runs until it is dropped.
    ///
    /// # Errors
    /// When the signal cannot be listened for.
    pub async fn watch(&self) -> std::io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut interval = tokio::time::interval(LOOK_EVERY);
        loop {
            let asked = tokio::select! {
                _ = hangup.recv() => true,
                _ = interval.tick() => false,
            };
            if asked || self.has_changed() {
                self.reload_and_tell();
            }
        }
    }

    fn reload_and_tell(&self) {
        match self.reload() {
            Ok(()) => tracing::info!("read the TLS certificate again"),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, "the old TLS certificate stays in service");
            }
        }
    }
}

fn read(files: &TlsFiles) -> Result<Arc<CertifiedKey>, TlsError> {
    let TlsFiles { certificate, key } = files;
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Read { path, source }
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unreadable(certificate))?;
    if chain.is_empty() {
        let path = certificate.clone();
        return Err(TlsError::NoCertificate { path });
    }
    let private = match PrivateKeyDer::from_pem_file(key) {
        Err(pem::Error::NoItemsFound) => {
            let path = key.clone();
            return Err(TlsError::NoKey { path });
        }
        private => private.map_err(unreadable(key))?,
    };
    match CertifiedKey::from_der(chain, private, &default_provider()) {
        Ok(pair) => Ok(Arc::new(pair)),
        Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Mismatch {
            certificate: certificate.clone(),
            key: key.clone(),
        }),
        Err(source) => Err(TlsError::Unusable {
            path: certificate.clone(),
            source,
        }),
    }
}

fn stamps(files: &TlsFiles) -> [Stamp; 2] {
    [&files.certificate, &files.key].map(|path| {
        let found = fs::metadata(path).ok()?;
        Some((
            found.dev(),
            found.ino(),
            found.mtime(),
            found.mtime_nsec(),
            found.len(),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/tls")
            .join(name)
    }

    fn pair(certificate: &str, key: &str) -> TlsFiles {
        TlsFiles {
            certificate: fixture(certificate),
            key: fixture(key),
        }
    }

    #[test]
    fn bad_pairs_are_told_apart() {
        assert!(Tls::load(pair("first.pem", "first.key")).is_ok());
        let error = |certificate, key| Tls::load(pair(certificate, key)).unwrap_err();
        let crossed = error("first.pem", "second.key");
        assert!(matches!(crossed, TlsError::Mismatch { .. }), "{crossed}");
        let swapped = error("first.key", "first.pem");
        assert!(
            matches!(swapped, TlsError::NoCertificate { .. }),
            "{swapped}"
        );
        let no_key = error("first.pem", "second.pem");
        assert!(matches!(no_key, TlsError::NoKey { .. }), "{no_key}");
        let missing = error("none.pem", "first.key");
        assert!(missing.to_string().contains("none.pem"), "{missing}");
        let temp = tempfile::tempdir().unwrap();
        let broken = temp.path().join("broken.pem");
        let text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        fs::write(&broken, text).unwrap();
        let files = TlsFiles {
            certificate: broken,
            key: fixture("first.key"),
        };
        let broken = Tls::load(files).unwrap_err();
        assert!(matches!(broken, TlsError::Unusable { .. }), "{broken}");
    }

    #[test]
    fn new_files_are_noticed_and_bad_ones_leave_the_old_pair() {
        let temp = tempfile::tempdir().unwrap();
        let place = |name: &str| {
            for kind in ["pem", "key"] {
                let scratch = temp.path().join("scratch");
                fs::copy(fixture(&format!("{name}.{kind}")), &scratch).unwrap();
                fs::rename(&scratch, temp.path().join(format!("tls.{kind}"))).unwrap();
            }
        };
        place("first");
        let tls = Tls::load(TlsFiles {
            certificate: temp.path().join("tls.pem"),
            key: temp.path().join("tls.key"),
        })
        .unwrap();
        let in_service = || Arc::clone(&tls.current.0.read().unwrap()).cert.clone();
        let first = in_service();
        assert!(!tls.has_changed());
        place("second");
        assert!(tls.has_changed());
        tls.reload().unwrap();
        let second = in_service();
        assert!(first != second && !tls.has_changed());
        fs::copy(fixture("first.key"), temp.path().join("tls.key")).unwrap();
        assert!(tls.has_changed());
        assert!(tls.reload().is_err());
        assert!(in_service() == second);
        assert!(!tls.has_changed(), "a bad pair is told once");
    }
}
