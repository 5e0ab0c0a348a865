//! A batch on its way through the layers: what a record is at each stage.
//!
//! Each layer takes records of one stage and returns those that go on, as the next stage; the others it ends. The types keep the order:
//! nothing is decided that was not looked up, nothing is committed that was not decided.

use crate::outcome::{Cause, Outcome, Outcomes};
use std::borrow::Cow;
use switchyard_agent::{Decision, Refusal, Reject};
use switchyard_event::{Event, Reason};
use switchyard_store::{Ask, ClaimAnswer, Seal, Verdict};

/// A message that is an event.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// Its place in the batch.
    pub(crate) at: usize,
    pub(crate) event: Event,
    pub(crate) ask: Ask,
    pub(crate) seal: Seal,
}

/// An event that is this agent's to handle, as far as a preview without a lock can tell.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) parsed: Parsed,
    pub(crate) standing: ClaimAnswer,
    /// Why the agent cannot be asked. Only in shadow mode, where that is what is compared: anywhere else such a record has ended.
    pub(crate) refused: Option<Reject>,
}

impl Admitted {
    pub(crate) const fn of(parsed: Parsed, standing: ClaimAnswer) -> Self {
        Self { parsed, standing, refused: None }
    }

    /// The agent cannot be asked about this record, and no retry helps: parked, or, in shadow mode, stored as this side's answer.
    pub(crate) fn refuse(mut self, reason: Reason, detail: String, outcomes: &mut Outcomes<'_>) -> Option<Self> {
        if self.standing.verdict == Verdict::Shadow {
            self.refused = Some(Reject { reason: reason.as_str(), detail });
            return Some(self);
        }
        let outcome = Outcome::Park { reason: reason.as_str().into(), detail };
        outcomes.end(self.parsed.at, outcome, Some(self.standing));
        None
    }

    /// Ends this record without an attempt: it is delivered again.
    pub(crate) fn return_untried(self, why: impl Into<Cow<'static, str>>, cause: Cause, outcomes: &mut Outcomes<'_>) {
        outcomes.end(self.parsed.at, Outcome::Returned { why: why.into(), cause }, Some(self.standing));
    }
}

/// An event with what the agent made of it.
#[derive(Debug)]
pub(crate) struct Decided<E> {
    pub(crate) admitted: Admitted,
    pub(crate) conclusion: Conclusion<E>,
}

/// What the agent made of an event.
#[derive(Debug)]
pub(crate) enum Conclusion<E> {
    /// What to write and to emit.
    Decided(Decision<E>),
    /// Only in shadow mode, which stores and compares a refusal as it does a decision: there is no other attempt.
    Refused(Refusal),
}
