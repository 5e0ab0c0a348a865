//! A batch on its way through the layers: what a record is at each stage, and how it ended.
//!
//! Each layer takes records of one stage and returns those that go on, as the next stage; the others it ends. The types keep the order:
//! nothing is decided that was not looked up, nothing is committed that was not decided.

use crate::parse::Message;
use std::{borrow::Cow, time::Duration};
use switchyard_agent::{Decision, Refusal};
use switchyard_event::Event;
use switchyard_store::{Ask, Standing};

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
    /// Tried again after a while; costs an attempt.
    Retry { detail: String, after: Option<Duration> },
    /// Not our doing and not the event's: comes again, costs nothing.
    Returned { why: Cow<'static, str> },
    /// Never tried again: to the dead-letter queue.
    Park { reason: Cow<'static, str>, detail: String },
    /// The same event as the record at this place, which has the same end.
    SameAs(usize),
}

/// The endings of a batch, by place.
#[derive(Debug)]
pub(crate) struct Endings<'a> {
    pub(crate) messages: &'a [Message],
    endings: Vec<Option<(Ending, Option<Standing>)>>,
}

impl<'a> Endings<'a> {
    pub(crate) fn of(messages: &'a [Message]) -> Self {
        Self { messages, endings: messages.iter().map(|_| None).collect() }
    }

    /// Ends the record at this place. The last word counts.
    pub(crate) fn end(&mut self, at: usize, ending: Ending, standing: Option<Standing>) {
        if let Some(slot) = self.endings.get_mut(at) {
            *slot = Some((ending, standing));
        }
    }

    /// Every record with its ending. One that no layer ended comes again: silence must never acknowledge.
    pub(crate) fn into_parts(self) -> Vec<(Ending, Option<Standing>)> {
        let forgotten = || (Ending::Returned { why: "no layer ended it".into() }, None);
        self.endings.into_iter().map(|ending| ending.unwrap_or_else(forgotten)).collect()
    }
}
