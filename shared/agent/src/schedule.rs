//! How long to wait between attempts.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Exponential backoff with full jitter: attempt *n* waits a random time up to `min(cap, base × 2^(n-1))`.
///
/// Full jitter (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015) spreads those who failed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The longest wait after the first attempt, in milliseconds.
    pub base_ms: u32,
    /// The longest wait at all, in milliseconds.
    pub cap_ms: u32,
}

impl Schedule {
    /// 1 s, 2 s, 4 s, ... capped at 30 s.
    pub const DEFAULT: Self = Self { base_ms: 1_000, cap_ms: 30_000 };

    /// The longest wait after the attempt of this number, counted from 1. Clamped: a count that goes on after a redrive is harmless.
    #[must_use]
    pub fn ceiling(self, attempt: u16) -> Duration {
        let doublings = u32::from(attempt.saturating_sub(1)).min(31);
        let millis = u64::from(self.base_ms).saturating_mul(1 << doublings).min(u64::from(self.cap_ms));
        Duration::from_millis(millis)
    }

    /// The wait after the attempt of this number; `random` is drawn evenly from 0 to 1 by the caller.
    #[must_use]
    pub fn delay(self, attempt: u16, random: f64) -> Duration {
        self.ceiling(attempt).mul_f64(random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_one_two_four_seconds_and_never_over_thirty() {
        let seconds: Vec<_> = (1..=7).map(|n| Schedule::DEFAULT.ceiling(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(Schedule::DEFAULT.ceiling(u16::MAX).as_secs(), 30);
        assert_eq!(Schedule::DEFAULT.ceiling(0).as_secs(), 1);
    }

    #[test]
    fn the_jitter_is_full() {
        assert_eq!(Schedule::DEFAULT.delay(3, 0.0), Duration::ZERO);
        assert_eq!(Schedule::DEFAULT.delay(3, 1.0), Duration::from_secs(4));
        assert_eq!(Schedule::DEFAULT.delay(3, 0.5), Duration::from_secs(2));
    }
}
