//! What to publish next: pure. It keeps the order per aggregate and the limits of a call, and knows nothing of time or I/O.

use std::collections::{BTreeMap, HashSet};
use switchyard_bus::{BATCH_ENTRIES, Message, TOPIC_BYTES};

/// An event waiting to be published.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// What keeps its order.
    pub aggregate: String,
    /// What is sent.
    pub message: Message,
}

/// The events that are known to be pending, and which of them are on their way.
#[derive(Debug, Default)]
pub struct Plan {
    waiting: BTreeMap<i64, Waiting>,
    flying: BTreeMap<i64, Waiting>,
    busy: HashSet<String>,
    held: HashSet<String>,
}

impl Plan {
    /// Takes in an event, unless it is known already.
    pub fn offer(&mut self, seq: i64, waiting: impl FnOnce() -> Waiting) {
        if !self.knows(seq) {
            self.waiting.insert(seq, waiting());
        }
    }

    /// Whether an event is waiting or on its way.
    #[must_use]
    pub fn knows(&self, seq: i64) -> bool {
        self.waiting.contains_key(&seq) || self.flying.contains_key(&seq)
    }

    /// The next call: the lowest sequences first, never two events of one aggregate, none of an aggregate that is on its way or held back.
    /// `None` when nothing may go now.
    pub fn next_call(&mut self) -> Option<Vec<(i64, Message)>> {
        let mut seen: HashSet<&str> = HashSet::new();
        let mut seqs = Vec::new();
        let mut bytes = 0;
        for (&seq, waiting) in &self.waiting {
            let aggregate = waiting.aggregate.as_str();
            // An earlier event of the aggregate is seen first, so that a later one never overtakes it, not even when it alone would fit.
            if self.busy.contains(aggregate) || self.held.contains(aggregate) || !seen.insert(aggregate) {
                continue;
            }
            let size = waiting.message.size();
            if !seqs.is_empty() && bytes + size > TOPIC_BYTES {
                continue;
            }
            bytes += size;
            seqs.push(seq);
            if seqs.len() == BATCH_ENTRIES {
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
        }
    }

    /// The topic refused this event: it waits again, and its aggregate is held back until [`Plan::release`].
    pub fn refused(&mut self, seq: i64) {
        if let Some(back) = self.flying.remove(&seq) {
            self.busy.remove(&back.aggregate);
            self.held.insert(back.aggregate.clone());
            self.waiting.insert(seq, back);
        }
    }

    /// This event is nobody's to publish any more; later ones of its aggregate go on.
    pub fn forget(&mut self, seq: i64) {
        if let Some(gone) = self.waiting.remove(&seq) {
            self.held.remove(&gone.aggregate);
        }
    }

    /// Lets the aggregates that were held back go again.
    pub fn release(&mut self) {
        self.held.clear();
    }

    /// How many events are waiting or on their way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len() + self.flying.len()
    }

    /// Whether nothing is waiting or on its way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn waiting(aggregate: &str, bytes: usize) -> Waiting {
        Waiting { aggregate: aggregate.into(), message: Message::new("x".repeat(bytes)) }
    }

    fn seqs(call: Option<Vec<(i64, Message)>>) -> Vec<i64> {
        call.into_iter().flatten().map(|(seq, _)| seq).collect()
    }

    #[test]
    fn two_events_of_one_aggregate_are_never_on_their_way_together() {
        let mut plan = Plan::default();
        for (seq, aggregate) in [(1, "a"), (2, "a"), (3, "b")] {
            plan.offer(seq, || waiting(aggregate, 1));
        }
        assert_eq!(seqs(plan.next_call()), [1, 3]);
        assert!(seqs(plan.next_call()).is_empty());
        plan.accepted(1);
        assert_eq!(seqs(plan.next_call()), [2]);
    }

    #[test]
    fn a_refused_event_holds_back_its_own_aggregate_and_no_other() {
        let mut plan = Plan::default();
        for (seq, aggregate) in [(1, "a"), (2, "b"), (3, "a"), (4, "b")] {
            plan.offer(seq, || waiting(aggregate, 1));
        }
        assert_eq!(seqs(plan.next_call()), [1, 2]);
        plan.refused(1);
        plan.accepted(2);
        assert_eq!(seqs(plan.next_call()), [4]);
        plan.release();
        assert_eq!(seqs(plan.next_call()), [1]);
    }

    #[test]
    fn a_large_event_that_does_not_fit_does_not_let_a_later_one_of_its_aggregate_pass() {
        let mut plan = Plan::default();
        plan.offer(1, || waiting("a", TOPIC_BYTES - 10));
        plan.offer(2, || waiting("b", 100));
        plan.offer(3, || waiting("b", 1));
        assert_eq!(seqs(plan.next_call()), [1]);
        assert_eq!(seqs(plan.next_call()), [2]);
    }

    #[test]
    fn an_event_that_is_known_is_not_taken_in_twice() {
        let mut plan = Plan::default();
        plan.offer(1, || waiting("a", 1));
        plan.offer(1, || waiting("a", 1));
        assert_eq!((plan.len(), seqs(plan.next_call())), (1, vec![1]));
        plan.offer(1, || waiting("a", 1));
        assert!(seqs(plan.next_call()).is_empty());
    }

    proptest! {
        /// Whatever is refused, and whenever calls overlap, each aggregate's events are accepted in sequence, all of them, within the limits.
        #[test]
        fn every_event_is_accepted_once_and_in_order(
            events in prop::collection::vec((0u8..5, 1usize..100_000), 1..60),
            answers in prop::collection::vec(any::<(bool, u8)>(), 0..400),
        ) {
            let mut plan = Plan::default();
            for (index, (aggregate, bytes)) in events.iter().enumerate() {
                plan.offer(index as i64, || waiting(&aggregate.to_string(), *bytes));
            }
            let mut answers = answers.into_iter();
            let mut flying: Vec<Vec<i64>> = Vec::new();
            let mut accepted: Vec<i64> = Vec::new();
            while !plan.is_empty() {
                while flying.len() < 3 {
                    let Some(call) = plan.next_call() else { break };
                    let bytes: usize = call.iter().map(|(_, message)| message.size()).sum();
                    prop_assert!(call.len() <= BATCH_ENTRIES && (call.len() == 1 || bytes <= TOPIC_BYTES));
                    flying.push(call.into_iter().map(|(seq, _)| seq).collect());
                }
                prop_assert!(!flying.is_empty(), "nothing may go and nothing is on its way");
                let (_, which) = answers.next().unwrap_or((true, 0));
                let landed = flying.swap_remove(usize::from(which) % flying.len());
                for seq in landed {
                    if answers.next().is_none_or(|(ok, _)| ok) {
                        plan.accepted(seq);
                        accepted.push(seq);
                    } else {
                        plan.refused(seq);
                    }
                }
                plan.release();
            }
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
