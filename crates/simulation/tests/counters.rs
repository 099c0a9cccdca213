//! A hundred devices with wrong clocks add to one counter: the sum is exact, and nothing is a
//! conflict.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

use coditect_client::perform_local;
use coditect_core::sync::{Action, Engine, Failure, Input, Options, Report};
use coditect_local_store::{LocalStore, Random};
use coditect_protocol::catalogue::File;
use coditect_protocol::{OrganizationId, UserId};
use coditect_simulation::model::Server;
use uuid::Uuid;

const NOW: i64 = 1_800_000_000_000;
const USER: UserId = UserId::new(Uuid::from_u128(1));
const DEVICES: u64 = 100;

fn device(server: &mut Server, seed: u64) -> LocalStore {
    let mut store = LocalStore::in_memory(NOW, Random::Seeded(seed)).unwrap();
    let device = server.register(USER, store.device());
    assert_eq!(device, store.device());
    store
        .bind(OrganizationId::new(server.organization()), USER)
        .unwrap();
    store
}

fn sync(server: &mut Server, store: &mut LocalStore, clock_ms: i64) -> Report {
    let mut engine = Engine::new(Options::default());
    let mut action = engine.start();
    loop {
        let refused = |problem| Failure::Refused(problem);
        let input = match action {
            Action::Done(report) => return *report,
            Action::Pull(request) => {
                Input::Pulled(server.pull(USER, &request).map(Box::new).map_err(refused))
            }
            Action::Push(batch) => {
                let reply = server.push(USER, &batch.request, NOW);
                Input::Pushed(reply.map(Box::new).map_err(refused))
            }
            local => perform_local(store, local, clock_ms).unwrap(),
        };
        action = engine.handle(input);
    }
}

#[test]
fn a_hundred_devices_add_to_one_counter() {
    let mut server = Server::new(1);
    let mut stores: Vec<_> = (0..DEVICES).map(|seed| device(&mut server, seed)).collect();
    let insert = "insert into skill_learnings (skill_name, learning) values ('s', 'l')";
    stores[0].execute_sql(File::Org, insert).unwrap();
    stores[0].stamp_new_marks(File::Org, NOW).unwrap();
    for store in &mut stores {
        sync(&mut server, store, NOW);
    }
    let mut sum = 1;
    // All write before any of them hears of another.
    for (at, store) in (1..).zip(&mut stores) {
        for _ in 0..2 {
            let add = format!("update skill_learnings set usage_count = usage_count + {at}");
            store.execute_sql(File::Org, &add).unwrap();
            sum += at;
        }
    }
    for (at, store) in (0..).zip(&mut stores) {
        // Some are a day fast, some a day slow.
        let clock_ms = NOW + (at % 3 - 1) * 86_400_000;
        store.stamp_new_marks(File::Org, clock_ms).unwrap();
        let report = sync(&mut server, store, clock_ms);
        assert_eq!(
            (report.pushed, report.conflicts, report.rejected),
            (1, 0, 0),
            "device {at}"
        );
    }
    for store in &mut stores {
        let report = sync(&mut server, store, NOW);
        assert_eq!(report.converged, Some(true));
        let rows = store
            .query_sql(File::Org, "select usage_count from skill_learnings")
            .unwrap();
        assert_eq!(rows, [[sum]]);
        assert!(store.conflicts(File::Org, true).unwrap().is_empty());
    }
}
