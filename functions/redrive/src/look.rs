//! What is parked for one agent, and what only its dead-letter queue knows.

use crate::{Redriver, dead_letter, scan, words};
use std::collections::BTreeMap;
use switchyard_bus::{Directory, Moves, Queue};
use switchyard_operations::dead_letter::ParkedMessage;
use switchyard_operations::redrive::{LetterGroup, Looked, QueueLook};
use switchyard_store::{Selection, State};
use tokio::time::Instant;
use uuid::Uuid;

impl<D: Directory, M: Moves, Q: Queue> Redriver<D, M, Q> {
    /// Groups from the ledger, and a look at up to `at_most` letters, which stay where they are.
    pub(crate) async fn look(
        &self,
        agent: &str,
        selection: &Selection,
        at_most: usize,
        ends: Instant,
    ) -> Result<Looked, String> {
        let place = self.place(agent).await?;
        let groups = self.store.parked(agent, selection).await.map_err(words)?;
        let queue = (self.open)(&place.dead_letter_url);
        let seen = scan::receive(&queue, at_most, ends).await.map_err(|error| error.to_string())?;
        scan::put_back(&queue, &seen.letters).await;
        let letters: Vec<ParkedMessage> = seen.letters.iter().map(dead_letter::read).collect();
        let states = self.states(agent, &letters).await?;
        Ok(Looked {
            agent: agent.to_owned(),
            parked: groups.iter().map(|group| group.count).sum(),
            groups,
            queue: QueueLook {
                seen: letters.len(),
                complete: seen.complete(),
                hidden: seen.hidden,
                only_there: only_there(&letters, &states),
            },
        })
    }

    /// The ledger's word on each letter: `None` where it has no delivery for it.
    pub(crate) async fn states(&self, agent: &str, letters: &[ParkedMessage]) -> Result<Vec<Option<State>>, String> {
        let deliveries: Vec<(Uuid, i32)> = letters.iter().filter_map(|letter| letter.delivery).collect();
        if deliveries.is_empty() || !self.has_ledger(agent).await? {
            return Ok(vec![None; letters.len()]);
        }
        let mut states = self.store.settled(agent, &deliveries).await.map_err(words)?.into_iter();
        Ok(letters.iter().map(|letter| letter.delivery.and_then(|_| states.next().flatten())).collect())
    }
}

/// Letters without a parked delivery, grouped, the most first.
fn only_there(letters: &[ParkedMessage], states: &[Option<State>]) -> Vec<LetterGroup> {
    let mut groups: BTreeMap<(&str, &str, Option<&str>), usize> = BTreeMap::new();
    for (letter, state) in letters.iter().zip(states) {
        let ledger = match (letter.delivery, state) {
            (_, Some(State::Parked)) => continue,
            (_, Some(State::Done | State::Superseded | State::Expired)) => "settled",
            (_, Some(State::Assigned | State::Failing)) => "under_way",
            (Some(_), None) => "no_row",
            (None, None) => "no_event",
        };
        *groups.entry((ledger, letter.reason(), letter.event_type.as_deref())).or_default() += 1;
    }
    let mut groups: Vec<LetterGroup> = groups
        .into_iter()
        .map(|((ledger, reason, event_type), count)| LetterGroup {
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
    fn what_the_ledger_has_parked_is_not_told_twice() {
        let of = |n: u128, reason: &str| ParkedMessage {
            delivery: (n > 0).then(|| (Uuid::from_u128(n), 0)),
            epoch: None,
            reason: Some(reason.into()),
            event_type: None,
            parked_at: None,
            message_id: None,
        };
        let letters = [of(1, "a"), of(2, "a"), of(3, "a"), of(4, "b"), of(0, "nul"), of(5, "c")];
        let states = [Some(State::Parked), Some(State::Done), Some(State::Expired), Some(State::Failing), None, None];
        let told: Vec<(String, String, usize)> =
            only_there(&letters, &states).into_iter().map(|group| (group.ledger, group.reason, group.count)).collect();
        let expected = [("settled", "a", 2), ("no_event", "nul", 1), ("no_row", "c", 1), ("under_way", "b", 1)];
        assert_eq!(told, expected.map(|(ledger, reason, count)| (ledger.to_owned(), reason.to_owned(), count)));
    }
}
