//! The safety guards of the engine's local half, so that a simulation can take one out and show
//! that it then fails. Outside of tests all are on. `docs/GUARDS.md` lists them with the rule
//! that asks for each and the seed that fails without it.

/// Which guards are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guards {
    /// An acknowledgement clears only the mark number that was sent. Off: it clears the row's
    /// mark, whatever its number.
    pub mark_number: bool,
    /// A pull over a dirty row moves only the base. Off: it overwrites the row and drops the
    /// mark.
    pub base: bool,
    /// The token of an acknowledgement is kept in the file and sent with the next push. Off:
    /// none is kept, none is sent.
    pub token: bool,
    /// Another epoch starts a reconciliation. Off: old positions are kept in the new epoch.
    pub epoch: bool,
    /// A batch is stored until it is answered, and sent again byte for byte. Off: a new one is
    /// made of what is queued.
    pub stored_batch: bool,
    /// What the engine writes is not captured. Off: it is marked like everybody's writes.
    pub applying: bool,
    /// Triggers before INSERT and UPDATE mark what a REPLACE removes. Off: there are none.
    pub replaced_rows: bool,
    /// The mark of a delete copies scope and id. Off: it names neither.
    pub delete_keeps_key: bool,
    /// A trigger keeps ids and key columns of adopted rows. Off: there is none.
    pub key_kept: bool,
    /// Rows with neither base nor mark are found and marked. Off: nobody looks.
    pub anti_join: bool,
    /// A live row beats the mark of a delete of its key. Off: the delete is sent.
    pub live_row: bool,
    /// Adoption keeps the mark of a row whose batch is out. Off: what equals the base is clean.
    pub in_flight: bool,
    /// A page and its cursor are one transaction. Off: the cursor is stored before.
    pub cursor_with_page: bool,
    /// Imported rows and how far was read are one transaction. Off: the offset is stored before.
    pub import_with_rows: bool,
    /// A pull keeps an unmarked edit that the server never had. Off: it is overwritten.
    pub unsent: bool,
    /// After a set back, a newer local state is kept and sent again. Off: what comes is stored.
    pub newer: bool,
    /// After a set back, an own version that was overtaken is kept as a conflict. Off: it is not.
    pub overtaken: bool,
    /// After a set back, own parts of counters are sent again. Off: they are not.
    pub parts_again: bool,
    /// Rows that did not come in a reconciliation are sent again. Off: they are removed.
    pub absence: bool,
    /// A reconciliation that was cut off is ended by a later run. Off: it never is.
    pub reconcile_resumes: bool,
    /// A fence that was cut off between two files is completed on opening. Off: it is not.
    pub fence_completes: bool,
    /// A fenced file begins a new part of each counter at 0. Off: it goes on with the old one.
    pub new_parts: bool,
    /// Rows whose key contains the device become the new device's. Off: they keep their id.
    pub take_over: bool,
    /// A pull over a dirty row moves its counters by what others added. Off: they stay.
    pub counter_shift: bool,
    /// A change says what its content was made from. Off: it names the base of today.
    pub edited_from: bool,
    /// A change says whether its register changed. Off: it always says so.
    pub register: bool,
    /// What lost is kept in `sync_conflicts`. Off: it is dropped.
    pub losers: bool,
    /// A second local row of an identity joins the first. Off: it is adopted beside it.
    pub join: bool,
    /// After three refusals a row is parked. Off: it is sent again and again.
    pub parking: bool,
    /// A refused row waits before it is sent again. Off: it goes with the next batch.
    pub retry_delay: bool,
    /// Another epoch ends stored batches. Off: they are sent to the new one.
    pub forget_batch: bool,
    /// A push names the epoch that the file follows. Off: it does not.
    pub names_epoch: bool,
    /// After a set back, what the server has and was a base once is known. Off: it is not.
    pub past: bool,
    /// A change says which content it was made from. Off: only which version.
    pub base_hash: bool,
    /// What was sent in a batch that was forgotten is known. Off: it is not.
    pub sent: bool,
    /// A batch without an answer comes again when its epoch does. Off: it is forgotten.
    pub shelf: bool,
    /// After a set back, a delete goes before a later version of what it deleted. Off: that
    /// version comes back.
    pub lost_delete: bool,
    /// A pull is applied whatever the versions say. Off: only what is newer is stored.
    pub any_version: bool,
    /// A reply older than what a pull brought meanwhile settles nothing. Off: it is stored.
    pub stale_reply: bool,
    /// A page that comes late sets no row back. Off: it is stored.
    pub late_page: bool,
    /// The importer keeps out what was deleted. Off: it brings it back.
    pub kept_out: bool,
    /// A repair leaves a row with an edit of its own to the push. Off: it mends it.
    pub repair_leaves_edits: bool,
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            mark_number: true,
            base: true,
            token: true,
            epoch: true,
            stored_batch: true,
            applying: true,
            replaced_rows: true,
            delete_keeps_key: true,
            key_kept: true,
            anti_join: true,
            live_row: true,
            in_flight: true,
            cursor_with_page: true,
            import_with_rows: true,
            unsent: true,
            newer: true,
            overtaken: true,
            parts_again: true,
            absence: true,
            reconcile_resumes: true,
            fence_completes: true,
            new_parts: true,
            take_over: true,
            counter_shift: true,
            edited_from: true,
            register: true,
            losers: true,
            join: true,
            parking: true,
            retry_delay: true,
            forget_batch: true,
            names_epoch: true,
            past: true,
            sent: true,
            shelf: true,
            lost_delete: true,
            base_hash: true,
            any_version: true,
            stale_reply: true,
            late_page: true,
            kept_out: true,
            repair_leaves_edits: true,
        }
    }
}

/// A guard of the files that the simulation's model cannot express. A test takes it out of its own
/// thread; elsewhere, and outside of tests, it is in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "fault-injection"),
    expect(unreachable_pub, reason = "for tests")
)]
pub enum FileGuard {
    /// What was written into a scope and never sent becomes private when the scope is left. Out:
    /// it goes with the scope.
    LeftUnsent,
    /// A scope that was not read since the server was set back is not left. Out: it is.
    LeftAfterSetBack,
    /// A device that has a body's text keeps it when the row comes without. Out: it does not.
    BodyKept,
    /// A row that another device owns is noted as such. Out: it is not.
    ForeignNoted,
    /// An edit of a row that was moved goes where the row is. Out: it stays behind.
    EditFollows,
}

#[cfg(not(feature = "fault-injection"))]
impl FileGuard {
    /// Returns whether the guard is in place.
    pub(crate) const fn is_on(self) -> bool {
        true
    }
}

#[cfg(feature = "fault-injection")]
pub use out::without;

#[cfg(feature = "fault-injection")]
mod out {
    use super::FileGuard;
    use std::cell::Cell;

    thread_local! {
        static OUT: Cell<Option<FileGuard>> = const { Cell::new(None) };
    }

    /// Runs `work` without a guard.
    pub fn without<T>(guard: FileGuard, work: impl FnOnce() -> T) -> T {
        OUT.set(Some(guard));
        let done = work();
        OUT.set(None);
        done
    }

    impl FileGuard {
        /// Returns whether the guard is in place.
        pub(crate) fn is_on(self) -> bool {
            OUT.get() != Some(self)
        }
    }
}
