//! Sends so that the order within a group holds, whichever messages are refused.
//!
//! A call may be taken in part, and the messages of a group that it takes keep their order among themselves alone: one behind another that was
//! refused would overtake it. So on FIFO a call has one message of a group at most, and nothing is sent behind one that may be taken later. On a
//! standard queue there is no order to keep.

use super::fault;
use crate::{BusError, Kind, Message, QUEUE_BYTES, pack};
use std::collections::{HashMap, HashSet};

/// Sends messages by `call`, which gets one call's worth at a time and answers for each of them. The answers are in the order of the
/// messages.
pub(super) async fn send(
    operation: &'static str,
    kind: Kind,
    messages: &[Message],
    call: impl AsyncFn(&[&Message]) -> Vec<Result<(), BusError>>,
) -> Vec<Result<(), BusError>> {
    let refused =
        |message| fault(kind, message).map_or(Ok(()), |fault| Err(BusError::refused(operation, fault, false)));
    let mut answers: Vec<Result<(), BusError>> = messages.iter().map(refused).collect();
    let sendable: Vec<usize> = (0..messages.len()).filter(|at| answers[*at].is_ok()).collect();
    let mut waits: HashSet<&str> = HashSet::new();
    for turn in turns(kind, messages, sendable) {
        let (behind, free): (Vec<usize>, Vec<usize>) =
            turn.into_iter().partition(|at| group(kind, &messages[*at]).is_some_and(|group| waits.contains(group)));
        for at in behind {
            answers[at] = Err(BusError::refused(operation, "an earlier message of its group was not taken", true));
        }
        for places in pack(free, QUEUE_BYTES, |at| messages[*at].size()) {
            let answered = call(&places.iter().map(|at| &messages[*at]).collect::<Vec<_>>()).await;
            for (at, answer) in places.into_iter().zip(answered) {
                // One that no queue takes delays no other: it would do so for ever.
                let may_pass = answer.as_ref().is_err_and(|error| error.transient || error.setup);
                waits.extend(group(kind, &messages[at]).filter(|_| may_pass));
                answers[at] = answer;
            }
        }
    }
    answers
}

/// Parts the messages at these places into turns, each with one of a group at most, in their order. All in one on a standard queue.
fn turns(kind: Kind, messages: &[Message], places: Vec<usize>) -> Vec<Vec<usize>> {
    let mut before: HashMap<&str, usize> = HashMap::new();
    let mut turns: Vec<Vec<usize>> = Vec::new();
    for at in places {
        let turn = group(kind, &messages[at]).map_or(0, |group| {
            let before = before.entry(group).or_default();
            *before += 1;
            *before - 1
        });
        if turns.len() <= turn {
            turns.push(Vec::new());
        }
        turns[turn].push(at);
    }
    turns
}

fn group(kind: Kind, message: &Message) -> Option<&str> {
    message.keys().group.as_deref().filter(|_| kind.is_fifo())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BATCH_ENTRIES;
    use proptest::prelude::*;
    use std::cell::RefCell;

    fn of(group: &str, body: &str) -> Message {
        Message::new(body.to_owned()).in_group(group, body)
    }

    /// Sends, where the service refuses these for now and takes the others. Returns the answers and what was taken, call by call.
    async fn sent(kind: Kind, messages: &[Message], refuses: &[&str]) -> (Vec<Result<(), BusError>>, Vec<Vec<String>>) {
        let calls = RefCell::new(Vec::new());
        let call = async |some: &[&Message]| {
            let refuses = |message: &&Message| refuses.contains(&message.body.as_str());
            let taken = some.iter().copied().filter(|message| !refuses(message)).map(|message| message.body.clone());
            calls.borrow_mut().push(taken.collect());
            let answer = |message| if refuses(message) { Err(BusError::refused("Send", "busy", true)) } else { Ok(()) };
            some.iter().map(answer).collect()
        };
        let answers = send("Send", kind, messages, call).await;
        (answers, calls.into_inner())
    }

    #[tokio::test]
    async fn on_fifo_no_message_overtakes_a_refused_one_of_its_group() {
        let messages = [of("a", "a1"), of("b", "b1"), of("a", "a2"), of("b", "b2"), of("a", "a3")];
        let (answers, calls) = sent(Kind::Fifo, &messages, &["a1"]).await;
        assert_eq!(calls, [vec!["b1"], vec!["b2"]]);
        let may_pass: Vec<_> = answers.iter().map(|answer| answer.as_ref().map_err(|error| error.transient)).collect();
        assert_eq!(may_pass, [Err(true), Ok(&()), Err(true), Ok(&()), Err(true)]);
    }

    #[tokio::test]
    async fn a_message_that_no_queue_takes_delays_no_other() {
        let messages = [of("a", "a1"), of("a", ""), of("a", "a2")];
        let (answers, calls) = sent(Kind::Fifo, &messages, &[]).await;
        assert_eq!(calls, [["a1"], ["a2"]]);
        assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    }

    #[tokio::test]
    async fn on_a_standard_queue_a_refused_message_delays_no_other_and_calls_are_full() {
        let messages: Vec<Message> = (0..BATCH_ENTRIES).map(|n| of("a", &n.to_string())).collect();
        let (answers, calls) = sent(Kind::Standard, &messages, &["0"]).await;
        assert_eq!((calls.len(), calls[0].len()), (1, BATCH_ENTRIES - 1));
        assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 1);
    }

    proptest! {
        #[test]
        fn the_messages_of_a_group_before_the_first_refused_one_are_taken_and_no_others(
            groups in prop::collection::vec(0u8..4, 0..40),
            refused in prop::collection::btree_set(0usize..40, 0..4),
        ) {
            let name = |at: usize| format!("{}/{at}", groups[at]);
            let messages: Vec<Message> = (0..groups.len()).map(|at| of(&groups[at].to_string(), &name(at))).collect();
            let bodies: Vec<String> = refused.iter().filter(|at| **at < groups.len()).map(|at| name(*at)).collect();
            let refuses: Vec<&str> = bodies.iter().map(String::as_str).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (answers, calls) = runtime.block_on(sent(Kind::Fifo, &messages, &refuses));
            let taken = calls.concat();
            for group in 0u8..4 {
                let own: Vec<usize> = (0..groups.len()).filter(|at| groups[*at] == group).collect();
                let before: Vec<usize> = own.iter().copied().take_while(|at| !refused.contains(at)).collect();
                let of_group = |body: &&String| body.starts_with(&format!("{group}/"));
                let arrived: Vec<String> = taken.iter().filter(of_group).cloned().collect();
                prop_assert_eq!(arrived, before.iter().map(|at| name(*at)).collect::<Vec<_>>());
                for at in own {
                    prop_assert_eq!(answers[at].is_ok(), before.contains(&at));
                }
            }
        }
    }
}
