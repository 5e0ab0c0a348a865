//! A batch on its way through the layers: what a record is at each stage, and how it ended.
//!
//! Each layer takes records of one stage and returns those that go on, as the next stage; the others it ends. The types keep the order:
//! nothing is decided that was not looked up, nothing is committed that was not decided.

use crate::parse::Message;
use std::{borrow::Cow, time::Duration};
use switchyard_agent::{Decision, Refusal, Reject};
use switchyard_event::{Event, Reason};
use switchyard_store::{Ask, Standing, Verdict};

/// A message that is an event.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// Its place in the batch.
    pub(crate) at: usize,
    pub(crate) event: Event,
    pub(crate) ask: Ask,
}

/// An event that is ours to handle, as far as a look without a lock can tell.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) parsed: Parsed,
    pub(crate) standing: Standing,
    /// Why the agent cannot be asked. Only in shadow mode, where that is what is compared: anywhere else such a record has ended.
    pub(crate) refused: Option<Reject>,
}

impl Admitted {
    pub(crate) const fn of(parsed: Parsed, standing: Standing) -> Self {
        Self { parsed, standing, refused: None }
    }

    /// The agent cannot be asked about this record, and no retry helps: parked, or, in shadow mode, kept as what this side has to say.
    pub(crate) fn refuse(mut self, reason: Reason, detail: String, endings: &mut Endings<'_>) -> Option<Self> {
        if self.standing.verdict == Verdict::Shadow {
            self.refused = Some(Reject { reason: reason.as_str(), detail });
            return Some(self);
        }
        let ending = Ending::Park { reason: reason.as_str().into(), detail };
        endings.end(self.parsed.at, ending, Some(self.standing));
        None
    }

    /// Ends this record without an attempt.
    pub(crate) fn give_back(self, why: impl Into<Cow<'static, str>>, cause: Cause, endings: &mut Endings<'_>) {
        endings.end(self.parsed.at, Ending::Returned { why: why.into(), cause }, Some(self.standing));
    }
}

/// An event with what the agent wants. Refused only in shadow mode, where a refusal is what is compared: nobody waits for another attempt.
#[derive(Debug)]
pub(crate) struct Decided<E> {
    pub(crate) admitted: Admitted,
    pub(crate) decision: Result<Decision<E>, Refusal>,
}

/// How a record ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Nothing is left to do with this message; the word says why, for the log.
    Finished(&'static str),
    /// Tried again after a while; costs an attempt. Where it is not known whether the event is to blame or what the agent depends on, since neither
    /// has answered, it counts towards the breaker as well.
    Retry { detail: String, after: Option<Duration>, unanswered: bool },
    /// Not our doing and not the event's: comes again, costs nothing.
    Returned { why: Cow<'static, str>, cause: Cause },
    /// Never tried again: to the dead-letter queue.
    Park { reason: Cow<'static, str>, detail: String },
    /// The same event as the record at this place, which has the same end.
    SameAs(usize),
}

impl Ending {
    /// The word for a record of shadow mode of which it is stored that nobody answered.
    pub(crate) const WITHOUT_ANSWER: &'static str = "shadowed without an answer";

    /// Failed, and through nobody else's fault.
    pub(crate) fn retry(detail: impl Into<String>) -> Self {
        Self::Retry { detail: detail.into(), after: None, unanswered: false }
    }

    /// Returned for a cause that no breaker could help with.
    pub(crate) fn returned(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Returned { why: why.into(), cause: Cause::Passing }
    }
}

/// Why a record comes again that has cost no attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// What the agent depends on is down, in the agent's own words: counts towards its breaker.
    Dependency,
    /// Our database, the time, a conflict: it waits longer each time.
    Passing,
    /// Nothing is wrong, it is only not its turn: it comes again after so long.
    Turn(Duration),
}

/// How one record ended, and what the ledger had said of it.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    /// Its place in the batch.
    pub(crate) at: usize,
    pub(crate) ending: Ending,
    pub(crate) standing: Option<Standing>,
}

/// The endings of a batch, by place.
#[derive(Debug)]
pub(crate) struct Endings<'a> {
    pub(crate) messages: &'a [Message],
    endings: Vec<Option<Ended>>,
    /// Whether `take` has handed out the record at each place.
    taken: Vec<bool>,
}

impl<'a> Endings<'a> {
    pub(crate) fn of(messages: &'a [Message]) -> Self {
        Self { messages, endings: messages.iter().map(|_| None).collect(), taken: vec![false; messages.len()] }
    }

    /// Ends the record at this place. The last word before it is carried out counts.
    pub(crate) fn end(&mut self, at: usize, ending: Ending, standing: Option<Standing>) {
        if let Some(slot) = self.endings.get_mut(at) {
            *slot = Some(Ended { at, ending, standing });
        }
    }

    /// How the record at this place ended, so far.
    pub(crate) fn ending(&self, at: usize) -> Option<&Ending> {
        self.endings.get(at)?.as_ref().map(|ended| &ended.ending)
    }

    /// The places of the copies of the record at this place.
    pub(crate) fn copies(&self, of: usize) -> impl Iterator<Item = usize> {
        let copy = move |ended: &&Ended| ended.ending == Ending::SameAs(of);
        self.endings.iter().flatten().filter(copy).map(|ended| ended.at)
    }

    /// What has ended since the last time, to be carried out.
    pub(crate) fn take(&mut self) -> Vec<Ended> {
        let fresh = self.endings.iter().zip(&mut self.taken).filter(|(ended, taken)| ended.is_some() && !**taken);
        fresh
            .filter_map(|(ended, taken)| {
                *taken = true;
                ended.clone()
            })
            .collect()
    }

    /// Ends what no layer has ended: it comes again, since silence must never acknowledge.
    pub(crate) fn close(&mut self) {
        for at in 0..self.endings.len() {
            if self.endings[at].is_none() {
                self.end(at, Ending::returned("no layer ended it"), None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ending_is_carried_out_once_and_silence_comes_again() {
        let messages = [Message::with_body("a"), Message::with_body("b"), Message::with_body("c")];
        let mut endings = Endings::of(&messages);
        endings.end(1, Ending::Finished("done"), None);
        assert_eq!(endings.take().iter().map(|ended| ended.at).collect::<Vec<_>>(), [1]);
        endings.end(0, Ending::Finished("done"), None);
        endings.close();
        let rest = endings.take();
        assert_eq!(rest.iter().map(|ended| ended.at).collect::<Vec<_>>(), [0, 2]);
        assert!(matches!(rest[1].ending, Ending::Returned { .. }));
        assert!(endings.take().is_empty());
    }
}
