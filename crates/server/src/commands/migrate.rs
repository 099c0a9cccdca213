//! `migrate`: the schema of this program's version.

use anyhow::Context as _;
use coditect_server_store::embedded::Archiving;
use coditect_server_store::migrations;
use serde_json::json;

use super::data_dir::DataDir;
use super::{database, print};
use crate::config::{Config, Target};

pub(super) async fn run(config: &Config, json: bool) -> anyhow::Result<()> {
    let applied = match &config.target {
        Target::External(urls) => migrations::migrate(&urls.owner)
            .await
            .context("cannot migrate DATABASE_URL")?,
        Target::Embedded => {
            let data_dir = DataDir::prepare(&config.data_dir)?;
            let join = database::Join::IfRunning;
            let postgres = database::start(config, &data_dir, join, Archiving::AsBefore).await?;
            let applied = database::prepare(&postgres).await;
            database::stop(postgres).await?;
            applied?
        }
    };
    if json {
        return print(&format!("{}\n", json!({ "applied": applied })));
    }
    let lines = applied.iter().map(|version| format!("applied {version}\n"));
    print(&lines.collect::<String>())?;
    if applied.is_empty() {
        print("nothing to do\n")
    } else {
        Ok(())
    }
}
