//! What `apply` receives and returns.

use crate::Refusal;
use std::{borrow::Cow, collections::HashSet, hash::Hash};
use switchyard_event::{Event, NewEvent};

/// One effect to apply, with the event that it belongs to.
///
/// An effect should hold all that is to be written: shadow mode and a replay compare the effect, and nothing else.
#[derive(Debug)]
pub struct Change<'a, E> {
    /// What to write.
    pub effect: &'a E,
    /// The event that the effect was decided for.
    pub event: &'a Event,
    /// The event's place in the log, as the ledger has it. Negative for the history of a backfill.
    pub sequence: i64,
    /// 0 for a live event, the number of the replay or the backfill otherwise.
    pub run: i32,
    record: usize,
}

impl<'a, E> Change<'a, E> {
    /// An effect of the event of this record. The runtime makes these; `record` is any number that names the record within its batch, since
    /// one event may be in a batch twice: live and in a replay.
    #[must_use]
    pub const fn new(record: usize, event: &'a Event, sequence: i64, run: i32, effect: &'a E) -> Self {
        Self { effect, event, sequence, run, record }
    }
}

impl<E> Clone for Change<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Change<'_, E> {}

/// What [`Agent::apply_batch`](crate::Agent::apply_batch) reports: the events that follow from each change, and which events came too late.
#[derive(Debug, Default)]
pub struct Applied {
    events: Vec<(usize, NewEvent)>,
    superseded: HashSet<usize>,
}

impl Applied {
    /// Everything is written, and no events follow from it.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Appends an event, caused by the event of this change. Those of one event keep the order in which they are emitted: their ids derive
    /// from it, so it must be the same whenever the same changes are applied.
    pub fn emit(&mut self, change: &Change<'_, impl Sized>, event: NewEvent) {
        self.events.push((change.record, event));
    }

    /// Settles the event of this change as superseded: a newer event has written already. Nothing of this event may have been written; its
    /// decision's events are not appended. An agent that cannot tell before it has written returns [`Refusal::Superseded`] instead.
    pub fn supersede(&mut self, change: &Change<'_, impl Sized>) {
        self.superseded.insert(change.record);
    }

    /// Whether the event of this record was superseded.
    #[must_use]
    pub fn is_superseded(&self, record: usize) -> bool {
        self.superseded.contains(&record)
    }

    /// The events that were emitted for this record, in order.
    pub fn events(&self, record: usize) -> impl Iterator<Item = &NewEvent> {
        self.events.iter().filter(move |(of, _)| *of == record).map(|(_, event)| event)
    }
}

/// State that an effect overwrites, such as the sentiment of a post. An agent names it in [`Agent::overwrites`](crate::Agent::overwrites), and the
/// runtime then applies no effect of an event that is older than what has been written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// What kind of thing it is, in the agent's own words.
    pub kind: Cow<'static, str>,
    /// Which one of its kind.
    pub id: String,
}

impl State {
    /// The state with this name.
    #[must_use]
    pub fn new(kind: impl Into<Cow<'static, str>>, id: impl Into<String>) -> Self {
        Self { kind: kind.into(), id: id.into() }
    }
}

/// Of changes with the same key only the last one, which is of the newest event. Postgres refuses an upsert that would write a row twice
/// (`ON CONFLICT DO UPDATE command cannot affect row a second time`), and what the earlier ones write would be overwritten at once.
#[must_use]
pub fn last_of_each<'c, 'e, E, K: Hash + Eq>(
    changes: &'c [Change<'e, E>],
    key: impl Fn(&'e E) -> K,
) -> Vec<&'c Change<'e, E>> {
    let mut seen = HashSet::new();
    let mut last: Vec<_> = changes.iter().rev().filter(|change| seen.insert(key(change.effect))).collect();
    last.reverse();
    last
}

/// [`Agent::apply_batch`](crate::Agent::apply_batch) for an agent that applies one change at a time.
pub(crate) async fn one_by_one<A: crate::Agent>(
    changes: &[Change<'_, A::Effect>],
    tx: &mut A::Tx,
) -> Result<Applied, Refusal> {
    let mut applied = Applied::all();
    for change in changes {
        for event in A::apply(*change, tx).await? {
            applied.emit(change, event);
        }
    }
    Ok(applied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use switchyard_event::EventType;

    fn event() -> Event {
        Event::parse(include_str!("../../event/fixtures/order.placed.v1.json")).unwrap()
    }

    fn emitted(ordinal: usize) -> NewEvent {
        NewEvent::new(EventType::named("a.b"), "t", ordinal.to_string(), &()).unwrap()
    }

    #[test]
    fn events_belong_to_the_record_of_their_change_though_the_same_event_is_there_twice() {
        let event = event();
        let [live, replayed] = [(0, 0), (1, 7)].map(|(record, run)| Change::new(record, &event, 1, run, &()));
        let mut applied = Applied::all();
        applied.emit(&replayed, emitted(0));
        applied.emit(&live, emitted(1));
        applied.emit(&replayed, emitted(2));
        applied.supersede(&live);
        let of = |record| applied.events(record).map(|event| event.aggregate_id.clone()).collect::<Vec<_>>();
        assert_eq!((of(0), of(1)), (vec!["1".to_owned()], vec!["0".to_owned(), "2".to_owned()]));
        assert!(applied.is_superseded(0) && !applied.is_superseded(1));
    }

    proptest! {
        #[test]
        fn the_last_of_each_key_is_what_one_after_the_other_would_leave(keys in prop::collection::vec(0u8..5, 0..12)) {
            let event = event();
            let changes: Vec<_> = keys.iter().enumerate().map(|(at, key)| Change::new(at, &event, at as i64, 0, key)).collect();
            let mut left = std::collections::BTreeMap::new();
            changes.iter().for_each(|change| { left.insert(*change.effect, change.sequence); });
            let last = last_of_each(&changes, |key| *key);
            prop_assert!(last.is_sorted_by_key(|change| change.sequence), "in the order of the changes");
            let last: std::collections::BTreeMap<_, _> = last.iter().map(|change| (*change.effect, change.sequence)).collect();
            prop_assert_eq!(last, left);
        }
    }
}
