//! When a rig does something to a program that is at work: the waiting, and the moments spread
//! over what the work takes.

use std::sync::mpsc;
use std::time::Duration;

/// Waits without a clock of the rig's own: nobody sends on the channel.
pub fn pause(time: Duration) {
    let (_sender, receiver) = mpsc::channel::<()>();
    let _ = receiver.recv_timeout(time);
}

/// Returns a fraction between 0 and 1 that depends on the round alone.
#[must_use]
pub fn fraction(round: u64) -> f64 {
    let mixed = (round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}
