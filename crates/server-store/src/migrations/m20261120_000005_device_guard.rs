//! A device that was locked out gets no transaction any more, however long its access token
//! would still be valid: `enter` with three parameters looks at the device, too.
//!
//! The function with two parameters stays for programs of the version before.

use super::{Migration, Step};

const ENTER: &str = "create function enter(tenant uuid, uid uuid, device uuid) returns text
language plpgsql
set search_path = pg_catalog, public
as $body$
declare
    member_role text := enter(tenant, uid);
begin
    perform from devices d
    where d.tenant_id = tenant and d.id = device and d.revoked_at is not null;
    if found then
        execute 'set local app.scopes = ''''';
        raise exception 'the device is revoked' using errcode = 'CO003';
    end if;
    return member_role;
end
$body$";

pub(super) fn migration() -> Migration {
    let steps = [
        ENTER,
        "revoke all on function enter(uuid, uuid, uuid) from public",
        "grant execute on function enter(uuid, uuid, uuid) to coditect_app, coditect_system",
        // Ending a device's logins asks for them by device.
        "create index refresh_tokens_device_idx on refresh_tokens (tenant_id, device_id)",
        "create index refresh_tokens_user_idx on refresh_tokens (tenant_id, user_id)",
    ];
    Migration {
        version: 20_261_120_000_005,
        name: "device guard",
        steps: steps.map(|sql| Step::Sql(sql.to_owned())).to_vec(),
    }
}
