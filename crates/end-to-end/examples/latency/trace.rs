//! Notes when the measured daemons do what: their threads are named after them.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::{Layer, Registry};

/// A moment on a decision's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The daemon saw that somebody wrote.
    Noticed,
    /// The batch leaves.
    Pushing,
    /// A hint says that the stream moved.
    Hinted,
    /// The page is here.
    Pulled,
}

/// What one device did when.
type Moments = Vec<(Instant, Moment)>;

/// What happened when, by device.
#[derive(Clone, Default)]
pub(crate) struct Records(Arc<Mutex<HashMap<usize, Moments>>>);

impl Records {
    pub(crate) fn install() -> Self {
        let records = Self::default();
        let subscriber = Registry::default().with(records.clone());
        tracing::subscriber::set_global_default(subscriber).unwrap();
        records
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    pub(crate) fn of(&self, device: usize) -> Moments {
        let records = self.0.lock().unwrap();
        records.get(&device).cloned().unwrap_or_default()
    }
}

impl<S: Subscriber> Layer<S> for Records {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        let target = metadata.target();
        *metadata.level() <= Level::TRACE
            && (target == "coditect::daemon" || target == "coditect::http")
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let thread = std::thread::current();
        let device = thread.name().and_then(|name| name.strip_prefix("device-"));
        let Some(device) = device.and_then(|number| number.parse().ok()) else {
            return;
        };
        let mut words = Words::default();
        event.record(&mut words);
        let moment = match (words.message.as_str(), words.path.as_str()) {
            ("noticed", _) => Moment::Noticed,
            ("hinted", _) => Moment::Hinted,
            ("sending", "/api/v1/sync/push") => Moment::Pushing,
            ("request", "/api/v1/sync/pull") => Moment::Pulled,
            _ => return,
        };
        let mut records = self.0.lock().unwrap();
        let of = records.entry(device).or_default();
        of.push((Instant::now(), moment));
    }
}

#[derive(Default)]
struct Words {
    message: String,
    path: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "path" => self.path = format!("{value:?}").trim_matches('"').to_owned(),
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "path" {
            value.clone_into(&mut self.path);
        }
    }
}
