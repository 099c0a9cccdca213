//! How often somebody may try to log in: few wrong credentials for one person or licence, more
//! for one address.
//!
//! Each subject has a number of attempts, which come back one by one. An attempt is taken before
//! the credential is looked at, so that guessing in parallel does not help, and given back when
//! it was right. Kept in memory: each server process counts for itself, and starts anew.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hash};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

/// Wrong attempts in a row for one e-mail address or licence.
pub const SUBJECT_ATTEMPTS: u32 = 10;
/// Seconds until one of them comes back.
pub const SUBJECT_SECONDS: u32 = 60;
/// Wrong attempts in a row from one address (of IPv6: one /64).
pub const ADDRESS_ATTEMPTS: u32 = 60;
/// Seconds until one of them comes back.
pub const ADDRESS_SECONDS: u32 = 10;
/// Most subjects that are remembered; those with the fewest wrong attempts are forgotten first.
pub const SUBJECTS_MAX: usize = 65_536;

/// Counts attempts. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub struct Throttle {
    hasher: RandomState,
    buckets: Arc<Mutex<HashMap<u64, Bucket>>>,
}

/// Attempts that were taken; [`Throttle::give_back`] returns them.
#[derive(Debug)]
#[must_use]
pub struct Attempt(Vec<u64>);

/// How full a subject's bucket of missing attempts is.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    rate: Rate,
    /// When all attempts will be back.
    whole_at: DateTime<Utc>,
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    attempts: u32,
    seconds: u32,
}

impl Rate {
    const SUBJECT: Self = Self {
        attempts: SUBJECT_ATTEMPTS,
        seconds: SUBJECT_SECONDS,
    };
    const ADDRESS: Self = Self {
        attempts: ADDRESS_ATTEMPTS,
        seconds: ADDRESS_SECONDS,
    };

    fn one(self) -> TimeDelta {
        TimeDelta::seconds(i64::from(self.seconds))
    }

    fn all(self) -> TimeDelta {
        TimeDelta::seconds(i64::from(self.seconds) * i64::from(self.attempts))
    }
}

impl Throttle {
    /// Takes an attempt for `subject` (kind and text, such as an e-mail address in its normal
    /// form) and one for the address it comes from, if that is known.
    ///
    /// # Errors
    /// The number of seconds until there is an attempt again, at least 1; nothing was taken.
    pub fn take(
        &self,
        subject: (&str, &str),
        address: Option<IpAddr>,
        now: DateTime<Utc>,
    ) -> Result<Attempt, u64> {
        let mut wanted = vec![(self.key(&subject), Rate::SUBJECT)];
        if let Some(address) = address {
            wanted.push((self.key(&("address", network(address))), Rate::ADDRESS));
        }
        let mut buckets = self.lock();
        let mut wait = TimeDelta::zero();
        for (key, rate) in &wanted {
            if let Some(bucket) = buckets.get(key) {
                wait = wait.max(bucket.whole_at - now + rate.one() - rate.all());
            }
        }
        if wait > TimeDelta::zero() {
            let seconds = (wait.num_milliseconds() + 999) / 1_000;
            return Err(seconds.max(1).cast_unsigned());
        }
        for (key, rate) in &wanted {
            if buckets.len() >= SUBJECTS_MAX && !buckets.contains_key(key) {
                forget(&mut buckets, now);
            }
            let bucket = buckets.entry(*key).or_insert(Bucket {
                rate: *rate,
                whole_at: now,
            });
            bucket.whole_at = bucket.whole_at.max(now) + rate.one();
        }
        Ok(Attempt(wanted.into_iter().map(|(key, _)| key).collect()))
    }

    /// Gives an attempt back whose credential was right, or was not looked at.
    pub fn give_back(&self, attempt: Attempt) {
        let mut buckets = self.lock();
        for key in attempt.0 {
            if let Some(bucket) = buckets.get_mut(&key) {
                bucket.whole_at -= bucket.rate.one();
            }
        }
    }

    fn key(&self, subject: &impl Hash) -> u64 {
        self.hasher.hash_one(subject)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes room: forgets those that have all their attempts back, then those that lack one, and
/// so on.
fn forget(buckets: &mut HashMap<u64, Bucket>, now: DateTime<Utc>) {
    let mut missing = 0;
    while buckets.len() >= SUBJECTS_MAX {
        buckets.retain(|_, bucket| bucket.whole_at - now > bucket.rate.one() * missing);
        missing += 1;
    }
}

/// Returns what one customer has of addresses: a whole IPv4 address, 64 bits of an IPv6 one.
fn network(address: IpAddr) -> [u8; 8] {
    let mut out = [0; 8];
    match address.to_canonical() {
        IpAddr::V4(address) => out[..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => out.copy_from_slice(&address.octets()[..8]),
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    const ANN: (&str, &str) = ("email", "ann@acme.example");

    #[test]
    fn wrong_attempts_run_out_and_come_back_one_by_one() {
        let throttle = Throttle::default();
        for _ in 0..SUBJECT_ATTEMPTS {
            drop(throttle.take(ANN, None, at(0)).unwrap());
        }
        assert_eq!(throttle.take(ANN, None, at(0)).unwrap_err(), 60);
        assert_eq!(throttle.take(ANN, None, at(59)).unwrap_err(), 1);
        drop(throttle.take(ANN, None, at(60)).unwrap());
        assert_eq!(throttle.take(ANN, None, at(60)).unwrap_err(), 60);
        // Somebody else is not concerned, nor is a licence of the same text.
        for other in [("email", "bob@acme.example"), ("license", ANN.1)] {
            drop(throttle.take(other, None, at(60)).unwrap());
        }
    }

    #[test]
    fn right_attempts_cost_nothing() {
        let throttle = Throttle::default();
        for _ in 0..5 * ADDRESS_ATTEMPTS {
            let address = Some("10.0.0.1".parse().unwrap());
            let attempt = throttle.take(ANN, address, at(0)).unwrap();
            throttle.give_back(attempt);
        }
    }

    #[test]
    fn address_that_tries_many_people_runs_out() {
        let throttle = Throttle::default();
        let from = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        for number in 0..ADDRESS_ATTEMPTS {
            let email = format!("{number}@acme.example");
            let address = from(&format!("2001:db8::{number:x}"));
            drop(throttle.take(("email", &email), address, at(0)).unwrap());
        }
        let same_network = from("2001:db8::ffff:1");
        assert_eq!(throttle.take(ANN, same_network, at(0)).unwrap_err(), 10);
        // What was refused took nothing from the person.
        for _ in 0..SUBJECT_ATTEMPTS {
            drop(throttle.take(ANN, from("2001:db8:0:1::1"), at(0)).unwrap());
        }
    }

    #[test]
    fn memory_is_bounded_and_the_worst_are_remembered() {
        let throttle = Throttle::default();
        for _ in 0..SUBJECT_ATTEMPTS {
            drop(throttle.take(ANN, None, at(0)).unwrap());
        }
        for number in 0..SUBJECTS_MAX + 10 {
            let email = number.to_string();
            drop(throttle.take(("email", &email), None, at(0)).unwrap());
        }
        assert!(throttle.lock().len() <= SUBJECTS_MAX);
        assert!(throttle.take(ANN, None, at(0)).is_err());
    }
}
