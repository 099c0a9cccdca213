//! The sync engine: a state machine without I/O. It says what to do next ([`Action`]) and is
//! told what came of it ([`Input`]). The client runs it over SQLite and HTTP, the simulation
//! over SQLite and a model of the server.
//!
//! One run: adopt what changed, pull to the head, compare digests, push what is queued,
//! critical files first, pull to the head again and compare. An answer that the database was
//! set back, or that a file is a copy, turns into a reconciliation: pull from the start, then
//! push again what the server lacks (PROTOCOL 25, 26).

mod engine;
mod repair;
mod report;

pub use engine::{Engine, Focus, Options};
pub use repair::{Plan, TableRepair, Wanted};
pub use report::{Comparison, Report, Sent, StreamState};

use coditect_protocol::catalogue::File;
use coditect_protocol::wire::moves::{MoveReply, MoveRequest};
use coditect_protocol::wire::pull::{Position, PullReply, PullRequest};
use coditect_protocol::wire::push::{PushReply, PushRequest};
use coditect_protocol::{DeviceId, Epoch, Problem, Scope};

/// A batch on its way out, with the bytes that were stored for it: a resend is the same bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// The batch.
    pub request: PushRequest,
    /// Its JSON as stored in the file.
    pub bytes: Vec<u8>,
}

/// What the driver shall do. Each action is answered by the input that its comment names.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Adopt the file's dirty rows: [`Input::Adopted`].
    Adopt(File),
    /// Read the positions of the scopes, for every file: [`Input::Positions`].
    Positions,
    /// Send a pull: [`Input::Pulled`].
    Pull(PullRequest),
    /// Store a pull's pages and compare digests where a page reaches the head:
    /// [`Input::Applied`].
    Apply(Box<PullReply>),
    /// List the streams of the file that have something queued: [`Input::Queued`].
    ListQueued(File),
    /// Take the stored batch, or make one: [`Input::Batch`].
    NextBatch(File, Scope),
    /// Send a batch: [`Input::Pushed`].
    Push(Box<Outgoing>),
    /// Store the outcomes of a batch: [`Input::Settled`].
    Settle(Box<Outgoing>, Box<PushReply>),
    /// Count a refusal of the whole batch against each of its rows: [`Input::Settled`].
    Refuse(Box<Outgoing>, Box<Problem>),
    /// Take rows of the file that wait to be moved to another scope, none that waits to be
    /// pushed: [`Input::NextMove`].
    NextMove(File),
    /// Send a move: [`Input::Moved`].
    Move(Box<MoveRequest>),
    /// Store the outcomes of a move: [`Input::MoveSettled`].
    SettleMove(Box<MoveRequest>, Box<MoveReply>),
    /// Put the whole move aside with the reason of its refusal: [`Input::MoveSettled`].
    RefuseMove(Box<MoveRequest>, Box<Problem>),
    /// Forget cursors and tokens, remember the epoch, start to note which rows come:
    /// [`Input::Stored`].
    BeginReconcile(Epoch),
    /// Take the new identity, drop the file's token and stored batch, and start to note which
    /// rows come: [`Input::Stored`].
    Fence(File, DeviceId),
    /// Queue every row that did not come since the reconciliation began: [`Input::Stored`].
    FinishReconcile,
    /// Say what shall be repaired, given the digests of all heads: [`Input::Planned`].
    PlanRepair(Vec<Comparison>),
    /// Note whether a repair helped, or is to go on: [`Input::Stored`].
    NoteRepair(bool),
    /// Get a new access token: [`Input::Authenticated`].
    Authenticate,
    /// Wait so many milliseconds: [`Input::Woken`].
    Wait(u64),
    /// The run is over.
    Done(Box<Report>),
}

/// What came of an action.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Dirty rows were adopted.
    Adopted,
    /// Device and positions to pull from.
    Positions(DeviceId, Vec<Position>),
    /// A pull was answered or failed.
    Pulled(Result<Box<PullReply>, Failure>),
    /// Pages were stored.
    Applied(Applied),
    /// Streams with queued changes.
    Queued(Vec<Scope>),
    /// The batch, none when nothing is queued any more.
    Batch(Option<Box<Outgoing>>),
    /// A push was answered or failed.
    Pushed(Result<Box<PushReply>, Failure>),
    /// Outcomes were stored.
    Settled(Settled),
    /// Rows to move, none when no more wait.
    NextMove(Option<Box<MoveRequest>>),
    /// A move was answered or failed.
    Moved(Result<Box<MoveReply>, Failure>),
    /// Outcomes of a move were stored.
    MoveSettled(MoveSettled),
    /// A local write was done.
    Stored,
    /// What shall be repaired.
    Planned(Plan),
    /// Whether a new access token was obtained.
    Authenticated(bool),
    /// The wait is over; random bits for the next one.
    Woken(u64),
}

/// What storing a pull's pages did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// Rows of others that were stored.
    pub pulled: u64,
    /// Digests of both sides, for the pages that reached the head.
    pub heads: Vec<Comparison>,
    /// What differs and has to be looked at more closely.
    pub wanted: Vec<Wanted>,
    /// What was repaired.
    pub repairs: Vec<TableRepair>,
}

/// What storing a batch's outcomes did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Changes that the server took.
    pub pushed: u64,
    /// Changes that it had already.
    pub duplicates: u64,
    /// Changes that met a concurrent one.
    pub conflicts: u64,
    /// Changes that were refused, parked or not.
    pub rejected: u64,
}

/// What storing a move's outcomes did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MoveSettled {
    /// Rows that are in the other scope now.
    pub moved: u64,
    /// Rows that stay where they are, with a reason.
    pub refused: u64,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// No answer: the network, or a server that is starting or stopping. The request may have
    /// been carried out.
    Offline(String),
    /// The access token is not valid (any more).
    Unauthenticated(Box<Problem>),
    /// Too many requests; come back after so many seconds.
    RateLimited(u64, Box<Problem>),
    /// The database was set back; its new epoch.
    EpochChanged(Epoch),
    /// The file is a copy or was restored; the device's new identity.
    Fenced(DeviceId),
    /// A position lies in the stream's future.
    InvalidCursor(Box<Problem>),
    /// The request was refused for good.
    Refused(Box<Problem>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use coditect_protocol::wire::pull::{Page, TableDigest};
    use coditect_protocol::{BatchId, Cursor, ErrorCode};
    use uuid::Uuid;

    const SCOPE: Scope = Scope::User(Uuid::from_u128(5));
    const DEVICE: DeviceId = DeviceId::new(Uuid::from_u128(1));

    fn cursor(epoch: u64, n: i64) -> Cursor {
        Cursor {
            epoch: Epoch(epoch),
            n,
        }
    }

    fn position(cursor: Option<Cursor>) -> Position {
        Position {
            scope: SCOPE,
            file: File::Org,
            cursor,
            token: None,
            descent: None,
        }
    }

    fn batch() -> Box<Outgoing> {
        let request = PushRequest {
            api_version: coditect_protocol::API_VERSION.to_owned(),
            device: DEVICE,
            batch_id: BatchId::new(Uuid::from_u128(9)),
            sent_at_ms: 0,
            file: File::Org,
            scope: SCOPE,
            epoch: None,
            token: None,
            changes: Vec::new(),
        };
        Box::new(Outgoing {
            bytes: Vec::new(),
            request,
        })
    }

    fn head(epoch: u64, digest: &str) -> Applied {
        let side = |digest: &str| {
            let table = "org_decisions".to_owned();
            vec![TableDigest {
                table,
                rows: 1,
                count: 1,
                digest: digest.to_owned(),
            }]
        };
        let comparison = Comparison {
            scope: SCOPE,
            file: File::Org,
            cursor: cursor(epoch, 3),
            local: side("00000000000000aa"),
            server: side(digest),
        };
        Applied {
            pulled: 2,
            heads: vec![comparison],
            ..Applied::default()
        }
    }

    fn reply(epoch: u64) -> Box<PullReply> {
        let page = Page {
            scope: SCOPE,
            file: File::Org,
            changes: Vec::new(),
            cursor: cursor(epoch, 3),
            at_head: true,
            digests: None,
            descent: None,
        };
        Box::new(PullReply {
            epoch: Epoch(epoch),
            scopes: vec![SCOPE],
            pages: vec![page],
        })
    }

    /// Answers actions from a script until the run is done; the script gives what is not
    /// obvious, in order.
    fn run(options: Options, script: Vec<Input>) -> (Vec<String>, Report) {
        run_engine(Engine::new(options), script)
    }

    fn run_engine(mut engine: Engine, script: Vec<Input>) -> (Vec<String>, Report) {
        // What waits to be moved; mostly nothing.
        let mut moves = Vec::new();
        let mut script: std::collections::VecDeque<Input> = script
            .into_iter()
            .filter_map(|input| match input {
                Input::NextMove(request) => {
                    moves.extend(request);
                    None
                }
                input => Some(input),
            })
            .collect();
        let mut log = Vec::new();
        let plan = |input: &Input| matches!(input, Input::Planned(_));
        let mut plans = script.iter().filter(|input| plan(input)).count();
        let mut action = engine.start();
        loop {
            let name = format!("{action:?}");
            log.push(name.split(['(', ' ']).next().unwrap_or_default().to_owned());
            let input = match action {
                Action::Adopt(_) => Input::Adopted,
                Action::BeginReconcile(_) | Action::Fence(..) | Action::FinishReconcile => {
                    Input::Stored
                }
                Action::PlanRepair(_) if plans == 0 => Input::Planned(Plan::default()),
                Action::PlanRepair(_) => {
                    plans -= 1;
                    script.pop_front().expect("the script plans")
                }
                Action::NoteRepair(_) => Input::Stored,
                Action::NextMove(_) => Input::NextMove(moves.pop()),
                Action::Wait(_) => Input::Woken(0),
                Action::Done(report) => {
                    assert!(script.is_empty(), "left over: {script:?}");
                    return (log, *report);
                }
                _ => script
                    .pop_front()
                    .expect("the script covers every question"),
            };
            action = engine.handle(input);
        }
    }

    fn nothing_queued() -> Vec<Input> {
        vec![Input::Queued(Vec::new()); 4]
    }

    fn pull(epoch: u64, digest: &str) -> Vec<Input> {
        vec![
            Input::Positions(DEVICE, vec![position(Some(cursor(epoch, 1)))]),
            Input::Pulled(Ok(reply(epoch))),
            Input::Applied(head(epoch, digest)),
        ]
    }

    fn push_reply() -> Box<PushReply> {
        Box::new(PushReply {
            epoch: Epoch(1),
            token: "t".into(),
            server_time_ms: 0,
            outcomes: Vec::new(),
        })
    }

    const SAME: &str = "00000000000000aa";

    #[test]
    fn a_run_pulls_pushes_and_pulls_again() {
        let settled = Settled {
            pushed: 4,
            duplicates: 1,
            conflicts: 1,
            rejected: 0,
        };
        let mut script = pull(1, SAME);
        script.extend([
            Input::Queued(vec![SCOPE]),
            Input::Batch(Some(batch())),
            Input::Pushed(Ok(push_reply())),
            Input::Settled(settled),
            Input::Batch(None),
        ]);
        script.extend(vec![Input::Queued(Vec::new()); 3]);
        script.extend(pull(1, SAME));
        let (_, report) = run(Options::default(), script);
        assert_eq!((report.pushed, report.pulled, report.conflicts), (4, 4, 1));
        assert_eq!(report.converged, Some(true));
    }

    #[test]
    fn different_digests_are_reported() {
        let mut script = pull(1, SAME);
        script.extend(nothing_queued());
        script.extend(pull(1, "00000000000000ab"));
        assert_eq!(run(Options::default(), script).1.converged, Some(false));
    }

    #[test]
    fn a_changed_epoch_reads_everything_again_before_it_pushes() {
        let mut script = vec![
            Input::Positions(DEVICE, vec![position(Some(cursor(1, 9)))]),
            Input::Pulled(Err(Failure::EpochChanged(Epoch(2)))),
            Input::Positions(DEVICE, vec![position(None)]),
            Input::Pulled(Ok(reply(2))),
            Input::Applied(head(2, SAME)),
        ];
        script.extend(nothing_queued());
        script.extend(pull(2, SAME));
        let (log, report) = run(Options::default(), script);
        let at = |name: &str| log.iter().position(|entry| entry == name);
        assert!(at("BeginReconcile") < at("FinishReconcile"));
        assert!(at("FinishReconcile") < at("ListQueued"));
        assert_eq!((report.reconciled, report.converged), (1, Some(true)));
    }

    #[test]
    fn cursors_of_another_epoch_are_never_followed() {
        let mut script = vec![
            Input::Positions(DEVICE, vec![position(Some(cursor(1, 9)))]),
            Input::Pulled(Ok(reply(2))),
        ];
        script.extend(vec![
            Input::Positions(DEVICE, vec![position(None)]),
            Input::Pulled(Ok(reply(2))),
            Input::Applied(head(2, SAME)),
        ]);
        script.extend(nothing_queued());
        script.extend(pull(2, SAME));
        assert_eq!(run(Options::default(), script).1.reconciled, 1);
    }

    #[test]
    fn an_epoch_that_keeps_changing_ends_the_run() {
        let mut script = Vec::new();
        for epoch in 2..6 {
            script.push(Input::Positions(DEVICE, vec![position(Some(cursor(1, 9)))]));
            script.push(Input::Pulled(Err(Failure::EpochChanged(Epoch(epoch)))));
        }
        let (_, report) = run(Options::default(), script);
        assert_eq!(report.problem.unwrap().code, ErrorCode::EpochChanged);
    }

    #[test]
    fn offline_ends_the_run_after_the_retries_and_says_nothing_about_convergence() {
        let mut script = vec![Input::Positions(DEVICE, vec![position(None)])];
        script.extend(vec![
            Input::Pulled(Err(Failure::Offline("refused".into())));
            3
        ]);
        let (log, report) = run(
            Options {
                retries: 2,
                ..Options::default()
            },
            script,
        );
        assert!(report.offline && report.converged.is_none());
        assert_eq!(log.iter().filter(|name| *name == "Wait").count(), 2);
    }

    #[test]
    fn a_refused_batch_is_counted_and_the_next_stream_goes_on() {
        let problem = Box::new(Problem::new(ErrorCode::PermissionDenied, "no"));
        let mut script = pull(1, SAME);
        script.extend([
            Input::Queued(vec![SCOPE]),
            Input::Batch(Some(batch())),
            Input::Pushed(Err(Failure::Refused(problem))),
            Input::Settled(Settled {
                rejected: 1,
                ..Settled::default()
            }),
        ]);
        script.extend(vec![Input::Queued(Vec::new()); 3]);
        script.extend(pull(1, SAME));
        let (log, report) = run(Options::default(), script);
        assert!(log.contains(&"Refuse".to_owned()));
        assert_eq!(report.rejected, 1);
        assert_eq!(report.problem.unwrap().code, ErrorCode::PermissionDenied);
    }

    fn a_move() -> Input {
        Input::NextMove(Some(Box::new(MoveRequest {
            api_version: coditect_protocol::API_VERSION.to_owned(),
            device: DEVICE,
            batch_id: BatchId::new(Uuid::from_u128(9)),
            file: File::Org,
            from: SCOPE,
            to: Scope::Org(Uuid::from_u128(6)),
            moves: Vec::new(),
        })))
    }

    #[test]
    fn rows_move_after_the_pushes_of_their_file() {
        let settled = MoveSettled {
            moved: 3,
            refused: 1,
        };
        let mut script = pull(1, SAME);
        script.extend([
            a_move(),
            Input::Queued(vec![SCOPE]),
            Input::Batch(None),
            Input::Moved(Ok(Box::new(MoveReply {
                epoch: Epoch(1),
                server_time_ms: 0,
                outcomes: Vec::new(),
            }))),
            Input::MoveSettled(settled),
        ]);
        script.extend(vec![Input::Queued(Vec::new()); 3]);
        script.extend(pull(1, SAME));
        let (log, report) = run(Options::default(), script);
        let at = |name: &str| log.iter().position(|entry| entry == name).unwrap();
        assert!(at("NextBatch") < at("Move") && at("Move") < at("SettleMove"));
        assert_eq!((report.moved, report.rejected), (3, 1));
        assert_eq!(report.converged, Some(true));
    }

    #[test]
    fn a_full_plan_and_a_rate_limit_count_as_no_refusal() {
        let mut script = pull(1, "00000000000000aa");
        let problem = Box::new(Problem::new(ErrorCode::QuotaExceeded, "full"));
        script.extend([
            Input::Queued(vec![SCOPE]),
            Input::Batch(Some(batch())),
            Input::Pushed(Err(Failure::Refused(problem))),
        ]);
        script.extend(vec![Input::Queued(Vec::new()); 3]);
        script.extend(pull(1, "00000000000000aa"));
        let (log, report) = run(Options::default(), script);
        assert!(!log.contains(&"Refuse".to_owned()), "{log:?}");
        assert_eq!(log.iter().filter(|name| *name == "Push").count(), 1);
        assert_eq!((report.rejected, report.pushed), (0, 0));
        assert_eq!(report.problem.unwrap().code, ErrorCode::QuotaExceeded);

        let mut script = pull(1, "00000000000000aa");
        let problem = Box::new(Problem::new(ErrorCode::RateLimited, "too fast"));
        let limited = || Input::Pushed(Err(Failure::RateLimited(7, problem.clone())));
        script.extend([
            Input::Queued(vec![SCOPE]),
            Input::Batch(Some(batch())),
            limited(),
            limited(),
        ]);
        let options = Options {
            retries: 1,
            ..Options::default()
        };
        let (log, report) = run(options, script);
        assert!(!log.contains(&"Refuse".to_owned()), "{log:?}");
        assert_eq!(log[log.len() - 4..], ["Push", "Wait", "Push", "Done"]);
        assert_eq!(report.rejected, 0);
        assert_eq!(report.problem.unwrap().code, ErrorCode::RateLimited);
    }

    #[test]
    fn a_refused_move_is_put_aside_and_the_rest_goes_on() {
        let problem = Box::new(Problem::new(ErrorCode::NotFound, "no such scope"));
        let mut script = pull(1, SAME);
        script.extend([
            a_move(),
            Input::Queued(Vec::new()),
            Input::Moved(Err(Failure::Refused(problem))),
            Input::MoveSettled(MoveSettled {
                moved: 0,
                refused: 2,
            }),
        ]);
        script.extend(vec![Input::Queued(Vec::new()); 3]);
        script.extend(pull(1, SAME));
        let (log, report) = run(Options::default(), script);
        assert!(log.contains(&"RefuseMove".to_owned()));
        assert_eq!(report.problem.unwrap().code, ErrorCode::NotFound);
        assert_eq!(report.rejected, 2);
    }

    #[test]
    fn a_fenced_file_takes_its_new_identity_first() {
        let mut script = pull(1, SAME);
        script.extend([
            Input::Queued(vec![SCOPE]),
            Input::Batch(Some(batch())),
            Input::Pushed(Err(Failure::Fenced(DeviceId::new(Uuid::from_u128(2))))),
        ]);
        script.extend(pull(1, SAME));
        script.extend(nothing_queued());
        script.extend(pull(1, SAME));
        let (log, report) = run(Options::default(), script);
        assert!(log.contains(&"Fence".to_owned()) && log.contains(&"FinishReconcile".to_owned()));
        assert_eq!(report.converged, Some(true));
    }

    #[test]
    fn a_file_is_fenced_when_it_reads_as_well() {
        let mut script = vec![
            Input::Positions(DEVICE, vec![position(Some(cursor(1, 1)))]),
            Input::Pulled(Err(Failure::Fenced(DeviceId::new(Uuid::from_u128(2))))),
        ];
        script.extend(pull(1, SAME));
        script.extend(nothing_queued());
        script.extend(pull(1, SAME));
        let (log, report) = run(Options::default(), script);
        assert!(log.contains(&"Fence".to_owned()) && log.contains(&"FinishReconcile".to_owned()));
        assert_eq!((report.reconciled, report.converged), (1, Some(true)));
    }

    fn wanted(count: i64) -> Wanted {
        let range = coditect_protocol::wire::descent::Range::whole("org_decisions", count);
        Wanted {
            scope: SCOPE,
            file: File::Org,
            descent: coditect_protocol::wire::descent::Descent {
                ranges: vec![range],
                rows: Vec::new(),
            },
        }
    }

    fn repaired(fetched: u64, queued: u64) -> Vec<TableRepair> {
        vec![TableRepair {
            fetched,
            queued,
            ..TableRepair::of(SCOPE, "org_decisions")
        }]
    }

    const OTHER: &str = "00000000000000ab";

    /// A run up to the plan, the digests being different.
    fn until_the_plan(plan: Plan) -> Vec<Input> {
        let mut script = pull(1, SAME);
        script.extend(nothing_queued());
        script.extend(pull(1, OTHER));
        script.push(Input::Planned(plan));
        script
    }

    #[test]
    fn a_difference_is_looked_for_and_what_the_server_lacks_is_pushed() {
        let mut script = until_the_plan(Plan {
            wanted: vec![wanted(900)],
            reread: false,
        });
        for (closer, digest, repairs) in [
            (vec![wanted(20)], OTHER, Vec::new()),
            (Vec::new(), OTHER, repaired(1, 1)),
        ] {
            script.extend([
                Input::Positions(DEVICE, vec![position(Some(cursor(1, 3)))]),
                Input::Pulled(Ok(reply(1))),
                Input::Applied(Applied {
                    wanted: closer,
                    repairs,
                    ..head(1, digest)
                }),
            ]);
        }
        script.extend([Input::Queued(vec![SCOPE]), Input::Batch(None)]);
        script.extend(vec![Input::Queued(Vec::new()); 3]);
        script.extend(pull(1, SAME));
        let (log, report) = run(Options::default(), script);
        assert_eq!((report.rounds, report.converged), (2, Some(true)));
        assert_eq!(report.repairs, repaired(1, 1));
        assert!(report.repair_bytes > 0 && !report.unfinished);
        let at = |name: &str| log.iter().position(|entry| entry == name);
        assert!(at("PlanRepair") < at("NoteRepair"));
        assert_eq!(log.iter().filter(|name| *name == "PlanRepair").count(), 1);
    }

    #[test]
    fn a_question_whose_page_ends_before_the_head_is_asked_again() {
        let mut script = until_the_plan(Plan {
            wanted: vec![wanted(900)],
            reread: false,
        });
        for applied in [Applied::default(), head(1, SAME)] {
            script.extend([
                Input::Positions(DEVICE, vec![position(Some(cursor(1, 3)))]),
                Input::Pulled(Ok(reply(1))),
                Input::Applied(applied),
            ]);
        }
        let (_, report) = run(Options::default(), script);
        // What only brought others' writes is no round of the repair.
        let rounds = (report.rounds, report.rounds_behind);
        assert_eq!((rounds, report.converged), ((1, 1), Some(true)));
    }

    #[test]
    fn a_descent_that_finds_no_end_is_cut_off() {
        let mut script = until_the_plan(Plan {
            wanted: vec![wanted(900)],
            reread: false,
        });
        for _ in 0..64 {
            script.extend([
                Input::Positions(DEVICE, vec![position(Some(cursor(1, 3)))]),
                Input::Pulled(Ok(reply(1))),
                Input::Applied(Applied {
                    wanted: vec![wanted(900)],
                    ..head(1, OTHER)
                }),
            ]);
        }
        let (_, report) = run(Options::default(), script);
        assert_eq!((report.rounds, report.converged), (64, Some(false)));
        assert!(report.unfinished);
    }

    #[test]
    fn what_descents_do_not_mend_is_read_again_from_the_start_once() {
        let mut script = until_the_plan(Plan {
            wanted: Vec::new(),
            reread: true,
        });
        script.extend(pull(1, OTHER));
        script.extend(nothing_queued());
        script.extend(pull(1, OTHER));
        let (log, report) = run(Options::default(), script);
        assert!(log.contains(&"BeginReconcile".to_owned()));
        assert!(log.contains(&"NoteRepair".to_owned()));
        assert_eq!((report.reconciled, report.converged), (1, Some(false)));
    }

    #[test]
    fn a_run_that_only_verifies_pushes_and_repairs_nothing() {
        let options = Options {
            verify_only: true,
            ..Options::default()
        };
        let (log, report) = run(options, pull(1, OTHER));
        assert!(!log.contains(&"ListQueued".to_owned()));
        assert!(!log.contains(&"PlanRepair".to_owned()));
        assert_eq!(report.converged, Some(false));
    }

    #[test]
    fn an_ended_session_is_renewed_once() {
        let problem = Box::new(Problem::new(ErrorCode::Unauthenticated, "expired"));
        let script = vec![
            Input::Positions(DEVICE, vec![position(None)]),
            Input::Pulled(Err(Failure::Unauthenticated(problem.clone()))),
            Input::Authenticated(true),
            Input::Pulled(Err(Failure::Unauthenticated(problem))),
        ];
        let (_, report) = run(Options::default(), script);
        assert_eq!(report.problem.unwrap().code, ErrorCode::Unauthenticated);
    }

    #[test]
    fn a_focused_run_sends_and_reads_what_it_is_about_and_nothing_else() {
        let focus = Focus {
            push: vec![File::Org],
            ..Focus::default()
        };
        let script = vec![
            Input::Queued(vec![SCOPE]),
            Input::Batch(Some(batch())),
            Input::Pushed(Ok(push_reply())),
            Input::Settled(Settled::default()),
            Input::Batch(None),
        ];
        let (log, report) = run_engine(Engine::focused(Options::default(), focus), script);
        assert!(!log.contains(&"Adopt".to_owned()) && !log.contains(&"Pull".to_owned()));
        assert_eq!(report.converged, None);

        let focus = Focus {
            pull: vec![(SCOPE, File::Org)],
            ..Focus::default()
        };
        let other = Position {
            file: File::Projects,
            ..position(None)
        };
        let mut engine = Engine::focused(Options::default(), focus);
        assert_eq!(engine.start(), Action::Positions);
        let all = vec![other, position(Some(cursor(1, 1)))];
        match engine.handle(Input::Positions(DEVICE, all)) {
            Action::Pull(request) => {
                assert_eq!(request.positions, [position(Some(cursor(1, 1)))]);
            }
            action => panic!("{action:?}"),
        }
        assert!(matches!(
            engine.handle(Input::Pulled(Ok(reply(1)))),
            Action::Apply(_)
        ));
        match engine.handle(Input::Applied(head(1, SAME))) {
            Action::Done(report) => {
                assert_eq!((report.converged, report.comparisons.len()), (None, 1));
            }
            action => panic!("{action:?}"),
        }
    }

    #[test]
    fn a_focused_run_that_meets_a_changed_epoch_becomes_a_whole_one() {
        let focus = Focus {
            pull: vec![(SCOPE, File::Org)],
            ..Focus::default()
        };
        let mut script = vec![
            Input::Positions(DEVICE, vec![position(Some(cursor(1, 9)))]),
            Input::Pulled(Err(Failure::EpochChanged(Epoch(2)))),
            Input::Positions(DEVICE, vec![position(None)]),
            Input::Pulled(Ok(reply(2))),
            Input::Applied(head(2, SAME)),
        ];
        script.extend(nothing_queued());
        script.extend(pull(2, SAME));
        let (_, report) = run_engine(Engine::focused(Options::default(), focus), script);
        assert_eq!((report.reconciled, report.converged), (1, Some(true)));
    }

    #[test]
    fn push_only_pulls_nothing() {
        let (log, report) = run(
            Options {
                push_only: true,
                ..Options::default()
            },
            nothing_queued(),
        );
        assert!(!log.contains(&"Pull".to_owned()));
        assert_eq!(report.converged, None);
    }
}
