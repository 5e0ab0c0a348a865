//! What to publish next: pure. It keeps the order per aggregate and the limits of a call, and knows time only as it is told.

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
/// How long an aggregate is held back after a refusal: doubling while its refusals go on, from the first to the second.
const HOLD: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// An event waiting to be published.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// What keeps its order.
    pub aggregate: String,
    /// What is sent.
    pub message: Message,
    /// The aggregate's shard.
    shard: Shards,
    /// Whether it needs a call of its own: a call that it was in failed for the sake of one of its entries.
    alone: bool,
}

impl Waiting {
    /// A message of this aggregate.
    #[must_use]
    pub fn new(aggregate: String, message: Message) -> Self {
        Self { shard: Shards::of(&aggregate), aggregate, message, alone: false }
    }
}

/// Why an aggregate does not go, and for how long.
#[derive(Debug, Clone, Copy)]
struct Hold {
    until: Instant,
    pause: Duration,
}

/// The events that are known to be pending, and which of them are on their way.
#[derive(Debug, Default)]
pub struct Plan {
    waiting: BTreeMap<i64, Waiting>,
    flying: BTreeMap<i64, Waiting>,
    busy: HashSet<String>,
    held: HashMap<String, Hold>,
    /// How many events of each aggregate are waiting or on their way.
    counts: HashMap<String, usize>,
    /// Aggregates that had enough: more of them may be in the outbox.
    filled: HashSet<String>,
    bytes: usize,
    /// Shards that are somebody else's to publish.
    foreign: Shards,
}

impl Plan {
    /// Takes in an event, unless it is not wanted. Events of one aggregate are to be offered in sequence.
    pub fn offer(&mut self, seq: i64, waiting: Waiting) {
        if !self.wants(seq, &waiting.aggregate) {
            return;
        }
        let count = self.counts.entry(waiting.aggregate.clone()).or_default();
        *count += 1;
        if *count >= PER_AGGREGATE {
            self.filled.insert(waiting.aggregate.clone());
        }
        self.bytes += waiting.message.size();
        self.waiting.insert(seq, waiting);
    }

    /// Whether an event is to be taken in: it is not known already, and its aggregate has not had enough, or was opened again since.
    #[must_use]
    pub fn wants(&self, seq: i64, aggregate: &str) -> bool {
        !self.knows(seq) && !self.filled.contains(aggregate) && !self.foreign.contain(Shards::of(aggregate))
    }

    /// From now on only these shards are published from here. What waits of others is somebody else's; what is on its way lands.
    pub fn restrict(&mut self, shards: Shards) {
        self.foreign = Shards::ALL.without(shards);
        let foreign = |waiting: &Waiting| self.foreign.contain(waiting.shard);
        let seqs: Vec<i64> = self.waiting.iter().filter(|(_, waiting)| foreign(waiting)).map(|(seq, _)| *seq).collect();
        seqs.into_iter().for_each(|seq| self.forget(seq));
    }

    /// Whether an event of one of these shards is on its way.
    #[must_use]
    pub fn flies(&self, shards: Shards) -> bool {
        self.flying.values().any(|flying| shards.contain(flying.shard))
    }

    /// Whether an event is waiting or on its way.
    #[must_use]
    pub fn knows(&self, seq: i64) -> bool {
        self.waiting.contains_key(&seq) || self.flying.contains_key(&seq)
    }

    /// The sequences of all that is waiting or on its way.
    pub fn seqs(&self) -> impl Iterator<Item = i64> {
        self.waiting.keys().chain(self.flying.keys()).copied()
    }

    /// The aggregates that have had enough: a read may leave them out.
    #[must_use]
    pub fn full(&self) -> Vec<String> {
        self.filled.iter().cloned().collect()
    }

    /// Whether one of the full aggregates runs low, so that more of it should be read.
    #[must_use]
    pub fn hungry(&self) -> bool {
        self.filled.iter().any(|aggregate| is_low(&self.counts, aggregate))
    }

    /// Full aggregates that run low are full no more.
    pub fn open(&mut self) {
        let Self { filled, counts, .. } = self;
        filled.retain(|aggregate| !is_low(counts, aggregate));
    }

    /// The next call: the lowest sequences first, never two events of one aggregate, none of an aggregate that is on its way or held back.
    /// `None` when nothing may go now.
    pub fn next_call(&mut self, now: Instant) -> Option<Vec<(i64, Message)>> {
        let mut seen: HashSet<&str> = HashSet::new();
        let mut seqs = Vec::new();
        let mut bytes = 0;
        for (&seq, waiting) in &self.waiting {
            let aggregate = waiting.aggregate.as_str();
            // An earlier event of the aggregate is seen first, so that a later one never overtakes it, not even when it alone would fit.
            if self.busy.contains(aggregate) || self.is_held(aggregate, now) || !seen.insert(aggregate) {
                continue;
            }
            let size = waiting.message.size();
            if !seqs.is_empty()
                && (waiting.alone || (bytes + size > TOPIC_BYTES && !switchyard_faults::bug("batch_sum_ignored")))
            {
                continue;
            }
            bytes += size;
            seqs.push(seq);
            if seqs.len() == BATCH_ENTRIES || waiting.alone {
                break;
            }
        }
        let mut call = Vec::with_capacity(seqs.len());
        for seq in seqs {
            if let Some(waiting) = self.waiting.remove(&seq) {
                self.busy.insert(waiting.aggregate.clone());
                call.push((seq, waiting.message.clone()));
                self.flying.insert(seq, waiting);
            }
        }
        (!call.is_empty()).then_some(call)
    }

    /// The topic has this event.
    pub fn accepted(&mut self, seq: i64) {
        if let Some(landed) = self.flying.remove(&seq) {
            self.busy.remove(&landed.aggregate);
            self.gone(&landed);
        }
    }

    /// The topic refused this event: it waits again, and its aggregate alone is held back, for twice as long as the last time.
    pub fn refused(&mut self, seq: i64, now: Instant) {
        if let Some(back) = self.back(seq) {
            let pause = self.held.get(&back).map_or(HOLD.0, |hold| (hold.pause * 2).min(HOLD.1));
            self.held.insert(back, Hold { until: now + pause, pause });
        }
    }

    /// The call that this event was in failed for the sake of one of its entries: it waits again, for a call of its own.
    pub fn apart(&mut self, seq: i64) {
        self.back(seq);
        if let Some(waiting) = self.waiting.get_mut(&seq) {
            waiting.alone = true;
        }
    }

    /// This event is nobody's to publish any more; later ones of its aggregate go on.
    pub fn forget(&mut self, seq: i64) {
        if let Some(gone) = self.waiting.remove(&seq) {
            self.gone(&gone);
        }
    }

    /// When the next aggregate that is held back may go again.
    #[must_use]
    pub fn next_release(&self, now: Instant) -> Option<Instant> {
        self.held.values().map(|hold| hold.until).filter(|until| *until > now).min()
    }

    /// How many events are waiting or on their way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len() + self.flying.len()
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

    /// Whether nothing is waiting or on its way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_held(&self, aggregate: &str, now: Instant) -> bool {
        self.held.get(aggregate).is_some_and(|hold| hold.until > now)
    }

    /// From its way back to waiting. Returns its aggregate; `None` where it is no business of this plan any more.
    fn back(&mut self, seq: i64) -> Option<String> {
        let back = self.flying.remove(&seq)?;
        let aggregate = back.aggregate.clone();
        self.busy.remove(&aggregate);
        if self.foreign.contain(back.shard) {
            self.gone(&back);
            return None;
        }
        self.waiting.insert(seq, back);
        Some(aggregate)
    }

    /// Neither waiting nor on its way any more.
    fn gone(&mut self, event: &Waiting) {
        self.held.remove(&event.aggregate);
        self.bytes -= event.message.size();
        if let Some(count) = self.counts.get_mut(&event.aggregate) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&event.aggregate);
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

    fn waiting(aggregate: &str, bytes: usize) -> Waiting {
        Waiting::new(aggregate.into(), Message::new("x".repeat(bytes)))
    }

    fn seqs(call: Option<Vec<(i64, Message)>>) -> Vec<i64> {
        call.into_iter().flatten().map(|(seq, _)| seq).collect()
    }

    #[test]
    fn two_events_of_one_aggregate_are_never_on_their_way_together() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        for (seq, aggregate) in [(1, "a"), (2, "a"), (3, "b")] {
            plan.offer(seq, waiting(aggregate, 1));
        }
        assert_eq!(seqs(plan.next_call(now)), [1, 3]);
        assert!(seqs(plan.next_call(now)).is_empty());
        plan.accepted(1);
        assert_eq!(seqs(plan.next_call(now)), [2]);
    }

    #[test]
    fn a_refused_event_holds_back_its_own_aggregate_and_no_other() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        for (seq, aggregate) in [(1, "a"), (2, "b"), (3, "a"), (4, "b")] {
            plan.offer(seq, waiting(aggregate, 1));
        }
        assert_eq!(seqs(plan.next_call(now)), [1, 2]);
        plan.refused(1, now);
        plan.accepted(2);
        assert_eq!(seqs(plan.next_call(now)), [4]);
        assert_eq!(plan.next_release(now), Some(now + HOLD.0));
        assert_eq!(seqs(plan.next_call(now + HOLD.0)), [1]);
    }

    #[test]
    fn a_refusal_postpones_no_other_aggregate_s_release_and_only_its_own_grows() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        plan.offer(1, waiting("a", 1));
        plan.offer(2, waiting("b", 1));
        plan.next_call(now);
        plan.refused(1, now);
        plan.refused(2, now + HOLD.0 / 2);
        assert_eq!(plan.next_release(now), Some(now + HOLD.0));

        let mut at = now + HOLD.0;
        for expected in [200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
            assert_eq!(seqs(plan.next_call(at)), if expected == 400 { vec![1, 2] } else { vec![1] });
            plan.accepted(2);
            plan.refused(1, at);
            let until = plan.held["a"].until;
            assert_eq!(until - at, Duration::from_millis(expected));
            at = until;
        }
        assert_eq!(seqs(plan.next_call(at)), [1]);
        plan.accepted(1);
        assert!(plan.held.is_empty(), "an acceptance ends it");
    }

    #[test]
    fn a_busy_aggregate_takes_no_more_than_its_room_and_opens_again_at_half_of_it() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        for seq in 0..100 {
            plan.offer(seq, waiting("hot", 1));
        }
        plan.offer(100, waiting("cool", 1));
        assert_eq!((plan.len(), plan.bytes()), (PER_AGGREGATE + 1, PER_AGGREGATE + 1));
        assert_eq!(plan.full(), ["hot"]);
        let half = PER_AGGREGATE as i64 / 2;
        for seq in 0..half {
            assert!(!plan.hungry());
            plan.open();
            assert_eq!(plan.full(), ["hot"]);
            plan.offer(90, waiting("hot", 1));
            assert!(!plan.knows(90), "none passes those that were left out");
            assert_eq!(seqs(plan.next_call(now))[0], seq);
            plan.accepted(seq);
        }
        assert!(plan.hungry());
        plan.open();
        assert!(plan.full().is_empty() && !plan.hungry());
        plan.offer(PER_AGGREGATE as i64, waiting("hot", 1));
        assert!(plan.knows(PER_AGGREGATE as i64));
    }

    #[test]
    fn after_a_call_failed_for_one_of_them_each_gets_a_call_of_its_own() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        for (seq, aggregate) in [(1, "a"), (2, "b"), (3, "c"), (4, "a")] {
            plan.offer(seq, waiting(aggregate, 1));
        }
        for seq in seqs(plan.next_call(now)) {
            plan.apart(seq);
        }
        plan.offer(5, waiting("d", 1));
        let calls: Vec<_> = std::iter::from_fn(|| plan.next_call(now)).map(|call| seqs(Some(call))).collect();
        assert_eq!(calls, [vec![1], vec![2], vec![3], vec![5]]);
        plan.accepted(1);
        assert_eq!(seqs(plan.next_call(now)), [4]);
    }

    #[test]
    fn a_large_event_that_does_not_fit_does_not_let_a_later_one_of_its_aggregate_pass() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        plan.offer(1, waiting("a", TOPIC_BYTES - 10));
        plan.offer(2, waiting("b", 100));
        plan.offer(3, waiting("b", 1));
        assert_eq!(seqs(plan.next_call(now)), [1]);
        assert_eq!(seqs(plan.next_call(now)), [2]);
    }

    #[test]
    fn what_waits_of_a_shard_that_was_given_up_is_forgotten_and_what_is_on_its_way_lands() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        let (a, b, d) = (Shards::of("a"), Shards::of("b"), Shards::of("d"));
        assert!(a != b && b != d && d != a);
        for (seq, aggregate) in [(1, "a"), (2, "b"), (3, "d"), (4, "a"), (5, "b")] {
            plan.offer(seq, waiting(aggregate, 1));
        }
        assert_eq!(seqs(plan.next_call(now)), [1, 2, 3]);

        plan.restrict(b);

        assert!(plan.flies(a) && !plan.knows(4) && plan.knows(5));
        plan.refused(1, now);
        plan.accepted(3);
        assert!(!plan.knows(1) && !plan.flies(Shards::ALL.without(b)), "what is refused is another's to send again");
        plan.offer(4, waiting("a", 1));
        assert_eq!((plan.len(), plan.bytes(), plan.aggregates()), (2, 2, 1));

        plan.restrict(Shards::ALL);

        plan.offer(1, waiting("a", 1));
        assert_eq!(seqs(plan.next_call(now)), [1], "nothing of the other's holds it back");
    }

    #[test]
    fn an_event_that_is_known_is_not_taken_in_twice() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        plan.offer(1, waiting("a", 1));
        plan.offer(1, waiting("a", 1));
        assert_eq!((plan.len(), seqs(plan.next_call(now))), (1, vec![1]));
        plan.offer(1, waiting("a", 1));
        assert!(seqs(plan.next_call(now)).is_empty());
    }

    proptest! {
        /// Whatever is refused or sent apart, and whenever calls overlap and pages are read, each aggregate's events are accepted in sequence,
        /// all of them, within the limits.
        #[test]
        fn every_event_is_accepted_once_and_in_order(
            events in prop::collection::vec((0u8..5, 1usize..100_000), 1..120),
            answers in prop::collection::vec(any::<(u8, u8)>(), 0..400),
        ) {
            let (mut plan, mut now) = (Plan::default(), Instant::now());
            let mut answers = answers.into_iter();
            let mut flying: Vec<Vec<i64>> = Vec::new();
            let mut accepted: Vec<i64> = Vec::new();
            while accepted.len() < events.len() {
                plan.open();
                let full = plan.full();
                for (index, (aggregate, bytes)) in events.iter().enumerate() {
                    let (seq, aggregate) = (index as i64, aggregate.to_string());
                    if !accepted.contains(&seq) && !full.contains(&aggregate) {
                        plan.offer(seq, waiting(&aggregate, *bytes));
                    }
                }
                while flying.len() < 3 {
                    let Some(call) = plan.next_call(now) else { break };
                    let bytes: usize = call.iter().map(|(_, message)| message.size()).sum();
                    prop_assert!(call.len() <= BATCH_ENTRIES && (call.len() == 1 || bytes <= TOPIC_BYTES));
                    flying.push(call.into_iter().map(|(seq, _)| seq).collect());
                }
                prop_assert!(!flying.is_empty(), "nothing may go and nothing is on its way");
                let (_, which) = answers.next().unwrap_or((0, 0));
                let landed = flying.swap_remove(usize::from(which) % flying.len());
                for seq in landed {
                    match answers.next().unwrap_or((0, 0)).0 % 4 {
                        0 | 1 => {
                            plan.accepted(seq);
                            accepted.push(seq);
                        }
                        2 => plan.refused(seq, now),
                        _ => plan.apart(seq),
                    }
                }
                now += HOLD.1;
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
