//! `coditect project publish`, `members`, `add-member`, `add-team`, `remove-member`,
//! `remove-team`: the project as the organisation knows it, and who belongs to it.

use clap::{Args, Subcommand};
use coditect_protocol::wire::membership::{NewProject, Project, Repository};
use serde_json::json;

use super::super::membership::{PROJECTS, Server, said};
use crate::context::Context;
use crate::exit::Exit;

/// Works on projects of the organisation.
#[derive(Debug, Subcommand)]
pub(crate) enum Shared {
    /// Make it known to the organisation by its repository; one that is there already is taken
    Publish(Publish),
    /// List its members, people and teams
    Members {
        /// Name or beginning of the id
        project: String,
    },
    /// Make a member of the organisation a member, or give a member another role
    AddMember(Member),
    /// Make a team a member, or give it another role
    AddTeam(Member),
    /// Remove a member, or leave
    RemoveMember {
        /// Name or beginning of the id
        project: String,
        /// The member's e-mail address
        email: String,
    },
    /// Remove a team
    RemoveTeam {
        /// Name or beginning of the id
        project: String,
        /// Name or beginning of the id
        team: String,
    },
}

/// What to publish.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// Name for people
    name: String,
    /// Address of the repository's remote
    #[arg(long, value_name = "URL")]
    remote: Option<String>,
    /// First commit of its history
    #[arg(long, value_name = "COMMIT")]
    root_commit: Option<String>,
}

/// Who becomes a member of what.
#[derive(Debug, Args)]
pub(crate) struct Member {
    /// Name or beginning of the id
    project: String,
    /// E-mail address, or the team
    who: String,
    /// viewer, member, admin or owner
    #[arg(long, default_value = "member")]
    role: String,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: Shared) -> anyhow::Result<Exit> {
    let mut server = Server::of(context)?;
    match command {
        Shared::Publish(publish) => {
            let repository = Repository {
                remote: publish.remote,
                root_commit: publish.root_commit,
            };
            let named = repository != Repository::default();
            let new = NewProject {
                name: publish.name,
                repository: named.then_some(repository),
            };
            let project: Project = server.post(PROJECTS, &new)?;
            let text = format!("{}  {}", project.id, project.name);
            let printed = context
                .printer
                .either(&project, |printer| printer.line(&text));
            printed.map(|()| Exit::Ok)
        }
        Shared::Members { project } => {
            let of = path(&mut server, &project)?;
            server.print_members(context, &of)
        }
        Shared::AddMember(member) => {
            let of = path(&mut server, &member.project)?;
            let person = server.person(&member.who)?;
            server.set_role(context, &of, (person.user_id, &person.email), &member.role)
        }
        Shared::AddTeam(member) => {
            let of = path(&mut server, &member.project)?;
            let team = server.team(&member.who)?;
            let body = json!({ "role": member.role });
            server.put(&format!("{of}teams/{}/", team.id), &body)?;
            let done = json!({ "team_id": team.id, "role": member.role });
            said(
                context,
                &done,
                &format!("team {} is {}", team.name, member.role),
            )
        }
        Shared::RemoveMember { project, email } => {
            let of = path(&mut server, &project)?;
            let member = server.member(&of, &email)?;
            server.remove(context, &of, (member.user_id, &member.email))
        }
        Shared::RemoveTeam { project, team } => {
            let of = path(&mut server, &project)?;
            let team = server.team(&team)?;
            server.delete(&format!("{of}teams/{}/", team.id))?;
            let done = json!({ "removed": team.id });
            said(context, &done, &format!("team {} is removed", team.name))
        }
    }
}

fn path(server: &mut Server, project: &str) -> anyhow::Result<String> {
    Ok(format!("{PROJECTS}{}/", server.project(project)?.id))
}
