//! `coditect org`.

use clap::{Args, Subcommand};
use coditect_protocol::wire::membership::{Organization, OrganizationMemberList};

use super::membership::{ORGANIZATION, Server};
use crate::context::Context;
use crate::exit::Exit;
use crate::table::{Table, short_time};

pub(crate) const EXAMPLES: &str = "\
Roles: owner, admin, member, viewer, auditor, executive (docs/PERMISSIONS.md).

Examples:
  coditect org show
  coditect org members
  coditect org invite ben@acme.example --role viewer
  coditect org role ben@acme.example member
  coditect org remove ben@acme.example";

/// Works on the organisation and its members.
#[derive(Debug, Subcommand)]
pub(crate) enum Org {
    /// Show it, with what you may do
    Show,
    /// List its members
    Members,
    /// Invite somebody; prints the secret that accepts
    Invite(Invite),
    /// Give a member another role
    Role {
        /// The member's e-mail address
        email: String,
        /// The role
        role: String,
    },
    /// Remove a member from it and all its teams and projects
    Remove {
        /// The member's e-mail address
        email: String,
    },
}

/// Whom to invite.
#[derive(Debug, Args)]
pub(crate) struct Invite {
    /// E-mail address
    email: String,
    /// Role in the organisation
    #[arg(long, default_value = "member")]
    role: String,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: Org) -> anyhow::Result<Exit> {
    let mut server = Server::of(context)?;
    match command {
        Org::Show => show(context, &mut server),
        Org::Members => members(context, &mut server),
        Org::Invite(invite) => {
            let path = format!("{ORGANIZATION}invitations/");
            server.invite(context, &path, &invite.email, &invite.role)
        }
        Org::Role { email, role } => {
            let person = server.person(&email)?;
            server.set_role(
                context,
                ORGANIZATION,
                (person.user_id, &person.email),
                &role,
            )
        }
        Org::Remove { email } => {
            let person = server.person(&email)?;
            server.remove(context, ORGANIZATION, (person.user_id, &person.email))
        }
    }
}

fn show(context: &Context, server: &mut Server) -> anyhow::Result<Exit> {
    let shown: Organization = server.get(ORGANIZATION)?;
    context.printer.either(&shown, |printer| {
        printer.line(&format!(
            "{}  {}, you are {}",
            shown.id, shown.name, shown.role
        ))?;
        let allowed: Vec<&str> = shown.permissions.iter().map(|one| one.as_str()).collect();
        printer.line(&format!("you may: {}", allowed.join(", ")))
    })?;
    Ok(Exit::Ok)
}

fn members(context: &Context, server: &mut Server) -> anyhow::Result<Exit> {
    let found: OrganizationMemberList = server.get(&format!("{ORGANIZATION}members/"))?;
    context.printer.either(&found, |printer| {
        let mut table = Table::new(&["role", "since", "state", "who"]);
        for member in &found.members {
            let state = if member.active { "active" } else { "removed" };
            let (role, since) = (member.role.to_string(), short_time(Some(&member.since)));
            table.row([role, since, state.to_owned(), member.email.clone()]);
        }
        table.print(printer)
    })?;
    Ok(Exit::Ok)
}
