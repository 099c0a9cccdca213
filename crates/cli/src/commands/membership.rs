//! What `team`, `org` and `project` have in common: requests about members, and finding people,
//! teams and projects by what they are called.

use coditect_client::{HttpTransport, membership};
use coditect_protocol::UserId;
use coditect_protocol::wire::membership::{
    Invitation, NewInvitation, OrganizationMember, OrganizationMemberList, Project, ProjectList,
    ScopeMember, ScopeMemberList, Team, TeamList,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::remote;
use crate::table::{Table, short_time};

pub(super) const TEAMS: &str = "/api/v1/teams/";
pub(super) const PROJECTS: &str = "/api/v1/projects/";
pub(super) const ORGANIZATION: &str = "/api/v1/organization/";

/// The way to the server for one command.
pub(super) struct Server(HttpTransport);

impl Server {
    pub(super) fn of(context: &Context) -> anyhow::Result<Self> {
        let store = context.store()?;
        Ok(Self(remote::transport(context, &store)?))
    }

    pub(super) fn get<T: DeserializeOwned>(&mut self, path: &str) -> anyhow::Result<T> {
        let done = remote::block_on(membership::get(&mut self.0, path))?;
        Ok(done.map_err(|failure| CommandError::from_failure(&failure))?)
    }

    pub(super) fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let done = remote::block_on(membership::post(&mut self.0, path, body))?;
        Ok(done.map_err(|failure| CommandError::from_failure(&failure))?)
    }

    pub(super) fn put(&mut self, path: &str, body: &impl Serialize) -> anyhow::Result<()> {
        let done = remote::block_on(membership::put(&mut self.0, path, body))?;
        Ok(done.map_err(|failure| CommandError::from_failure(&failure))?)
    }

    pub(super) fn delete(&mut self, path: &str) -> anyhow::Result<()> {
        let done = remote::block_on(membership::delete(&mut self.0, path))?;
        Ok(done.map_err(|failure| CommandError::from_failure(&failure))?)
    }

    /// Returns the team of that name, or whose id begins so.
    pub(super) fn team(&mut self, wanted: &str) -> anyhow::Result<Team> {
        let all = self.get::<TeamList>(TEAMS)?.teams;
        one(all, "team", wanted, |team| (team.id, team.name.as_str()))
    }

    /// Returns the project of that name, or whose id begins so.
    pub(super) fn project(&mut self, wanted: &str) -> anyhow::Result<Project> {
        let all = self.get::<ProjectList>(PROJECTS)?.projects;
        one(all, "project", wanted, |project| {
            (project.id, project.name.as_str())
        })
    }

    /// Returns the member of the organisation with that e-mail address, or whose id begins so.
    pub(super) fn person(&mut self, wanted: &str) -> anyhow::Result<OrganizationMember> {
        let path = format!("{ORGANIZATION}members/");
        let mut all = self.get::<OrganizationMemberList>(&path)?.members;
        all.retain(|member| member.active);
        let wanted = wanted.to_lowercase();
        one(all, "member", &wanted, |member| {
            (member.user_id.get(), member.email.as_str())
        })
    }

    /// Returns the member of a team or project, by e-mail address or beginning of the id.
    pub(super) fn member(&mut self, of: &str, wanted: &str) -> anyhow::Result<ScopeMember> {
        let all = self
            .get::<ScopeMemberList>(&format!("{of}members/"))?
            .members;
        let wanted = wanted.to_lowercase();
        one(all, "member", &wanted, |member| {
            (member.user_id.get(), member.email.as_str())
        })
    }

    /// Prints the members of a team or project.
    pub(super) fn print_members(&mut self, context: &Context, of: &str) -> anyhow::Result<Exit> {
        let found: ScopeMemberList = self.get(&format!("{of}members/"))?;
        context.printer.either(&found, |printer| {
            let mut table = Table::new(&["role", "since", "who"]);
            for member in &found.members {
                let (role, since) = (member.role.to_string(), short_time(Some(&member.since)));
                table.row([role, since, member.email.clone()]);
            }
            for team in &found.teams {
                let (role, since) = (team.role.to_string(), short_time(Some(&team.since)));
                table.row([role, since, format!("team {}", team.name)]);
            }
            table.print(printer)
        })?;
        Ok(Exit::Ok)
    }

    /// Invites somebody and prints the secret.
    pub(super) fn invite(
        &mut self,
        context: &Context,
        path: &str,
        email: &str,
        role: &str,
    ) -> anyhow::Result<Exit> {
        let new = NewInvitation {
            email: email.to_owned(),
            role: role.to_owned(),
        };
        let invited: Invitation = self.post(path, &new)?;
        context.printer.either(&invited, |printer| {
            printer.line(invited.secret.as_deref().unwrap_or_default())
        })?;
        if !context.printer.is_json() {
            let text = format!(
                "{} accepts with: coditect team accept --server {} -  (and this line on standard \
                 input), until {}",
                invited.email,
                context.cloud.server.as_deref().unwrap_or("URL"),
                short_time(Some(&invited.expires_at))
            );
            context.printer.note(&text);
        }
        Ok(Exit::Ok)
    }

    /// Gives a member a role and says so.
    pub(super) fn set_role(
        &mut self,
        context: &Context,
        of: &str,
        (user, email): (UserId, &str),
        role: &str,
    ) -> anyhow::Result<Exit> {
        let body = serde_json::json!({ "role": role });
        self.put(&format!("{of}members/{user}/"), &body)?;
        let done = serde_json::json!({ "user_id": user, "role": role });
        said(context, &done, &format!("{email} is {role}"))
    }

    /// Removes a member and says so.
    pub(super) fn remove(
        &mut self,
        context: &Context,
        of: &str,
        (user, email): (UserId, &str),
    ) -> anyhow::Result<Exit> {
        self.delete(&format!("{of}members/{user}/"))?;
        let done = serde_json::json!({ "removed": user });
        said(context, &done, &format!("{email} is removed"))
    }
}

/// Prints what was done.
pub(super) fn said(context: &Context, document: &Value, text: &str) -> anyhow::Result<Exit> {
    context
        .printer
        .either(document, |printer| printer.line(text))?;
    Ok(Exit::Ok)
}

/// Returns the one thing that is called so, or whose id begins so.
fn one<T>(
    all: Vec<T>,
    noun: &str,
    wanted: &str,
    names: impl Fn(&T) -> (Uuid, &str),
) -> anyhow::Result<T> {
    let count = |fits: &dyn Fn(&T) -> bool| all.iter().filter(|one| fits(one)).count();
    let by_name = |one: &T| names(one).1 == wanted;
    let prefix = wanted.to_ascii_lowercase();
    let by_id = |one: &T| prefix.len() >= 4 && names(one).0.to_string().starts_with(&prefix);
    let found = match (count(&by_name), count(&by_id)) {
        (1, _) => all.into_iter().find(by_name),
        (0, 1) => all.into_iter().find(by_id),
        (0, 0) => {
            let text = format!("there is no {noun} '{wanted}'");
            return Err(CommandError::new(Exit::NotFound, text).into());
        }
        _ => None,
    };
    found.ok_or_else(|| {
        let text = format!("'{wanted}' fits several: give more of the id");
        CommandError::new(Exit::NotFound, text).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_found_by_its_name_or_the_beginning_of_its_id() {
        let all = || {
            vec![
                (Uuid::from_u128(1 << 96), "core"),
                (Uuid::from_u128(2 << 96), "core 2"),
            ]
        };
        let found = |wanted: &str| {
            let found = one(all(), "team", wanted, |one| (one.0, one.1));
            found.ok().map(|one| one.1)
        };
        assert_eq!(found("core"), Some("core"));
        assert_eq!(found("00000002"), Some("core 2"));
        assert_eq!(
            (found("0000"), found("000"), found("Core")),
            (None, None, None)
        );
    }
}
