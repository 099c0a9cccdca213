//! Joined pushes: several pushes of one tenant in one transaction, each in its own context.
//!
//! `enter_joined` enters every part, one after the other, and keeps what `enter` computed for it
//! under the part's number; it leaves the context of nobody, who sees no row of any scope.
//! `act_as` goes back to a part's context and returns the part's scope. A multi-row statement
//! that calls it in its select list writes each row in the context of that row's part: rows are
//! checked one by one, each after its own values were computed. Where a plan did otherwise, row
//! security would refuse the rows, not let them pass.

use super::{Migration, Step};

/// `n` is null where the person may not write the stream; it is not locked then. `named` says
/// whether the device that the push names is the person's and not locked out, `own` the same of
/// the one that logged in, if it is registered; a part of one that was locked out gets no context.
const ENTER_JOINED: &str = "create function enter_joined(
    tenant uuid, uids uuid[], logins uuid[], devices uuid[], scope_ids uuid[])
returns table (n bigint, named boolean, own boolean)
language plpgsql
set search_path = pg_catalog, public
as $body$
declare
    entered uuid;
    locked uuid;
    at bigint;
    lists text[];
begin
    perform act_as(null);
    for part in 1 .. cardinality(uids) loop
        if uids[part] is distinct from entered then
            perform enter(tenant, uids[part]);
            entered := uids[part];
            lists := array[entered::text, null, current_setting('app.scopes'),
                current_setting('app.message_scopes'), current_setting('app.write_scopes'),
                current_setting('app.admin_scopes'), current_setting('app.permissions')];
        end if;
        lists[2] := scope_ids[part]::text;
        select coalesce(bool_or(d.id = devices[part] and d.user_id = entered
                and d.revoked_at is null), false),
            coalesce(bool_and(d.id <> logins[part]
                or d.user_id = entered and d.revoked_at is null), true)
        into named, own
        from devices d
        where d.tenant_id = tenant and d.id in (devices[part], logins[part]);
        if own then
            execute format('set local app.part_%s = %L', part, lists);
        end if;
        n := null;
        if own and scope_ids[part] = any (lists[5]::uuid[]) then
            if scope_ids[part] is distinct from locked then
                locked := scope_ids[part];
                select s.n into at from streams s
                where s.tenant_id = tenant and s.scope_id = locked for update;
                if not found then
                    insert into streams (tenant_id, scope_id) values (tenant, locked)
                    on conflict do nothing;
                    select s.n into at from streams s
                    where s.tenant_id = tenant and s.scope_id = locked for update;
                end if;
            end if;
            n := at;
        end if;
        return next;
    end loop;
    perform act_as(null);
end
$body$";

const ACT_AS: &str = "create function act_as(part integer) returns uuid
language plpgsql
set search_path = pg_catalog, public
as $body$
declare
    lists text[];
begin
    if part is null then
        execute 'set local app.part = '''';
            set local app.uid = ''''; set local app.scopes = '''';
            set local app.message_scopes = ''''; set local app.write_scopes = '''';
            set local app.admin_scopes = ''''; set local app.permissions = ''''';
        return null;
    end if;
    lists := nullif(current_setting('app.part_' || part, true), '')::text[];
    if lists is null then
        raise exception 'the transaction did not enter this part' using errcode = 'CO004';
    end if;
    if current_setting('app.part', true) is distinct from part::text then
        execute format('set local app.part = %L; set local app.uid = %L;
            set local app.scopes = %L; set local app.message_scopes = %L;
            set local app.write_scopes = %L; set local app.admin_scopes = %L;
            set local app.permissions = %L',
            part, lists[1], lists[3], lists[4], lists[5], lists[6], lists[7]);
    end if;
    return lists[2]::uuid;
end
$body$";

pub(super) fn migration() -> Migration {
    let steps = [
        ACT_AS,
        ENTER_JOINED,
        "revoke all on function act_as(integer) from public",
        "revoke all on function enter_joined(uuid, uuid[], uuid[], uuid[], uuid[]) from public",
        "grant execute on function act_as(integer) to coditect_app",
        "grant execute on function enter_joined(uuid, uuid[], uuid[], uuid[], uuid[])
            to coditect_app",
    ];
    Migration {
        version: 20_261_120_000_008,
        name: "joined pushes",
        steps: steps.map(|sql| Step::Sql(sql.to_owned())).to_vec(),
    }
}
