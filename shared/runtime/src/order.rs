//! The order within a group, where the queue is one of FIFO: the records of a group are tried one after the other, and one that must come again
//! holds back those behind it.
//!
//! A batch may hold several records of one group. Lambda takes every record that the answer does not name as handled, so those behind one that
//! failed must be named with it (AWS Lambda Developer Guide, "Implementing partial batch responses"); other groups go on. What is settled or parked
//! holds back nobody. On a standard queue there are no groups: all records are tried together.

use crate::{
    batch::{Admitted, Cause, Ending, Endings},
    outcome::Again,
    parse::Message,
};
use std::collections::HashMap;

/// Why a record is given back that nothing is wrong with.
const BEHIND: &str = "one before it in its group must come again first";

/// Whether the records come from a queue of FIFO.
pub(crate) fn counts(messages: &[Message]) -> bool {
    messages.iter().any(|message| message.group.is_some())
}

/// Parts records into turns, each with one record of a group at most, in the order of the batch. Always one turn, if only an empty one.
pub(crate) fn turns(admitted: Vec<Admitted>, messages: &[Message]) -> Vec<Vec<Admitted>> {
    let mut before: HashMap<&str, usize> = HashMap::new();
    let mut turns = vec![Vec::new()];
    for record in admitted {
        let turn = group(messages, record.parsed.at).map_or(0, |group| {
            let before = before.entry(group).or_default();
            *before += 1;
            *before - 1
        });
        if turns.len() <= turn {
            turns.push(Vec::new());
        }
        turns[turn].push(record);
    }
    turns
}

/// Lets those go on that nothing holds back, and gives back the others without an attempt, for as long as what holds them back. What has ended
/// before must have been carried out.
pub(crate) fn free(turn: Vec<Admitted>, again: &Again, endings: &mut Endings<'_>) -> Vec<Admitted> {
    let mut free = Vec::with_capacity(turn.len());
    for record in turn {
        match holds_back(record.parsed.at, again, endings) {
            None => free.push(record),
            Some(first) => {
                let cause = again.held(first).map_or(Cause::Passing, Cause::Turn);
                record.give_back(BEHIND, cause, endings);
            }
        }
    }
    free
}

/// The first record of the same group that stands before this one and is not settled. A copy holds back nobody: what it is a copy of does.
fn holds_back(at: usize, again: &Again, endings: &Endings<'_>) -> Option<usize> {
    let own = group(endings.messages, at)?;
    let is_copy = |at| matches!(endings.ending(at), Some(Ending::SameAs(_)));
    let of_group = |at: &usize| group(endings.messages, *at) == Some(own);
    (0..at).filter(of_group).find(|&before| !is_copy(before) && again.must_come(before, endings))
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
    use switchyard_store::{Ask, Standing, Verdict};

    fn messages(groups: &[Option<u8>]) -> Vec<Message> {
        let body = include_str!("../../event/fixtures/feedback.created.v1.json");
        let of =
            |group: &Option<u8>| Message { group: group.map(|group| group.to_string()), ..Message::with_body(body) };
        groups.iter().map(of).collect()
    }

    fn admitted(at: usize) -> Admitted {
        let event = Event::parse(include_str!("../../event/fixtures/feedback.created.v1.json")).unwrap();
        let ask = Ask { event_id: event.id, run: 0, epoch: None };
        let standing = Standing {
            event_id: event.id,
            run: 0,
            verdict: Verdict::Take,
            seq: Some(1),
            epoch: 0,
            attempts: 0,
            max_attempts: 4,
            returns: 0,
            revision: 0,
            says: true,
        };
        Admitted::of(Parsed { at, event, ask }, standing)
    }

    fn places(turns: &[Vec<Admitted>]) -> Vec<Vec<usize>> {
        turns.iter().map(|turn| turn.iter().map(|record| record.parsed.at).collect()).collect()
    }

    #[test]
    fn the_records_of_a_group_take_turns_and_groups_go_side_by_side() {
        let messages = messages(&[Some(1), Some(2), Some(1), Some(1), Some(2)]);
        let turns = turns((0..5).map(admitted).collect(), &messages);
        assert_eq!(places(&turns), [vec![0, 1], vec![2, 4], vec![3]]);
    }

    #[test]
    fn on_a_standard_queue_all_go_together_and_nothing_holds_back() {
        let messages = messages(&[None, None, None]);
        assert!(!counts(&messages));
        let mut turns = turns((0..3).map(admitted).collect(), &messages);
        assert_eq!(places(&turns), [vec![0, 1, 2]]);
        let (again, mut endings) = (Again::all_of(&messages), Endings::of(&messages));
        assert_eq!(free(turns.remove(0), &again, &mut endings).len(), 3);
    }

    #[test]
    fn one_that_must_come_again_holds_back_those_behind_it_for_as_long_as_itself_and_no_other_group() {
        let messages = messages(&[Some(1), Some(2), Some(1), Some(2)]);
        let (mut again, mut endings) = (Again::all_of(&messages), Endings::of(&messages));
        again.settle(1);
        again.hold(0, Duration::from_secs(4));

        let free = free(vec![admitted(2), admitted(3)], &again, &mut endings);

        assert_eq!(places(&[free]), [vec![3]]);
        let Some(Ending::Returned { cause, .. }) = endings.ending(2) else { panic!("it is given back") };
        assert_eq!(*cause, Cause::Turn(Duration::from_secs(4)));
    }

    #[test]
    fn a_copy_holds_back_nobody_since_what_it_is_a_copy_of_does() {
        let messages = messages(&[Some(1), Some(1), Some(1)]);
        let (mut again, mut endings) = (Again::all_of(&messages), Endings::of(&messages));
        // Of twins the one that was a letter goes first, wherever it stands.
        endings.end(0, Ending::SameAs(2), None);
        assert_eq!(free(vec![admitted(1)], &again, &mut endings).len(), 1);
        again.settle(1);
        assert_eq!(free(vec![admitted(2)], &again, &mut endings).len(), 1);
    }

    proptest! {
        #[test]
        fn every_record_has_one_turn_behind_all_that_stand_before_it_in_its_group(
            groups in prop::collection::vec(prop::option::weighted(0.9, 0u8..3), 0..10),
        ) {
            let messages = messages(&groups);
            let turns = places(&turns((0..groups.len()).map(admitted).collect(), &messages));
            let turn_of = |at: usize| turns.iter().position(|turn| turn.contains(&at));
            prop_assert_eq!(turns.iter().map(Vec::len).sum::<usize>(), groups.len());
            for later in 0..groups.len() {
                prop_assert!(turn_of(later).is_some());
                for earlier in 0..later {
                    if groups[later].is_some() && groups[earlier] == groups[later] {
                        prop_assert!(turn_of(earlier) < turn_of(later));
                    }
                }
            }
        }
    }
}
