//! The two kinds of tenant tables. Every tenant table is made here and none by hand, so that
//! none is without its guard.
//!
//! What these functions return is part of merged migrations: change nothing, add a new function.

use super::Step;

/// What row security of a tenant table looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Template {
    /// Tenant and scope; the table has `scope_id`.
    Scoped,
    /// The tenant only.
    Tenant,
}

/// The tenant of the transaction; null, which matches nothing, when `enter` did not run.
const TENANT_MATCHES: &str =
    "tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid";
/// The scopes of the transaction's user, as computed by `enter`.
const SCOPE_MATCHES: &str =
    "scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])";

/// Conditions of [`narrow_select`] and its siblings; `enter` computes the lists. Where the person
/// may write rows.
pub(crate) const WRITABLE: &str =
    "scope_id = any (nullif(current_setting('app.write_scopes', true), '')::uuid[])";
/// Where the person reads conversations.
pub(crate) const CONVERSATION: &str =
    "scope_id = any (nullif(current_setting('app.message_scopes', true), '')::uuid[])";
/// What the person manages, for `array[scope_id, tenant_id] && …`: the organisation's id, which
/// is the tenant's, stands for all of its teams and projects.
pub(crate) const MANAGED: &str = "nullif(current_setting('app.admin_scopes', true), '')::uuid[]";

/// The person.
pub(crate) const UID: &str = "nullif(current_setting('app.uid', true), '')::uuid";

/// Returns the statement that lets SELECT see a tenant's rows only where `condition` holds, too.
pub(crate) fn narrow_select(name: &str, condition: &str) -> Step {
    let using = format!("using ({TENANT_MATCHES} and {condition})");
    Step::Sql(format!("alter policy {name}_select on {name} {using}"))
}

/// Returns the statement that lets INSERT make a tenant's rows only where `condition` holds.
pub(crate) fn narrow_insert(name: &str, condition: &str) -> Step {
    let check = format!("with check ({TENANT_MATCHES} and {condition})");
    Step::Sql(format!("alter policy {name}_insert on {name} {check}"))
}

/// Returns the statement that lets UPDATE change a tenant's rows only where `before` holds of
/// the stored and `after` of the new row.
pub(crate) fn narrow_update(name: &str, before: &str, after: &str) -> Step {
    let (using, check) = (
        format!("using ({TENANT_MATCHES} and {before})"),
        format!("with check ({TENANT_MATCHES} and {after})"),
    );
    Step::Sql(format!(
        "alter policy {name}_update on {name} {using} {check}"
    ))
}

/// Returns the statement that lets DELETE remove a tenant's rows only where `condition` holds.
pub(crate) fn narrow_delete(name: &str, condition: &str) -> Step {
    let using = format!("using ({TENANT_MATCHES} and {condition})");
    Step::Sql(format!("alter policy {name}_delete on {name} {using}"))
}

/// Returns the statements that make a table whose rows belong to a scope as of the migration
/// `roles`: read by the scope's readers, written by those who may write there.
pub(crate) fn shared_table(name: &str, columns: &str, app_grants: &str) -> Vec<Step> {
    let mut steps = tenant_table(Template::Scoped, name, columns, app_grants);
    steps.push(narrow_insert(name, WRITABLE));
    steps.push(narrow_update(name, WRITABLE, WRITABLE));
    steps.push(narrow_delete(name, WRITABLE));
    steps
}

/// Returns the statements that make the tenant table `name`.
///
/// `columns` is the inside of CREATE TABLE after `tenant_id` (and `scope_id`), with named
/// constraints that all begin with the tenant; `app_grants` is what the app's role may do, such
/// as `select, insert`, or empty for nothing.
pub(crate) fn tenant_table(
    template: Template,
    name: &str,
    columns: &str,
    app_grants: &str,
) -> Vec<Step> {
    let scope = if template == Template::Scoped {
        "\n    scope_id uuid not null,"
    } else {
        ""
    };
    let create = format!("create table {name} (\n    tenant_id uuid not null,{scope}{columns}\n)");
    let mut steps = vec![
        Step::Sql(create),
        Step::Sql(format!("alter table {name} enable row level security")),
        Step::Sql(format!("alter table {name} force row level security")),
    ];
    steps.extend(policies(template, name));
    steps.push(Step::Sql(format!(
        "grant select, insert, update, delete on {name} to coditect_system"
    )));
    if !app_grants.is_empty() {
        steps.push(Step::Sql(format!(
            "grant {app_grants} on {name} to coditect_app"
        )));
    }
    steps
}

/// One permissive policy per command: on a distributed database a second one, or a restrictive
/// one, would widen the first.
fn policies(template: Template, name: &str) -> [Step; 4] {
    let condition = match template {
        Template::Scoped => format!("{TENANT_MATCHES} and {SCOPE_MATCHES}"),
        Template::Tenant => TENANT_MATCHES.to_owned(),
    };
    let policy = |command: &str, clauses: String| {
        Step::Sql(format!(
            "create policy {name}_{command} on {name} for {command} to coditect_app {clauses}"
        ))
    };
    [
        policy("select", format!("using ({condition})")),
        policy("insert", format!("with check ({condition})")),
        policy(
            "update",
            format!("using ({condition}) with check ({condition})"),
        ),
        policy("delete", format!("using ({condition})")),
    ]
}

/// Returns the statements that make a table without a tenant. There are few of them; the
/// catalogue test has the list.
pub(crate) fn global_table(name: &str, columns: &str, app_grants: &str) -> Vec<Step> {
    let mut steps = vec![
        Step::Sql(format!("create table {name} ({columns}\n)")),
        Step::Sql(format!(
            "grant select, insert, update, delete on {name} to coditect_system"
        )),
    ];
    if !app_grants.is_empty() {
        steps.push(Step::Sql(format!(
            "grant {app_grants} on {name} to coditect_app"
        )));
    }
    steps
}
