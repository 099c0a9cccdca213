//! Tokens: how the server tells a copy of a file from its original (PROTOCOL 25).

use super::Server;
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::push::PushRequest;
use coditect_protocol::{BatchId, DeviceId, Epoch};

/// What the server remembers about a device's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileToken {
    counter: u64,
    current: String,
    /// Token that the last batch was sent with.
    previous: Option<String>,
    last_batch: BatchId,
}

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The file goes on where it stopped.
    Current,
    /// The last batch comes again.
    Repeat,
    /// The file is a copy, or was restored from one.
    Copy,
    /// The token belongs to an earlier life of the database.
    OldLife,
    /// The file knows more than the database: it was set back.
    SetBack,
}

struct Parts {
    epoch: Epoch,
    device: String,
    file: String,
    counter: u64,
}

fn parse(token: &str) -> Option<Parts> {
    let mut parts = token.split('.');
    Some(Parts {
        epoch: parts.next()?.parse().ok()?,
        device: parts.next()?.to_owned(),
        file: parts.next()?.to_owned(),
        counter: parts.next()?.parse().ok()?,
    })
}

impl Server {
    /// Says what a push's token means, given the epoch that the push follows: one of another
    /// epoch is not carried out.
    pub(super) fn push_standing(&self, request: &PushRequest) -> Standing {
        let (device, file, batch) = (request.device, request.file, request.batch_id);
        let sent = request.token.as_deref();
        let of = |token: &str| parse(token).map(|parts| parts.epoch);
        let current = self.database.epoch;
        match request.epoch.filter(|_| self.guards.push_epoch) {
            Some(named) if named != current => match self.standing(device, file, sent, batch) {
                Standing::SetBack if sent.is_some() => Standing::SetBack,
                _ => Standing::OldLife,
            },
            Some(named) => {
                let sent = sent.filter(|sent| of(sent) == Some(named));
                self.standing(device, file, sent, batch)
            }
            None => {
                // Without the epoch only a token of this one says something.
                let ignored = !self.guards.push_epoch;
                let sent = sent.filter(|sent| !ignored || of(sent) == Some(current));
                self.standing(device, file, sent, batch)
            }
        }
    }

    /// Says what a token means, without changing anything.
    pub(super) fn standing(
        &self,
        device: DeviceId,
        file: File,
        token: Option<&str>,
        batch: BatchId,
    ) -> Standing {
        let known = self.database.tokens.get(&(device, file));
        let repeats = known.is_some_and(|known| known.last_batch == batch);
        if !self.guards.token {
            return if repeats {
                Standing::Repeat
            } else {
                Standing::Current
            };
        }
        let Some(token) = token else {
            return match known {
                None => Standing::Current,
                Some(known) if repeats && known.previous.is_none() && self.guards.lost_reply => {
                    Standing::Repeat
                }
                Some(_) => Standing::Copy,
            };
        };
        let Some(parts) = parse(token).filter(|_| self.issued.contains(token)) else {
            return Standing::Copy;
        };
        if parts.device != device.to_string() || parts.file != file.as_str() {
            return Standing::Copy;
        }
        if self.guards.epoch && parts.epoch != self.database.epoch {
            let past = self.database.past_epochs.contains(&parts.epoch);
            return if past {
                Standing::OldLife
            } else {
                Standing::SetBack
            };
        }
        let counter = known.map_or(0, |known| known.counter);
        let repeats = repeats && self.guards.lost_reply;
        match known {
            Some(known) if known.current == token => Standing::Current,
            Some(known) if repeats && known.previous.as_deref() == Some(token) => Standing::Repeat,
            _ if parts.counter > counter && self.guards.token_ahead => Standing::SetBack,
            _ => Standing::Copy,
        }
    }

    /// Says what a pull's token means. It names no batch: the previous token may belong to a
    /// device whose reply was lost.
    pub(super) fn reader_standing(&self, device: DeviceId, file: File, token: &str) -> Standing {
        let known = self.database.tokens.get(&(device, file));
        let batch = known.map_or(BatchId::new(uuid::Uuid::nil()), |known| known.last_batch);
        self.standing(device, file, Some(token), batch)
    }

    /// Signs the token that the file's next push must carry.
    pub(super) fn rotate(
        &mut self,
        device: DeviceId,
        file: File,
        sent: Option<&str>,
        batch: BatchId,
    ) -> String {
        let counter = self
            .database
            .tokens
            .get(&(device, file))
            .map_or(1, |known| known.counter + 1);
        let (epoch, nonce) = (self.database.epoch, self.random.next());
        let current = format!("{epoch}.{device}.{file}.{counter}.{nonce:016x}");
        self.issued.insert(current.clone());
        let token = FileToken {
            counter,
            current: current.clone(),
            previous: sent.map(str::to_owned),
            last_batch: batch,
        };
        self.database.tokens.insert((device, file), token);
        current
    }

    /// Returns the file's current token.
    #[must_use]
    pub fn token(&self, device: DeviceId, file: File) -> Option<String> {
        let known = self.database.tokens.get(&(device, file))?;
        Some(known.current.clone())
    }
}
