//! `coditect team`.

use clap::{Args, Subcommand};
use coditect_protocol::wire::membership::{
    AcceptInvitation, Accepted, NewTeam, ScopeEdit, Team as Shown, TeamList,
};
use serde_json::json;

use super::membership::{Server, TEAMS, said};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::table::{Table, short_time};
use crate::{names, prompt, remote};

pub(crate) const EXAMPLES: &str = "\
A team shares what its members put there. A team is given by its name, or the beginning of its id.

Examples:
  coditect team create core
  coditect team invite core ben@acme.example --role admin
  echo $SECRET | coditect team accept -
  coditect team members core
  coditect decision add \"Ship weekly\" --scope team:ID";

/// Works on teams.
#[derive(Debug, Subcommand)]
pub(crate) enum Team {
    /// Make one; you become its owner
    Create {
        /// What it is called
        name: String,
    },
    /// List those that you may know of
    List,
    /// Show one, with what you may do there
    Show {
        /// The team
        team: String,
    },
    /// Give it another name
    Rename {
        /// The team
        team: String,
        /// The new name
        name: String,
    },
    /// Put it into the archive: it is read, not written
    Archive {
        /// The team
        team: String,
        /// Take it out again
        #[arg(long)]
        undo: bool,
    },
    /// Invite somebody; prints the secret that accepts
    Invite(Invite),
    /// Accept an invitation
    Accept(Accept),
    /// List its members
    Members {
        /// The team
        team: String,
    },
    /// Give a member another role
    Role(Role),
    /// Remove a member, or leave
    Remove {
        /// The team
        team: String,
        /// The member's e-mail address
        email: String,
    },
}

/// Whom to invite.
#[derive(Debug, Args)]
pub(crate) struct Invite {
    /// The team
    team: String,
    /// E-mail address
    email: String,
    /// member, admin or owner
    #[arg(long, default_value = "member")]
    role: String,
}

/// What to accept.
#[derive(Debug, Args)]
pub(crate) struct Accept {
    /// The secret; '-' reads it from standard input
    secret: String,
    /// Server; the one that this folder is linked to if none is given
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Read a new password from the second line of standard input
    #[arg(long)]
    password: bool,
}

/// Whose role to change.
#[derive(Debug, Args)]
pub(crate) struct Role {
    /// The team
    team: String,
    /// The member's e-mail address
    email: String,
    /// member, admin or owner
    role: String,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: Team) -> anyhow::Result<Exit> {
    if let Team::Accept(accept) = &command {
        return run_accept(context, accept);
    }
    let mut server = Server::of(context)?;
    match command {
        Team::Create { name } => {
            let team: Shown = server.post(TEAMS, &NewTeam { name })?;
            print(context, &team)
        }
        Team::List => list(context, &mut server),
        Team::Show { team } => {
            let team = server.team(&team)?;
            print(context, &team)
        }
        Team::Rename { team, name } => {
            let edit = ScopeEdit {
                name: Some(name),
                archived: None,
            };
            change(context, &mut server, &team, &edit, "renamed")
        }
        Team::Archive { team, undo } => {
            let edit = ScopeEdit {
                name: None,
                archived: Some(!undo),
            };
            let text = if undo {
                "out of the archive"
            } else {
                "archived"
            };
            change(context, &mut server, &team, &edit, text)
        }
        Team::Invite(invite) => {
            let of = path(&mut server, &invite.team)?;
            let path = format!("{of}invitations/");
            server.invite(context, &path, &invite.email, &invite.role)
        }
        Team::Accept(_) => Ok(Exit::Ok),
        Team::Members { team } => {
            let of = path(&mut server, &team)?;
            server.print_members(context, &of)
        }
        Team::Role(role) => {
            let of = path(&mut server, &role.team)?;
            let member = server.member(&of, &role.email)?;
            server.set_role(context, &of, (member.user_id, &member.email), &role.role)
        }
        Team::Remove { team, email } => {
            let of = path(&mut server, &team)?;
            let member = server.member(&of, &email)?;
            server.remove(context, &of, (member.user_id, &member.email))
        }
    }
}

fn path(server: &mut Server, team: &str) -> anyhow::Result<String> {
    Ok(format!("{TEAMS}{}/", server.team(team)?.id))
}

fn change(
    context: &Context,
    server: &mut Server,
    team: &str,
    edit: &ScopeEdit,
    text: &str,
) -> anyhow::Result<Exit> {
    let team = server.team(team)?;
    server.put(&format!("{TEAMS}{}/", team.id), edit)?;
    let document = json!({ "id": team.id, "name": edit.name, "archived": edit.archived });
    said(context, &document, &format!("{} is {text}", team.name))
}

fn list(context: &Context, server: &mut Server) -> anyhow::Result<Exit> {
    let found: TeamList = server.get(TEAMS)?;
    context.printer.either(&found, |printer| {
        let mut table = Table::new(&["id", "since", "role", "state", "name"]);
        for team in &found.teams {
            let state = if team.archived_at.is_some() {
                "archived"
            } else {
                ""
            };
            table.row([
                names::short_id(&team.id.to_string()),
                short_time(Some(&team.created_at)),
                team.role
                    .map_or_else(|| "manages".to_owned(), |role| role.to_string()),
                state.to_owned(),
                team.name.clone(),
            ]);
        }
        table.print(printer)
    })?;
    Ok(Exit::Ok)
}

fn print(context: &Context, team: &Shown) -> anyhow::Result<Exit> {
    context.printer.either(team, |printer| {
        printer.line(&format!("{}  {}", team.id, team.name))?;
        let allowed: Vec<&str> = team.permissions.iter().map(|one| one.as_str()).collect();
        printer.line(&format!("you may: {}", allowed.join(", ")))
    })?;
    Ok(Exit::Ok)
}

fn run_accept(context: &Context, accept: &Accept) -> anyhow::Result<Exit> {
    let secret = match accept.secret.as_str() {
        "-" => prompt::read_secret("invitation")?,
        secret => secret.to_owned(),
    };
    let password = match accept.password {
        true => Some(prompt::read_secret("password")?),
        false => None,
    };
    let server = accept
        .server
        .clone()
        .or_else(|| context.cloud.server.clone());
    let Some(server) = server else {
        let error = CommandError::new(Exit::Usage, "no server is known");
        return Err(error.hint("say --server URL").into());
    };
    // No login is needed: the secret is the credential.
    let http = remote::http(context, &server, None, false)?;
    let body = serde_json::to_vec(&AcceptInvitation { secret, password })?;
    let sent = http.post::<Accepted>("/api/v1/invitations/accept/", &body, None);
    let accepted =
        remote::block_on(sent)?.map_err(|failure| CommandError::from_failure(&failure))?;
    let text = format!(
        "{} is {} of {}",
        accepted.email, accepted.role, accepted.scope
    );
    context
        .printer
        .either(&accepted, |printer| printer.line(&text))?;
    if !context.printer.is_json() {
        context
            .printer
            .note("coditect sync brings what is shared there");
    }
    Ok(Exit::Ok)
}
