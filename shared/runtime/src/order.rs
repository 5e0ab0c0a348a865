//! The order within a group, where the queue keeps one (FIFO): the records of a group are tried one after the other, and one that must be delivered
//! again blocks those behind it.
//!
//! A batch may hold several records of one group. A queue takes every message that is not to be delivered again as handled, so those behind one that
//! failed must be delivered again with it (AWS Lambda Developer Guide, "Implementing partial batch responses"); other groups go on. What is settled
//! or parked blocks no other. On a standard queue there are no groups: all records are tried together.

use crate::{
    answers::Answers,
    batch::Admitted,
    message::Message,
    outcome::{Cause, Outcome, Outcomes},
};
use std::collections::HashMap;

/// Why a record is returned that nothing is wrong with.
const BEHIND: &str = "an earlier record of its group must be delivered again first";

/// Whether the queue that the records come from keeps an order.
pub(crate) fn is_kept(messages: &[Message]) -> bool {
    messages.iter().any(|message| message.group.is_some())
}

/// Parts records into rounds, each with one record of a group at most, in the order of the batch. Always at least one round, if only an empty one.
pub(crate) fn rounds(admitted: Vec<Admitted>, messages: &[Message]) -> Vec<Vec<Admitted>> {
    let mut before: HashMap<&str, usize> = HashMap::new();
    let mut rounds = vec![Vec::new()];
    for record in admitted {
        let round = group(messages, record.parsed.at).map_or(0, |group| {
            let before = before.entry(group).or_default();
            *before += 1;
            *before - 1
        });
        if rounds.len() <= round {
            rounds.push(Vec::new());
        }
        rounds[round].push(record);
    }
    rounds
}

/// Lets those go on that nothing blocks, and returns the others without an attempt, for as long as what blocks them. What has ended before must have
/// been carried out.
pub(crate) fn unblocked(round: Vec<Admitted>, answers: &Answers, outcomes: &mut Outcomes<'_>) -> Vec<Admitted> {
    let mut unblocked = Vec::with_capacity(round.len());
    for record in round {
        match blocked_by(record.parsed.at, answers, outcomes) {
            None => unblocked.push(record),
            Some(first) => {
                let cause = answers.redelivered_after(first).map_or(Cause::Passing, Cause::Turn);
                record.return_untried(BEHIND, cause, outcomes);
            }
        }
    }
    unblocked
}

/// The first record of the same group that stands before this one and is not settled. A copy blocks no other: the original does.
fn blocked_by(at: usize, answers: &Answers, outcomes: &Outcomes<'_>) -> Option<usize> {
    let own = group(outcomes.messages, at)?;
    let is_copy = |at| matches!(outcomes.outcome(at), Some(Outcome::SameAs(_)));
    let of_group = |at: &usize| group(outcomes.messages, *at) == Some(own);
    (0..at).filter(of_group).find(|&before| !is_copy(before) && answers.is_redelivery(before, outcomes))
}

fn group(messages: &[Message], at: usize) -> Option<&str> {
    messages.get(at)?.group.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Parsed;
    use proptest::prelude::*;
    use std::time::Duration;
    use switchyard_event::Event;
    use switchyard_store::{Ask, ClaimAnswer, Verdict};

    fn messages(groups: &[Option<u8>]) -> Vec<Message> {
        let body = include_str!("../../event/fixtures/order.placed.v1.json");
        let of = |group: &Option<u8>| Message {
            group: group.map(|group| group.to_string()),
            ..Message::new("m", "r", body)
        };
        groups.iter().map(of).collect()
    }

    fn admitted(at: usize) -> Admitted {
        let event = Event::parse(include_str!("../../event/fixtures/order.placed.v1.json")).unwrap();
        let ask = Ask { event_id: event.id, run: 0, epoch: None };
        let standing = ClaimAnswer {
            event_id: event.id,
            run: 0,
            verdict: Verdict::Take,
            seq: Some(1),
            epoch: 0,
            attempts: 0,
            max_attempts: 4,
            returns: 0,
            revision: 0,
            emits: true,
        };
        Admitted::of(Parsed { at, event, ask, seal: crate::seal::of("") }, standing)
    }

    fn places(rounds: &[Vec<Admitted>]) -> Vec<Vec<usize>> {
        rounds.iter().map(|round| round.iter().map(|record| record.parsed.at).collect()).collect()
    }

    #[test]
    fn a_round_has_one_record_of_each_group() {
        let messages = messages(&[Some(1), Some(2), Some(1), Some(1), Some(2)]);
        let rounds = rounds((0..5).map(admitted).collect(), &messages);
        assert_eq!(places(&rounds), [vec![0, 1], vec![2, 4], vec![3]]);
    }

    #[test]
    fn on_a_standard_queue_all_records_are_in_one_round_and_nothing_is_blocked() {
        let messages = messages(&[None, None, None]);
        assert!(!is_kept(&messages));
        let mut rounds = rounds((0..3).map(admitted).collect(), &messages);
        assert_eq!(places(&rounds), [vec![0, 1, 2]]);
        let (answers, mut outcomes) = (Answers::of(&messages), Outcomes::of(&messages));
        assert_eq!(unblocked(rounds.remove(0), &answers, &mut outcomes).len(), 3);
    }

    #[test]
    fn a_redelivered_record_blocks_those_behind_it_for_as_long_as_itself_and_no_other_group() {
        let messages = messages(&[Some(1), Some(2), Some(1), Some(2)]);
        let (mut answers, mut outcomes) = (Answers::of(&messages), Outcomes::of(&messages));
        answers.acknowledge(1);
        answers.redeliver(0, Duration::from_secs(4));

        let unblocked = unblocked(vec![admitted(2), admitted(3)], &answers, &mut outcomes);

        assert_eq!(places(&[unblocked]), [vec![3]]);
        let Some(Outcome::Returned { cause, .. }) = outcomes.outcome(2) else { panic!("it is returned") };
        assert_eq!(*cause, Cause::Turn(Duration::from_secs(4)));
    }

    #[test]
    fn a_copy_blocks_no_record_since_its_original_does() {
        let messages = messages(&[Some(1), Some(1), Some(1)]);
        let (mut answers, mut outcomes) = (Answers::of(&messages), Outcomes::of(&messages));
        // Of two copies the one that was parked before goes first, wherever it is.
        outcomes.end(0, Outcome::SameAs(2), None);
        assert_eq!(unblocked(vec![admitted(1)], &answers, &mut outcomes).len(), 1);
        answers.acknowledge(1);
        assert_eq!(unblocked(vec![admitted(2)], &answers, &mut outcomes).len(), 1);
    }

    proptest! {
        #[test]
        fn every_record_is_in_one_round_after_all_that_are_before_it_in_its_group(
            groups in prop::collection::vec(prop::option::weighted(0.9, 0u8..3), 0..10),
        ) {
            let messages = messages(&groups);
            let rounds = places(&rounds((0..groups.len()).map(admitted).collect(), &messages));
            let round_of = |at: usize| rounds.iter().position(|round| round.contains(&at));
            prop_assert_eq!(rounds.iter().map(Vec::len).sum::<usize>(), groups.len());
            for later in 0..groups.len() {
                prop_assert!(round_of(later).is_some());
                for earlier in 0..later {
                    if groups[later].is_some() && groups[earlier] == groups[later] {
                        prop_assert!(round_of(earlier) < round_of(later));
                    }
                }
            }
        }
    }
}
