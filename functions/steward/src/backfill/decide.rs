//! Which step of a backfill comes next, decided from what was seen. Pure: nothing here asks or waits.
//!
//! Live traffic goes first. A live event never waits behind more of a backfill than [`at_a_time`] has let into the agent's queue, and while the
//! queue, the breaker, the mapping or the outbox is busy with what is live, nothing is let in at all.

use serde::{Deserialize, Serialize};
use std::{fmt, time::Duration};
use switchyard_store::{BackfillNow, BackfillPhase, BreakerState};

/// How many messages of others an agent's queue may hold while it is backfilled. A few are the ordinary state of an agent that is keeping up.
const QUEUE_IS_BUSY: u64 = 100;
/// How many events may wait to be published: what agents emit for a backfill is published, too, in the order of the outbox.
const OUTBOX_IS_BUSY: u32 = 200;
/// How many deliveries of a backfill are unfinished at a time, at least (a batch, or an agent would never get a whole one) and at most.
const AT_A_TIME: (u32, u32) = (10, 100);
/// A pass takes for two thirds of its minute ([`LONGEST`]): at so many times the rate meanwhile, which is the rate over the minute.
const WHILE_TAKING: f64 = 1.5;
/// For how long a pass takes. The rest of its minute is for what is live, and for whatever is lost of it: an empty queue tells.
pub(crate) const LONGEST: Duration = Duration::from_secs(40);

/// What a step has seen of the agent, beyond what the database knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Whether messages flow from its queue to its function; none where it is not deployed, or its mapping could not be asked.
    pub flows: Option<bool>,
    /// How many messages its queue holds: waiting, in flight and delayed.
    pub in_queue: u64,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A window of what comes before anything is sent.
    Prepare,
    /// The next deliveries are written and sent.
    Take {
        /// So many at most.
        at_most: u32,
        /// As long as no more than this are unfinished.
        unfinished: u32,
    },
    /// All are sent; whether all are finished is looked at.
    End,
    /// As many are under way as may be, or as the rate allows.
    Rest,
    /// Something else goes first.
    Wait(Why),
}

/// Why a backfill stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The routing gives the agent nothing.
    NothingRouted,
    /// It has no queue, or its mapping could not be asked.
    NotSeen,
    /// Its mapping is off.
    Paused,
    /// Its breaker is not closed.
    Breaker,
    /// So many messages of others are in its queue.
    Queue(u64),
    /// So many events wait to be published.
    Outbox(u32),
    /// The point up to which nothing can come any more has not moved: a transaction that may still commit some of its events.
    HeldBack,
}

impl Why {
    /// Whether it may be over within seconds, so that it is worth asking again at once.
    #[must_use]
    pub const fn passes_soon(self) -> bool {
        matches!(self, Self::Queue(_) | Self::Outbox(_))
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingRouted => f.write_str("the routing gives it nothing"),
            Self::NotSeen => f.write_str("it is not deployed, or its mapping could not be asked"),
            Self::Paused => f.write_str("its mapping is off"),
            Self::Breaker => f.write_str("its breaker is not closed"),
            Self::Queue(n) => write!(f, "its queue holds {n} other messages"),
            Self::Outbox(n) => write!(f, "{n} events wait to be published"),
            Self::HeldBack => f.write_str("a transaction is open that may still commit some of its events"),
        }
    }
}

/// How many deliveries of a backfill may be unfinished at a time: about as many as a second brings.
#[must_use]
pub fn at_a_time(per_second: u32) -> u32 {
    per_second.clamp(AT_A_TIME.0, AT_A_TIME.1)
}

/// How long after so many were taken the next may be.
#[must_use]
pub fn pause_after(taken: usize, per_second: u32) -> Duration {
    let taken = u32::try_from(taken).unwrap_or(u32::MAX);
    Duration::from_secs_f64(f64::from(taken) / (f64::from(per_second.max(1)) * WHILE_TAKING))
}

/// Decides.
///
/// - What is prepared is the database's alone, in short windows: nothing hinders it.
/// - What is taken waits for whatever is live: an agent that owns nothing, does not run or may not, a queue with messages of others, an outbox
///   that the shim is still emptying.
/// - The rest is arithmetic: what the rate allows, and no more unfinished than [`at_a_time`].
#[must_use]
pub fn decide(now: &BackfillNow, seen: Seen) -> Step {
    match now.phase {
        BackfillPhase::Numbering | BackfillPhase::Counting => return Step::Prepare,
        BackfillPhase::Ending => return Step::End,
        BackfillPhase::Sending => {}
    }
    if let Some(why) = hindered(now, seen) {
        return Step::Wait(why);
    }
    let unfinished = at_a_time(now.per_second);
    match now.allowance.min(unfinished.saturating_sub(now.unfinished)) {
        0 => Step::Rest,
        at_most => Step::Take { at_most, unfinished },
    }
}

fn hindered(now: &BackfillNow, seen: Seen) -> Option<Why> {
    // What is unfinished of the backfill may be in the queue, or held back or lost: at most that much of the depth is its own.
    let others = seen.in_queue.saturating_sub(u64::from(now.unfinished));
    match seen.flows {
        _ if !now.owns => Some(Why::NothingRouted),
        None => Some(Why::NotSeen),
        _ if now.breaker != BreakerState::Closed => Some(Why::Breaker),
        Some(false) => Some(Why::Paused),
        Some(true) if others > QUEUE_IS_BUSY => Some(Why::Queue(others)),
        Some(true) if now.unpublished > OUTBOX_IS_BUSY => Some(Why::Outbox(now.unpublished)),
        Some(true) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sending() -> BackfillNow {
        BackfillNow {
            agent: "painter".into(),
            phase: BackfillPhase::Sending,
            per_second: 50,
            owns: true,
            breaker: BreakerState::Closed,
            unfinished: 0,
            allowance: 1_000,
            unpublished: 0,
        }
    }

    const IDLE: Seen = Seen { flows: Some(true), in_queue: 0 };

    #[test]
    fn where_nothing_is_in_the_way_a_second_s_worth_is_under_way_at_a_time() {
        assert_eq!(decide(&sending(), IDLE), Step::Take { at_most: 50, unfinished: 50 });
        assert_eq!(
            decide(&BackfillNow { unfinished: 48, ..sending() }, IDLE),
            Step::Take { at_most: 2, unfinished: 50 }
        );
        assert_eq!(decide(&BackfillNow { unfinished: 50, ..sending() }, IDLE), Step::Rest);
        assert_eq!([at_a_time(1), at_a_time(50), at_a_time(1_000)], [10, 50, 100]);
    }

    #[test]
    fn a_rate_that_is_used_up_is_waited_for() {
        assert_eq!(decide(&BackfillNow { allowance: 0, ..sending() }, IDLE), Step::Rest);
        assert_eq!(decide(&BackfillNow { allowance: 3, ..sending() }, IDLE), Step::Take { at_most: 3, unfinished: 50 });
        assert_eq!(pause_after(75, 50), Duration::from_secs(1));
        assert_eq!(pause_after(3, 1), Duration::from_secs(2));
    }

    #[test]
    fn whatever_is_live_goes_first() {
        for (now, seen, why) in [
            (BackfillNow { owns: false, ..sending() }, IDLE, Why::NothingRouted),
            (BackfillNow { breaker: BreakerState::Open, ..sending() }, IDLE, Why::Breaker),
            (BackfillNow { breaker: BreakerState::HalfOpen, ..sending() }, IDLE, Why::Breaker),
            (BackfillNow { unpublished: 201, ..sending() }, IDLE, Why::Outbox(201)),
            (sending(), Seen { flows: None, ..IDLE }, Why::NotSeen),
            (sending(), Seen { flows: Some(false), ..IDLE }, Why::Paused),
            (sending(), Seen { in_queue: 101, ..IDLE }, Why::Queue(101)),
        ] {
            assert_eq!(decide(&now, seen), Step::Wait(why));
        }
    }

    #[test]
    fn its_own_messages_do_not_count_as_others() {
        let own = BackfillNow { unfinished: 40, ..sending() };
        assert_eq!(decide(&own, Seen { in_queue: 140, ..IDLE }), Step::Take { at_most: 10, unfinished: 50 });
        assert_eq!(decide(&own, Seen { in_queue: 141, ..IDLE }), Step::Wait(Why::Queue(101)));
    }

    #[test]
    fn a_backfill_in_preparation_or_ended_waits_for_nothing() {
        let busy = Seen { flows: Some(false), in_queue: 10_000 };
        for (phase, step) in [
            (BackfillPhase::Numbering, Step::Prepare),
            (BackfillPhase::Counting, Step::Prepare),
            (BackfillPhase::Ending, Step::End),
        ] {
            assert_eq!(decide(&BackfillNow { phase, owns: false, ..sending() }, busy), step);
        }
    }

    fn anything() -> impl Strategy<Value = (BackfillNow, Seen)> {
        let breaker = prop_oneof![Just(BreakerState::Closed), Just(BreakerState::Open), Just(BreakerState::HalfOpen)];
        let flows = prop_oneof![Just(None), Just(Some(false)), Just(Some(true))];
        let now = (1u32..=1_000, any::<bool>(), breaker, 0u32..300, 0u32..3_000, 0u32..400);
        (now, flows, 0u64..400).prop_map(
            |((per_second, owns, breaker, unfinished, allowance, unpublished), flows, in_queue)| {
                (
                    BackfillNow { per_second, owns, breaker, unfinished, allowance, unpublished, ..sending() },
                    Seen { flows, in_queue },
                )
            },
        )
    }

    proptest! {
        #[test]
        fn a_live_event_never_waits_behind_more_than_a_hundred_of_a_backfill((now, seen) in anything()) {
            if let Step::Take { at_most, .. } = decide(&now, seen) {
                prop_assert!(now.unfinished + at_most <= AT_A_TIME.1 && at_most <= now.allowance && at_most > 0);
            }
        }

        #[test]
        fn nothing_is_taken_for_who_does_not_run_or_is_busy((now, seen) in anything()) {
            if let Step::Take { .. } = decide(&now, seen) {
                prop_assert!(now.owns && now.breaker == BreakerState::Closed && seen.flows == Some(true));
                prop_assert!(seen.in_queue <= QUEUE_IS_BUSY + u64::from(now.unfinished) && now.unpublished <= OUTBOX_IS_BUSY);
            }
        }

        #[test]
        fn no_pace_is_more_than_the_rate_over_a_minute(taken in 0usize..200, per_second in 1u32..=1_000) {
            let pause = pause_after(taken, per_second).as_secs_f64();
            let in_a_minute = taken as f64 / pause.max(f64::MIN_POSITIVE) * LONGEST.as_secs_f64();
            prop_assert!(taken == 0 || in_a_minute <= f64::from(per_second) * 60.0 * 1.001);
        }
    }
}
