//! The scopes that this device follows, with the names that people gave them. Names are for people
//! only: what is stored names scopes by their ids.

use coditect_protocol::Scope;
use coditect_protocol::catalogue::File;
use rusqlite::params;

use crate::LocalStore;
use crate::error::{InFile as _, Result};
use crate::outgoing::from_local;

impl LocalStore {
    /// Returns the teams and projects that the owner belongs to, with their names as far as they
    /// are known here.
    ///
    /// # Errors
    /// [`crate::Error::NotBound`] before the first login, or when the database fails.
    pub fn scope_names(&self) -> Result<Vec<(Scope, Option<String>)>> {
        let owner = self.owner()?;
        let connection = self.read(File::Org)?;
        let list = || -> rusqlite::Result<Vec<(String, Option<String>)>> {
            let sql = "select scope, name from sync_scope order by scope";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        };
        let all = list().in_file(File::Org)?.into_iter();
        let named = all.map(|(text, name)| Ok((from_local(File::Org, &text, owner)?, name)));
        named
            .filter(|named| {
                let shared = |scope| matches!(scope, Scope::Team(_) | Scope::Project(_));
                named.as_ref().map_or(true, |(scope, _)| shared(*scope))
            })
            .collect()
    }

    /// Notes the names of scopes; those that are not followed here are left out.
    ///
    /// # Errors
    /// [`crate::Error::NotBound`] before the first login, or when the database fails.
    pub fn name_scopes(&mut self, names: &[(Scope, String)]) -> Result<()> {
        let user = self.owner()?.user.get();
        self.write(File::Org, |work| {
            for (scope, name) in names {
                work.tx
                    .prepare_cached("update sync_scope set name = ?2 where scope = ?1")
                    .and_then(|mut statement| {
                        statement.execute(params![scope.to_local(user), name])
                    })
                    .in_file(work.file)?;
            }
            Ok(())
        })
    }
}
