//! Prints the SQL for synced tables, to be frozen into a migration: all of the catalogue, or
//! those that are named.

use std::io::Write as _;

use coditect_protocol::catalogue::TABLES;
use coditect_server_store::migrations::sql_for;

fn main() -> std::io::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let mut out = std::io::stdout().lock();
    for table in TABLES {
        if wanted.is_empty() || wanted.iter().any(|name| name == table.cloud) {
            out.write_all(sql_for(table).as_bytes())?;
        }
    }
    Ok(())
}
