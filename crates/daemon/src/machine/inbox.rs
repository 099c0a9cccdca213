//! Everything that the daemon hears, in one place: it can be asked while a run goes on.

use std::collections::VecDeque;

use coditect_client::HintEvent;
use coditect_protocol::catalogue::File;
use tokio::sync::mpsc;

use crate::control::Request;
use crate::watch::Change;

/// How far back a change is compared with those that wait.
const LOOK_BACK: usize = 64;

/// One thing that was heard.
#[derive(Debug)]
pub(super) enum News {
    Change(Change),
    Hint(HintEvent),
    Command(Request),
}

/// What was heard and not worked on yet.
#[derive(Debug)]
pub(super) struct Inbox {
    changes: mpsc::Receiver<Vec<Change>>,
    requests: mpsc::Receiver<Request>,
    hints: Option<mpsc::Receiver<HintEvent>>,
    waiting: VecDeque<News>,
}

impl Inbox {
    pub(super) fn new(
        changes: mpsc::Receiver<Vec<Change>>,
        requests: mpsc::Receiver<Request>,
    ) -> Self {
        Self {
            changes,
            requests,
            hints: None,
            waiting: VecDeque::new(),
        }
    }

    /// Hears another connection for hints from now on; the old one ends.
    pub(super) fn follow(&mut self, hints: mpsc::Receiver<HintEvent>) {
        self.hints = Some(hints);
    }

    pub(super) fn unfollow(&mut self) {
        self.hints = None;
    }

    /// Takes the next news, if there is any.
    pub(super) fn take(&mut self) -> Option<News> {
        self.gather();
        self.waiting.pop_front()
    }

    /// Waits until there is news.
    pub(super) async fn filled(&mut self) {
        if !self.waiting.is_empty() {
            return;
        }
        let hint = async {
            match &mut self.hints {
                Some(hints) => hints.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(changes) = self.changes.recv() => {
                self.put(changes);
            }
            Some(request) = self.requests.recv() => self.waiting.push_back(News::Command(request)),
            hint = hint => match hint {
                Some(hint) => self.waiting.push_back(News::Hint(hint)),
                None => self.hints = None,
            },
            else => std::future::pending().await,
        }
    }

    /// Returns whether something was heard that a long run must not hold up.
    pub(super) fn is_urgent(&mut self) -> bool {
        self.gather();
        self.waiting.iter().any(|news| match news {
            News::Hint(HintEvent::Hints(hints)) => hints.iter().any(|hint| hint.file == File::Org),
            _ => false,
        })
    }

    /// Takes changes in; one that waits already says all that the next one would.
    fn put(&mut self, changes: Vec<Change>) {
        for change in changes {
            let known = self.waiting.iter().rev().take(LOOK_BACK);
            let mut known = known.filter_map(|news| match news {
                News::Change(change) => Some(change),
                _ => None,
            });
            if !known.any(|known| *known == change) {
                self.waiting.push_back(News::Change(change));
            }
        }
    }

    fn gather(&mut self) {
        while let Ok(changes) = self.changes.try_recv() {
            self.put(changes);
        }
        while let Ok(request) = self.requests.try_recv() {
            self.waiting.push_back(News::Command(request));
        }
        while let Some(Ok(hint)) = self.hints.as_mut().map(mpsc::Receiver::try_recv) {
            self.waiting.push_back(News::Hint(hint));
        }
    }
}
