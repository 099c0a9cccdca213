//! The guards: where each is in the code, which rule asks for it, how it is taken out, the seed
//! that fails then and what broke in it. Rules are numbers of the protocol's decisions, or the
//! paragraph of the design's chapter on data (3) or sync (4) that they stand in.

use coditect_simulation::world::Settings;

/// A guard that a seed needs.
pub(crate) struct Case {
    /// Its name.
    pub(crate) guard: &'static str,
    /// Where it is in the code.
    pub(crate) place: &'static str,
    /// Which rule asks for it.
    pub(crate) rule: &'static str,
    /// Takes it out.
    pub(crate) take_out: fn(&mut Settings),
    /// A seed that fails without it.
    pub(crate) seed: u64,
    /// What broke then: part of the failure's text.
    pub(crate) broke: &'static str,
}

/// A guard that no seed of the simulation needs.
pub(crate) struct Line {
    /// Its name.
    pub(crate) guard: &'static str,
    /// Where it is in the code.
    pub(crate) place: &'static str,
    /// Which rule asks for it.
    pub(crate) rule: &'static str,
    /// Takes it out, where the simulation has a switch for it.
    pub(crate) take_out: Option<fn(&mut Settings)>,
    /// What shows it instead, or why nothing does.
    pub(crate) why: &'static str,
}

macro_rules! cases {
    ($($guard:literal, $place:literal, $rule:literal, $half:ident.$switch:ident, $seed:literal, $broke:literal;)+) => {
        &[$(Case {
            guard: $guard,
            place: $place,
            rule: $rule,
            take_out: |settings| settings.$half.$switch = false,
            seed: $seed,
            broke: $broke,
        }),+]
    };
}

/// Guards, each with a seed that fails without it.
pub(crate) const TABLE: &[Case] = cases! {
    "stream lock", "server-store/sync/push", "4 Streams; 24", server.stream_lock, 45, "";
    "token check", "server-store/sync/token", "4 Clones; 25", server.token, 4, "";
    "one life, one epoch", "server-store/sync/pull, token", "4 Streams; 25", server.epoch, 5, "";
    "batch dedup", "server-store/sync/push/repeat", "4 Push", server.batch_dedup, 0, "";
    "a lost reply is no clone", "server-store/sync/token", "4 Clones; 25", server.lost_reply, 0, "";
    "a token ahead is no clone", "server-store/sync/token", "25", server.token_ahead, 0, "";
    "a new life forgets tokens", "server-store/sync/token", "25", server.tokens_of_life, 0, "";
    "position beyond the head", "server-store/sync/pull", "4 Streams; 29", server.future_cursor, 0, "";
    "versions capped at the server's time", "core/clock", "4 Versions; 17", server.clock_cap, 0, "";
    "stamps shifted by the skew", "core/clock", "4 Versions", server.clock_shift, 0, "";
    "stored version above both sides", "core/clock, merge", "4 Versions; 17", server.version_above, 0, "";
    "unknown version is a conflict", "core/merge", "4 Conflicts; 18", server.conflict, 0, "";
    "own versions are known", "core/merge", "18", server.own_versions, 0, "";
    "a base above is known", "core/merge", "26; ADR 3", server.base_above, 0, "";
    "update beats delete", "core/merge", "4 Conflicts", server.update_beats_delete, 0, "";
    "only the register revives", "core/merge", "15; ADR 2", server.register_revives, 0, "";
    "conflict's loser kept on the server", "server-store/sync/push/trail", "4 Conflicts", server.losers, 0, "";
    "highest part of a counter wins", "server-store/sync/push/counters", "16", server.part_number, 0, "";
    "max columns only grow", "core/merge", "3.1; 15", server.max, 0, "";
    "origin is fixed", "server-store/sync/push/decide", "19", server.origin, 0, "";
    "first accepted fact stays", "core/merge", "3.1; 21", server.first_fact, 0, "";
    "a fact's tombstone is final", "core/merge", "21", server.fact_tombstone, 0, "";
    "direction refused", "server-store/sync/push/decide", "22; ADR 9", server.direction, 0, "";
    "a bad row is refused alone", "server-store/sync/validate, push/apply", "4 Push; 31", server.neighbours, 0, "";
    "a lacking row is taken, base or not", "core/merge", "4 Absence", server.absence, 0, "";
    "digests with the head only", "server-store/sync/pull", "20", server.digest_at_head, 0, "";
    "mark number", "local-store/settle", "4 Capture; 9", device.mark_number, 0, "";
    "pull over a dirty row moves the base", "local-store/apply", "4 Base", device.base, 0, "";
    "token kept and sent", "local-store/settle, outgoing", "4 Clones; 24", device.token, 0, "";
    "another epoch reconciles", "local-store/reconcile, apply", "26", device.epoch, 0, "";
    "batch stored and resent", "local-store/outgoing", "24", device.stored_batch, 0, "";
    "applying flag", "local-store/database", "4 Capture; 14", device.applying, 0, "";
    "REPLACE marks what it removes", "local-store/triggers", "4 Capture; 12", device.replaced_rows, 0, "";
    "delete mark has scope and id", "local-store/triggers", "10", device.delete_keeps_key, 0, "";
    "key columns are immutable", "local-store/triggers", "4", device.key_kept, 0, "";
    "anti-join of rows without mark", "local-store/unmarked", "11", device.anti_join, 0, "";
    "live row beats delete mark", "local-store/adopt, outgoing", "10", device.live_row, 0, "";
    "a row in flight keeps its mark", "local-store/adopt", "14", device.in_flight, 0, "";
    "page and cursor in one transaction", "local-store/apply", "4 Base", device.cursor_with_page, 0, "";
    "rows and import offset in one transaction", "local-store/rows", "6", device.import_with_rows, 0, "";
    "unmarked edit survives a pull", "local-store/apply", "11", device.unsent, 0, "";
    "newer state survives a set back", "local-store/apply", "26; ADR 8", device.newer, 0, "";
    "overtaken own version kept", "local-store/apply", "26; ADR 8", device.overtaken, 0, "";
    "own counter parts sent again", "local-store/reconcile", "16; ADR 8", device.parts_again, 0, "";
    "unseen rows are sent again", "local-store/reconcile", "4 Absence; 26", device.absence, 0, "";
    "a cut-off reconciliation is ended", "local-store/reconcile", "26", device.reconcile_resumes, 0, "";
    "a cut-off fence is completed", "local-store/identity", "4 Clones", device.fence_completes, 0, "";
    "a fenced file's parts begin at 0", "local-store/reconcile", "16", device.new_parts, 0, "";
    "rows per device become the new device's", "local-store/reconcile", "3; 4", device.take_over, 0, "";
    "counters shift under a pull", "local-store/apply", "16", device.counter_shift, 0, "";
    "what an edit was made from", "local-store/outgoing", "4 Base; ADR 7", device.edited_from, 0, "";
    "whether the register changed", "local-store/outgoing", "15; ADR 2", device.register, 0, "";
    "conflict's loser kept on the device", "local-store/settle", "4 Conflicts; 21", device.losers, 0, "";
    "rows of one identity join", "local-store/adopt", "3.1; 4", device.join, 0, "";
    "three refusals park", "local-store/settle", "4 Queue", device.parking, 0, "";
    "a refused row waits", "local-store/settle", "4 Queue", device.retry_delay, 0, "";
    "another epoch ends tokens", "local-store/reconcile", "25; 26", device.forget_token, 0, "";
    "applied whatever the versions say", "local-store/apply", "4 Pull", device.any_version, 0, "";
    "an overtaken reply settles nothing", "local-store/settle", "17", device.stale_reply, 0, "";
    "a late page sets nothing back", "local-store/apply", "4 Pull", device.late_page, 0, "";
    "the importer keeps out what was deleted", "local-store/rows", "21", device.kept_out, 0, "";
    "one process syncs a folder", "local-store/lease", "4 Capture", driver.lease, 0, "";
    "no answer costs no attempt", "core/sync/engine", "4 Queue", driver.offline, 0, "";
};

/// Guards that only the real server or the real files have.
pub(crate) const ON_POSTGRESQL: &[Line] = &[];

/// Guards that no seed needs.
pub(crate) const REDUNDANT: &[Line] = &[];
