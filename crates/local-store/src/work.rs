//! The context of one write transaction: what every step of the engine needs to know.

use coditect_protocol::catalogue::File;
use coditect_protocol::{DeviceId, OrganizationId, Scope, UserId};
use rusqlite::Connection;

use crate::error::{Error, InFile as _, Result};
use crate::guards::Guards;
use crate::random::Random;
use crate::rules::Rule;
use crate::{LocalStore, database, schema};

/// Who a folder belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Tenant.
    pub tenant: OrganizationId,
    /// Person.
    pub user: UserId,
}

/// A write transaction of one file. Capture is off in it.
pub(crate) struct Work<'a> {
    pub(crate) tx: &'a Connection,
    pub(crate) file: File,
    pub(crate) device: DeviceId,
    pub(crate) owner: Option<Owner>,
    pub(crate) generation: i64,
    pub(crate) reconciling: bool,
    pub(crate) guards: Guards,
    pub(crate) random: &'a mut Random,
    pub(crate) rules: Vec<Rule>,
}

impl Work<'_> {
    /// Returns the scope as the file stores it; none for what is no scope. Blank means the
    /// owner's own, `org` the owner's organisation.
    pub(crate) fn normal_scope(&self, text: &str) -> Option<String> {
        let text = text.trim();
        if text.is_empty() || text == coditect_protocol::scope::LOCAL_USER {
            return Some(coditect_protocol::scope::LOCAL_USER.to_owned());
        }
        if text == "org" {
            let owner = self.owner?;
            return Some(Scope::Org(owner.tenant.get()).to_string());
        }
        let scope: Scope = text.parse().ok()?;
        Some(match self.owner {
            Some(owner) => scope.to_local(owner.user.get()),
            None => scope.to_string(),
        })
    }
}

impl LocalStore {
    /// Runs `work` in one write transaction of the file.
    pub(crate) fn write<T>(
        &mut self,
        file: File,
        work: impl FnOnce(&mut Work<'_>) -> Result<T>,
    ) -> Result<T> {
        let rules = self.rules_for(file)?;
        let database = self.files[schema::position(file)]
            .as_mut()
            .ok_or(Error::NotOpen(file))?;
        let tx = database.begin(self.guards.applying)?;
        let number = |key| -> Result<i64> {
            let text = database::meta(&tx, key).in_file(file)?;
            Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
        };
        let (generation, reconciling) = (number("generation")?, number("reconciling")?);
        let result = work(&mut Work {
            tx: &tx,
            file,
            device: self.device,
            owner: self.owner,
            generation,
            reconciling: reconciling != 0,
            guards: self.guards,
            random: &mut self.random,
            rules,
        })?;
        #[cfg(feature = "fault-injection")]
        crate::fault_injection::burn(&mut self.fuse, file)?;
        database::commit(tx, file)?;
        Ok(result)
    }

    /// Returns the file's connection for reading.
    pub(crate) fn read(&self, file: File) -> Result<&Connection> {
        Ok(&self.database(file)?.connection)
    }

    /// Returns the file.
    pub(crate) fn database(&self, file: File) -> Result<&database::Database> {
        self.files[schema::position(file)]
            .as_ref()
            .ok_or(Error::NotOpen(file))
    }
}
