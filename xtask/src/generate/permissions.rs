//! The page of roles and permissions, from the table in `protocol`.

use std::fmt::Write;

use coditect_protocol::permissions::{Area, OrganizationRole, RULES, Rule, ScopeRole};

const HEADER: &str = "\
# Roles and permissions

Made from `crates/protocol/src/permissions.rs` by `cargo xtask generate`; do not edit. The program
decides by this table, and row security in the database decides the same by itself
([0011](adr/0011-roles-in-row-security.md)).

- A person's own scope is the person's alone: everything is allowed there, to nobody else.
- Everybody may erase the own account (`POST /api/v1/users/{id}/erase`), and nobody another one's;
  the only owner of the organisation makes another owner first.
- In the organisation's scope the organisation role decides.
- In a team or project the role there decides what is done with its content. Viewers, auditors and
  executives of the organisation do nothing there that their line below does not have.
- Owners and admins of the organisation manage every team and project (`management` below) without
  being in it. They read its content only as members; taking themselves in is in the audit trail.
- A team can be a member of a project; of several roles the highest counts.
- Nobody gives or takes a role above the own one. A team, project or organisation keeps an owner.
- An archived team or project is read, not written. An archived team lets its members read its
  projects, no more.
- `granted` permissions can be given to a single member, or taken away, beside the role
  (`PUT /api/v1/organization/members/{user_id}/`). An owner is denied nothing.
";

/// Returns the whole page.
pub(crate) fn page() -> String {
    let mut page = HEADER.to_owned();
    page.push_str("\n## Organisation\n\n| permission |");
    for role in OrganizationRole::ALL {
        _ = write!(page, " {role} |");
    }
    page.push_str(" granted | lets one |\n|---|");
    page.push_str(&"---|".repeat(OrganizationRole::ALL.len() + 2));
    page.push('\n');
    for rule in RULES {
        page.push_str(&organization(rule));
    }
    for (title, least) in [
        ("Team", (|rule| rule.team) as fn(&Rule) -> Option<ScopeRole>),
        ("Project", |rule| rule.project),
    ] {
        _ = write!(
            page,
            "\n## {title}\n\n| permission | from role | kind |\n|---|---|---|\n"
        );
        for rule in RULES {
            if let Some(role) = least(rule) {
                // Teams give out no role below member.
                let role = if title == "Team" {
                    role.max(ScopeRole::Member)
                } else {
                    role
                };
                _ = writeln!(
                    page,
                    "| `{}` | {role} | {} |",
                    rule.permission,
                    area(rule.area)
                );
            }
        }
    }
    page
}

fn organization(rule: &Rule) -> String {
    let mut line = format!("| `{}` |", rule.permission);
    for role in OrganizationRole::ALL {
        line.push_str(if rule.organization.contains(role) {
            " yes |"
        } else {
            " |"
        });
    }
    let granted = if rule.grantable { "yes" } else { "" };
    _ = writeln!(
        line,
        " {granted} | {} |",
        rule.text.trim_end_matches('.').to_lowercase()
    );
    line
}

fn area(area: Area) -> &'static str {
    match area {
        Area::Content => "content",
        Area::Management => "management",
        Area::Organization => "organisation",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_has_every_permission() {
        let page = page();
        for rule in RULES {
            assert!(
                page.contains(&format!("| `{}` |", rule.permission)),
                "{}",
                rule.permission
            );
        }
    }
}
