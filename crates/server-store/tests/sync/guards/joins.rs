//! Joined pushes.

use coditect_protocol::catalogue::File;
use coditect_protocol::wire::push::Status;
use coditect_server_store::sync::Guard;

use super::{both, run};
use crate::joined::{Office, Reply, message};
use crate::support::{count, digests};

fn is_applied(reply: &Reply) -> bool {
    let applied = |reply: &coditect_protocol::wire::push::PushReply| {
        reply.outcomes.iter().all(|it| it.status == Status::Applied)
    };
    reply.as_ref().is_ok_and(applied)
}

/// Pushes messages of three people together, the second of which has another content.
async fn three(office: &Office, out: Option<Guard>, second: &str) -> Vec<Reply> {
    let contents = ["fine", second, "fine"];
    let requests = office.peers.iter().zip(contents).map(|(peer, content)| {
        let change = message(peer, &format!("of {}", peer.device), content);
        (peer, peer.request(peer.own(), File::Sessions, vec![change]))
    });
    run(out, office.together(requests.collect())).await
}

/// How many pushes of three are stored when the database refuses a row of the second.
async fn beside_a_bad_one(out: Option<Guard>) -> (usize, i64) {
    let office = Office::new(3).await;
    let limit = "alter table context_messages add constraint short check (length(content) < 100)";
    let admin = office.db.superuser_client().await;
    admin.batch_execute(limit).await.unwrap();
    let replies = three(&office, out, &"x".repeat(200)).await;
    let applied = replies.iter().filter(|reply| is_applied(reply)).count();
    (applied, count(&office.db, "context_messages").await)
}

#[tokio::test]
async fn without_going_one_by_one_a_bad_push_fails_all_that_it_met() {
    let [alone, together] = both(Guard::JoinedAlone);
    assert_eq!(beside_a_bad_one(alone).await, (2, 2));
    assert_eq!(beside_a_bad_one(together).await, (0, 0));
}

/// How many pushes of three are answered as stored, and how many are, when the commit fails.
async fn before_a_failing_commit(out: Option<Guard>) -> (usize, i64) {
    let office = Office::new(3).await;
    let late = "create function late() returns trigger language plpgsql as $$ begin
            if new.content = 'late' then raise exception 'too late'; end if;
            return null;
        end $$;
        create constraint trigger late after insert on context_messages
        deferrable initially deferred for each row execute function late()";
    let admin = office.db.superuser_client().await;
    admin.batch_execute(late).await.unwrap();
    let replies = three(&office, out, "late").await;
    let applied = replies.iter().filter(|reply| is_applied(reply)).count();
    (applied, count(&office.db, "context_messages").await)
}

#[tokio::test]
async fn answered_before_the_commit_joined_pushes_are_acknowledged_and_lost() {
    let [after, before] = both(Guard::JoinedCommit);
    assert_eq!(before_a_failing_commit(after).await, (2, 2));
    assert_eq!(before_a_failing_commit(before).await, (3, 0));
}

/// Two people push the same fact into one scope, together; returns how many times it is answered
/// as new, and whether the digests are those of the rows.
async fn the_same_fact(out: Option<Guard>) -> (usize, bool) {
    let office = Office::new(2).await;
    let org = office.peers[0].org();
    let requests = office.peers.iter().map(|peer| {
        let change = message(peer, "the same", "the same");
        (peer, peer.request(org, File::Sessions, vec![change]))
    });
    let replies = run(out, office.together(requests.collect())).await;
    let applied = replies.iter().filter(|reply| is_applied(reply)).count();
    let (kept, expected) = digests(&office.db).await;
    (applied, kept == expected)
}

#[tokio::test]
async fn without_a_look_at_other_parts_a_fact_counts_twice_in_the_digest() {
    let [first, each] = both(Guard::JoinedFirst);
    assert_eq!(the_same_fact(first).await, (1, true));
    assert_eq!(the_same_fact(each).await, (2, false));
}

/// Two people push into one stream, together; returns how many numbers their rows have.
async fn numbers(out: Option<Guard>) -> i64 {
    let office = Office::new(2).await;
    let org = office.peers[0].org();
    let requests = office.peers.iter().map(|peer| {
        let change = message(peer, &format!("of {}", peer.device), "of one");
        (peer, peer.request(org, File::Sessions, vec![change]))
    });
    let replies = run(out, office.together(requests.collect())).await;
    assert!(replies.iter().all(is_applied));
    count(
        &office.db,
        "(select distinct cursor from context_messages) as n",
    )
    .await
}

#[tokio::test]
async fn without_numbers_behind_each_other_two_rows_share_one() {
    let [apart, shared] = both(Guard::JoinedNumbers);
    assert_eq!(numbers(apart).await, 2);
    assert_eq!(numbers(shared).await, 1);
}
