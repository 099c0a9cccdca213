//! `admin`: organisations, people, licences, devices, the signing key, the epoch.

use anyhow::Context as _;
use coditect_protocol::{OrganizationId, UserId};
use coditect_server_store::credential::Secrets;
use coditect_server_store::identity::Role;
use coditect_server_store::sync::{catalogue, dump};
use coditect_server_store::{Db, StoreError, admin, cluster, plans};
use serde_json::{Value, json};
use std::io::Write as _;

mod audit;
mod backup_key;
mod backups;
mod erase;
mod history;
mod recovery;
mod scrub;
mod transfer;

use super::{DAMAGED, Exit, NO_SUCH_THING, database, print};
use crate::cli::{
    AdminCommand, CatalogueCommand, DeviceCommand, EpochCommand, KeyCommand, LicenseCommand,
    Output, TenantCommand, UserCommand,
};
use crate::config::Config;
use crate::state::Clock;

pub(super) async fn run(config: &Config, command: AdminCommand) -> anyhow::Result<()> {
    let done = match command {
        // These need no database, or start one of their own.
        AdminCommand::BackupKey { file, output } => Some((output, backup_key::add(&file)?)),
        AdminCommand::Database(command) => Some(recovery::run(config, command).await?),
        command => {
            let opened = database::open_for_command(config).await?;
            let done = act(config, &opened.db, command).await;
            opened.close().await?;
            done?
        }
    };
    let Some((output, result)) = done else {
        return Ok(());
    };
    print(&if output.json {
        format!("{result}\n")
    } else {
        as_text(&result)
    })?;
    exit(&result)
}

/// Ends the program with a code of its own when a result says that something is damaged.
fn exit(result: &Value) -> anyhow::Result<()> {
    let trails = result["trails"].as_array().into_iter().flatten();
    let broken = trails.filter(|it| it["state"] == "broken").count();
    if broken == 0 {
        scrub::exit(result)?;
        return backups::exit(result);
    }
    let text = format!(
        "{broken} audit trails are not what they were\n\
         hint: --json shows the faults; after a restore of the database: \
         coditect-server admin audit accept"
    );
    Err(Exit {
        code: DAMAGED,
        text,
    }
    .into())
}

/// Does what was asked and returns what to print, unless that is printed already.
async fn act(
    config: &Config,
    db: &Db,
    command: AdminCommand,
) -> anyhow::Result<Option<(Output, Value)>> {
    let done = match command {
        AdminCommand::Tenant(command) => tenant(config, db, command).await?,
        AdminCommand::User(command) => user(config, db, command).await?,
        AdminCommand::License(command) => license(db, command).await?,
        AdminCommand::Device(command) => device(db, command).await?,
        AdminCommand::Key(KeyCommand::Rotate { at_once, output }) => {
            (output, rotate_key(config, db, at_once).await?)
        }
        AdminCommand::Epoch(EpochCommand::Bump { output }) => {
            let epoch = cluster::change_epoch(db).await;
            (
                output,
                json!({ "epoch": epoch.context("cannot change the epoch")? }),
            )
        }
        AdminCommand::Catalogue(CatalogueCommand::Import { file, output }) => {
            let text = read(&file)?;
            let imported = catalogue::import(db, &text, Clock::system().now()).await;
            let imported = imported.context("cannot import the catalogue")?;
            (output, serde_json::to_value(imported)?)
        }
        AdminCommand::Scrub {
            tenant,
            now,
            output,
        } => (output, scrub::scrub(db, tenant.as_deref(), now).await?),
        AdminCommand::Findings {
            tenant,
            all,
            output,
        } => (output, scrub::findings(db, tenant.as_deref(), all).await?),
        AdminCommand::History(wanted) => history::run(config, db, wanted).await?,
        AdminCommand::Audit(command) => audit::run(config, db, command).await?,
        AdminCommand::BackupKey { file, output } => (output, backup_key::add(&file)?),
        AdminCommand::Database(command) => recovery::run(config, command).await?,
        AdminCommand::BackupTry { backup, output } => {
            (output, backups::try_one(config, db, backup).await?)
        }
        AdminCommand::Jobs { tenant, output } => {
            (output, backups::jobs(db, tenant.as_deref()).await?)
        }
        AdminCommand::Erasures { tenant, output } => (output, erase::list(db, &tenant).await?),
        AdminCommand::Dump { tenant } => {
            dump(db, &tenant).await?;
            return Ok(None);
        }
    };
    Ok(Some(done))
}

/// Replaces the signing key, which lies outside the database, and notes it inside.
async fn rotate_key(config: &Config, db: &Db, at_once: bool) -> anyhow::Result<Value> {
    let folder = &config.secrets_dir;
    let place = || {
        let folder = folder.display();
        format!("cannot replace the key in {folder}\nhint: --secrets-dir names its folder")
    };
    let now = Clock::system().now();
    let secrets = Secrets::load(folder).with_context(place)?;
    let key_id = secrets.rotate(now, at_once).with_context(place)?;
    admin::note_key_rotation(db, &key_id, at_once, now)
        .await
        .context("the key was replaced, but the audit trail does not say so")?;
    Ok(json!({ "key_id": key_id, "at_once": at_once }))
}

/// Writes one line a row as it is read, so that the size of the organisation does not matter.
async fn dump(db: &Db, tenant: &str) -> anyhow::Result<()> {
    let tenant_id = find_tenant(db, tenant).await?;
    let mut out = std::io::BufWriter::new(std::io::stdout());
    dump::dump(db, tenant_id, |line| -> Result<(), DumpError> {
        serde_json::to_writer(&mut out, &line).map_err(std::io::Error::from)?;
        Ok(out.write_all(b"\n")?)
    })
    .await
    .context("cannot dump the organisation")?;
    out.flush().context("cannot write the dump")
}

/// Why a dump ended early.
#[derive(Debug, thiserror::Error)]
enum DumpError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot write: {0}")]
    Write(#[from] std::io::Error),
}

fn read(file: &std::path::Path) -> anyhow::Result<String> {
    let text = if file == std::path::Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    text.with_context(|| format!("cannot read {}", file.display()))
}

async fn tenant(
    config: &Config,
    db: &Db,
    command: TenantCommand,
) -> anyhow::Result<(Output, Value)> {
    match command {
        TenantCommand::Export {
            tenant,
            file,
            output,
        } => Ok((output, transfer::export(db, &tenant, &file).await?)),
        TenantCommand::Import { file, output } => {
            Ok((output, transfer::import(config, db, &file).await?))
        }
        TenantCommand::Erase {
            tenant,
            how,
            output,
        } => Ok((output, erase::tenant(config, db, &tenant, how).await?)),
        TenantCommand::Create { name, output } => {
            let made = admin::create_tenant(db, &name, Clock::system().now()).await;
            let tenant_id = made.context("cannot make the organisation")?;
            Ok((output, json!({ "tenant_id": tenant_id, "name": name })))
        }
        TenantCommand::List { output } => {
            let tenants = admin::list_tenants(db)
                .await
                .context("cannot list organisations")?;
            Ok((output, json!({ "tenants": tenants })))
        }
        TenantCommand::Plan {
            tenant,
            plan,
            output,
        } => {
            let tenant_id = find_tenant(db, &tenant).await?;
            let Some(plan) = plan else {
                let plans = plans::list(db).await.context("cannot list plans")?;
                return Ok((output, json!({ "plans": plans })));
            };
            match plans::change(db, tenant_id, &plan).await {
                Err(StoreError::NotFound) => Err(missing(format!(
                    "there is no plan '{plan}'\n\
                     hint: coditect-server admin tenant plan --tenant {tenant_id} lists them"
                ))),
                changed => {
                    changed.context("cannot change the plan")?;
                    Ok((output, json!({ "tenant_id": tenant_id, "plan": plan })))
                }
            }
        }
    }
}

async fn user(config: &Config, db: &Db, command: UserCommand) -> anyhow::Result<(Output, Value)> {
    match command {
        UserCommand::Create {
            tenant,
            email,
            role,
            output,
        } => Ok((output, create_user(db, &tenant, &email, role).await?)),
        UserCommand::Disable {
            tenant,
            user,
            output,
        } => Ok((output, set_active(db, &tenant, &user, false).await?)),
        UserCommand::Enable {
            tenant,
            user,
            output,
        } => Ok((output, set_active(db, &tenant, &user, true).await?)),
        UserCommand::ResetPassword {
            tenant,
            user,
            output,
        } => Ok((output, reset_password(db, &tenant, &user).await?)),
        UserCommand::Export {
            tenant,
            user,
            file,
            output,
        } => Ok((
            output,
            transfer::export_person(db, &tenant, &user, &file).await?,
        )),
        UserCommand::Import {
            tenant,
            user,
            from,
            dry_run,
            file,
            output,
        } => {
            let account = (tenant.as_str(), user.as_str());
            let from = from.as_deref();
            let done = transfer::import_person(db, account, from, dry_run, &file).await?;
            Ok((output, done))
        }
        UserCommand::Erase {
            tenant,
            user,
            how,
            output,
        } => Ok((output, erase::user(config, db, &tenant, &user, how).await?)),
        UserCommand::List { tenant, output } => {
            let tenant_id = find_tenant(db, &tenant).await?;
            let users = admin::list_users(db, tenant_id).await;
            let users = users.context("cannot list people")?;
            Ok((output, json!({ "users": users })))
        }
    }
}

async fn reset_password(db: &Db, tenant: &str, user: &str) -> anyhow::Result<Value> {
    let tenant_id = find_tenant(db, tenant).await?;
    let user_id = find_user(db, tenant_id, user).await?;
    let reset = admin::reset_password(db, tenant_id, user_id, Clock::system().now())
        .await
        .context("cannot reset the password")?;
    Ok(json!({
        "tenant_id": tenant_id,
        "user_id": user_id,
        "email": reset.email,
        "password": reset.password,
    }))
}

async fn create_user(db: &Db, tenant: &str, email: &str, role: Role) -> anyhow::Result<Value> {
    let tenant_id = find_tenant(db, tenant).await?;
    let now = Clock::system().now();
    let made = match admin::create_user(db, tenant_id, email, role, now).await {
        Err(StoreError::Conflict { .. }) => {
            anyhow::bail!("{email} belongs to the organisation already")
        }
        made => made.context("cannot add the person")?,
    };
    Ok(json!({
        "tenant_id": tenant_id,
        "user_id": made.user_id,
        "email": email.to_lowercase(),
        "role": role,
        "password": made.password,
    }))
}

async fn license(db: &Db, command: LicenseCommand) -> anyhow::Result<(Output, Value)> {
    match command {
        LicenseCommand::Issue {
            tenant,
            user,
            output,
        } => {
            let tenant_id = find_tenant(db, &tenant).await?;
            let user_id = find_user(db, tenant_id, &user).await?;
            let now = Clock::system().now();
            let license_key = admin::issue_license(db, tenant_id, user_id, now)
                .await
                .context("cannot issue the licence")?;
            let result =
                json!({ "tenant_id": tenant_id, "user_id": user_id, "license_key": license_key });
            Ok((output, result))
        }
        LicenseCommand::Revoke {
            tenant,
            license,
            output,
        } => {
            let tenant_id = find_tenant(db, &tenant).await?;
            let now = Clock::system().now();
            match admin::revoke_license(db, tenant_id, license, now).await {
                Err(StoreError::NotFound) => Err(missing(format!(
                    "there is no valid licence {license} in the organisation\n\
                     hint: coditect-server admin license list --tenant {tenant_id}"
                ))),
                revoked => {
                    revoked.context("cannot revoke the licence")?;
                    Ok((
                        output,
                        json!({ "tenant_id": tenant_id, "license_id": license }),
                    ))
                }
            }
        }
        LicenseCommand::List { tenant, output } => {
            let tenant_id = find_tenant(db, &tenant).await?;
            let found = admin::list_licenses(db, tenant_id).await;
            Ok((
                output,
                json!({ "licenses": found.context("cannot list licences")? }),
            ))
        }
    }
}

async fn device(db: &Db, command: DeviceCommand) -> anyhow::Result<(Output, Value)> {
    match command {
        DeviceCommand::List { tenant, output } => {
            let tenant_id = find_tenant(db, &tenant).await?;
            let found = admin::list_devices(db, tenant_id).await;
            Ok((
                output,
                json!({ "devices": found.context("cannot list devices")? }),
            ))
        }
        DeviceCommand::Revoke {
            tenant,
            device,
            output,
        } => {
            let tenant_id = find_tenant(db, &tenant).await?;
            let now = Clock::system().now();
            match admin::revoke_device(db, tenant_id, device, now).await {
                Err(StoreError::NotFound) => Err(missing(format!(
                    "there is no device {device} in the organisation that is not revoked yet\n\
                     hint: coditect-server admin device list --tenant {tenant_id}"
                ))),
                revoked => {
                    revoked.context("cannot revoke the device")?;
                    Ok((
                        output,
                        json!({ "tenant_id": tenant_id, "device_id": device }),
                    ))
                }
            }
        }
    }
}

/// Locks a person out of an organisation, or lets the person in again.
async fn set_active(db: &Db, tenant: &str, user: &str, active: bool) -> anyhow::Result<Value> {
    let tenant_id = find_tenant(db, tenant).await?;
    let user_id = find_user(db, tenant_id, user).await?;
    admin::set_active(db, tenant_id, user_id, active, Clock::system().now())
        .await
        .context("cannot change the person")?;
    Ok(json!({ "tenant_id": tenant_id, "user_id": user_id, "active": active }))
}

async fn find_tenant(db: &Db, wanted: &str) -> anyhow::Result<OrganizationId> {
    match admin::find_tenant(db, wanted).await {
        Err(StoreError::NotFound) => Err(missing(format!(
            "there is no organisation '{wanted}', or several of that name\n\
             hint: coditect-server admin tenant list"
        ))),
        found => found.context("cannot look up the organisation"),
    }
}

/// Returns one organisation, or all.
async fn tenants(db: &Db, wanted: Option<&str>) -> anyhow::Result<Vec<OrganizationId>> {
    if let Some(wanted) = wanted {
        return Ok(vec![find_tenant(db, wanted).await?]);
    }
    let tenants = admin::list_tenants(db).await;
    let tenants = tenants.context("cannot list organisations")?;
    Ok(tenants.into_iter().map(|it| it.tenant_id).collect())
}

async fn find_user(db: &Db, tenant: OrganizationId, wanted: &str) -> anyhow::Result<UserId> {
    match admin::find_user(db, tenant, wanted).await {
        Err(StoreError::NotFound) => Err(missing(format!(
            "there is no person '{wanted}' in the organisation\n\
             hint: coditect-server admin user list --tenant {tenant}"
        ))),
        found => found.context("cannot look up the person"),
    }
}

fn missing(text: String) -> anyhow::Error {
    Exit {
        code: NO_SUCH_THING,
        text,
    }
    .into()
}

/// Writes a result for people: one `name: value` a line, a list as one line an entry.
fn as_text(result: &Value) -> String {
    let mut out = String::new();
    for (name, value) in result.as_object().into_iter().flatten() {
        match value.as_array() {
            Some(entries) => {
                for entry in entries {
                    let fields = entry.as_object().into_iter().flatten();
                    let fields: Vec<String> = fields.map(|(_, value)| plain(value)).collect();
                    out.push_str(&fields.join("  "));
                    out.push('\n');
                }
            }
            None => out.push_str(&format!("{name}: {}\n", plain(value))),
        }
    }
    out
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_read_as_lines() {
        let one = json!({ "password": null, "user_id": "u" });
        assert_eq!(as_text(&one), "password: -\nuser_id: u\n");
        let list = json!({ "tenants": [{ "name": "a", "tenant_id": "1" }, { "name": "b" }] });
        assert_eq!(as_text(&list), "a  1\nb\n");
    }
}
