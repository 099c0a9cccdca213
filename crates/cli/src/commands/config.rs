//! `coditect config`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::Exit;
use crate::table::Table;

/// Shows the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Show every value and where it comes from; secrets are not shown
    Show(Show),
}

/// Shows the configuration.
#[derive(Debug, Args)]
pub(crate) struct Show {}

/// A value and where it comes from.
struct Setting {
    name: &'static str,
    value: Value,
    source: String,
}

/// Runs the command.
pub(crate) fn run(context: &Context) -> anyhow::Result<Exit> {
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
                Value::String(text) => text.clone(),
                other => other.to_string(),
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
        setting(
            "allow_plain_http",
            json!(cloud.allow_plain_http),
            file_or_default(cloud.allow_plain_http),
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
