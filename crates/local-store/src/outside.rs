//! What other processes do to the folder while it is open here.

use coditect_protocol::catalogue::File;

use crate::LocalStore;
use crate::error::{InFile as _, Result};

impl LocalStore {
    /// Returns a number that changes when another connection has written to the file, and does
    /// not when this one has. Costs microseconds.
    ///
    /// # Errors
    /// When the database fails.
    pub fn outside_version(&self, file: File) -> Result<i64> {
        self.read(file)?
            .pragma_query_value(None, "data_version", |row| row.get(0))
            .in_file(file)
    }

    /// Returns whether another process has given the folder another device or owner since it
    /// was opened here: then it has to be opened again.
    ///
    /// # Errors
    /// When a database fails.
    pub fn is_outdated(&self) -> Result<bool> {
        let Some(database) = self.files.iter().flatten().next() else {
            return Ok(false);
        };
        let device = database.meta("device_id")?;
        let user = database.meta("user_id")?;
        let owner = self.owner.map(|owner| owner.user.to_string());
        Ok(device != Some(self.device.to_string()) || user != owner)
    }
}
