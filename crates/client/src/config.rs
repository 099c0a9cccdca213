//! The configuration file, `~/.coditect/config.json`. Key `cloud` holds the ordinary profile,
//! `profiles.NAME.cloud` the others. Keys that this version does not know stay as they are.

use std::path::{Path, PathBuf};

use coditect_protocol::limits::QUEUE_AGE_HOURS_MAX;
use coditect_protocol::{DeviceId, OrganizationId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::files::{self, FileError};

/// What a profile knows about its server. Ids are copies for people and scripts: the data folder
/// and the credential decide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CloudConfig {
    /// Address of the server, without a path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Tenant that the folder is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<OrganizationId>,
    /// Person that the folder is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// Device as registered at the last login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
    /// E-mail of the last login by password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Whether nothing is sent until this is cleared.
    pub offline: bool,
    /// Age in hours after which a queued change is warned about.
    pub queue_max_age_hours: i64,
    /// Whether `org.db` is backed up by itself once a day.
    #[serde(skip_serializing_if = "Clone::clone")]
    pub daily_backup: bool,
    /// Whether plain HTTP is allowed to hosts that are not this machine.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_plain_http: bool,
    /// File with the authority (PEM) that signed the server's certificate, when it is one of the
    /// owner's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<PathBuf>,
    /// Profile that is used when none is named; only in the ordinary profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Keys of other versions.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Default for CloudConfig {
    fn default() -> Self {
        Self {
            server: None,
            tenant_id: None,
            user_id: None,
            device_id: None,
            email: None,
            offline: false,
            queue_max_age_hours: QUEUE_AGE_HOURS_MAX,
            daily_backup: true,
            allow_plain_http: false,
            ca_cert: None,
            profile: None,
            other: Map::new(),
        }
    }
}

/// What the owner wants of hooks: key `hooks`, the same for all profiles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HooksConfig {
    /// Whether anything is recorded.
    pub enabled: bool,
    /// Whether a session begins with facts about its repository.
    pub context: bool,
    /// Folders of which nothing is recorded, nor of those below them.
    pub ignore: Vec<String>,
    /// Keys of other versions.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Default for HooksConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            context: true,
            ignore: Vec::new(),
            other: Map::new(),
        }
    }
}

/// The whole file.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    path: PathBuf,
    root: Map<String, Value>,
}

impl ConfigFile {
    /// Reads the file; a missing one is empty.
    ///
    /// # Errors
    /// [`FileError`] when it cannot be read or is no JSON object.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        Ok(Self {
            path: path.to_owned(),
            root: files::read_json(path)?.unwrap_or_default(),
        })
    }

    /// Returns a profile's part, with defaults where the file says nothing.
    ///
    /// # Errors
    /// [`FileError::Malformed`] when a value has the wrong type.
    pub fn cloud(&self, profile: Option<&str>) -> Result<CloudConfig, FileError> {
        let part = match profile {
            None => self.root.get("cloud"),
            Some(name) => self
                .root
                .get("profiles")
                .and_then(|profiles| profiles.get(name)?.get("cloud")),
        };
        let part = part.cloned().unwrap_or_else(|| Value::Object(Map::new()));
        serde_json::from_value(part).map_err(|source| FileError::Malformed {
            path: self.path.clone(),
            source,
        })
    }

    /// Returns what the owner wants of hooks.
    ///
    /// # Errors
    /// [`FileError::Malformed`] when a value has the wrong type.
    pub fn hooks(&self) -> Result<HooksConfig, FileError> {
        let Some(part) = self.root.get("hooks") else {
            return Ok(HooksConfig::default());
        };
        serde_json::from_value(part.clone()).map_err(|source| FileError::Malformed {
            path: self.path.clone(),
            source,
        })
    }

    /// Replaces what the owner wants of hooks and writes the file.
    ///
    /// # Errors
    /// [`FileError`] when it cannot be written.
    pub fn store_hooks(&mut self, hooks: &HooksConfig) -> Result<(), FileError> {
        let part = serde_json::to_value(hooks).map_err(|source| FileError::Malformed {
            path: self.path.clone(),
            source,
        })?;
        self.root.insert("hooks".to_owned(), part);
        files::write_json(&self.path, &self.root)
    }

    /// Replaces a profile's part and writes the file.
    ///
    /// # Errors
    /// [`FileError`] when it cannot be written.
    pub fn store(&mut self, profile: Option<&str>, cloud: &CloudConfig) -> Result<(), FileError> {
        let malformed = |source| FileError::Malformed {
            path: self.path.clone(),
            source,
        };
        let part = serde_json::to_value(cloud).map_err(malformed)?;
        let owner = match profile {
            None => &mut self.root,
            Some(name) => object(object(&mut self.root, "profiles"), name),
        };
        owner.insert("cloud".to_owned(), part);
        files::write_json(&self.path, &self.root)
    }
}

/// Returns the object under a key; whatever else is there gives way.
fn object<'a>(parent: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = parent
        .entry(key)
        .or_insert_with(|| Value::Object(Map::new()));
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("it was just made an object"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_and_other_profiles_survive_a_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c").join("config.json");
        std::fs::create_dir(folder.path().join("c")).unwrap();
        std::fs::write(
            &path,
            r#"{"ui":{"x":1},"cloud":{"server":"a","later":true}}"#,
        )
        .unwrap();
        let mut file = ConfigFile::load(&path).unwrap();
        let work = CloudConfig {
            server: Some("b".to_owned()),
            ..CloudConfig::default()
        };
        file.store(Some("work"), &work).unwrap();
        let mut plain = file.cloud(None).unwrap();
        plain.offline = true;
        file.store(None, &plain).unwrap();

        let file = ConfigFile::load(&path).unwrap();
        assert_eq!(file.root["ui"]["x"], 1);
        assert_eq!(file.root["cloud"]["later"], true);
        assert_eq!(file.cloud(None).unwrap(), plain);
        assert_eq!(file.cloud(Some("work")).unwrap(), work);
        assert_eq!(file.cloud(Some("other")).unwrap(), CloudConfig::default());
    }

    #[test]
    fn hooks_have_a_part_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, r#"{"hooks":{"context":false,"later":1}}"#).unwrap();
        let mut file = ConfigFile::load(&path).unwrap();
        let mut hooks = file.hooks().unwrap();
        assert!(hooks.enabled && !hooks.context);
        hooks.ignore.push("/secret".to_owned());
        file.store_hooks(&hooks).unwrap();
        file.store(None, &CloudConfig::default()).unwrap();
        let again = ConfigFile::load(&path).unwrap();
        assert_eq!(again.hooks().unwrap(), hooks);
        assert_eq!(again.root["hooks"]["later"], 1);
    }

    #[test]
    fn a_missing_file_gives_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let file = ConfigFile::load(&folder.path().join("none.json")).unwrap();
        assert_eq!(file.cloud(None).unwrap().queue_max_age_hours, 72);
    }

    #[test]
    fn a_wrong_type_is_reported_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, r#"{"cloud":{"offline":"perhaps"}}"#).unwrap();
        let error = ConfigFile::load(&path).unwrap().cloud(None).unwrap_err();
        assert!(error.to_string().contains("config.json"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("config.json");
        let mut file = ConfigFile::load(&path).unwrap();
        file.store(None, &CloudConfig::default()).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
    }
}
