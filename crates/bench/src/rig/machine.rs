//! Facts about machine and database that belong to the figures.

use std::fs;

use super::postgres::Postgres;
use crate::report::Report;

const SETTINGS: [&str; 11] = [
    "server_version",
    "fsync",
    "synchronous_commit",
    "wal_sync_method",
    "full_page_writes",
    "wal_compression",
    "shared_buffers",
    "max_wal_size",
    "default_toast_compression",
    "jit",
    "max_connections",
];

/// Adds processor, cores, memory and kernel.
pub(crate) fn describe(report: &mut Report) {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = field(&cpus, "model name").unwrap_or("unknown");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = field(&memory, "MemTotal").unwrap_or("unknown");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    report.fact(
        "machine",
        format!(
            "{cores} cores of {model}, {memory}, Linux {}",
            kernel.trim()
        ),
    );
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    report.fact("load before the run", load);
}

/// Adds the settings, and what every statement over a table meets.
pub(crate) fn describe_database(
    report: &mut Report,
    postgres: &Postgres,
    table: &str,
) -> anyhow::Result<()> {
    let names = SETTINGS.map(|name| format!("'{name}'")).join(", ");
    let sql = format!(
        "select name, current_setting(name) from pg_settings where name in ({names}) order by 1"
    );
    for row in postgres.query(super::postgres::SUPERUSER, &sql)? {
        report.fact(row[0].clone(), row[1].clone());
    }
    let sql = format!("select indexname, indexdef from pg_indexes where tablename = '{table}'");
    for row in postgres.query(super::postgres::SUPERUSER, &sql)? {
        report.fact(format!("index {}", row[0]), row[1].clone());
    }
    let sql = format!(
        "select policyname, cmd, coalesce('using ' || qual, '') ||
         coalesce(' with check ' || with_check, '') from pg_policies where tablename = '{table}'"
    );
    for row in postgres.query(super::postgres::SUPERUSER, &sql)? {
        report.fact(format!("policy {} ({})", row[0], row[1]), row[2].clone());
    }
    Ok(())
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let text = "processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\n";
        assert_eq!(field(text, "model name"), Some("Fast CPU @ 3 GHz"));
        assert_eq!(field(text, "cache"), None);
    }
}
