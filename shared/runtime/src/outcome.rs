//! How each record of a batch ended, and how a verdict of the ledger or a refusal of the agent ends one.

use crate::message::Message;
use std::{borrow::Cow, time::Duration};
use switchyard_agent::Refusal;
use switchyard_event::{Event, EventType, Reason};
use switchyard_store::{ClaimAnswer, Verdict};
use uuid::Uuid;

/// How a record ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing is left to do with this message; the word says why, for the log.
    Finished(&'static str),
    /// Tried again after a backoff; costs an attempt. `unanswered`: there was no answer, so it is not known whether the event is to blame or what
    /// the agent depends on, and it counts towards the breaker as well.
    Retry { detail: String, after: Option<Duration>, unanswered: bool },
    /// Neither the agent's doing nor the event's: delivered again, costs no attempt.
    Returned { why: Cow<'static, str>, cause: Cause },
    /// Never tried again: to the dead-letter queue.
    Park { reason: Cow<'static, str>, detail: String },
    /// The same event as the record at this place, which has the same outcome.
    SameAs(usize),
}

/// Why a record that has cost no attempt is delivered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// What the agent depends on is down, in the agent's own words: counts towards its breaker.
    Dependency,
    /// Our database, the time, a conflict: it waits longer each time.
    Passing,
    /// Nothing is wrong, it is only not its turn: it is delivered again after so long.
    Turn(Duration),
}

impl Outcome {
    /// The word for a record of shadow mode of which it is stored that there was no answer.
    pub(crate) const WITHOUT_ANSWER: &'static str = "shadowed without an answer";

    /// How a verdict of the ledger ends a record; `None` for the two with which it goes on.
    pub(crate) fn of_verdict(verdict: Verdict) -> Option<Self> {
        let park = |reason: Reason, detail: &str| Self::Park { reason: reason.as_str().into(), detail: detail.into() };
        Some(match verdict {
            Verdict::Take | Verdict::Shadow => return None,
            Verdict::AlreadyDone => Self::Finished("already done"),
            Verdict::NotYours => Self::Finished("the old system's"),
            Verdict::Parked => Self::Finished("parked before"),
            Verdict::NotSubscribed => Self::Finished("not subscribed"),
            Verdict::Unknown => {
                park(Reason::NotInTable, "no committed event has this id: only what is in the table is handled")
            }
            Verdict::UnknownRun => park(Reason::UnknownRun, "no replay has selected this event"),
            Verdict::TooOld => {
                park(Reason::TooOld, "its delivery is no longer remembered, so running it could do things twice")
            }
            Verdict::Forged => park(Reason::Forged, "its body does not have the seal of the database"),
        })
    }

    /// How a refusal ends a record. `Superseded` is for the commit, which settles it: anywhere else it is a mistake of the agent and tried again,
    /// since finishing it here would leave it unsettled.
    pub(crate) fn of_refusal(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Retry { reason, after } => Self::Retry { detail: reason, after, unanswered: false },
            Refusal::Reject(reject) => Self::Park { reason: reject.reason.into(), detail: reject.detail },
            Refusal::Unavailable(why) => Self::Returned { why: why.into(), cause: Cause::Dependency },
            Refusal::Unanswered => Self::Returned { why: refusal.to_string().into(), cause: Cause::Dependency },
            Refusal::Edited => Self::Returned { why: refusal.to_string().into(), cause: Cause::Turn(Duration::ZERO) },
            Refusal::OutOfTime => Self::returned(refusal.to_string()),
            Refusal::DatabaseDown(why) | Refusal::Conflict(why) => Self::returned(why),
            Refusal::Superseded => Self::retry("only `apply` may find an event superseded"),
        }
    }

    /// Failed by its own fault.
    pub(crate) fn retry(detail: impl Into<String>) -> Self {
        Self::Retry { detail: detail.into(), after: None, unanswered: false }
    }

    /// Returned for a cause that no breaker could help with.
    pub(crate) fn returned(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Returned { why: why.into(), cause: Cause::Passing }
    }
}

/// How one record ended, and what the ledger answered about it.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    /// Its place in the batch.
    pub(crate) at: usize,
    pub(crate) outcome: Outcome,
    pub(crate) standing: Option<ClaimAnswer>,
}

/// The outcomes of a batch, by place.
#[derive(Debug)]
pub(crate) struct Outcomes<'a> {
    pub(crate) messages: &'a [Message],
    ended: Vec<Option<Ended>>,
    /// Which event each message is, where it is one: for the log.
    events: Vec<Option<(Uuid, EventType)>>,
    /// Whether `take` has handed out the record at each place.
    taken: Vec<bool>,
}

impl<'a> Outcomes<'a> {
    pub(crate) fn of(messages: &'a [Message]) -> Self {
        let none = || messages.iter().map(|_| None);
        Self {
            messages,
            ended: none().collect(),
            events: messages.iter().map(|_| None).collect(),
            taken: vec![false; messages.len()],
        }
    }

    /// Which event the message at this place is.
    pub(crate) fn identify(&mut self, at: usize, event: &Event) {
        if let Some(slot) = self.events.get_mut(at) {
            *slot = Some((event.id, event.event_type.clone()));
        }
    }

    /// The event at this place.
    pub(crate) fn event(&self, at: usize) -> Option<&(Uuid, EventType)> {
        self.events.get(at)?.as_ref()
    }

    /// Ends the record at this place. The last outcome before it is carried out counts.
    pub(crate) fn end(&mut self, at: usize, outcome: Outcome, standing: Option<ClaimAnswer>) {
        if let Some(slot) = self.ended.get_mut(at) {
            *slot = Some(Ended { at, outcome, standing });
        }
    }

    /// How the record at this place ended, so far.
    pub(crate) fn outcome(&self, at: usize) -> Option<&Outcome> {
        self.ended.get(at)?.as_ref().map(|ended| &ended.outcome)
    }

    /// The places of the copies of the record at this place.
    pub(crate) fn copies(&self, of: usize) -> impl Iterator<Item = usize> {
        let copy = move |ended: &&Ended| ended.outcome == Outcome::SameAs(of);
        self.ended.iter().flatten().filter(copy).map(|ended| ended.at)
    }

    /// What has ended since the last time, to be carried out.
    pub(crate) fn take(&mut self) -> Vec<Ended> {
        let fresh = self.ended.iter().zip(&mut self.taken).filter(|(ended, taken)| ended.is_some() && !**taken);
        fresh
            .filter_map(|(ended, taken)| {
                *taken = true;
                ended.clone()
            })
            .collect()
    }

    /// Ends what no layer has ended: it is delivered again, since silence must never acknowledge.
    pub(crate) fn close(&mut self) {
        for at in 0..self.ended.len() {
            if self.ended[at].is_none() {
                self.end(at, Outcome::returned("no layer ended it"), None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_is_carried_out_once_and_a_record_without_one_is_delivered_again() {
        let messages = ["a", "b", "c"].map(|body| Message::new("m", "r", body));
        let mut outcomes = Outcomes::of(&messages);
        outcomes.end(1, Outcome::Finished("done"), None);
        assert_eq!(outcomes.take().iter().map(|ended| ended.at).collect::<Vec<_>>(), [1]);
        outcomes.end(0, Outcome::Finished("done"), None);
        outcomes.close();
        let rest = outcomes.take();
        assert_eq!(rest.iter().map(|ended| ended.at).collect::<Vec<_>>(), [0, 2]);
        assert!(matches!(rest[1].outcome, Outcome::Returned { .. }));
        assert!(outcomes.take().is_empty());
    }
}
