//! Notes how far devices have read, for the status; without making pulls dearer.
//!
//! A pull with nothing new writes nothing, but for once a minute. What is noted too seldom or lost
//! is made good by the next pull, so a failure here is the log's and not the caller's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use coditect_protocol::wire::pull::{Page, PullRequest};
use coditect_protocol::{DeviceId, Epoch};
use coditect_server_store::credential::Caller;
use coditect_server_store::sync::progress::{self, Reading, VIEW};
use coditect_server_store::sync::views::Listed;
use coditect_server_store::sync::{Pulled, SyncError};

use crate::app::context::Asker;
use crate::state::AppState;

/// Seconds between two notes of a device that is told nothing new.
pub const IDLE_SECONDS: i64 = 60;
/// Seconds between two notes of a device that reads page after page.
pub const READING_SECONDS: i64 = 10;
/// Most devices that are remembered; beyond it those of longer ago are forgotten.
pub const DEVICES_MAX: usize = 65_536;

/// When each device was noted last, by this process and its clock. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Noted(Arc<Mutex<HashMap<DeviceId, DateTime<Utc>>>>);

/// How much a reply changed for its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It had nothing new.
    Idle,
    /// There is more to come.
    Reading,
    /// It had something, and reached the end.
    Arrived,
}

impl Step {
    const fn of(rows: usize, at_head: bool) -> Self {
        match (rows, at_head) {
            (_, false) => Self::Reading,
            (0, true) => Self::Idle,
            (_, true) => Self::Arrived,
        }
    }

    const fn seconds(self) -> i64 {
        match self {
            Self::Idle => IDLE_SECONDS,
            Self::Reading => READING_SECONDS,
            Self::Arrived => 0,
        }
    }
}

impl Noted {
    /// Returns whether the device is to be noted now, and then takes it as done. A clock that was
    /// set back counts as time that went by.
    fn take(&self, device: DeviceId, step: Step, now: DateTime<Utc>) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |at: DateTime<Utc>, seconds: i64| {
            let age = now - at;
            age >= TimeDelta::zero() && age < TimeDelta::seconds(seconds)
        };
        if known
            .get(&device)
            .is_some_and(|at| fresh(*at, step.seconds()))
        {
            return false;
        }
        if known.len() >= DEVICES_MAX {
            known.retain(|_, at| fresh(*at, IDLE_SECONDS));
        }
        if known.len() >= DEVICES_MAX {
            known.clear();
        }
        known.insert(device, now);
        true
    }
}

/// Notes what a pull gave out, and up to where its device says that it holds everything.
pub(super) async fn of_pull(
    state: &AppState,
    caller: &Caller,
    request: &PullRequest,
    pulled: &Pulled,
) {
    let (reply, device) = (pulled.heads(), request.device);
    let step = Step::of(
        pulled.counts().sum(),
        reply.pages.iter().all(|page| page.at_head),
    );
    let readings = || {
        // Of a position that is named twice the first counts.
        let asked = request.positions.iter().rev();
        let held: HashMap<_, i64> = asked
            .map(|asked| {
                let n = asked.cursor.map_or(0, |at| at.n);
                ((asked.scope, asked.file), n)
            })
            .collect();
        let reading = |(page, rows): (&Page, usize)| Reading {
            scope: page.scope,
            file: page.file.as_str(),
            n: page.cursor.n,
            held: held.get(&(page.scope, page.file)).copied().unwrap_or(0),
            rows,
        };
        reply
            .pages
            .iter()
            .zip(pulled.counts())
            .map(reading)
            .collect()
    };
    note(state, caller, device, reply.epoch, step, readings).await;
}

/// Notes what a list of messages gave out.
pub(super) async fn of_view(state: &AppState, asker: Asker<'_>, listed: &Listed) {
    let device = asker.device;
    let device = device.unwrap_or_else(|| state.token_key.web_device(asker.caller));
    let reading = Reading {
        scope: asker.scope,
        file: VIEW,
        n: listed.cursor,
        // A view is written on what is stored; its reader holds nothing.
        held: listed.cursor,
        rows: listed.rows.len(),
    };
    let step = Step::of(listed.rows.len(), !listed.has_more);
    note(state, asker.caller, device, listed.epoch, step, || {
        vec![reading]
    })
    .await;
}

/// Notes the readings, which are put together only when it is time to.
async fn note(
    state: &AppState,
    caller: &Caller,
    device: DeviceId,
    epoch: Epoch,
    step: Step,
    readings: impl FnOnce() -> Vec<Reading>,
) {
    let now = state.clock.now();
    if !state.noted.take(device, step, now) {
        return;
    }
    let readings = &readings();
    let noted: Result<(), SyncError> = state
        .db
        .tenant("sync.progress", caller, |mut tx| async move {
            progress::note(&mut tx, device, epoch, readings, now).await
        })
        .await;
    if let Err(error) = noted {
        tracing::warn!(%error, device.id = %device, "a device's position was not noted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_225_600 + seconds, 0).unwrap()
    }

    #[test]
    fn idle_devices_are_noted_once_a_minute_and_arrivals_always() {
        let noted = Noted::default();
        let device = DeviceId::new(Uuid::from_u128(1));
        assert_eq!(Step::of(0, true), Step::Idle);
        assert!(noted.take(device, Step::Idle, at(0)));
        assert!(!noted.take(device, Step::Idle, at(59)));
        assert!(!noted.take(device, Step::Reading, at(9)));
        assert!(noted.take(device, Step::Reading, at(10)));
        assert!(noted.take(device, Step::Arrived, at(10)));
        assert!(noted.take(DeviceId::new(Uuid::from_u128(2)), Step::Idle, at(10)));
        assert!(noted.take(device, Step::Idle, at(70)));
        // The clock was set back.
        assert!(noted.take(device, Step::Idle, at(5)));
    }

    #[test]
    fn only_so_many_devices_are_remembered() {
        let noted = Noted::default();
        for n in 0..=DEVICES_MAX {
            let device = DeviceId::new(Uuid::from_u128(n as u128));
            assert!(noted.take(device, Step::Idle, at(0)));
        }
        assert!(noted.0.lock().unwrap().len() <= DEVICES_MAX);
    }
}
