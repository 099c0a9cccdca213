//! What every command works with: paths, configuration, the printer, and the way to the store.

use std::path::PathBuf;

use anyhow::Context as _;

use coditect_client::{CloudConfig, ConfigFile, CredentialFile, Paths, SyncState};
use coditect_core::redact::{OwnRules, OwnRulesError};
use coditect_local_store::{Error, LocalStore, Random};
use coditect_protocol::catalogue::File;

use crate::clock;
use crate::environment::Environment;
use crate::exit::{CommandError, Exit};
use crate::logs;
use crate::printer::Printer;

/// The surroundings of one command.
pub(crate) struct Context {
    pub(crate) environment: Environment,
    pub(crate) paths: Paths,
    pub(crate) config: ConfigFile,
    pub(crate) cloud: CloudConfig,
    pub(crate) printer: Printer,
}

impl Context {
    /// Reads the configuration of the profile: the one that is named, else the one that the
    /// configuration names, else the ordinary one. Writes nothing.
    pub(crate) fn new(
        environment: Environment,
        profile: Option<&str>,
        printer: Printer,
    ) -> anyhow::Result<Self> {
        let home = home(&environment)?;
        let ordinary = Paths::new(&home, None)?;
        let config = ConfigFile::load(&ordinary.config_file())?;
        let configured = config.cloud(None)?.profile;
        let paths = Paths::new(&home, profile.or(configured.as_deref()))
            .map_err(|error| CommandError::new(Exit::Usage, error.to_string()))?;
        let cloud = config.cloud(paths.profile())?;
        own_rules(&ordinary)?;
        logs::start(&paths.logs_dir());
        Ok(Self {
            environment,
            paths,
            config,
            cloud,
            printer,
        })
    }

    /// Returns whether nothing may be sent: the environment decides, then the configuration.
    pub(crate) fn is_offline(&self) -> bool {
        self.environment.offline.unwrap_or(self.cloud.offline)
    }

    /// Opens the four databases, making what is missing, and takes in what hooks have left in
    /// their spool.
    pub(crate) fn store(&self) -> anyhow::Result<LocalStore> {
        let folder = self.paths.context_storage();
        if LocalStore::erased_note(&folder).is_some() {
            // It may have been cut off.
            coditect_client::erasure::finish(&self.paths)?;
        }
        let mut store = LocalStore::open(&folder, clock::now_ms(), Random::System)?;
        take_in_spool(&self.paths, &mut store);
        Ok(store)
    }

    /// Opens the databases and adopts what other programs wrote to some of them, so that it has
    /// ids.
    pub(crate) fn adopted_store(&self, files: &[File]) -> anyhow::Result<LocalStore> {
        let mut store = self.store()?;
        for file in files {
            self.adopt(&mut store, *file)?;
        }
        Ok(store)
    }

    /// Adopts what other programs wrote to a file. While one writes, or with a full disk, what
    /// is there can be read all the same; what is new may lack its id until the next time.
    pub(crate) fn adopt(&self, store: &mut LocalStore, file: File) -> anyhow::Result<()> {
        match store.adopt(file, clock::now_ms()) {
            Ok(_) | Err(Error::Busy(_)) => Ok(()),
            Err(error) if error.storage_code() == Some("no_space") => {
                self.printer.warning(&error.to_string());
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the folder that the program was started in.
    pub(crate) fn folder(&self) -> anyhow::Result<PathBuf> {
        std::env::current_dir().context("the current folder is gone")
    }

    /// Returns the file with the profile's tokens.
    pub(crate) fn credentials(&self) -> CredentialFile {
        CredentialFile::new(self.paths.credentials_file())
    }

    /// Returns what the last runs of the engine saw.
    pub(crate) fn state(&self) -> SyncState {
        SyncState::load(&self.paths.state_file())
    }

    /// Writes the profile's part of the configuration.
    pub(crate) fn store_config(&mut self) -> anyhow::Result<()> {
        self.config.store(self.paths.profile(), &self.cloud)?;
        Ok(())
    }
}

/// Takes in what hooks have left in their spool; two looks at names when that is nothing.
pub(crate) fn take_in_spool(paths: &Paths, store: &mut LocalStore) {
    let spool = coditect_daemon::hooks::Folder::new(&paths.data_dir());
    if let Err(error) = spool.drain_all(store, clock::now_ms()) {
        // It waits on; what the command is about goes on.
        tracing::warn!(target: logs::HOOKS, %error, "the spool was left as it is");
    }
}

/// Uses the owner's own rules of redaction, if there are any. Without them nothing may be stored
/// that they would have kept out, so a file that cannot be used ends the command.
pub(crate) fn own_rules(paths: &Paths) -> anyhow::Result<()> {
    let file = paths.config_file().with_file_name("redaction.json");
    let rules = match std::fs::read_to_string(&file) {
        Ok(rules) => rules,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", file.display()));
        }
    };
    let unusable = |error: OwnRulesError| {
        let error = CommandError::new(Exit::Usage, format!("{}: {error}", file.display()));
        error.hint("docs/PRIVACY.md says what it may hold")
    };
    let rules = OwnRules::read(&rules).map_err(unusable)?;
    // A second context in one process finds the same rules in use.
    match rules.install() {
        Ok(()) | Err(OwnRulesError::InUse) => Ok(()),
        Err(error) => Err(unusable(error).into()),
    }
}

fn home(environment: &Environment) -> anyhow::Result<PathBuf> {
    environment.home.clone().ok_or_else(|| {
        CommandError::new(Exit::Usage, "neither CODITECT_HOME nor HOME is set")
            .hint("export CODITECT_HOME=/a/folder/of/yours")
            .into()
    })
}
