//! The backoff of a record that was returned without an attempt.

use std::time::Duration;

/// The longest that such a record waits, at least half of it each time: a dependency that is down for hours must not use up the queue's
/// receives.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// The wait after so many receives, this one included: it doubles from two seconds up to a quarter of an hour, and lies between half of that
/// and all of it by `random`, which is drawn from 0 to 1.
#[must_use]
pub fn after_return(receives: u32, random: f64) -> Duration {
    let ceiling = Duration::from_secs(1 << receives.min(10)).min(LONGEST);
    ceiling.mul_f64(0.5 + random / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_a_quarter_of_an_hour_and_at_least_half_of_it_is_waited() {
        let longest = |receives| after_return(receives, 1.0).as_secs();
        assert_eq!([longest(1), longest(2), longest(5), longest(10), longest(1_000)], [2, 4, 32, 900, 900]);
        assert_eq!(after_return(1_000, 0.0).as_secs(), 450);
    }
}
