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
    let file = |given: bool| if given { "file" } else { "default" }.to_owned();
    let secret = |name: &'static str, given: bool, variable: &str| Setting {
        name,
        value: if given {
            json!("(set, not shown)")
        } else {
            Value::Null
        },
        source: if given {
            format!("${variable}")
        } else {
            "default".to_owned()
        },
    };
    let of_file = |name: &'static str, value: Value| Setting {
        name,
        source: file(!value.is_null()),
        value,
    };
    let offline = match environment.offline {
        Some(_) => "$CODITECT_OFFLINE".to_owned(),
        None => file(cloud.offline),
    };
    let hours = cloud.queue_max_age_hours;
    let hours_given = hours != coditect_protocol::limits::QUEUE_AGE_HOURS_MAX;
    let stored = context.credentials().load()?.is_some();
    Ok(vec![
        Setting {
            name: "home",
            value: json!(paths.home().display().to_string()),
            source: "$CODITECT_HOME or $HOME".to_owned(),
        },
        of_file("profile", json!(paths.profile())),
        of_file("server", json!(cloud.server)),
        of_file("tenant_id", json!(cloud.tenant_id)),
        of_file("user_id", json!(cloud.user_id)),
        of_file("device_id", json!(cloud.device_id)),
        match &environment.email {
            Some(email) => Setting {
                name: "email",
                value: json!(email),
                source: "$CODITECT_EMAIL".to_owned(),
            },
            None => of_file("email", json!(cloud.email)),
        },
        Setting {
            name: "offline",
            value: json!(context.is_offline()),
            source: offline,
        },
        Setting {
            name: "queue_max_age_hours",
            value: json!(hours),
            source: file(hours_given),
        },
        Setting {
            name: "allow_plain_http",
            value: json!(cloud.allow_plain_http),
            source: file(cloud.allow_plain_http),
        },
        secret(
            "password",
            environment.password.is_some(),
            "CODITECT_PASSWORD",
        ),
        secret(
            "access_token",
            environment.access_token.is_some(),
            "CODITECT_ACCESS_TOKEN",
        ),
        Setting {
            name: "credentials",
            value: if stored {
                json!("(stored, not shown)")
            } else {
                Value::Null
            },
            source: paths.credentials_file().display().to_string(),
        },
    ])
}
