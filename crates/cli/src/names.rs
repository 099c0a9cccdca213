//! Names as people give them: tables, scopes, and the beginnings of ids.

use std::str::FromStr;

use coditect_local_store::{LocalStore, RowFilter, RowView};
use coditect_protocol::Scope;
use coditect_protocol::catalogue::{TABLES, Table};

use crate::exit::{CommandError, Exit};

/// Shortest beginning of an id that is looked up.
const PREFIX_CHARS_MIN: usize = 4;
/// Ids that an ambiguous beginning is answered with.
const CANDIDATES_MAX: u32 = 6;
/// Rows whose other name is compared with a beginning.
const ROWS_MAX: u32 = 100_000;

/// Whose rows: one's own, the organisation's, a team's or a project's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ScopeName {
    /// Only you, on all your devices.
    User,
    /// Everybody in the organisation.
    Org,
    /// A team's or project's members.
    Shared(Scope),
    /// The same, by kind (`team`, `project`) and name, or the beginning of the id.
    Named(&'static str, String),
}

impl FromStr for ScopeName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "user" => return Ok(Self::User),
            "org" => return Ok(Self::Org),
            _ => {}
        }
        if let Ok(scope @ (Scope::Team(_) | Scope::Project(_))) = text.parse() {
            return Ok(Self::Shared(scope));
        }
        let named = |kind: &'static str| {
            let name = text.strip_prefix(kind)?.strip_prefix(':')?.trim();
            (!name.is_empty()).then(|| Self::Named(kind, name.to_owned()))
        };
        named("team").or_else(|| named("project")).ok_or_else(|| {
            "expected user, org, team:NAME or project:NAME (coditect team list)".to_owned()
        })
    }
}

impl ScopeName {
    /// Returns the scope as the local files store it.
    ///
    /// # Errors
    /// When something shared is meant and the folder belongs to no organisation yet.
    pub(crate) fn local(&self, store: &LocalStore) -> anyhow::Result<String> {
        let owner = || {
            store
                .owner_of_folder()
                .ok_or_else(CommandError::not_logged_in)
        };
        match self {
            Self::User => Ok(coditect_protocol::scope::LOCAL_USER.to_owned()),
            Self::Org => Ok(Scope::Org(owner()?.tenant.get()).to_string()),
            Self::Shared(scope) => owner().map(|_| scope.to_string()).map_err(Into::into),
            Self::Named(kind, name) => {
                owner()?;
                Ok(named_scope(store, kind, name)?.to_string())
            }
        }
    }
}

/// Returns the team or project of that name, or whose id begins so, among those that this device
/// follows.
fn named_scope(store: &LocalStore, kind: &str, wanted: &str) -> anyhow::Result<Scope> {
    let mut known = store.scope_names()?;
    known.retain(|(scope, _)| scope.kind() == kind);
    let low = wanted.to_lowercase();
    let by_name: Vec<Scope> = known
        .iter()
        .filter(|(_, name)| name.as_ref().is_some_and(|name| name.to_lowercase() == low))
        .map(|(scope, _)| *scope)
        .collect();
    let by_id = |(scope, _): &&(Scope, Option<String>)| {
        low.len() >= PREFIX_CHARS_MIN && scope.id().to_string().starts_with(&low)
    };
    let found = match by_name.as_slice() {
        [] => known
            .iter()
            .filter(by_id)
            .map(|(scope, _)| *scope)
            .collect(),
        _ => by_name,
    };
    match found.as_slice() {
        [scope] => Ok(*scope),
        [] => {
            let message = format!("this device follows no {kind} '{wanted}'");
            let error = CommandError::new(Exit::NotFound, message);
            Err(error.hint("coditect sync; you must be a member").into())
        }
        _ => {
            let message = format!("'{wanted}' fits several: use {kind}:ID");
            let error = CommandError::new(Exit::NotFound, message);
            Err(error.hint(format!("coditect {kind} list")).into())
        }
    }
}

/// Returns what people call a scope that the files store: `user`, `org`, or kind and name.
pub(crate) fn scope_label(store: &LocalStore, local: &str) -> String {
    let kind = local.split(':').next().unwrap_or(local);
    let scope: Option<Scope> = local.parse().ok();
    let known = store.scope_names().unwrap_or_default();
    let name = known
        .into_iter()
        .find(|(known, _)| Some(*known) == scope)
        .and_then(|(_, name)| name);
    match (name, scope) {
        (Some(name), _) => format!("{kind}:{name}"),
        (None, Some(scope @ (Scope::Team(_) | Scope::Project(_)))) => {
            let id: String = scope.id().to_string().chars().take(8).collect();
            format!("{kind}:{id}")
        }
        _ => kind.to_owned(),
    }
}

/// Returns the table that a cloud name, a local name or `file:table` means.
///
/// # Errors
/// When there is none, or a local name is that of two tables.
pub(crate) fn table(name: &str) -> anyhow::Result<&'static Table> {
    let is_meant = |table: &&&Table| match name.split_once(':') {
        Some((file, local)) => table.file.as_str() == file && table.local == local,
        None => table.cloud == name || table.local == name,
    };
    let found: Vec<&&Table> = TABLES.iter().filter(is_meant).collect();
    match found.as_slice() {
        [table] => Ok(table),
        [] => Err(CommandError::new(Exit::NotFound, format!("there is no table '{name}'")).into()),
        several => {
            let names: Vec<String> = several.iter().map(|table| full_name(table)).collect();
            let message = format!("'{name}' is the name of {}", names.join(" and "));
            Err(CommandError::new(Exit::NotFound, message).into())
        }
    }
}

/// Returns a table's name as people see it: `file:table`.
pub(crate) fn full_name(table: &Table) -> String {
    format!("{}:{}", table.file, table.local)
}

/// Returns the row whose id is or begins with `text`; of a table whose rows people know by
/// another column, also by that one.
///
/// # Errors
/// When there is none, or several begin that way.
pub(crate) fn row(
    store: &LocalStore,
    table: &'static Table,
    noun: &str,
    text: &str,
    also: Option<&'static str>,
) -> anyhow::Result<RowView> {
    let mut found = match also {
        Some(column) => by_column(store, table, column, text)?,
        None => Vec::new(),
    };
    if found.is_empty() {
        if text.chars().count() < PREFIX_CHARS_MIN {
            let message =
                format!("'{text}' is too short for an id: at least {PREFIX_CHARS_MIN} characters");
            return Err(CommandError::new(Exit::Usage, message).into());
        }
        let by_id = RowFilter {
            id_prefix: Some(text.to_owned()),
            limit: CANDIDATES_MAX,
            ..RowFilter::default()
        };
        found = store.list(table.cloud, &by_id)?;
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => {
            let message = format!("there is no {noun} '{text}'");
            Err(CommandError::new(Exit::NotFound, message).into())
        }
        _ => {
            let ids: Vec<&str> = found.iter().filter_map(|row| row.id.as_deref()).collect();
            let message = format!("'{text}' fits several: {}", ids.join(", "));
            let error = CommandError::new(Exit::NotFound, message);
            Err(error.hint("give more of the id").into())
        }
    }
}

/// Returns the rows whose column is `text`, else those whose column begins with it.
fn by_column(
    store: &LocalStore,
    table: &'static Table,
    column: &str,
    text: &str,
) -> anyhow::Result<Vec<RowView>> {
    let exact = RowFilter {
        equals: vec![(column.to_owned(), text.into())],
        limit: CANDIDATES_MAX,
        ..RowFilter::default()
    };
    let found = store.list(table.cloud, &exact)?;
    if !found.is_empty() || text.chars().count() < PREFIX_CHARS_MIN {
        return Ok(found);
    }
    let all = RowFilter {
        limit: ROWS_MAX,
        ..RowFilter::default()
    };
    let mut begins = store.list(table.cloud, &all)?;
    begins.retain(|view| {
        let value = view.row.get(column).and_then(|value| value.as_str());
        value.is_some_and(|value| value.starts_with(text))
    });
    begins.truncate(CANDIDATES_MAX as usize);
    Ok(begins)
}

/// Returns the part of an id that people need to see: enough of a UUIDv7 to tell rows apart.
pub(crate) fn short_id(id: &str) -> String {
    // The first 12 digits of a UUIDv7 are its time; two rows of one millisecond differ behind.
    id.chars().take(18).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_given_by_id_or_name() {
        let parse = |text: &str| text.parse::<ScopeName>();
        assert_eq!(parse("user"), Ok(ScopeName::User));
        assert_eq!(parse("org"), Ok(ScopeName::Org));
        let id = uuid::Uuid::from_u128(7);
        let by_id = parse(&format!("team:{id}"));
        assert_eq!(by_id, Ok(ScopeName::Shared(Scope::Team(id))));
        let by_name = parse("project: core app");
        assert_eq!(
            by_name,
            Ok(ScopeName::Named("project", "core app".to_owned()))
        );
        for wrong in ["", "team", "team:", "teams:x", "user:x", "platform"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tables_are_known_by_each_of_their_names() {
        for name in ["org_decisions", "decisions", "org:decisions"] {
            assert_eq!(table(name).unwrap().cloud, "org_decisions", "{name}");
        }
        assert_eq!(
            table("projects:projects").unwrap().cloud,
            "projects_projects"
        );
        let ambiguous = table("projects").unwrap_err().to_string();
        assert!(ambiguous.contains("org:projects"), "{ambiguous}");
        assert!(ambiguous.contains("projects:projects"), "{ambiguous}");
        assert!(table("sessions:decisions").is_err());
    }
}
