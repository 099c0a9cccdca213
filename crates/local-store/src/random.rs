//! Where ids get their random bits from: the system, or a seed that a simulation chooses.

use uuid::Uuid;

/// Source of random bits for ids; not for secrets.
#[derive(Debug)]
pub enum Random {
    /// The operating system's.
    System,
    /// A sequence that a seed determines (splitmix64).
    Seeded(u64),
}

impl Random {
    /// Returns 64 random bits.
    pub fn bits(&mut self) -> u64 {
        match self {
            Self::System => system_bits() as u64,
            Self::Seeded(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = *state;
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^ (z >> 31)
            }
        }
    }

    /// Returns a UUIDv7 of that time.
    pub fn id(&mut self, unix_ms: i64) -> Uuid {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.bits().to_be_bytes());
        bytes[8..].copy_from_slice(&self.bits().to_be_bytes());
        let mut random = [0; 10];
        random.copy_from_slice(&bytes[..10]);
        coditect_core::hash::random_id(unix_ms.max(0) as u64, random)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that asks the system; callers choose it by Random::System"
)]
fn system_bits() -> u128 {
    // The version and variant bits of a UUID are fixed; folding the halves hides them.
    let bits = Uuid::new_v4().as_u128();
    bits ^ (bits >> 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_ids_again() {
        let ids = |seed| {
            let mut random = Random::Seeded(seed);
            [random.id(5), random.id(5)]
        };
        assert_eq!(ids(1), ids(1));
        assert_ne!(ids(1)[0], ids(1)[1]);
        assert_ne!(ids(1), ids(2));
        assert_ne!(Random::System.id(5), Random::System.id(5));
    }
}
