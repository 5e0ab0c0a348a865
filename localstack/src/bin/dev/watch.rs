//! Which events are news: a window over the event log that moves on as events settle.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use switchyard_store::{State, Store, StoreError, StreamEvent};
use uuid::Uuid;

use crate::tree::{self, Standing};

/// Events read in one query.
const PAGE: i64 = 500;

/// A transaction that took its sequence early may commit late: so many settled events stay in view for it.
const LATECOMERS: i64 = 200;

/// An event is shown as it is when it has not settled for so long.
const IMPATIENCE: Duration = Duration::from_secs(5);

/// How a delivery stands, as far as it is worth telling again.
type Shown = Vec<(String, i32, Option<State>, u16)>;

/// The window.
#[derive(Debug)]
pub(crate) struct Watch {
    start: i64,
    after: i64,
    seen: BTreeMap<i64, Seen>,
    types: HashMap<Uuid, String>,
    total: u64,
}

#[derive(Debug)]
struct Seen {
    since: Instant,
    settled: bool,
    shown: Option<Shown>,
}

/// An event that is worth showing, and the type of the one that caused it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) event: StreamEvent,
    pub(crate) cause: Option<String>,
}

impl Watch {
    /// Watches the events after a place in the log.
    pub(crate) fn after(seq: i64) -> Watch {
        Watch { start: seq, after: seq, seen: BTreeMap::new(), types: HashMap::new(), total: 0 }
    }

    /// What has happened since the last call, oldest first. An event comes once it has settled; before that when an agent has failed
    /// or when it waits for long, and then again whenever something changed.
    pub(crate) async fn news(&mut self, store: &Store) -> Result<Vec<News>, StoreError> {
        let mut news = Vec::new();
        let mut after = self.after;
        loop {
            let events = store.stream(after, PAGE).await?;
            let Some(last) = events.last().map(|event| event.seq) else { break };
            let is_last_page = i64::try_from(events.len()).is_ok_and(|n| n < PAGE);
            news.extend(events.into_iter().filter_map(|event| self.hear(event, Instant::now())));
            after = last;
            if is_last_page {
                break;
            }
        }
        self.move_on();
        Ok(news)
    }

    /// How many events were seen, those that were no news included.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// How many events have not settled.
    pub(crate) fn open(&self) -> usize {
        self.seen.values().filter(|seen| !seen.settled).count()
    }

    fn hear(&mut self, event: StreamEvent, now: Instant) -> Option<News> {
        self.types.entry(event.id).or_insert_with(|| event.event_type.clone());
        let standing = tree::standing(&event);
        let seen = self.seen.entry(event.seq).or_insert_with(|| {
            self.total += 1;
            Seen { since: now, settled: false, shown: None }
        });
        seen.settled = standing == Standing::Settled;
        let is_due =
            standing != Standing::UnderWay || now.duration_since(seen.since) >= IMPATIENCE || seen.shown.is_some();
        let shown = deliveries_of(&event);
        if !is_due || seen.shown.as_ref() == Some(&shown) {
            return None;
        }
        let is_first = seen.shown.replace(shown).is_none();
        let cause = event.causation_id.as_deref().and_then(|id| Uuid::parse_str(id).ok());
        let cause = cause.and_then(|id| self.types.get(&id)).cloned();
        // Its cause has shown it as an effect already, and there is nothing else to say.
        if is_first && cause.is_some() && event.deliveries.is_empty() && event.published {
            return None;
        }
        Some(News { event, cause })
    }

    /// Forgets settled events, up to the first that has not settled.
    fn move_on(&mut self) {
        let Some(newest) = self.seen.keys().next_back().copied() else { return };
        let first_open = self.seen.iter().find(|(_, seen)| !seen.settled).map_or(newest, |(seq, _)| seq - 1);
        self.after = first_open.min(newest - LATECOMERS).max(self.start).max(self.after);
        let after = self.after;
        self.seen.retain(|seq, _| *seq > after);
        if self.types.len() > 20_000 {
            self.types.clear(); // causes older than that go unnamed
        }
    }
}

fn deliveries_of(event: &StreamEvent) -> Shown {
    let row = |delivery: &switchyard_store::StreamDelivery| {
        // That it was asked for is no news.
        let state = delivery.state.filter(|state| *state != State::Assigned);
        (delivery.agent.clone(), delivery.run, state, delivery.attempts)
    };
    event.deliveries.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::{delivery, event};

    fn at(seq: i64, state: Option<State>) -> StreamEvent {
        StreamEvent { seq, id: Uuid::from_u128(seq as u128), ..event(vec![delivery("sentiment", state)]) }
    }

    #[test]
    fn an_event_is_news_once_when_it_settles() {
        let (mut watch, now) = (Watch::after(0), Instant::now());
        assert_eq!(watch.hear(at(1, None), now), None);
        assert!(watch.hear(at(1, Some(State::Done)), now).is_some());
        assert_eq!(watch.hear(at(1, Some(State::Done)), now), None);
    }

    #[test]
    fn an_event_that_waits_for_long_is_shown_and_shown_again_when_it_settles() {
        let (mut watch, now) = (Watch::after(0), Instant::now());
        assert_eq!(watch.hear(at(1, None), now), None);
        assert!(watch.hear(at(1, None), now + IMPATIENCE).is_some());
        assert_eq!(watch.hear(at(1, Some(State::Assigned)), now + IMPATIENCE), None);
        assert!(watch.hear(at(1, Some(State::Done)), now + IMPATIENCE).is_some());
    }

    #[test]
    fn each_failed_attempt_is_news() {
        let (mut watch, now) = (Watch::after(0), Instant::now());
        let failing = |attempts| {
            let mut event = at(1, Some(State::Failing));
            event.deliveries[0].attempts = attempts;
            event
        };
        assert!(watch.hear(failing(1), now).is_some());
        assert_eq!(watch.hear(failing(1), now), None);
        assert!(watch.hear(failing(2), now).is_some());
    }

    #[test]
    fn an_event_without_a_subscriber_is_shown_by_its_cause_alone() {
        let (mut watch, now) = (Watch::after(0), Instant::now());
        watch.hear(at(1, Some(State::Done)), now);
        let effect = StreamEvent { seq: 2, causation_id: Some(Uuid::from_u128(1).to_string()), ..event(Vec::new()) };
        assert_eq!(watch.hear(effect, now), None);
        assert_eq!(watch.open(), 0);
    }

    #[test]
    fn the_window_stays_before_the_first_open_event_and_leaves_room_for_latecomers() {
        let (mut watch, now) = (Watch::after(0), Instant::now());
        for seq in 1..=1000 {
            watch.hear(at(seq, (seq != 300).then_some(State::Done)), now);
        }
        watch.move_on();
        assert_eq!(watch.after, 299);
        watch.hear(at(300, Some(State::Done)), now);
        watch.move_on();
        assert_eq!(watch.after, 1000 - LATECOMERS);
    }
}
