//! The synced tables as the catalogue had them when this was frozen
//! (`cargo run -p coditect-server-store --example synced_tables`).

use super::{Migration, synced};

const SQL: &str = include_str!("m20261120_000003_synced_tables.sql");

pub(super) fn migration() -> Migration {
    let steps = synced::parse(SQL);
    Migration {
        version: 20_261_120_000_003,
        name: "synced tables",
        steps,
    }
}
