//! A migrated database of its own for each test, and people in it.

use std::sync::atomic::{AtomicU32, Ordering};

use coditect_protocol::wire::auth::DeviceInfo;
use coditect_protocol::{DeviceId, OrganizationId, UserId};
use coditect_server_store::credential::{self, Secrets};
use coditect_server_store::identity::Role;
use coditect_server_store::{Caller, Db, DbSettings, admin, roles};
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::FakeClock;
use crate::postgres::Cluster;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A database for one test; dropped with the value.
#[derive(Debug)]
pub struct TestDb {
    name: String,
    cluster: Cluster,
    db: Db,
    clock: FakeClock,
    secrets: Secrets,
    secrets_folder: TempDir,
}

/// A tenant of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestTenant {
    /// Its id.
    pub id: OrganizationId,
    /// Its name.
    pub name: String,
}

/// A person of a test, logged in on one device.
#[derive(Debug, Clone)]
pub struct TestUser {
    /// The person's tenant.
    pub tenant_id: OrganizationId,
    /// The person's id there.
    pub user_id: UserId,
    /// E-mail address.
    pub email: String,
    /// Password; `None` when the person had one from another tenant.
    pub password: Option<String>,
    /// Licence key.
    pub license_key: String,
    /// The device of the login.
    pub device_id: DeviceId,
    /// What the login proved.
    pub caller: Caller,
    /// Bearer token, by the test's clock.
    pub access_token: String,
    /// Refresh token.
    pub refresh_token: String,
}

impl TestDb {
    /// Makes a fresh, migrated database and connects to it as the app's role.
    pub async fn new() -> Self {
        Self::with_connections(8).await
    }

    /// Makes a database like [`TestDb::new`], with room for `connections_max` transactions.
    pub async fn with_connections(connections_max: usize) -> Self {
        let cluster = tokio::task::spawn_blocking(Cluster::open).await.unwrap();
        Self::on(cluster, connections_max).await.0
    }

    /// Makes a database on a cluster, and returns its name as well.
    pub(crate) async fn on(cluster: Cluster, connections_max: usize) -> (Self, String) {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}", std::process::id());
        cluster.create_database(&name).await;
        let mut settings = cluster.settings(&name);
        settings.app_connections_max = connections_max;
        let db = Db::connect(&settings).await.unwrap();
        let secrets_folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::load_or_create(&secrets_folder.path().join("secrets")).unwrap();
        let made = Self {
            name: name.clone(),
            cluster,
            db,
            clock: FakeClock::default(),
            secrets,
            secrets_folder,
        };
        (made, name)
    }

    /// Returns the store.
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Returns the test's clock.
    #[must_use]
    pub fn clock(&self) -> &FakeClock {
        &self.clock
    }

    /// Returns the keys that sign the test's tokens.
    #[must_use]
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Returns the folder of those keys, to start a server with it.
    #[must_use]
    pub fn secrets_folder(&self) -> std::path::PathBuf {
        self.secrets_folder.path().join("secrets")
    }

    /// Returns the settings to reach the database, to start a server on it.
    #[must_use]
    pub fn settings(&self) -> DbSettings {
        self.cluster.settings(&self.name)
    }

    /// Returns the superuser's connection string for another database of the cluster, or for
    /// this one.
    #[must_use]
    pub fn superuser_url(&self, database: Option<&str>) -> String {
        self.cluster.url(None, database.unwrap_or(&self.name))
    }

    /// Makes a tenant.
    pub async fn with_tenant(&self, name: &str) -> TestTenant {
        let id = admin::create_tenant(&self.db, name, self.clock.now())
            .await
            .unwrap();
        TestTenant {
            id,
            name: name.to_owned(),
        }
    }

    /// Makes a member of `tenant` with a licence, logged in with it on a fresh device.
    pub async fn with_user(&self, tenant: &TestTenant, email: &str) -> TestUser {
        self.with_role(tenant, email, Role::Member).await
    }

    /// Makes a person like [`TestDb::with_user`], with the given role.
    pub async fn with_role(&self, tenant: &TestTenant, email: &str, role: Role) -> TestUser {
        let now = self.clock.now();
        let created = admin::create_user(&self.db, tenant.id, email, role, now)
            .await
            .unwrap();
        let user_id = created.user_id;
        let license_key = admin::issue_license(&self.db, tenant.id, user_id, now)
            .await
            .unwrap();
        let login = self.log_in(&license_key, &DeviceInfo::default()).await;
        TestUser {
            tenant_id: tenant.id,
            user_id,
            email: email.to_owned(),
            password: created.password,
            license_key,
            device_id: login.caller.device_id(),
            access_token: login.access_token,
            refresh_token: login.refresh_token,
            caller: login.caller,
        }
    }

    /// Logs in with a licence key, on another device for instance.
    pub async fn log_in(&self, license_key: &str, device: &DeviceInfo) -> credential::TokenPair {
        let now = self.clock.now();
        let login =
            credential::login_with_license(&self.db, &self.secrets, license_key, device, now);
        login.await.unwrap()
    }

    /// Connects with the bare driver as the app's role, which row security binds.
    pub async fn app_client(&self) -> Client {
        self.cluster.connect(Some(roles::APP), &self.name).await
    }

    /// Connects with the bare driver as the system role.
    pub async fn system_client(&self) -> Client {
        self.cluster.connect(Some(roles::SYSTEM), &self.name).await
    }

    /// Connects with the bare driver as the owner of the tables.
    pub async fn owner_client(&self) -> Client {
        self.cluster.connect(Some(roles::OWNER), &self.name).await
    }

    /// Connects with the bare driver as the cluster's superuser.
    pub async fn superuser_client(&self) -> Client {
        self.cluster.connect(None, &self.name).await
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        self.db.close();
        let (cluster, name) = (self.cluster.clone(), self.name.clone());
        // A runtime of its own, because the test's may be ending.
        let dropper = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(cluster.drop_database(&name));
        });
        // A failed test must show its own message, not this one.
        let _ = dropper.join();
    }
}
