//! The guards: where each is in the code, which rule asks for it, how it is taken out, the seed
//! that fails then and what broke in it. Rules are numbers of the protocol's decisions, or the
//! paragraph of the design's chapter on data (3) or sync (4) that they stand in.

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
}

impl Run {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::World, Self::SetBack, Self::Copied, Self::Restored];

    /// Returns the name that the page shows before the seed.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::World => "run",
            Self::SetBack => "set back",
            Self::Copied => "copied",
            Self::Restored => "restored",
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
    /// What is run.
    pub(crate) run: Run,
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
    ($($guard:literal, $place:literal, $rule:literal, $half:ident.$switch:ident,
        $run:ident $seed:literal, $broke:literal;)+) => {
        &[$(Case {
            guard: $guard,
            place: $place,
            rule: $rule,
            take_out: |settings| settings.$half.$switch = false,
            run: Run::$run,
            seed: $seed,
            broke: $broke,
        }),+]
    };
}

/// Guards, each with a seed that fails without it.
pub(crate) const TABLE: &[Case] = cases! {
    "stream lock", "server-store/sync/push", "4 Streams; 24",
        server.stream_lock, World 8, "has to mend what nobody damaged";
    "token check", "server-store/sync/token", "4 Clones; 25",
        server.token, SetBack 0, "nobody noticed that the server was set back";
    "one life, one epoch", "server-store/sync/pull, token", "4 Streams; 25",
        server.epoch, SetBack 0, "nobody noticed that the server was set back";
    "batch dedup", "server-store/sync/push/repeat", "4 Push",
        server.batch_dedup, SetBack 2, "is fenced for its";
    "a lost reply is no clone", "server-store/sync/token", "4 Clones; 25",
        server.lost_reply, World 2, "is fenced for its";
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
        server.conflict, World 0, "was taken by the server and is lost";
    "update beats delete", "core/merge", "4 Conflicts",
        server.update_beats_delete, Copied 3, "was taken by the server and is lost";
    "conflict's loser kept on the server", "server-store/sync/push/trail", "4 Conflicts",
        server.losers, World 0, "was taken by the server and is lost";
    "origin is fixed", "server-store/sync/push/decide", "19",
        server.origin, World 0, "came from";
    "first accepted fact stays", "core/merge", "3.1; 21",
        server.first_fact, Copied 1, "was written again";
    "a lacking row is taken, base or not", "core/merge", "4 Absence",
        server.absence, SetBack 0, "was taken by the server and is lost";
    "digests with the head only", "server-store/sync/pull", "20",
        server.digest_at_head, World 1, "has to mend what nobody damaged";
    "mark number", "local-store/settle", "4 Capture; 9",
        device.mark_number, World 0, "differs from the server";
    "pull over a dirty row moves the base", "local-store/apply", "4 Base",
        device.base, World 0, "was never taken and is nowhere";
    "token kept and sent", "local-store/settle, outgoing", "4 Clones; 24",
        device.token, World 0, "is fenced for its";
    "another epoch reconciles", "local-store/reconcile, apply", "26",
        device.epoch, SetBack 0, "not quiet after";
    "batch stored and resent", "local-store/outgoing", "24",
        device.stored_batch, World 2, "is fenced for its";
    "key columns are immutable", "local-store/triggers", "4",
        device.key_kept, Copied 2, "differs from the server";
    "anti-join of rows without mark", "local-store/unmarked", "11",
        device.anti_join, World 1, "differs from the server";
    "live row beats delete mark", "local-store/adopt, outgoing", "10",
        device.live_row, SetBack 0, "was never taken and is nowhere";
    "rows and import offset in one transaction", "local-store/rows", "6",
        device.import_with_rows, World 3, "was never taken and is nowhere";
    "newer state survives a set back", "local-store/apply", "26; ADR 8",
        device.newer, SetBack 2, "was taken by the server and is lost";
    "overtaken own version kept", "local-store/apply", "26; ADR 8",
        device.overtaken, SetBack 4, "was taken by the server and is lost";
    "unseen rows are sent again", "local-store/reconcile", "4 Absence; 26",
        device.absence, SetBack 0, "was taken by the server and is lost";
    "counters shift under a pull", "local-store/apply", "16",
        device.counter_shift, Copied 2, "its counter says";
    "what an edit was made from", "local-store/outgoing", "4 Base; ADR 7",
        device.edited_from, World 0, "was taken by the server and is lost";
    "conflict's loser kept on the device", "local-store/settle", "4 Conflicts; 21",
        device.losers, World 0, "lost a conflict and";
    "rows of one identity join", "local-store/adopt", "3.1; 4",
        device.join, SetBack 0, "the local store failed";
    "another epoch ends stored batches", "local-store/reconcile", "25; 26",
        device.forget_batch, SetBack 0, "not quiet after";
    "one process syncs a folder", "local-store/lease", "4 Capture",
        driver.lease, World 0, "is fenced for its";
    "no answer costs no attempt", "core/sync/engine", "4 Queue",
        driver.offline, World 4, "sees a difference where nothing can be lost";
};

/// Guards that only the real server or the real files have.
pub(crate) const ON_POSTGRESQL: &[Line] = &[
    Line {
        guard: "stream lock, on PostgreSQL",
        place: "server-store/sync/push",
        rule: "4 Streams; 24",
        take_out: None,
        why: "`sync_cursor`: taken out, readers miss rows in ten of ten runs; with it none of \
            200,000",
    },
    Line {
        guard: "a value that PostgreSQL refuses rejects its row alone",
        place: "server-store/sync/push/apply",
        rule: "31",
        take_out: None,
        why: "`any_row`: rows of every type and size; not taken out",
    },
    Line {
        guard: "heads, rows and digests of one snapshot",
        place: "server-store/sync/pull",
        rule: "4 Pull; 20",
        take_out: None,
        why: "`sync_cursor`: digests hold at every head; not taken out",
    },
    Line {
        guard: "a page ends at the byte limit",
        place: "server-store/sync/pull/page",
        rule: "4 Pull",
        take_out: None,
        why: "`pages_end_by_bytes_and_lose_no_row`",
    },
    Line {
        guard: "critical file written through to the disk",
        place: "local-store/database",
        rule: "4 Capture",
        take_out: None,
        why: "`kill`, `kill_local` of the end-to-end tests; not taken out",
    },
];

/// Guards that no seed needs.
pub(crate) const REDUNDANT: &[Line] = &[
    Line {
        guard: "REPLACE marks what it removes",
        place: "local-store/triggers",
        rule: "4 Capture; 12",
        take_out: Some(|settings| settings.device.replaced_rows = false),
        why: "since ranges of ids are compared and mended, a removal without a mark is undone \
              from the server in all of 150 seeds instead of dividing the replicas; `capture.rs` \
              of the local store's tests looks at the marks",
    },
    Line {
        guard: "delete mark has scope and id",
        place: "local-store/triggers",
        rule: "10",
        take_out: Some(|settings| settings.device.delete_keeps_key = false),
        why: "as for REPLACE: the row comes back from the server, the delete is lost and the \
              replicas are equal, in all of 150 seeds",
    },
    Line {
        guard: "position beyond the head",
        place: "server-store/sync/pull",
        rule: "4 Streams; 29",
        take_out: Some(|settings| settings.server.future_cursor = false),
        why: "the file's token on every pull tells of the set back first; the check remains \
              for readers that never pushed. \
              `positions_of_another_life_or_beyond_the_head_are_refused`",
    },
    Line {
        guard: "only the register revives",
        place: "core/merge",
        rule: "15; ADR 2",
        take_out: Some(|settings| settings.server.register_revives = false),
        why: "without it a counter brings a deleted row back everywhere: people are \
              surprised, nothing is lost or double",
    },
    Line {
        guard: "highest part of a counter wins",
        place: "server-store/sync/push/counters",
        rule: "16",
        take_out: Some(|settings| settings.server.part_number = false),
        why: "an older part can come after a newer one only in a batch that came before, \
              which dedup and token refuse. \
              `parts_add_up_and_an_older_part_changes_nothing`",
    },
    Line {
        guard: "max columns only grow",
        place: "core/merge",
        rule: "3.1; 15",
        take_out: Some(|settings| settings.server.max = false),
        why: "not found among the first dozen of seeds; the search was not finished",
    },
    Line {
        guard: "a fact's tombstone is final",
        place: "core/merge",
        rule: "21",
        take_out: Some(|settings| settings.server.fact_tombstone = false),
        why: "the importer keeps deleted facts out, so few runs push one again; seed 22 of \
              an earlier state of the simulation failed. Model and rule are compared in \
              `model_and_server_judge_alike`",
    },
    Line {
        guard: "direction refused",
        place: "server-store/sync/push/decide",
        rule: "22; ADR 9",
        take_out: Some(|settings| settings.server.direction = false),
        why: "devices park rows of others themselves before they send them, so the server's \
              refusal is the second line. `a_bad_change_is_refused_alone`",
    },
    Line {
        guard: "a bad row is refused alone",
        place: "server-store/sync/validate, push/apply",
        rule: "4 Push; 31",
        take_out: Some(|settings| settings.server.neighbours = false),
        why: "as for three refusals: good neighbours are parked only after three refusals \
              of the same batch. `a_bad_change_is_refused_alone`",
    },
    Line {
        guard: "applying flag",
        place: "local-store/database",
        rule: "4 Capture; 14",
        take_out: Some(|settings| settings.device.applying = false),
        why: "adoption drops the marks of rows that equal their base, so capture of own \
              writes costs work and loses nothing in a dozen of seeds; the search was not \
              finished",
    },
    Line {
        guard: "a row in flight keeps its mark",
        place: "local-store/adopt",
        rule: "14",
        take_out: Some(|settings| settings.device.in_flight = false),
        why: "not found among the first dozen of seeds; the search was not finished",
    },
    Line {
        guard: "page and cursor in one transaction",
        place: "local-store/apply",
        rule: "4 Base",
        take_out: Some(|settings| settings.device.cursor_with_page = false),
        why: "ranges of ids find and fetch the rows that were skipped, one round trip \
              later; before there were ranges they were lost",
    },
    Line {
        guard: "unmarked edit survives a pull",
        place: "local-store/apply",
        rule: "11",
        take_out: Some(|settings| settings.device.unsent = false),
        why: "adoption's search for unmarked rows comes first in every run; needed when \
              somebody empties the queue between adoption and pull",
    },
    Line {
        guard: "own counter parts sent again",
        place: "local-store/reconcile",
        rule: "16; ADR 8",
        take_out: Some(|settings| settings.device.parts_again = false),
        why: "not found among the first dozen of seeds; the search was not finished",
    },
    Line {
        guard: "a cut-off reconciliation is ended",
        place: "local-store/reconcile",
        rule: "26",
        take_out: Some(|settings| settings.device.reconcile_resumes = false),
        why: "not found among the first dozen of seeds; the search was not finished",
    },
    Line {
        guard: "a cut-off fence is completed",
        place: "local-store/identity",
        rule: "4 Clones",
        take_out: Some(|settings| settings.device.fence_completes = false),
        why: "a kill must fall between two of a fence's four commits; the runs tried had \
              none that mattered",
    },
    Line {
        guard: "a fenced file's parts begin at 0",
        place: "local-store/reconcile",
        rule: "16",
        take_out: Some(|settings| settings.device.new_parts = false),
        why: "not found among the first dozen of seeds; the search was not finished",
    },
    Line {
        guard: "rows per device become the new device's",
        place: "local-store/reconcile",
        rule: "3; 4",
        take_out: Some(|settings| settings.device.take_over = false),
        why: "the former device's rows stay on the server under its id and the copy parks \
              its own: counts are kept twice on the device, which the oracle allows for a \
              copy",
    },
    Line {
        guard: "whether the register changed",
        place: "local-store/outgoing",
        rule: "15; ADR 2",
        take_out: Some(|settings| settings.device.register = false),
        why: "not found among the first dozen of seeds; the search was not finished",
    },
    Line {
        guard: "three refusals park",
        place: "local-store/settle",
        rule: "4 Queue",
        take_out: Some(|settings| settings.device.parking = false),
        why: "seeds in which a row is refused more than three times before everything heals \
              are rare; none was among those tried. \
              `crates/local-store/tests/suite/engine.rs`",
    },
    Line {
        guard: "a refused row waits",
        place: "local-store/settle",
        rule: "4 Queue",
        take_out: Some(|settings| settings.device.retry_delay = false),
        why: "not found among the first dozen of seeds; the search was not finished",
    },
    Line {
        guard: "applied whatever the versions say",
        place: "local-store/apply",
        rule: "4 Pull",
        take_out: Some(|settings| settings.device.any_version = false),
        why: "not found among the first dozen of seeds; the search was not finished",
    },
    Line {
        guard: "an overtaken reply settles nothing",
        place: "local-store/settle",
        rule: "17",
        take_out: Some(|settings| settings.device.stale_reply = false),
        why: "one process syncs a folder and pulls before it resends, so a reply is never \
              older than a pull; needed only without the lease",
    },
    Line {
        guard: "a late page sets nothing back",
        place: "local-store/apply",
        rule: "4 Pull",
        take_out: Some(|settings| settings.device.late_page = false),
        why: "one process syncs a folder and its pages come in order; needed only without \
              the lease. `a_page_twice_and_a_page_that_comes_late_change_nothing`",
    },
    Line {
        guard: "the importer keeps out what was deleted",
        place: "local-store/rows",
        rule: "21",
        take_out: Some(|settings| settings.device.kept_out = false),
        why: "not found among the first dozen of seeds; the search was not finished",
    },
];
