//! When an answer of the old system belongs to an event.
//!
//! An answer belongs to the latest event of its key that came before it, and is that event's only within the mapping's `wait`. Where rows
//! pile up, the last one in an event's slot is what the old system made of it. The rule looks at an event and the next one of its key alone,
//! so that a window of events is compared like all of them at once.
//!
//! Where an answer is written over the one before it, an event's answer may be gone by the time of the look, whoever has written since: the next
//! event's answer, or the same worker once more. Then it is not known what it was, nor whether there was one, and the event is overtaken: to call
//! it missing would be to invent a difference.

use crate::{judge::Heard, mapping::Mapping};
use serde_json::Value;

/// The times at which an answer belongs to an event, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// From then on.
    pub from: i64,
    /// Before then.
    pub until: i64,
    /// Whether the next event of the same key ends it, so that nothing found in it may only mean that the answer came too late to be told
    /// from the next one's.
    pub cut_short: bool,
}

/// What a look at the old system's rows found of an event's key.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// A row in the event's slot, the last one, with the values that [`Answer::asked`](crate::Answer::asked) names, in its order.
    InSlot(Vec<Value>),
    /// None in its slot; one was written after it. Only where rows are overwritten.
    After,
    /// None.
    Nothing,
}

/// What an answer may take between its own date and its commit, in microseconds: a row is usually dated by the time at which its transaction
/// began. The search for answers begins that much after a slot ends.
pub const COMMITS_US: i64 = 5_000_000;

/// The slot of an event that was logged at `at` and due at `due` (the same, unless it was delayed), where `next` is when the next event of
/// the same key was logged, which was looked for to the end of the wait at least. All in microseconds since 1970.
#[must_use]
pub fn slot(mapping: &Mapping, at: i64, due: i64, next: Option<i64>) -> Slot {
    let from = at.saturating_sub(mapping.early.micros());
    let end = end_of_wait(mapping, at, due);
    let next = next.map(|next| next.saturating_sub(mapping.early.micros()).max(from));
    let until = next.map_or(end, |next| next.min(end));
    Slot { from, until, cut_short: until < end }
}

/// From when on an answer to an event is too late, whatever comes after it. An answer exactly at the end of the wait is in time.
#[must_use]
pub fn end_of_wait(mapping: &Mapping, at: i64, due: i64) -> i64 {
    due.max(at).saturating_add(mapping.wait.micros()).saturating_add(1)
}

/// What a find means for the event that has this slot.
#[must_use]
pub fn heard(slot: Slot, found: Found) -> Heard {
    match found {
        Found::InSlot(values) => Heard::Row(values),
        Found::After => Heard::Overtaken,
        Found::Nothing if slot.cut_short => Heard::Overtaken,
        Found::Nothing => Heard::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000;

    fn mapping() -> Mapping {
        Mapping { wait: "10s".parse().unwrap(), early: "1s".parse().unwrap(), answers: Vec::new() }
    }

    fn at(second: i64, next: Option<i64>) -> Slot {
        slot(&mapping(), second * SECOND, second * SECOND, next.map(|next| next * SECOND))
    }

    fn holds(slot: Slot, at: i64) -> bool {
        slot.from <= at && at < slot.until
    }

    #[test]
    fn an_answer_belongs_to_its_event_from_a_little_before_it_until_the_wait_is_over() {
        let alone = at(100, None);
        let seconds = [98, 99, 100, 110, 111].map(|second| holds(alone, second * SECOND));
        assert_eq!((seconds, alone.cut_short), ([false, true, true, true, false], false));
    }

    #[test]
    fn a_deferred_event_may_be_answered_later() {
        assert!(holds(slot(&mapping(), 100 * SECOND, 200 * SECOND, None), 209 * SECOND));
    }

    #[test]
    fn an_answer_after_the_next_event_belongs_to_the_next_event() {
        let first = at(100, Some(105));
        assert_eq!((first.until, first.cut_short), (104 * SECOND, true));
        assert!(!at(100, Some(150)).cut_short);
        let at_once = at(100, Some(100));
        assert!(at_once.from == at_once.until && at_once.cut_short);
    }

    #[test]
    fn an_answer_is_missing_only_if_it_cannot_have_been_overwritten() {
        assert_eq!(heard(at(100, None), Found::Nothing), Heard::Nothing);
        assert_eq!(heard(at(100, Some(105)), Found::Nothing), Heard::Overtaken);
        assert_eq!(heard(at(100, Some(150)), Found::Nothing), Heard::Nothing);
        assert_eq!(heard(at(100, Some(150)), Found::After), Heard::Overtaken, "it was written over, or is late");
        let values = vec![Value::Null];
        assert_eq!(heard(at(100, Some(105)), Found::InSlot(values.clone())), Heard::Row(values));
    }

    /// A key's events, when each was answered (with its number for the value), and when the comparison runs, after every wait.
    fn story() -> impl Strategy<Value = (Vec<(i64, i64)>, i64)> {
        let gaps = prop::collection::vec((0..40 * SECOND, 0..9 * SECOND), 1..8);
        (gaps, 0..60 * SECOND).prop_map(|(gaps, later)| {
            let mut now = 0;
            let mut answered = i64::MIN;
            let events: Vec<(i64, i64)> = gaps
                .into_iter()
                .map(|(gap, takes)| {
                    now += gap;
                    // One after the other, as a worker does.
                    answered = answered.max(now + takes);
                    (now, answered)
                })
                .collect();
            (events, now + 11 * SECOND + later)
        })
    }

    /// What a look at `now` finds for the event in that place.
    fn look(events: &[(i64, i64)], place: usize, now: i64, overwritten: bool) -> Heard {
        let (logged, _) = events[place];
        let next = events.get(place + 1).map(|(logged, _)| *logged).filter(|next| *next < now);
        let slot = slot(&mapping(), logged, logged, next);
        let written = || events.iter().enumerate().filter(|(_, (_, answered))| *answered < now);
        let there: Vec<(usize, i64)> = written().map(|(number, (_, answered))| (number, *answered)).collect();
        let there = if overwritten { &there[there.len().saturating_sub(1)..] } else { &there[..] };
        let row = there.iter().rev().find(|(_, answered)| holds(slot, *answered));
        let after = there.iter().find(|(_, answered)| *answered >= slot.until);
        let found = match (row, after) {
            (Some((number, _)), _) => Found::InSlot(vec![Value::from(*number)]),
            (None, Some(_)) if overwritten => Found::After,
            _ => Found::Nothing,
        };
        heard(slot, found)
    }

    proptest! {
        #[test]
        fn no_answer_belongs_to_two_events(mut times in prop::collection::vec(0..60 * SECOND, 1..8), answer in 0..80 * SECOND) {
            times.sort_unstable();
            let slots = times.iter().enumerate().map(|(place, at)| slot(&mapping(), *at, *at, times.get(place + 1).copied()));
            prop_assert!(slots.filter(|slot| holds(*slot, answer)).count() <= 1);
        }

        #[test]
        fn an_old_system_that_answers_in_time_never_misses_an_event((events, now) in story(), overwritten in any::<bool>()) {
            for place in (0..events.len()).filter(|place| events[*place].1 - events[*place].0 <= 10 * SECOND) {
                prop_assert_ne!(look(&events, place, now, overwritten), Heard::Nothing, "{} of {:?} at {}", place, events, now);
            }
        }

        #[test]
        fn an_event_far_from_the_next_one_always_has_an_outcome((mut events, now) in story(), missed in any::<prop::sample::Index>()) {
            // Each answered within nine seconds, the next event half a minute later, and rows pile up.
            for (place, event) in events.iter_mut().enumerate() {
                *event = (i64::try_from(place).unwrap() * 30 * SECOND, i64::try_from(place).unwrap() * 30 * SECOND + event.1 % (9 * SECOND));
            }
            let now = now + 300 * SECOND;
            for place in 0..events.len() {
                prop_assert_eq!(look(&events, place, now, false), Heard::Row(vec![Value::from(place)]));
            }
            let missed = missed.index(events.len());
            events[missed].1 = i64::MAX;
            prop_assert_eq!(look(&events, missed, now, false), Heard::Nothing);
        }
    }
}
