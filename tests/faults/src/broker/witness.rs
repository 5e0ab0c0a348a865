//! What the topic saw with its own eyes, beside what it was told to break.

use serde::{Deserialize, Serialize};
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

/// Aggregates of this type are written to by one writer, one transaction after the other: their inserts never overlap in time, so their first
/// publications have an order that the shim must keep.
pub const SOLO: &str = "solo";

/// What was seen so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Sighting {
    /// Entries that the topic accepted, copies included.
    pub accepted: u64,
    /// Events that were accepted at least once.
    pub events: u64,
    /// First publications that came after one of a later event of their aggregate.
    pub out_of_order: u64,
    /// Calls that came while another one with an event of the same aggregate was being answered.
    pub overlapping: u64,
    /// Calls that were larger than a topic takes, or had more entries.
    pub too_large: u64,
    /// The first few of these, in words.
    pub examples: Vec<String>,
}

/// Watches one topic.
#[derive(Debug, Default)]
pub(super) struct Witness {
    pub(super) sighting: Sighting,
    first: HashSet<i64>,
    newest: HashMap<String, i64>,
    in_flight: HashMap<String, u32>,
}

/// What the witness reads of a message.
#[derive(Debug, Deserialize)]
pub(super) struct Seen<'a> {
    #[serde(borrow)]
    aggregate_type: Cow<'a, str>,
    #[serde(borrow)]
    aggregate_id: Cow<'a, str>,
    metadata: Place,
}

#[derive(Debug, Deserialize)]
struct Place {
    sequence: Option<i64>,
}

impl Seen<'_> {
    pub(super) fn of(body: &str) -> Option<Seen<'_>> {
        serde_json::from_str(body).ok()
    }

    pub(super) fn aggregate(&self) -> &str {
        &self.aggregate_id
    }
}

impl Witness {
    /// A call with these aggregates begins.
    pub(super) fn begin(&mut self, aggregates: &[String]) {
        if let Some(twice) = aggregates.iter().find(|aggregate| self.in_flight.contains_key(*aggregate)) {
            self.sighting.overlapping += 1;
            let line = format!("two calls at once with aggregate {twice}");
            self.note(line);
        }
        for aggregate in aggregates {
            *self.in_flight.entry(aggregate.clone()).or_default() += 1;
        }
    }

    /// The call with these aggregates has ended, however it did.
    pub(super) fn end(&mut self, aggregates: &[String]) {
        for aggregate in aggregates {
            if let Some(calls) = self.in_flight.get_mut(aggregate) {
                *calls -= 1;
                if *calls == 0 {
                    self.in_flight.remove(aggregate);
                }
            }
        }
    }

    /// A message was accepted.
    pub(super) fn accepted(&mut self, seen: &Seen<'_>) {
        self.sighting.accepted += 1;
        let Some(seq) = seen.metadata.sequence else { return };
        if !self.first.insert(seq) {
            return;
        }
        self.sighting.events += 1;
        if seen.aggregate_type != SOLO {
            return;
        }
        let newest = self.newest.entry(seen.aggregate_id.clone().into_owned()).or_insert(seq);
        if *newest > seq {
            let line = format!("event {seq} of aggregate {} was first published after {newest}", seen.aggregate_id);
            self.sighting.out_of_order += 1;
            self.note(line);
        } else {
            *newest = seq;
        }
    }

    /// A call was refused that no client should have made.
    pub(super) fn too_large(&mut self, bytes: usize, entries: usize) {
        self.sighting.too_large += 1;
        self.note(format!("a call of {bytes} bytes with {entries} entries"));
    }

    /// Whether an event was accepted.
    pub(super) fn saw(&self, seq: i64) -> bool {
        self.first.contains(&seq)
    }

    fn note(&mut self, line: String) {
        if self.sighting.examples.len() < 5 {
            self.sighting.examples.push(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(kind: &str, aggregate: &str, seq: i64) -> String {
        format!(
            r#"{{"aggregate_type":"{kind}","aggregate_id":"{aggregate}","metadata":{{"sequence":{seq}}},"payload":{{}}}}"#
        )
    }

    fn see(witness: &mut Witness, kind: &str, aggregate: &str, seq: i64) {
        witness.accepted(&Seen::of(&body(kind, aggregate, seq)).unwrap());
    }

    #[test]
    fn a_first_publication_after_a_later_one_is_seen_and_a_copy_is_none() {
        let mut witness = Witness::default();
        for seq in [1, 3, 1, 3, 2] {
            see(&mut witness, SOLO, "a", seq);
        }
        see(&mut witness, SOLO, "b", 1);
        assert_eq!((witness.sighting.accepted, witness.sighting.events, witness.sighting.out_of_order), (6, 3, 1));
        see(&mut witness, "shared", "c", 9);
        see(&mut witness, "shared", "c", 8);
        assert_eq!(witness.sighting.out_of_order, 1, "overlapping inserts have no order to keep");
    }

    #[test]
    fn two_calls_at_once_with_one_aggregate_are_seen_until_the_first_has_ended() {
        let mut witness = Witness::default();
        let a = ["a".to_owned()];
        witness.begin(&a);
        witness.begin(&["b".to_owned()]);
        assert_eq!(witness.sighting.overlapping, 0);
        witness.begin(&a);
        assert_eq!(witness.sighting.overlapping, 1);
        witness.end(&a);
        witness.end(&a);
        witness.begin(&a);
        assert_eq!(witness.sighting.overlapping, 1);
    }
}
