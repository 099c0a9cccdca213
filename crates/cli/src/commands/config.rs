//! `coditect config`.

use clap::{Args, Subcommand};
use coditect_client::{CloudConfig, Http, HttpOptions, Paths};
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::table::Table;

pub(crate) const EXAMPLES: &str = "\
Settings that can be set (the prefix `cloud.` may be left out):
  cloud.offline               true: send nothing until it is false again
  cloud.queue_max_age_hours   hours after which a queued change is warned about (72)
  cloud.daily_backup          false: org.db is not backed up by itself once a day (true)
  cloud.server                address of the server; then log in there
  cloud.allow_plain_http      true: plain http to another machine
  cloud.ca_cert               file (PEM) with an authority to trust
  cloud.email                 e-mail address for logins
  cloud.profile               profile that is used when none is named
  hooks.enabled               false: hooks record nothing
  hooks.context               false: sessions begin without facts about their repository
  hooks.ignore                folders, with commas between, of which hooks record nothing

Examples:
  coditect config show
  coditect config set cloud.offline true
  coditect config unset cloud.ca_cert

--json of set and unset: {setting, value, before}.";

/// Works on the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Show every value and where it comes from; secrets are not shown
    Show(Show),
    /// Change a value in the file
    Set(Set),
    /// Take a value out of the file; the default counts again
    Unset(Unset),
}

/// Shows the configuration.
#[derive(Debug, Args)]
pub(crate) struct Show {}

/// What to set.
#[derive(Debug, Args)]
pub(crate) struct Set {
    /// Name of the setting
    name: String,
    /// Its value
    value: String,
}

/// What to take out.
#[derive(Debug, Args)]
pub(crate) struct Unset {
    /// Name of the setting
    name: String,
}

/// A value and where it comes from.
struct Setting {
    name: &'static str,
    value: Value,
    source: String,
}

/// Runs the command.
pub(crate) fn run(context: &mut Context, command: Config) -> anyhow::Result<Exit> {
    match command {
        Config::Show(_) => show(context),
        Config::Set(command) => change(context, &command.name, Some(&command.value)),
        Config::Unset(command) => change(context, &command.name, None),
    }
}

/// Changes a setting in the file, and says how to change it back.
fn change(context: &mut Context, name: &str, value: Option<&str>) -> anyhow::Result<Exit> {
    if let Some(short) = name.strip_prefix("hooks.") {
        return change_hooks(context, short, value);
    }
    let short = name.strip_prefix("cloud.").unwrap_or(name);
    let before = read(&context.cloud, short).ok_or_else(|| {
        let error = CommandError::new(Exit::Usage, format!("'{name}' is no setting"));
        error.hint("coditect help config")
    })?;
    write(&mut context.cloud, short, value).map_err(|reason| {
        let text = value.unwrap_or_default();
        CommandError::new(
            Exit::Usage,
            format!("'{text}' is no value of {short}: {reason}"),
        )
    })?;
    if short == "profile" && context.paths.profile().is_some() {
        let error = CommandError::new(Exit::Usage, "a profile names no other profile");
        return Err(error.hint("leave --profile out").into());
    }
    context.store_config()?;
    let after = read(&context.cloud, short).unwrap_or(Value::Null);
    let document = json!({"setting": format!("cloud.{short}"), "value": after, "before": before});
    context.printer.either(&document, |printer| {
        printer.line(&format!("cloud.{short} is {}", plain(&after)))
    })?;
    if !context.printer.is_json() && before != after {
        context.printer.hint(&match &before {
            Value::Null => format!("undo: coditect config unset cloud.{short}"),
            before => format!("undo: coditect config set cloud.{short} {}", plain(before)),
        });
        if context.environment.offline.is_some() && short == "offline" {
            context
                .printer
                .warning("CODITECT_OFFLINE is set and decides");
        }
    }
    Ok(Exit::Ok)
}

/// The same for what hooks do, which is no matter of the profile.
fn change_hooks(context: &mut Context, name: &str, value: Option<&str>) -> anyhow::Result<Exit> {
    let mut hooks = context.config.hooks()?;
    let (before, given) = (hooks.clone(), value.unwrap_or("true"));
    let switch = match given {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(()),
    };
    let wrong = || CommandError::new(Exit::Usage, format!("'{given}' is not true or false"));
    match name {
        "enabled" => hooks.enabled = switch.map_err(|()| wrong())?,
        "context" => hooks.context = switch.map_err(|()| wrong())?,
        "ignore" => {
            let folders = value.unwrap_or("").split(',').map(str::trim);
            let folders = folders
                .filter(|folder| !folder.is_empty())
                .map(std::path::absolute);
            let folders = folders.collect::<Result<Vec<_>, _>>()?;
            hooks.ignore = folders
                .iter()
                .map(|folder| folder.display().to_string())
                .collect();
        }
        _ => {
            let error = CommandError::new(Exit::Usage, format!("'hooks.{name}' is no setting"));
            return Err(error.hint("coditect help config").into());
        }
    }
    context.config.store_hooks(&hooks)?;
    let (before, after) = (serde_json::to_value(before)?, serde_json::to_value(hooks)?);
    let setting = format!("hooks.{name}");
    let document = json!({"setting": setting, "value": after[name], "before": before[name]});
    context.printer.either(&document, |printer| {
        printer.line(&format!("{setting} is {}", plain(&after[name])))
    })?;
    Ok(Exit::Ok)
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "not set".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Returns a setting that people may change; none if there is no such one.
fn read(cloud: &CloudConfig, name: &str) -> Option<Value> {
    Some(match name {
        "offline" => json!(cloud.offline),
        "queue_max_age_hours" => json!(cloud.queue_max_age_hours),
        "daily_backup" => json!(cloud.daily_backup),
        "server" => json!(cloud.server),
        "allow_plain_http" => json!(cloud.allow_plain_http),
        "ca_cert" => json!(cloud.ca_cert),
        "email" => json!(cloud.email),
        "profile" => json!(cloud.profile),
        _ => return None,
    })
}

fn write(cloud: &mut CloudConfig, name: &str, value: Option<&str>) -> Result<(), String> {
    let switch = || match value {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err("true or false".to_owned()),
    };
    let text = || value.map(str::to_owned);
    match name {
        "offline" => cloud.offline = switch()?,
        "allow_plain_http" => cloud.allow_plain_http = switch()?,
        "daily_backup" => cloud.daily_backup = value.is_none() || switch()?,
        "queue_max_age_hours" => {
            cloud.queue_max_age_hours = match value.map(str::parse) {
                None => coditect_protocol::limits::QUEUE_AGE_HOURS_MAX,
                Some(Ok(hours)) if (1..=87_600).contains(&hours) => hours,
                Some(_) => return Err("whole hours, from 1".to_owned()),
            }
        }
        "server" => {
            if let Some(address) = value {
                let options = HttpOptions {
                    allow_plain_http: true,
                    ..HttpOptions::new(address)
                };
                Http::new(&options).map_err(|error| error.to_string())?;
            }
            cloud.server = text();
        }
        "ca_cert" => {
            cloud.ca_cert = match value {
                None => None,
                Some(path) => Some(std::path::absolute(path).map_err(|error| error.to_string())?),
            }
        }
        "email" => cloud.email = text(),
        _ => {
            if let Some(profile) = value {
                Paths::new("", Some(profile)).map_err(|error| error.to_string())?;
            }
            cloud.profile = text();
        }
    }
    Ok(())
}

fn show(context: &Context) -> anyhow::Result<Exit> {
    let settings = settings(context)?;
    let document: serde_json::Map<String, Value> = settings
        .iter()
        .map(|setting| {
            let value = json!({"value": setting.value, "source": setting.source});
            (setting.name.to_owned(), value)
        })
        .collect();
    context.printer.either(&document, |printer| {
        let mut table = Table::new(&["setting", "from", "value"]);
        for setting in &settings {
            let value = match &setting.value {
                Value::Null => "-".to_owned(),
                value => plain(value),
            };
            table.row([setting.name.to_owned(), setting.source.clone(), value]);
        }
        table.print(printer)
    })?;
    Ok(Exit::Ok)
}

fn settings(context: &Context) -> anyhow::Result<Vec<Setting>> {
    let (cloud, environment, paths) = (&context.cloud, &context.environment, &context.paths);
    let email = match &environment.email {
        Some(email) => setting("email", json!(email), "$CODITECT_EMAIL"),
        None => of_file("email", json!(cloud.email)),
    };
    let offline = match (environment.offline, cloud.offline) {
        (Some(_), _) => "$CODITECT_OFFLINE",
        (None, true) => "file",
        (None, false) => "default",
    };
    let hours = cloud.queue_max_age_hours;
    let hours_given = hours != coditect_protocol::limits::QUEUE_AGE_HOURS_MAX;
    let stored = context.credentials().load()?.is_some();
    let hooks = context.config.hooks()?;
    let home = paths.home().display().to_string();
    Ok(vec![
        setting("home", json!(home), "$CODITECT_HOME or $HOME"),
        of_file("profile", json!(paths.profile())),
        of_file("server", json!(cloud.server)),
        of_file("tenant_id", json!(cloud.tenant_id)),
        of_file("user_id", json!(cloud.user_id)),
        of_file("device_id", json!(cloud.device_id)),
        email,
        setting("offline", json!(context.is_offline()), offline),
        setting(
            "queue_max_age_hours",
            json!(hours),
            file_or_default(hours_given),
        ),
        switch("daily_backup", cloud.daily_backup, true),
        switch("allow_plain_http", cloud.allow_plain_http, false),
        of_file("ca_cert", json!(cloud.ca_cert)),
        setting(
            "hooks.enabled",
            json!(hooks.enabled),
            file_or_default(!hooks.enabled),
        ),
        setting(
            "hooks.context",
            json!(hooks.context),
            file_or_default(!hooks.context),
        ),
        setting(
            "hooks.ignore",
            json!(hooks.ignore),
            file_or_default(!hooks.ignore.is_empty()),
        ),
        secret(
            "password",
            environment.password.is_some(),
            "$CODITECT_PASSWORD",
        ),
        secret(
            "access_token",
            environment.access_token.is_some(),
            "$CODITECT_ACCESS_TOKEN",
        ),
        secret(
            "credentials",
            stored,
            &paths.credentials_file().display().to_string(),
        ),
    ])
}

fn setting(name: &'static str, value: Value, source: &str) -> Setting {
    Setting {
        name,
        value,
        source: source.to_owned(),
    }
}

fn switch(name: &'static str, is_on: bool, is_usual: bool) -> Setting {
    setting(name, json!(is_on), file_or_default(is_on != is_usual))
}

fn of_file(name: &'static str, value: Value) -> Setting {
    let source = file_or_default(!value.is_null());
    setting(name, value, source)
}

fn secret(name: &'static str, given: bool, source: &str) -> Setting {
    if given {
        setting(name, json!("(set, not shown)"), source)
    } else {
        setting(name, Value::Null, "default")
    }
}

const fn file_or_default(given: bool) -> &'static str {
    if given { "file" } else { "default" }
}
