//! The answer for each message of a batch: redelivery for all but those that are known to be settled.

use crate::{
    message::{Answer, Message},
    outcome::{Outcome, Outcomes},
};
use std::time::Duration;

/// The answers of a batch so far, by place.
#[derive(Debug)]
pub(crate) struct Answers(Vec<Answer>);

impl Answers {
    /// All messages are delivered again: nothing is known to be settled yet.
    pub(crate) fn of(messages: &[Message]) -> Self {
        Self(vec![Answer::Redeliver { after: None }; messages.len()])
    }

    pub(crate) fn acknowledge(&mut self, at: usize) {
        self.0[at] = Answer::Acknowledge;
    }

    /// The queue was asked to deliver this one again after so long.
    pub(crate) fn redeliver(&mut self, at: usize, after: Duration) {
        self.0[at] = Answer::Redeliver { after: Some(after) };
    }

    /// After how long a message is delivered again, where the queue was asked.
    pub(crate) fn redelivered_after(&self, at: usize) -> Option<Duration> {
        match self.0.get(at)? {
            Answer::Redeliver { after } => *after,
            Answer::Acknowledge => None,
        }
    }

    /// Whether the message at this place is delivered again.
    pub(crate) fn is_redelivery(&self, at: usize, outcomes: &Outcomes<'_>) -> bool {
        self.answer(at, outcomes).is_redelivery()
    }

    /// One answer for each message, in their order.
    pub(crate) fn all(&self, outcomes: &Outcomes<'_>) -> Vec<Answer> {
        if switchyard_faults::bug("ignored_batch_failures") {
            return vec![Answer::Acknowledge; self.0.len()];
        }
        (0..self.0.len()).map(|at| self.answer(at, outcomes)).collect()
    }

    /// A copy has the answer of the message that it is a copy of. What is not known is delivered again.
    fn answer(&self, at: usize, outcomes: &Outcomes<'_>) -> Answer {
        let at = match outcomes.outcome(at) {
            Some(Outcome::SameAs(first)) => *first,
            _ => at,
        };
        self.0.get(at).copied().unwrap_or(Answer::Redeliver { after: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn exactly_what_is_settled_is_acknowledged_and_a_copy_with_its_original(
            fates in prop::collection::vec((any::<bool>(), prop::option::of(0usize..10)), 0..10),
        ) {
            let messages: Vec<_> = fates.iter().map(|_| Message::new("m", "r", "{}")).collect();
            let (mut answers, mut outcomes) = (Answers::of(&messages), Outcomes::of(&messages));
            let original = |at: usize| fates[at].1.filter(|first| *first < at && fates[*first].1.is_none());
            for (at, (is_settled, _)) in fates.iter().enumerate() {
                match original(at) {
                    Some(first) => outcomes.end(at, Outcome::SameAs(first), None),
                    None if *is_settled => answers.acknowledge(at),
                    None => {}
                }
            }
            for (at, answer) in answers.all(&outcomes).into_iter().enumerate() {
                let is_settled = fates[original(at).unwrap_or(at)].0;
                prop_assert_eq!(answer.is_redelivery(), !is_settled);
            }
        }
    }
}
