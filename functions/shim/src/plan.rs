//! What to publish next: pure. It keeps the order per aggregate and the limits of a call. Time is an argument.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};
use switchyard_bus::{BATCH_ENTRIES, Message, TOPIC_BYTES};
use switchyard_store::Shards;
use tokio::time::Instant;

/// How many events of one aggregate are taken in at once. They leave one at a time, so more would only take the room of others; half of
/// them are left when the next are read, so that a busy aggregate never waits for a read.
pub(crate) const PER_AGGREGATE: usize = 16;
/// How long an aggregate waits after a refusal: from the first to the second, doubled for each further refusal.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// An event that is to be published.
#[derive(Debug, Clone)]
struct Entry {
    /// What keeps its order.
    aggregate: String,
    /// What is sent.
    message: Message,
    /// The aggregate's shard.
    shard: Shards,
    /// Whether it needs a call of its own: a call that it was in failed for the sake of one of its entries.
    alone: bool,
}

/// Until when an aggregate waits after a refusal.
#[derive(Debug, Clone, Copy)]
struct Backoff {
    until: Instant,
    pause: Duration,
}

/// The events that are known to be pending, and which of them are in flight: in a call that has not returned.
#[derive(Debug, Default)]
pub struct Plan {
    waiting: BTreeMap<i64, Entry>,
    in_flight: BTreeMap<i64, Entry>,
    /// The aggregates with an event in flight.
    busy: HashSet<String>,
    backoffs: HashMap<String, Backoff>,
    /// How many events of each aggregate are waiting or in flight.
    counts: HashMap<String, usize>,
    /// Aggregates that fill their room: more of their events may be in the outbox.
    full: HashSet<String>,
    bytes: usize,
    /// Shards that another shim publishes.
    foreign: Shards,
}

impl Plan {
    /// Takes in an event; `message` makes what is sent of it. Does nothing where the event is known already, its aggregate is full, or another
    /// shim publishes its shard: then `message` is not called. Offer the events of one aggregate in sequence.
    ///
    /// # Errors
    /// What `message` returns; the event is not taken in.
    pub fn offer<E>(
        &mut self,
        seq: i64,
        aggregate: &str,
        message: impl FnOnce() -> Result<Message, E>,
    ) -> Result<(), E> {
        if self.knows(seq) || self.full.contains(aggregate) {
            return Ok(());
        }
        let shard = Shards::of(aggregate);
        if self.foreign.contain(shard) {
            return Ok(());
        }
        let entry = Entry { aggregate: aggregate.to_owned(), message: message()?, shard, alone: false };
        let count = self.counts.entry(entry.aggregate.clone()).or_default();
        *count += 1;
        if *count >= PER_AGGREGATE {
            self.full.insert(entry.aggregate.clone());
        }
        self.bytes += entry.message.size();
        self.waiting.insert(seq, entry);
        Ok(())
    }

    /// From now on only these shards are published from here. Waiting events of other shards are forgotten; those in flight stay.
    pub fn restrict(&mut self, shards: Shards) {
        self.foreign = Shards::ALL.without(shards);
        let foreign = |entry: &Entry| self.foreign.contain(entry.shard);
        let seqs: Vec<i64> = self.waiting.iter().filter(|(_, entry)| foreign(entry)).map(|(seq, _)| *seq).collect();
        seqs.into_iter().for_each(|seq| self.forget(seq));
    }

    /// Whether an event of one of these shards is in flight.
    #[must_use]
    pub fn has_in_flight(&self, shards: Shards) -> bool {
        self.in_flight.values().any(|entry| shards.contain(entry.shard))
    }

    /// Whether an event is waiting or in flight.
    #[must_use]
    pub fn knows(&self, seq: i64) -> bool {
        self.waiting.contains_key(&seq) || self.in_flight.contains_key(&seq)
    }

    /// The sequences of all events that are waiting or in flight.
    pub fn seqs(&self) -> impl Iterator<Item = i64> {
        self.waiting.keys().chain(self.in_flight.keys()).copied()
    }

    /// The aggregates that fill their room: a read may leave them out.
    #[must_use]
    pub fn full(&self) -> Vec<String> {
        self.full.iter().cloned().collect()
    }

    /// Whether one of the full aggregates runs low, so that more of it should be read.
    #[must_use]
    pub fn runs_low(&self) -> bool {
        self.full.iter().any(|aggregate| is_low(&self.counts, aggregate))
    }

    /// Aggregates that run low are full no more.
    pub fn reopen(&mut self) {
        let Self { full, counts, .. } = self;
        full.retain(|aggregate| !is_low(counts, aggregate));
    }

    /// The next call: the lowest sequences first, never two events of one aggregate, none of an aggregate that is in flight or backs off.
    /// `None` where nothing may go now.
    pub fn next_call(&mut self, now: Instant) -> Option<Vec<(i64, Message)>> {
        let mut seen: HashSet<&str> = HashSet::new();
        let mut seqs = Vec::new();
        let mut bytes = 0;
        for (&seq, entry) in &self.waiting {
            let aggregate = entry.aggregate.as_str();
            // An earlier event of the aggregate is seen first, so that a later one never overtakes it, not even when it alone would fit.
            if self.busy.contains(aggregate) || self.backs_off(aggregate, now) || !seen.insert(aggregate) {
                continue;
            }
            let size = entry.message.size();
            if !seqs.is_empty()
                && (entry.alone || (bytes + size > TOPIC_BYTES && !switchyard_faults::bug("batch_sum_ignored")))
            {
                continue;
            }
            bytes += size;
            seqs.push(seq);
            if seqs.len() == BATCH_ENTRIES || entry.alone {
                break;
            }
        }
        let mut call = Vec::with_capacity(seqs.len());
        for seq in seqs {
            if let Some(entry) = self.waiting.remove(&seq) {
                self.busy.insert(entry.aggregate.clone());
                call.push((seq, entry.message.clone()));
                self.in_flight.insert(seq, entry);
            }
        }
        (!call.is_empty()).then_some(call)
    }

    /// The topic has accepted this event.
    pub fn accepted(&mut self, seq: i64) {
        if let Some(entry) = self.in_flight.remove(&seq) {
            self.busy.remove(&entry.aggregate);
            self.removed(&entry);
        }
    }

    /// The topic has refused this event: it waits again, and its aggregate alone backs off, for twice as long as the last time.
    pub fn refused(&mut self, seq: i64, now: Instant) {
        if let Some(aggregate) = self.wait_again(seq) {
            let pause = self.backoffs.get(&aggregate).map_or(BACKOFF.0, |last| (last.pause * 2).min(BACKOFF.1));
            self.backoffs.insert(aggregate, Backoff { until: now + pause, pause });
        }
    }

    /// The call that this event was in has failed because of one of its entries: it waits again, for a call of its own.
    pub fn retry_alone(&mut self, seq: i64) {
        self.wait_again(seq);
        if let Some(entry) = self.waiting.get_mut(&seq) {
            entry.alone = true;
        }
    }

    /// This event is not published any more; later ones of its aggregate go on.
    pub fn forget(&mut self, seq: i64) {
        if let Some(entry) = self.waiting.remove(&seq) {
            self.removed(&entry);
        }
    }

    /// When the next backoff ends.
    #[must_use]
    pub fn next_retry(&self, now: Instant) -> Option<Instant> {
        self.backoffs.values().map(|backoff| backoff.until).filter(|until| *until > now).min()
    }

    /// How many events are waiting or in flight.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len() + self.in_flight.len()
    }

    /// How many aggregates they belong to.
    #[must_use]
    pub fn aggregates(&self) -> usize {
        self.counts.len()
    }

    /// How many bytes they are.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is waiting or in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn backs_off(&self, aggregate: &str, now: Instant) -> bool {
        self.backoffs.get(aggregate).is_some_and(|backoff| backoff.until > now)
    }

    /// From in flight back to waiting. Returns its aggregate; `None` where another shim publishes it now, and it is forgotten here.
    fn wait_again(&mut self, seq: i64) -> Option<String> {
        let entry = self.in_flight.remove(&seq)?;
        let aggregate = entry.aggregate.clone();
        self.busy.remove(&aggregate);
        if self.foreign.contain(entry.shard) {
            self.removed(&entry);
            return None;
        }
        self.waiting.insert(seq, entry);
        Some(aggregate)
    }

    /// The counts after an event has left the plan.
    fn removed(&mut self, entry: &Entry) {
        self.backoffs.remove(&entry.aggregate);
        self.bytes -= entry.message.size();
        if let Some(count) = self.counts.get_mut(&entry.aggregate) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&entry.aggregate);
            }
        }
    }
}

/// Whether half of an aggregate's room is free.
fn is_low(counts: &HashMap<String, usize>, aggregate: &str) -> bool {
    counts.get(aggregate).is_none_or(|count| *count <= PER_AGGREGATE / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offer(plan: &mut Plan, seq: i64, aggregate: &str, bytes: usize) {
        let message = || Ok::<_, std::convert::Infallible>(Message::new("x".repeat(bytes)));
        plan.offer(seq, aggregate, message).unwrap();
    }

    fn seqs(call: Option<Vec<(i64, Message)>>) -> Vec<i64> {
        call.into_iter().flatten().map(|(seq, _)| seq).collect()
    }

    #[test]
    fn two_events_of_one_aggregate_are_never_in_flight_together() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        for (seq, aggregate) in [(1, "a"), (2, "a"), (3, "b")] {
            offer(&mut plan, seq, aggregate, 1);
        }
        assert_eq!(seqs(plan.next_call(now)), [1, 3]);
        assert!(seqs(plan.next_call(now)).is_empty());
        plan.accepted(1);
        assert_eq!(seqs(plan.next_call(now)), [2]);
    }

    #[test]
    fn a_refused_event_delays_its_own_aggregate_and_no_other() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        for (seq, aggregate) in [(1, "a"), (2, "b"), (3, "a"), (4, "b")] {
            offer(&mut plan, seq, aggregate, 1);
        }
        assert_eq!(seqs(plan.next_call(now)), [1, 2]);
        plan.refused(1, now);
        plan.accepted(2);
        assert_eq!(seqs(plan.next_call(now)), [4]);
        assert_eq!(plan.next_retry(now), Some(now + BACKOFF.0));
        assert_eq!(seqs(plan.next_call(now + BACKOFF.0)), [1]);
    }

    #[test]
    fn a_refusal_extends_the_backoff_of_its_own_aggregate_alone() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        offer(&mut plan, 1, "a", 1);
        offer(&mut plan, 2, "b", 1);
        plan.next_call(now);
        plan.refused(1, now);
        plan.refused(2, now + BACKOFF.0 / 2);
        assert_eq!(plan.next_retry(now), Some(now + BACKOFF.0));

        let mut at = now + BACKOFF.0;
        for expected in [200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
            assert_eq!(seqs(plan.next_call(at)), if expected == 400 { vec![1, 2] } else { vec![1] });
            plan.accepted(2);
            plan.refused(1, at);
            let until = plan.backoffs["a"].until;
            assert_eq!(until - at, Duration::from_millis(expected));
            at = until;
        }
        assert_eq!(seqs(plan.next_call(at)), [1]);
        plan.accepted(1);
        assert!(plan.backoffs.is_empty(), "an acceptance ends the backoff");
    }

    #[test]
    fn a_busy_aggregate_fills_its_room_and_is_read_again_at_half_of_it() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        for seq in 0..100 {
            offer(&mut plan, seq, "hot", 1);
        }
        offer(&mut plan, 100, "cool", 1);
        assert_eq!((plan.len(), plan.bytes()), (PER_AGGREGATE + 1, PER_AGGREGATE + 1));
        assert_eq!(plan.full(), ["hot"]);
        let half = PER_AGGREGATE as i64 / 2;
        for seq in 0..half {
            assert!(!plan.runs_low());
            plan.reopen();
            assert_eq!(plan.full(), ["hot"]);
            offer(&mut plan, 90, "hot", 1);
            assert!(!plan.knows(90), "no event overtakes those that were left out");
            assert_eq!(seqs(plan.next_call(now))[0], seq);
            plan.accepted(seq);
        }
        assert!(plan.runs_low());
        plan.reopen();
        assert!(plan.full().is_empty() && !plan.runs_low());
        offer(&mut plan, PER_AGGREGATE as i64, "hot", 1);
        assert!(plan.knows(PER_AGGREGATE as i64));
    }

    #[test]
    fn after_a_call_failed_because_of_one_event_each_gets_a_call_of_its_own() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        for (seq, aggregate) in [(1, "a"), (2, "b"), (3, "c"), (4, "a")] {
            offer(&mut plan, seq, aggregate, 1);
        }
        for seq in seqs(plan.next_call(now)) {
            plan.retry_alone(seq);
        }
        offer(&mut plan, 5, "d", 1);
        let calls: Vec<_> = std::iter::from_fn(|| plan.next_call(now)).map(|call| seqs(Some(call))).collect();
        assert_eq!(calls, [vec![1], vec![2], vec![3], vec![5]]);
        plan.accepted(1);
        assert_eq!(seqs(plan.next_call(now)), [4]);
    }

    #[test]
    fn a_large_event_that_does_not_fit_does_not_let_a_later_one_of_its_aggregate_pass() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        offer(&mut plan, 1, "a", TOPIC_BYTES - 10);
        offer(&mut plan, 2, "b", 100);
        offer(&mut plan, 3, "b", 1);
        assert_eq!(seqs(plan.next_call(now)), [1]);
        assert_eq!(seqs(plan.next_call(now)), [2]);
    }

    #[test]
    fn waiting_events_of_a_shard_that_was_given_up_are_forgotten_and_those_in_flight_stay() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        let (a, b, d) = (Shards::of("a"), Shards::of("b"), Shards::of("d"));
        assert!(a != b && b != d && d != a);
        for (seq, aggregate) in [(1, "a"), (2, "b"), (3, "d"), (4, "a"), (5, "b")] {
            offer(&mut plan, seq, aggregate, 1);
        }
        assert_eq!(seqs(plan.next_call(now)), [1, 2, 3]);

        plan.restrict(b);

        assert!(plan.has_in_flight(a) && !plan.knows(4) && plan.knows(5));
        plan.refused(1, now);
        plan.accepted(3);
        assert!(
            !plan.knows(1) && !plan.has_in_flight(Shards::ALL.without(b)),
            "the other shim sends again what is refused"
        );
        offer(&mut plan, 4, "a", 1);
        assert_eq!((plan.len(), plan.bytes(), plan.aggregates()), (2, 2, 1));

        plan.restrict(Shards::ALL);

        offer(&mut plan, 1, "a", 1);
        assert_eq!(seqs(plan.next_call(now)), [1], "nothing of the other shim delays it");
    }

    #[test]
    fn an_event_that_is_known_is_not_taken_in_twice() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        offer(&mut plan, 1, "a", 1);
        offer(&mut plan, 1, "a", 1);
        assert_eq!((plan.len(), seqs(plan.next_call(now))), (1, vec![1]));
        offer(&mut plan, 1, "a", 1);
        assert!(seqs(plan.next_call(now)).is_empty());
    }

    #[test]
    fn an_event_that_is_not_wanted_costs_no_message_and_one_without_a_message_is_not_taken_in() {
        let mut plan = Plan::default();
        plan.restrict(Shards::of("a"));
        offer(&mut plan, 1, "a", 1);
        for (seq, aggregate) in [(1, "a"), (2, "b")] {
            assert_eq!(plan.offer(seq, aggregate, || Err("asked for its message")), Ok(()), "{seq} of {aggregate}");
        }
        assert_eq!(plan.offer(3, "a", || Err("too large")), Err("too large"));
        assert_eq!((plan.len(), plan.aggregates()), (1, 1));
    }

    proptest! {
        /// Whatever is refused or sent alone, and whenever calls overlap and pages are read, each aggregate's events are accepted in sequence,
        /// all of them, within the limits.
        #[test]
        fn every_event_is_accepted_once_and_in_order(
            events in prop::collection::vec((0u8..5, 1usize..100_000), 1..120),
            answers in prop::collection::vec(any::<(u8, u8)>(), 0..400),
        ) {
            let (mut plan, mut now) = (Plan::default(), Instant::now());
            let mut answers = answers.into_iter();
            let mut in_flight: Vec<Vec<i64>> = Vec::new();
            let mut accepted: Vec<i64> = Vec::new();
            while accepted.len() < events.len() {
                plan.reopen();
                let full = plan.full();
                for (index, (aggregate, bytes)) in events.iter().enumerate() {
                    let (seq, aggregate) = (index as i64, aggregate.to_string());
                    if !accepted.contains(&seq) && !full.contains(&aggregate) {
                        offer(&mut plan, seq, &aggregate, *bytes);
                    }
                }
                while in_flight.len() < 3 {
                    let Some(call) = plan.next_call(now) else { break };
                    let bytes: usize = call.iter().map(|(_, message)| message.size()).sum();
                    prop_assert!(call.len() <= BATCH_ENTRIES && (call.len() == 1 || bytes <= TOPIC_BYTES));
                    in_flight.push(call.into_iter().map(|(seq, _)| seq).collect());
                }
                prop_assert!(!in_flight.is_empty(), "nothing may go and nothing is in flight");
                let (_, which) = answers.next().unwrap_or((0, 0));
                let returned = in_flight.swap_remove(usize::from(which) % in_flight.len());
                for seq in returned {
                    match answers.next().unwrap_or((0, 0)).0 % 4 {
                        0 | 1 => {
                            plan.accepted(seq);
                            accepted.push(seq);
                        }
                        2 => plan.refused(seq, now),
                        _ => plan.retry_alone(seq),
                    }
                }
                now += BACKOFF.1;
            }
            prop_assert_eq!((plan.len(), plan.bytes(), plan.aggregates()), (0, 0, 0));
            let mut all = accepted.clone();
            all.sort_unstable();
            prop_assert_eq!(all, (0..events.len() as i64).collect::<Vec<_>>());
            for aggregate in 0..5 {
                let order: Vec<_> = accepted.iter().filter(|seq| events[**seq as usize].0 == aggregate).collect();
                prop_assert!(order.is_sorted(), "{order:?}");
            }
        }
    }
}
