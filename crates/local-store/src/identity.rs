//! Opening the folder, and whose it is: one device, one tenant, one person.

use coditect_protocol::catalogue::File;
use coditect_protocol::{DeviceId, OrganizationId, UserId};
use std::path::Path;
use std::time::Duration;

use crate::database::{self, Database, set_meta};
use crate::erased;
use crate::error::{Error, InFile as _, Result};
use crate::guards::Guards;
use crate::lease::Lease;
use crate::profile::make_private_folder;
use crate::random::Random;
use crate::reconcile::fence_file;
use crate::{LocalStore, Owner};

impl LocalStore {
    /// Opens the four databases of a folder and makes what is missing. A new folder gets a
    /// device id made from `now_ms` and `random`.
    ///
    /// # Errors
    /// When a file is not a database, not ours, newer than this program or another of the four
    /// (it is left untouched then), when the files have different owners, or when the system
    /// refuses.
    pub fn open(folder: &Path, now_ms: i64, random: Random) -> Result<Self> {
        erased::check(folder)?;
        make_private_folder(folder)?;
        // All are looked at before one is made or changed.
        for file in File::ALL {
            database::check(folder, file)?;
        }
        let open = |file| Database::open(folder, file).map(Some);
        let [org, sessions, projects, platform] = File::ALL;
        let files = [
            open(org)?,
            open(sessions)?,
            open(projects)?,
            open(platform)?,
        ];
        Self::assemble(Some(folder), files, now_ms, random, Guards::default())
    }

    /// Opens one file for a few quick writes, as a hook makes them: no other is looked at, no
    /// schema is made or changed, and closing it writes nothing, so that the caller has to see
    /// to [`LocalStore::shorten_log`]. Triggers are off: it is for new rows. A statement waits
    /// for another writer at most as long as `wait`, then it fails with [`Error::Busy`]. Methods
    /// that need another file fail with [`Error::NotOpen`]. None when the file has to be made or
    /// migrated first, which [`LocalStore::open`] does.
    ///
    /// # Errors
    /// When the file is not ours, damaged or of a newer program, or when it cannot be read.
    pub fn open_one(
        folder: &Path,
        file: File,
        wait: Duration,
        random: Random,
    ) -> Result<Option<Self>> {
        if erased::is_erased(folder) {
            return Err(Error::Erased(folder.to_owned()));
        }
        let Some(database) = Database::open_quickly(folder, file, wait)? else {
            return Ok(None);
        };
        let device = database.meta("device_id")?;
        let Some(device) = device.and_then(|text| text.parse().ok()) else {
            return Ok(None);
        };
        let mut files = [const { None }; 4];
        files[crate::schema::position(file)] = Some(database);
        let mut store = Self {
            folder: Some(folder.to_owned()),
            files,
            device,
            owner: None,
            random,
            guards: Guards::default(),
            stamped: [0; 4],
            #[cfg(feature = "fault-injection")]
            fuse: None,
        };
        store.owner = store.common_owner()?;
        Ok(Some(store))
    }

    /// Writes a file's log back and empties it. Files that [`LocalStore::open_one`] writes to need
    /// that now and then: nothing else ends their log, and whoever opens one alone reads all of
    /// it. Returns whether the log is empty now; while others write much it is not.
    ///
    /// # Errors
    /// When the file is not ours, damaged or of a newer program, or when it cannot be read.
    pub fn shorten_log(folder: &Path, file: File) -> Result<bool> {
        Database::shorten_log(folder, file)
    }

    /// Looks at the four files of a folder one by one, without opening them for work: whether
    /// each is missing, or one that [`LocalStore::open`] would take. Writes nothing.
    #[must_use]
    pub fn look_at(folder: &Path) -> Vec<(File, Result<()>)> {
        let look = |file| (file, database::check(folder, file));
        File::ALL.into_iter().map(look).collect()
    }

    /// Makes four empty databases in memory.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn in_memory(now_ms: i64, random: Random) -> Result<Self> {
        let make = |file| Database::in_memory(file).map(Some);
        let [org, sessions, projects, platform] = File::ALL;
        let files = [
            make(org)?,
            make(sessions)?,
            make(projects)?,
            make(platform)?,
        ];
        Self::assemble(None, files, now_ms, random, Guards::default())
    }

    pub(crate) fn assemble(
        folder: Option<&Path>,
        files: [Option<Database>; 4],
        now_ms: i64,
        mut random: Random,
        guards: Guards,
    ) -> Result<Self> {
        let made = DeviceId::new(random.id(now_ms));
        let mut store = Self {
            folder: folder.map(Path::to_owned),
            files,
            device: made,
            owner: None,
            random,
            guards,
            stamped: [0; 4],
            #[cfg(feature = "fault-injection")]
            fuse: None,
        };
        store.device = store.keep_device(File::Org, made)?;
        store.owner = store.common_owner()?;
        for file in File::ALL {
            // A fence or a login may have been cut off between two files.
            let device = store.keep_device(file, store.device)?;
            if device != store.device && store.guards.fence_completes {
                let device = store.device;
                store.write(file, |work| fence_file(work, device))?;
            }
        }
        if let Some(owner) = store.owner {
            store.store_owner(owner)?;
        }
        Ok(store)
    }

    /// Returns the device id of the folder.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// Returns the folder; none in memory.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Returns who the folder belongs to; nobody before the first login.
    #[must_use]
    pub fn owner_of_folder(&self) -> Option<Owner> {
        self.owner
    }

    /// Binds the folder to a tenant and person, for ever. Binding it to the same again is
    /// harmless.
    ///
    /// # Errors
    /// [`Error::BoundToAnother`] when it belongs to somebody else, or when a database fails.
    pub fn bind(&mut self, tenant: OrganizationId, user: UserId) -> Result<()> {
        match self.owner {
            Some(owner) if (owner.tenant, owner.user) != (tenant, user) => {
                return Err(Error::BoundToAnother {
                    tenant: owner.tenant,
                    user: owner.user,
                });
            }
            _ => {}
        }
        let owner = Owner { tenant, user };
        self.store_owner(owner)?;
        self.owner = Some(owner);
        Ok(())
    }

    /// Takes the device id that a login answered: another one if the server has given the
    /// folder's to somebody else. Rows that were not acknowledged get it (PROTOCOL 3).
    ///
    /// # Errors
    /// When a database fails.
    pub fn set_device(&mut self, device: DeviceId) -> Result<()> {
        if device == self.device {
            return Ok(());
        }
        self.fence(device)
    }

    /// Takes the lease: one process at a time syncs the folder.
    ///
    /// # Errors
    /// [`Error::Leased`] when another process holds it.
    pub fn lease(&self) -> Result<Lease> {
        Lease::take(self.folder.as_deref())
    }

    /// Takes the lease of a folder whose files cannot be opened.
    ///
    /// # Errors
    /// [`Error::Leased`] when another process holds it.
    pub fn lease_of(folder: &Path) -> Result<Lease> {
        Lease::take(Some(folder))
    }

    /// Takes guards out, to show that a simulation then fails.
    #[cfg(feature = "fault-injection")]
    #[doc(hidden)]
    pub fn set_guards(&mut self, guards: Guards) {
        self.guards = guards;
        self.take_out_triggers()
            .expect("triggers of files in memory can be changed");
    }

    /// Returns the file's device id, which is `device` if it had none.
    fn keep_device(&mut self, file: File, device: DeviceId) -> Result<DeviceId> {
        let known = |text: Option<String>| text.and_then(|text| text.parse().ok());
        let database = self.database(file)?;
        if let Some(device) = known(database.meta("device_id")?) {
            return Ok(device);
        }
        self.write(file, |work| {
            // Another process may have been faster.
            let meta = crate::database::meta(work.tx, "device_id").in_file(file)?;
            if let Some(device) = known(meta) {
                return Ok(device);
            }
            set_meta(work.tx, "device_id", &device.to_string()).in_file(file)?;
            Ok(device)
        })
    }

    fn common_owner(&self) -> Result<Option<Owner>> {
        let mut common = None;
        for database in self.files.iter().flatten() {
            let tenant = database.meta("tenant_id")?;
            let user = database.meta("user_id")?;
            let (Some(tenant), Some(user)) = (tenant, user) else {
                continue;
            };
            let corrupt = || Error::Corrupt {
                file: database.file,
                what: "owner",
            };
            let owner = Owner {
                tenant: tenant.parse().map_err(|_| corrupt())?,
                user: user.parse().map_err(|_| corrupt())?,
            };
            if common.is_some_and(|common| common != owner) {
                return Err(Error::MixedOwners);
            }
            common = Some(owner);
        }
        Ok(common)
    }

    fn store_owner(&mut self, owner: Owner) -> Result<()> {
        for file in File::ALL {
            let database = self.database(file)?;
            if database.meta("user_id")?.is_some() {
                continue;
            }
            self.write(file, |work| {
                let store = || -> rusqlite::Result<()> {
                    set_meta(work.tx, "tenant_id", &owner.tenant.to_string())?;
                    set_meta(work.tx, "user_id", &owner.user.to_string())
                };
                store().in_file(file)
            })?;
        }
        Ok(())
    }
}
