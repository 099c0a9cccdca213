//! Guards that a test can take out, to show what goes wrong without them (docs/GUARDS.md). Outside
//! of tests all are in place, and the compiler sees that.

/// A line of code that exists because something goes wrong without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "fault-injection"),
    expect(unreachable_pub, reason = "for tests")
)]
pub enum Guard {
    /// A move locks both streams until it is committed. Out: it reads their counters only.
    MoveLocks,
    /// A move locks streams in the order of their ids. Out: first the one that the row leaves.
    MoveOrder,
    /// A move that comes again is answered from what was noted. Out: it is carried out.
    MoveAgain,
    /// An edit of a row that was moved does not bring it back. Out: it does.
    MovedAway,
    /// Where a row went is told to who may read it there. Out: to everybody.
    MoveHidden,
    /// A counter's parts move with the row. Out: they stay.
    MoveParts,
    /// Only its author takes a row into a private scope. Out: everybody who may write.
    MoveAuthor,
    /// Pushes that do not go together go one by one. Out: all of them fail.
    JoinedAlone,
    /// Joined pushes are answered after the commit. Out: before it, whatever becomes of it.
    JoinedCommit,
    /// Of a row that several parts bring, the first one's is inserted. Out: each one's.
    JoinedFirst,
    /// Parts of one stream are numbered one behind the other. Out: from the same number on.
    JoinedNumbers,
    /// A row whose body is not there is refused. Out: it is stored.
    BodyMissing,
    /// A body can be named only where a row has it. Out: wherever it is kept.
    BodyVisible,
    /// The beginning in a row is that of its body. Out: whatever was sent.
    BodyBeginning,
    /// A push locks the bodies that it keeps. Out: it does not.
    BodyKept,
    /// The removal of bodies looks again whether a row names them. Out: it trusts its marks.
    BodyLookedAt,
    /// A deleted row names its bodies no more. Out: it does.
    BodyUnlinked,
    /// A batch that the database refuses is halved until the row is found. Out: it fails.
    Halving,
    /// A page ends at its bytes. Out: it does not.
    PageBytes,
    /// A row's content hash is that of its columns. Out: whatever was sent.
    RowHash,
    /// A replica's answer is not behind the primary. Out: whatever it says.
    ReplicaHead,
}

#[cfg(not(feature = "fault-injection"))]
impl Guard {
    /// Returns whether the guard is in place.
    pub(crate) const fn is_on(self) -> bool {
        true
    }

    /// Returns the guarded statement.
    pub(crate) const fn sql(self, statement: &'static str) -> &'static str {
        statement
    }
}

#[cfg(feature = "fault-injection")]
pub use out::without;

#[cfg(feature = "fault-injection")]
mod out {
    use super::Guard;

    const READ_STREAM: &str = "select n from streams where tenant_id = $1 and scope_id = $2";
    const TELL_WHERE: &str = "select m.table_name, m.row_id, m.version, m.to_scope, s.kind
        from row_moves m
        left join scopes s on s.tenant_id = m.tenant_id and s.scope_id = m.to_scope
        where m.tenant_id = $1 and m.scope_id = $2 and m.table_name = any ($3)
        and m.row_id = any ($4)";
    const HOLD_ANY: &str = "update bodies b set unused_since = null
        where tenant_id = $1 and scope_id = $2 and hash = any ($3) returning hash, packed";
    const KEEP_UNLOCKED: &str = "insert into bodies as b (tenant_id, scope_id, hash, byte_count,
        packed)
        select $1, $2, hash, byte_count, packed
        from unnest($3::bytea[], $4::bigint[], $5::bytea[]) as given (hash, byte_count, packed)
        on conflict (tenant_id, scope_id, hash) do nothing returning byte_count";
    const USED_NEVER: &str = "update bodies set unused_since = null
        where tenant_id = $1 and false";
    const REMOVE_MARKED: &str = "delete from bodies b
        where b.tenant_id = $1 and b.unused_since < $2 returning b.scope_id, b.byte_count";

    tokio::task_local! {
        static OUT: Guard;
    }

    /// Runs `work` without a guard. Only this task's work: what it spawns has all guards.
    pub async fn without<F: Future>(guard: Guard, work: F) -> F::Output {
        OUT.scope(guard, work).await
    }

    impl Guard {
        /// Returns whether the guard is in place.
        pub(crate) fn is_on(self) -> bool {
            OUT.try_with(|out| *out != self).unwrap_or(true)
        }

        /// Returns the guarded statement, or what is left of it without the guard.
        pub(crate) fn sql(self, statement: &'static str) -> &'static str {
            if self.is_on() {
                return statement;
            }
            match self {
                Self::MoveLocks => READ_STREAM,
                Self::MoveHidden => TELL_WHERE,
                Self::BodyVisible => HOLD_ANY,
                Self::BodyKept => KEEP_UNLOCKED,
                Self::BodyLookedAt if statement.starts_with("delete") => REMOVE_MARKED,
                Self::BodyLookedAt => USED_NEVER,
                _ => statement,
            }
        }
    }
}
