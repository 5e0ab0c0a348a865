//! What will become of an event, drawn from its id: the agents and the checker draw the same.

use uuid::Uuid;

/// What will become of an event at an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    /// It is done at the first attempt.
    Fine,
    /// It fails twice, and is done at the third attempt.
    Flaky,
    /// It panics once, and is done at the second attempt.
    Panics,
    /// It fails at every attempt, and is parked when they are used up.
    Hopeless,
    /// It is rejected at once.
    Rejected,
}

impl Fate {
    /// The reason that it is parked with, if it is.
    #[must_use]
    pub const fn parked(self) -> Option<&'static str> {
        match self {
            Self::Fine | Self::Flaky | Self::Panics => None,
            Self::Hopeless => Some("attempts_used_up"),
            Self::Rejected => Some(REJECTED),
        }
    }
}

/// The reason of a rejection.
pub(super) const REJECTED: &str = "drawn";

/// Draws the fate of an event at an agent. The same always; each agent draws for itself. Of a thousand events five are rejected, two hopeless,
/// two panic and ten are flaky: enough of each in a run of thousands, and few enough that attempts do not become the run's length.
#[must_use]
pub fn fate(agent: &str, event: Uuid) -> Fate {
    let salt = agent.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let (high, low) = event.as_u64_pair();
    // The finaliser of SplitMix64: ids differ in few bits where a library draws them cheaply.
    let mut mixed = high ^ low.rotate_left(32) ^ salt;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    match (mixed ^ (mixed >> 31)) % 1_000 {
        0..5 => Fate::Rejected,
        5..7 => Fate::Hopeless,
        7..9 => Fate::Panics,
        9..19 => Fate::Flaky,
        _ => Fate::Fine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fates_are_drawn_about_as_often_as_they_say_and_each_agent_draws_for_itself() {
        let drawn = |agent: &str| (0..100_000_u128).map(|n| fate(agent, Uuid::from_u128(n))).collect::<Vec<_>>();
        let (one, other) = (drawn("echo"), drawn("tally"));
        let count = |fate| one.iter().filter(|drawn| **drawn == fate).count();
        assert!((400..600).contains(&count(Fate::Rejected)) && (100..300).contains(&count(Fate::Hopeless)));
        assert!((100..300).contains(&count(Fate::Panics)) && (800..1_200).contains(&count(Fate::Flaky)));
        assert!(one != other && one == drawn("echo"));
    }
}
