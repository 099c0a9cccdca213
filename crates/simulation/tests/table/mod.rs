//! The guards: where each is in the code, which rule asks for it, how it is taken out, the seed
//! that fails then and what broke in it. Rules are numbers of the protocol's decisions, or the
//! paragraph of the design's chapter on data (3) or sync (4) that they stand in.

mod real;

pub(crate) use real::REAL;

use coditect_protocol::catalogue::File;
use coditect_simulation::world::{Outcome, Return, Scenario, Settings, play, simulate};

/// What is run with a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Run {
    /// An ordinary run.
    World,
    /// The server is set back.
    SetBack,
    /// A folder is copied.
    Copied,
    /// A file is put back.
    Restored,
    /// Only a reader comes to a server that was set back.
    Reader,
    /// Some rows are refused for good.
    Refused,
    /// Somebody empties the queue between adoption and pull.
    Emptied,
    /// A page is stored after a later one.
    LatePage,
    /// A reply is stored after a later pull.
    LateReply,
    /// A count meets an edit.
    Counted,
    /// What was deleted is imported again.
    Reimported,
    /// Two devices have one row.
    Foreign,
    /// A delete comes before one who has the row.
    Deleted,
    /// An edit waits on top of one without an answer.
    Unanswered,
    /// A fence is cut off.
    FenceCut,
    /// A part of a counter comes after a later one.
    LatePart,
    /// A row comes back without a part of its counter.
    LostPart,
    /// A delete comes while the row is on its way back.
    DeletedFirst,
    /// A damaged row is edited.
    EditedDamage,
}

impl Run {
    /// All of them.
    pub(crate) const ALL: [Self; 19] = [
        Self::World,
        Self::SetBack,
        Self::Copied,
        Self::Restored,
        Self::Reader,
        Self::Refused,
        Self::Emptied,
        Self::LatePage,
        Self::LateReply,
        Self::Counted,
        Self::Reimported,
        Self::Foreign,
        Self::Deleted,
        Self::Unanswered,
        Self::FenceCut,
        Self::LatePart,
        Self::LostPart,
        Self::DeletedFirst,
        Self::EditedDamage,
    ];

    /// Returns the name that the page shows before the seed.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::World => "run",
            Self::SetBack => "set back",
            Self::Copied => "copied",
            Self::Restored => "restored",
            Self::Reader => "reader",
            Self::Refused => "refused",
            Self::Emptied => "emptied",
            Self::LatePage => "late page",
            Self::LateReply => "late reply",
            Self::Counted => "counted",
            Self::Reimported => "reimported",
            Self::Foreign => "foreign",
            Self::Deleted => "deleted",
            Self::Unanswered => "unanswered",
            Self::FenceCut => "fence cut",
            Self::LatePart => "late part",
            Self::LostPart => "lost part",
            Self::DeletedFirst => "deleted first",
            Self::EditedDamage => "edited damage",
        }
    }

    /// Runs the seed.
    pub(crate) fn simulate(self, settings: Settings) -> Outcome {
        let turn = (settings.seed % 4) as usize;
        let scenario = match self {
            Self::World => return simulate(settings),
            Self::SetBack => Scenario::ServerSetBack(Return::ALL[turn]),
            Self::Copied => Scenario::FolderCopied,
            Self::Restored => Scenario::FileRestored(File::ALL[turn]),
            Self::Reader => Scenario::Reader,
            Self::Refused => Scenario::Refused(true),
            Self::Emptied => Scenario::Emptied,
            Self::LatePage => Scenario::LatePage,
            Self::LateReply => Scenario::LateReply,
            Self::Counted => Scenario::Counted,
            Self::Reimported => Scenario::Reimported,
            Self::Foreign => Scenario::Foreign,
            Self::Deleted => Scenario::Deleted,
            Self::Unanswered => Scenario::Unanswered,
            Self::FenceCut => Scenario::FenceCut,
            Self::LatePart => Scenario::LatePart,
            Self::LostPart => Scenario::LostPart,
            Self::DeletedFirst => Scenario::DeletedFirst,
            Self::EditedDamage => Scenario::EditedDamage,
        };
        play(scenario, settings)
    }
}

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
    /// Takes out only the others that do the same work.
    pub(crate) take_out_others: fn(&mut Settings),
    /// What is run.
    pub(crate) run: Run,
    /// A seed that fails without it.
    pub(crate) seed: u64,
    /// What broke then: part of the failure's text.
    pub(crate) broke: &'static str,
}

macro_rules! cases {
    ($($guard:literal, $place:literal, $rule:literal,
        $own_half:ident.$own:ident $(& $half:ident.$switch:ident)*,
        $run:ident $seed:literal, $broke:literal;)+) => {
        &[$(Case {
            guard: $guard,
            place: $place,
            rule: $rule,
            take_out: |settings| {
                settings.$own_half.$own = false;
                $(settings.$half.$switch = false;)*
            },
            take_out_others: |_settings| { $(_settings.$half.$switch = false;)* },
            run: Run::$run,
            seed: $seed,
            broke: $broke,
        }),+]
    };
}

/// Guards, each with a seed that fails without it. Where another one does the same work, both are
/// out: the guard's own switch comes first.
pub(crate) const TABLE: &[Case] = cases! {
    "stream lock", "server-store/sync/push", "4 Streams; 24",
        server.stream_lock, World 8, "has to mend what nobody damaged";
    "token check", "server-store/sync/token", "4 Clones; 25",
        server.token, SetBack 1, "nobody noticed that the server was set back";
    "one life, one epoch", "server-store/sync/pull, token", "4 Streams; 25",
        server.epoch, SetBack 1, "nobody noticed that the server was set back";
    "batch dedup", "server-store/sync/push/repeat", "4 Push",
        server.batch_dedup, SetBack 1, "is fenced for its";
    "a lost reply is no clone", "server-store/sync/token", "4 Clones; 25",
        server.lost_reply, World 3, "is fenced for its";
    "a token ahead is no clone", "server-store/sync/token", "25",
        server.token_ahead, SetBack 0, "is fenced for its";
    "a new life forgets tokens", "server-store/sync/token", "25",
        server.tokens_of_life, SetBack 0, "is fenced for its";
    "versions capped at the server's time", "core/clock", "4 Versions; 17",
        server.clock_cap, World 0, "in the future";
    "stamps shifted by the skew", "core/clock", "4 Versions",
        server.clock_shift, World 0, "is dated back";
    "stored version above both sides", "core/clock, merge", "4 Versions; 17",
        server.version_above, World 0, "the version of";
    "unknown version is a conflict", "core/merge", "4 Conflicts; 18",
        server.conflict, World 2, "was taken by the server and is lost";
    "update beats delete", "core/merge", "4 Conflicts",
        server.update_beats_delete, Copied 0, "was taken by the server and is lost";
    "conflict's loser kept on the server", "server-store/sync/push/trail", "4 Conflicts",
        server.losers, World 2, "was taken by the server and is lost";
    "origin is fixed", "server-store/sync/push/decide", "19",
        server.origin, World 0, "came from";
    "first accepted fact stays", "core/merge", "3.1; 21",
        server.first_fact, Copied 8, "was written again";
    "a lacking row is taken, base or not", "core/merge", "4 Absence",
        server.absence, SetBack 0, "was taken by the server and is lost";
    "digests with the head only", "server-store/sync/pull", "20",
        server.digest_at_head, World 2, "has to mend what nobody damaged";
    "mark number", "local-store/settle", "4 Capture; 9",
        device.mark_number, World 5, "differs from the server";
    "pull over a dirty row moves the base", "local-store/apply", "4 Base",
        device.base, World 2, "was never taken and is nowhere";
    "token kept and sent", "local-store/settle, outgoing", "4 Clones; 24",
        device.token, World 0, "is fenced for its";
    "another epoch reconciles", "local-store/reconcile, apply", "26",
        device.epoch, SetBack 3, "not quiet after";
    "batch stored and resent", "local-store/outgoing", "24",
        device.stored_batch, World 3, "is fenced for its";
    "key columns are immutable", "local-store/triggers", "4",
        device.key_kept, Copied 3, "differs from the server";
    "anti-join of rows without mark", "local-store/unmarked", "11",
        device.anti_join, World 1, "differs from the server";
    "live row beats delete mark", "local-store/adopt, outgoing", "10",
        device.live_row, World 0, "was taken by the server and is lost";
    "rows and import offset in one transaction", "local-store/rows", "6",
        device.import_with_rows, World 18, "was never taken and is nowhere";
    "newer state survives a set back", "local-store/apply", "26; ADR 8",
        device.newer, SetBack 6, "was taken by the server and is lost";
    "overtaken own version kept", "local-store/apply", "26; ADR 8",
        device.overtaken, SetBack 0, "was taken by the server and is lost";
    "unseen rows are sent again", "local-store/reconcile", "4 Absence; 26",
        device.absence, SetBack 0, "was taken by the server and is lost";
    "counters shift under a pull", "local-store/apply", "16",
        device.counter_shift, Copied 11, "its counter says";
    "what an edit was made from", "local-store/outgoing", "4 Base; ADR 7",
        device.edited_from, World 2, "was taken by the server and is lost";
    "conflict's loser kept on the device", "local-store/settle", "4 Conflicts; 21",
        device.losers, World 3, "lost a conflict and";
    "rows of one identity join", "local-store/adopt", "3.1; 4",
        device.join, SetBack 10, "the local store failed";
    "another epoch ends stored batches", "local-store/reconcile", "25; 26",
        device.forget_batch, SetBack 7, "not quiet after";
    "one process syncs a folder", "local-store/lease", "4 Capture",
        driver.lease, World 0, "is fenced for its";
    "no answer costs no attempt", "core/sync/engine", "4 Queue",
        driver.offline, SetBack 2, "is fenced for its";
    "REPLACE marks what it removes", "local-store/triggers", "4 Capture; 12",
        device.replaced_rows, Deleted 0, "the delete of";
    "delete mark has scope and id", "local-store/triggers", "10",
        device.delete_keeps_key, World 1, "the delete of";
    "position beyond the head", "server-store/sync/pull", "4 Streams; 29",
        server.future_cursor, Reader 0, "a reader did not notice that the server was set back";
    "only the register revives", "core/merge", "15; ADR 2",
        server.register_revives, Emptied 36, "a counter revived a deleted row";
    "max columns only grow", "core/merge", "3.1; 15",
        server.max, World 1, "message_count of";
    "a fact's tombstone is final", "core/merge", "21",
        server.fact_tombstone, Restored 2, "a deleted fact came back";
    "direction refused", "server-store/sync/push/decide", "22; ADR 9",
        server.direction, Foreign 0, "has to mend what nobody damaged";
    "a bad row is refused alone", "server-store/sync/validate, push/apply", "4 Push; 31",
        server.neighbours, Refused 0, "rows that are not refused wait";
    "a row in flight keeps its mark", "local-store/adopt", "14",
        device.in_flight, World 15, "the delete of";
    "page and cursor in one transaction", "local-store/apply", "4 Base",
        device.cursor_with_page & driver.ranges, SetBack 3, "not quiet after";
    "unmarked edit survives a pull", "local-store/apply", "11",
        device.unsent, Emptied 0, "was never taken and is nowhere";
    "a cut-off reconciliation is ended", "local-store/reconcile", "26",
        device.reconcile_resumes & driver.ranges, Copied 3, "not quiet after";
    "a cut-off fence is completed", "local-store/identity", "4 Clones",
        device.fence_completes, FenceCut 0, "are of two devices";
    "a fenced file's parts begin at 0", "local-store/reconcile", "16",
        device.new_parts, Restored 0, "its counter says";
    "whether the register changed", "local-store/outgoing", "15; ADR 2",
        device.register, Counted 0, "is in conflict with its own successor";
    "three refusals park", "local-store/settle", "4 Queue",
        device.parking, Refused 0, "sent a refused row";
    "a refused row waits", "local-store/settle", "4 Queue",
        device.retry_delay, Refused 16, "twice at once";
    "applied whatever the versions say", "local-store/apply", "4 Pull",
        device.any_version, SetBack 42, "is in conflict with itself about";
    "an overtaken reply settles nothing", "local-store/settle", "17",
        device.stale_reply, LateReply 0, "has to mend what nobody damaged";
    "a late page sets nothing back", "local-store/apply", "4 Pull",
        device.late_page & device.newer, LatePage 0, "has to mend what nobody damaged";
    "the importer keeps out what was deleted", "local-store/rows", "21",
        device.kept_out, Reimported 0, "the delete of message 7";
    "an earlier state is known after a set back", "core/merge", "26; ADR 20",
        server.follows, SetBack 14, "is in conflict with itself about";
    "what was a base once is known", "local-store/outgoing", "26; ADR 20",
        device.past, Deleted 1, "is in conflict with itself about";
    "what was sent and never answered is known", "local-store/reconcile", "18; ADR 20",
        device.sent, Unanswered 0, "is in conflict with itself about";
    "a push of another epoch is told so", "server-store/sync/token", "25; ADR 20",
        server.push_epoch, SetBack 1, "a late request changed something";
    "a push names its epoch", "local-store/outgoing", "25; ADR 20",
        device.names_epoch, Reader 0, "is fenced for its";
    "a lost delete goes before a later count", "local-store/apply", "4 Absence; ADR 20",
        device.lost_delete, World 1320, "the delete of";
    "a batch comes again with its epoch", "local-store/reconcile/shelf", "4 Clones; 25",
        device.shelf, World 4693, "is fenced for its";
    "highest part of a counter wins", "server-store/sync/push/counters", "16",
        server.part_number & server.token, LatePart 5, "its counter says";
    "applying flag", "local-store/database", "4 Capture; 14",
        device.applying, World 0, "never comes to rest";
    "own counter parts sent again", "local-store/reconcile", "16; ADR 8",
        device.parts_again, LostPart 6, "its counter says";
    "rows per device become the new device's", "local-store/reconcile", "3; 4",
        device.take_over, FenceCut 0, "cannot send what it counted itself";
    "a counter makes no conflict of an edit", "core/merge, local-store/outgoing", "15; ADR 20",
        device.base_hash, Counted 0, "is in conflict with its own successor";
    "what was deleted is no new content", "core/merge", "4 Absence; ADR 20",
        server.deleted_content, DeletedFirst 1, "the delete of";
    "a repair leaves edits to the push", "local-store/descent", "4 Reconciliation; ADR 12",
        device.repair_leaves_edits, EditedDamage 0, "mended instead of sent";
};
