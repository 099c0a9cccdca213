//! `coditect audit`: who did what in the organisation, as the server's trail has it.

use clap::Args;
use coditect_protocol::wire::audit::{AuditEntry, AuditPage};
use serde_json::json;

use super::membership::Server;
use super::records;
use crate::context::Context;
use crate::exit::Exit;
use crate::names;
use crate::table::{Table, short_time};

const PATH: &str = "/api/v1/audit/";
/// Most entries of one page, by the server's rule.
const PAGE_MAX: usize = 1_000;

const EXAMPLES: &str = "\
Owners, admins and auditors may read the trail. It names things by id, never shows what they hold;
reading it is an entry as well. Whether somebody changed it, its server says: coditect-server admin
audit verify.

Examples:
  coditect audit                                   the last 50 entries
  coditect audit --action login --since 2026-02-01
  coditect audit --user 0198c1d2-… --all --json | jq -r '.entries[].action' | sort | uniq -c

--json: {entries: [{id, at, user_id, device_id, action, resource_type, resource_id, detail, block}],
next}; next is null on the last page.";

/// Shows who did what in the organisation, the latest first.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Audit {
    /// Only what was done so, such as login, push or restore
    #[arg(long, value_parser = word)]
    action: Option<String>,
    /// Only what this person did: an id
    #[arg(long, value_name = "ID", value_parser = word)]
    user: Option<String>,
    /// Only what was done on this device: an id
    #[arg(long, value_name = "ID", value_parser = word)]
    device: Option<String>,
    /// Only what was done to this thing: an id
    #[arg(long, value_name = "ID", value_parser = word)]
    resource: Option<String>,
    /// Only since then, such as 2026-02-03 or 2026-02-03T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = records::since)]
    since: Option<String>,
    /// Only before then
    #[arg(long, value_name = "TIME", value_parser = records::since)]
    until: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: usize,
    /// All of them
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

/// Accepts what ids and actions are made of, which stands in an address as it is.
fn word(given: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if !given.is_empty() && given.bytes().all(fits) {
        Ok(given.to_owned())
    } else {
        Err("expected letters, digits and - _ . : only".to_owned())
    }
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Audit) -> anyhow::Result<Exit> {
    let mut server = Server::of(context)?;
    let wanted = if command.all {
        usize::MAX
    } else {
        command.limit
    };
    let (mut entries, mut next) = (Vec::new(), None);
    loop {
        let limit = PAGE_MAX.min(wanted - entries.len());
        let page: AuditPage = server.get(&path(command, limit, next.as_deref()))?;
        entries.extend(page.entries);
        next = page.next;
        if next.is_none() || entries.len() >= wanted {
            break;
        }
    }
    let printed = json!({"entries": entries, "next": next});
    context.printer.either(&printed, |printer| {
        if entries.is_empty() {
            printer.note("no entry");
            return Ok(());
        }
        let heads = ["at", "action", "to", "person", "device", "#block", "detail"];
        let mut table = Table::new(&heads);
        for entry in &entries {
            table.row(cells(entry));
        }
        table.print(printer)?;
        if next.is_some() {
            printer.note("there are older ones: --limit or --all");
        }
        Ok(())
    })?;
    Ok(Exit::Ok)
}

fn path(command: &Audit, limit: usize, before: Option<&str>) -> String {
    let mut path = format!("{PATH}?limit={limit}");
    for (name, value) in [
        ("action", command.action.as_deref()),
        ("user_id", command.user.as_deref()),
        ("device_id", command.device.as_deref()),
        ("resource_id", command.resource.as_deref()),
        ("since", command.since.as_deref()),
        ("until", command.until.as_deref()),
        ("before", before),
    ] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={value}"));
        }
    }
    path
}

fn cells(entry: &AuditEntry) -> [String; 7] {
    let short = |id: Option<String>| id.map_or("-".to_owned(), |id| names::short_id(&id));
    let resource = match (&entry.resource_type, &entry.resource_id) {
        (Some(kind), Some(id)) => format!("{kind} {}", names::short_id(id)),
        (Some(kind), None) => kind.clone(),
        _ => "-".to_owned(),
    };
    [
        short_time(Some(&entry.at)),
        entry.action.clone(),
        resource,
        short(entry.user_id.map(|id| id.to_string())),
        short(entry.device_id.map(|id| id.to_string())),
        entry
            .block
            .map_or("-".to_owned(), |block| block.to_string()),
        entry.detail.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_change_the_address_is_refused() {
        for wrong in ["", "a b", "a&limit=1", "a#b", "ä", "a/b", "a%20b"] {
            assert!(word(wrong).is_err(), "{wrong}");
        }
        for right in [
            "push",
            "backup.restore",
            "0198c1d2-0000-7000-8000-000000000000",
        ] {
            assert_eq!(word(right).unwrap(), right);
        }
    }
}
