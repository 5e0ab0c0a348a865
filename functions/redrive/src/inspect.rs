//! What is parked for one agent, and what only its dead-letter queue knows.

use crate::{Redriver, dead_letter, scan, words};
use std::collections::BTreeMap;
use switchyard_bus::{Directory, Moves, Queue};
use switchyard_operations::dead_letter::ParkedMessage;
use switchyard_operations::redrive::{DeadLetterGroup, Inspected, InspectedQueue};
use switchyard_store::{Selection, State};
use tokio::time::Instant;
use uuid::Uuid;

impl<D: Directory, M: Moves, Q: Queue> Redriver<D, M, Q> {
    /// Groups from the ledger, and up to `at_most` dead letters, which stay in the queue.
    pub(crate) async fn inspect(
        &self,
        agent: &str,
        selection: &Selection,
        at_most: usize,
        ends: Instant,
    ) -> Result<Inspected, String> {
        let place = self.place(agent).await?;
        let groups = self.store.parked(agent, selection).await.map_err(words)?;
        let queue = (self.open)(&place.dead_letter_url);
        let seen = scan::receive(&queue, at_most, ends).await.map_err(|error| error.to_string())?;
        scan::put_back(&queue, &seen.dead_letters).await;
        let dead_letters: Vec<ParkedMessage> = seen.dead_letters.iter().map(dead_letter::read).collect();
        let states = self.states(agent, &dead_letters).await?;
        Ok(Inspected {
            agent: agent.to_owned(),
            parked: groups.iter().map(|group| group.count).sum(),
            groups,
            queue: InspectedQueue {
                seen: dead_letters.len(),
                complete: seen.complete(),
                hidden: seen.hidden,
                not_parked: not_parked(&dead_letters, &states),
            },
        })
    }

    /// The state of each dead letter's delivery; `None` if the ledger has none.
    pub(crate) async fn states(
        &self,
        agent: &str,
        dead_letters: &[ParkedMessage],
    ) -> Result<Vec<Option<State>>, String> {
        let deliveries: Vec<(Uuid, i32)> = dead_letters.iter().filter_map(|dead_letter| dead_letter.delivery).collect();
        if deliveries.is_empty() || !self.has_ledger(agent).await? {
            return Ok(vec![None; dead_letters.len()]);
        }
        let mut states = self.store.settled(agent, &deliveries).await.map_err(words)?.into_iter();
        Ok(dead_letters.iter().map(|dead_letter| dead_letter.delivery.and_then(|_| states.next().flatten())).collect())
    }
}

/// Dead letters whose delivery is not parked, in groups, the largest first.
fn not_parked(dead_letters: &[ParkedMessage], states: &[Option<State>]) -> Vec<DeadLetterGroup> {
    let mut groups: BTreeMap<(&str, &str, Option<&str>), usize> = BTreeMap::new();
    for (dead_letter, state) in dead_letters.iter().zip(states) {
        let ledger = match (dead_letter.delivery, state) {
            (_, Some(State::Parked)) => continue,
            (_, Some(State::Done | State::Superseded | State::Expired)) => "settled",
            (_, Some(State::Assigned | State::Failing)) => "under_way",
            (Some(_), None) => "no_row",
            (None, None) => "no_event",
        };
        *groups.entry((ledger, dead_letter.reason(), dead_letter.event_type.as_deref())).or_default() += 1;
    }
    let mut groups: Vec<DeadLetterGroup> = groups
        .into_iter()
        .map(|((ledger, reason, event_type), count)| DeadLetterGroup {
            ledger: ledger.to_owned(),
            reason: reason.to_owned(),
            event_type: event_type.map(str::to_owned),
            count,
        })
        .collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_of_a_parked_delivery_is_not_listed_twice() {
        let of = |n: u128, reason: &str| ParkedMessage {
            delivery: (n > 0).then(|| (Uuid::from_u128(n), 0)),
            epoch: None,
            reason: Some(reason.into()),
            event_type: None,
            parked_at: None,
            message_id: None,
        };
        let dead_letters = [of(1, "a"), of(2, "a"), of(3, "a"), of(4, "b"), of(0, "nul"), of(5, "c")];
        let states = [Some(State::Parked), Some(State::Done), Some(State::Expired), Some(State::Failing), None, None];
        let groups: Vec<(String, String, usize)> = not_parked(&dead_letters, &states)
            .into_iter()
            .map(|group| (group.ledger, group.reason, group.count))
            .collect();
        let expected = [("settled", "a", 2), ("no_event", "nul", 1), ("no_row", "c", 1), ("under_way", "b", 1)];
        assert_eq!(groups, expected.map(|(ledger, reason, count)| (ledger.to_owned(), reason.to_owned(), count)));
    }
}
