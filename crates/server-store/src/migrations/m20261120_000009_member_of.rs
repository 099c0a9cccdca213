//! What a person belongs to, read without comparing each row with all of the person's scopes
//! (ADR 0014).
//!
//! The policies of `scopes` and its siblings parse the list of the transaction's scopes for every
//! row: for a person in 200 teams that took longer than the page that was asked for. In the
//! function the list is empty and the organisation's id stands for all, as it does in `enter`; the
//! conditions of the query itself keep to the person who acts. Its plan is kept by the session.

use super::{Migration, Step};

/// The two settings have their old values again when it ends; where it fails, the transaction does.
const MEMBER_OF: &str = "create function member_of(tenant uuid, uid uuid)
returns table (scope_id uuid, kind text, role text, archived boolean)
language plpgsql
set search_path = pg_catalog, public
as $body$
#variable_conflict use_column
declare
    scopes_before text := current_setting('app.scopes', true);
    managed_before text := current_setting('app.admin_scopes', true);
begin
    if tenant::text is distinct from nullif(current_setting('app.current_tenant', true), '')
        or uid::text is distinct from nullif(current_setting('app.uid', true), '') then
        raise exception 'somebody else acts' using errcode = 'CO002';
    end if;
    execute 'set local app.scopes = ''''';
    execute format('set local app.admin_scopes = %L', array[tenant]);
    return query
    select s.scope_id, s.kind, m.role, s.archived_at is not null
    from scope_members m
    join scopes s on s.tenant_id = m.tenant_id and s.scope_id = m.scope_id
    where m.tenant_id = tenant and s.tenant_id = tenant and m.user_id = uid
    union all
    select p.scope_id, p.kind,
        case when t.archived_at is null then l.role else 'viewer' end, p.archived_at is not null
    from scope_members m
    join project_teams l on l.tenant_id = m.tenant_id and l.team_id = m.scope_id
    join scopes t on t.tenant_id = m.tenant_id and t.scope_id = m.scope_id
    join scopes p on p.tenant_id = m.tenant_id and p.scope_id = l.scope_id
    where m.tenant_id = tenant and l.tenant_id = tenant and t.tenant_id = tenant
        and p.tenant_id = tenant and m.user_id = uid
    order by 1;
    execute format('set local app.scopes = %L', coalesce(scopes_before, ''));
    execute format('set local app.admin_scopes = %L', coalesce(managed_before, ''));
end
$body$";

pub(super) fn migration() -> Migration {
    let steps = [
        MEMBER_OF,
        "revoke all on function member_of(uuid, uuid) from public",
        "grant execute on function member_of(uuid, uuid) to coditect_app",
    ];
    Migration {
        version: 20_261_120_000_009,
        name: "member_of",
        steps: steps.map(|sql| Step::Sql(sql.to_owned())).to_vec(),
    }
}
