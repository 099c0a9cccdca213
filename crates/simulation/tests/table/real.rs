//! Guards that the simulation's model cannot express: each has a test on the real server or the
//! real files, which takes it out and asserts what breaks.

/// A guard that only the real server or the real files have.
pub(crate) struct Line {
    /// Its name.
    pub(crate) guard: &'static str,
    /// Where it is in the code.
    pub(crate) place: &'static str,
    /// Which rule asks for it.
    pub(crate) rule: &'static str,
    /// The test's file, below `crates`.
    pub(crate) file: &'static str,
    /// The test that takes it out.
    pub(crate) test: &'static str,
    /// What broke then.
    pub(crate) broke: &'static str,
}

macro_rules! lines {
    ($($guard:literal, $place:literal, $rule:literal, $file:expr, $test:literal,
        $broke:literal;)+) => {
        &[$(Line {
            guard: $guard,
            place: $place,
            rule: $rule,
            file: $file,
            test: $test,
            broke: $broke,
        }),+]
    };
}

const MOVES: &str = "server-store/tests/sync/guards/moves.rs";
const JOINS: &str = "server-store/tests/sync/guards/joins.rs";
const BODIES: &str = "server-store/tests/sync/guards/bodies.rs";
const PAGES: &str = "server-store/tests/sync/guards/pages.rs";
const FILES: &str = "local-store/tests/suite/guards.rs";

/// The guards, each with the test that takes it out.
pub(crate) const REAL: &[Line] = lines! {
    "stream lock, on PostgreSQL",
        "server-store/sync/push", "4 Streams; 24", "server-store/tests/sync_cursor.rs",
        "without_the_stream_lock_readers_miss_rows_in_ten_of_ten_runs",
        "readers miss rows in ten of ten runs; with it none of 200,000";
    "heads, rows and digests of one snapshot",
        "server-store/sync/pull", "4 Pull; 20", PAGES,
        "without_one_snapshot_a_page_has_rows_that_its_digest_does_not_count",
        "a page has two rows and a digest of one: its device has to mend what nobody damaged";
    "a page ends at the byte limit",
        "server-store/sync/pull", "4 Pull", PAGES,
        "without_its_limit_a_page_has_all_that_there_is",
        "a page has 8 MB where 4 MiB are the limit, and so as much as the stream has";
    "a value that PostgreSQL refuses rejects its row alone",
        "server-store/sync/push/apply", "4 Push; 31", PAGES,
        "without_halving_one_bad_row_fails_its_batch",
        "the two good rows beside it are refused as well";
    "a row's hash is made again from its columns",
        "server-store/sync/validate", "7", PAGES,
        "without_a_look_at_the_hash_readers_get_rows_that_are_not_their_hashes",
        "readers get a row under the hash of another one";
    "a replica's answer is not behind the primary",
        "server-store/sync/pull/gate", "4 Streams; ADR 19", PAGES,
        "without_a_look_at_the_head_a_replica_that_lags_hides_acknowledged_rows",
        "a page that says it is the head lacks a hundred acknowledged rows";
    "a move locks both streams",
        "server-store/sync/push/moves", "4 Scope moves; ADR 16", MOVES,
        "without_both_locks_a_moved_row_appears_behind_a_reader",
        "a reader never gets the moved row";
    "a move locks streams in the order of their ids",
        "server-store/sync/push/moves", "4 Scope moves; ADR 16", MOVES,
        "without_the_order_of_locks_opposite_moves_lock_each_other_out",
        "opposite moves wait for each other until the database breaks it up, and one runs \
         again";
    "a move is one transaction",
        "server-store/sync/push/moves", "4 Scope moves; ADR 16", MOVES,
        "a_move_in_two_transactions_loses_the_row_when_its_second_half_fails",
        "sent as two halves of which the second fails, the row is in no scope";
    "a move that comes again moves nothing",
        "server-store/sync/push/moves", "4 Scope moves; ADR 16", MOVES,
        "without_its_note_a_move_that_comes_late_takes_a_row_away_again",
        "the row is taken away from where somebody brought it back to";
    "an edit that comes after the move brings nothing back",
        "server-store/sync/push/moves", "4 Scope moves; ADR 16", MOVES,
        "without_a_look_at_moves_a_late_edit_makes_two_rows_of_one",
        "one row lives in two scopes";
    "where a row went is told to its readers",
        "server-store/sync/push/moves/earlier", "4 Scope moves; ADR 16", MOVES,
        "without_the_condition_a_stranger_learns_where_a_row_went",
        "a stranger is told the scope; row security of `scopes`, which hides it as well, is \
         off on both sides";
    "counter parts move with their row",
        "server-store/sync/push/moves", "16; ADR 16", MOVES,
        "without_their_parts_counters_forget_others_when_a_row_moves",
        "the next count takes away what others had added: 10, not 13";
    "only its author takes a row into a private scope",
        "server-store/sync/push/moves", "22; ADR 16", MOVES,
        "without_a_look_at_the_author_rows_are_taken_into_private_scopes",
        "a colleague takes the row away from all";
    "streams locked in the order of their ids",
        "server-store/sync/push/queue", "4 Push; ADR 17", "server-store/tests/sync/joined.rs",
        "without_the_order_of_streams_joined_pushes_lock_each_other_out",
        "two servers lock each other out and the database breaks a deadlock";
    "a row of a shared statement is checked in its part's context",
        "server-store/db/joined_tx", "5; 32; ADR 17", "server-store/src/db/tests.rs",
        "each_row_of_a_joined_statement_is_checked_in_the_context_of_its_part",
        "two people's scopes swapped between their parts: with the check neither row is \
         stored";
    "pushes that do not go together go one by one",
        "server-store/sync/push/queue", "4 Push; ADR 17", JOINS,
        "without_going_one_by_one_a_bad_push_fails_all_that_it_met",
        "one bad row fails the pushes of two other people";
    "joined pushes are answered after the commit",
        "server-store/sync/push/queue, joined/close", "4 Push; ADR 17", JOINS,
        "answered_before_the_commit_joined_pushes_are_acknowledged_and_lost",
        "three pushes are acknowledged and nothing of them is stored";
    "of a fact that several parts bring one is new",
        "server-store/sync/push/joined", "21; ADR 17", JOINS,
        "without_a_look_at_other_parts_a_fact_counts_twice_in_the_digest",
        "the digest counts one row twice";
    "parts of one stream are numbered one behind the other",
        "server-store/sync/push/joined", "4 Streams; ADR 17", JOINS,
        "without_numbers_behind_each_other_two_rows_share_one",
        "two rows have one number";
    "a row whose body is not there is refused",
        "server-store/sync/bodies", "4 Bodies; ADR 18", BODIES,
        "without_a_look_for_its_body_a_row_is_stored_whose_text_is_nowhere",
        "a row is stored whose text nobody can read";
    "a body is named only where a row has it",
        "server-store/sync/bodies", "4 Bodies; ADR 18", BODIES,
        "without_a_row_that_has_it_a_deleted_text_is_given_for_its_hash",
        "who has only the hash of a deleted text gets the text";
    "the beginning in a row is that of its body",
        "server-store/sync/bodies", "4 Bodies; ADR 18", BODIES,
        "without_a_look_at_the_text_a_row_shows_a_beginning_that_is_not_its",
        "a row shows and finds what its text does not say";
    "a push locks the bodies that it keeps",
        "server-store/sync/bodies", "4 Bodies; ADR 18", BODIES,
        "without_a_lock_a_text_is_removed_under_the_push_that_needs_it",
        "the removal takes the text of a row that was just acknowledged";
    "the removal of bodies looks again",
        "server-store/sync/bodies/collect", "4 Bodies; ADR 18", BODIES,
        "without_a_second_look_a_wrong_mark_removes_a_text_that_a_row_has",
        "a wrong mark removes a text that a row has";
    "a deleted row names no bodies",
        "server-store/sync/bodies", "4 Bodies; ADR 18", BODIES,
        "without_a_look_at_deletes_the_text_of_a_deleted_row_is_given_out",
        "the text of a deleted row is given out";
    "an edit follows its moved row",
        "local-store/settle, moves/late", "4 Scope moves; ADR 16", FILES,
        "without_the_way_an_edit_does_not_follow_its_row",
        "an edit made offline stays behind as a conflict";
    "what was never sent stays when a scope is left",
        "local-store/leave", "4 Absence", FILES,
        "without_a_look_at_marks_what_was_never_sent_is_gone_with_its_scope",
        "a row that its author never sent is gone";
    "a scope not read since a set back is not left",
        "local-store/leave", "4 Absence; 26", FILES,
        "without_a_look_at_the_epoch_a_set_back_takes_the_rows_of_a_team",
        "a server that lost a membership takes the team's rows from the devices, which then \
         cannot give them back";
    "a device that has a text keeps it",
        "local-store/apply", "4 Bodies; ADR 18", FILES,
        "without_a_look_at_what_is_there_a_text_goes_and_is_fetched_again",
        "a text is gone until it is fetched again";
    "a fetched row is noted as another device's",
        "local-store/foreign", "28", FILES,
        "without_its_note_a_fetched_row_is_sent_as_an_own_one",
        "a row of another device is queued, to be refused";
    "critical file written through to the disk",
        "local-store/database", "4 Capture", "local-store/tests/suite/files.rs",
        "the_critical_file_is_written_through_to_the_disk",
        "not to be shown here: a process that is killed loses nothing that the kernel has, \
         only a machine that loses its power does; the test reads the setting of the opened \
         files";
};
