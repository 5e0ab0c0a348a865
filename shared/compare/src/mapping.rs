//! What a team writes down: where the old system's answer to an event is found, and what of it counts.

use crate::{kind::Kind, path::Path, span::Span};
use serde_json::Value;

/// How one agent's decisions are compared with what the old system did. Read by [`Mapping::read`].
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    /// How long the old system may take, counted from the event, or from when it was due. What comes later is no answer.
    pub wait: Span,
    /// How much earlier than its event an answer may be dated: the clocks are two, and a row may carry the time at which the transaction
    /// began that appended the event.
    pub early: Span,
    /// What the old system does about an event, part by part; at least one. An event has agreed when all of them have.
    pub answers: Vec<Answer>,
}

/// One thing that both sides do about an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What reports call it.
    pub name: String,
    /// The agent's side.
    pub ours: Ours,
    /// The old system's side.
    pub theirs: Theirs,
    /// What must agree. Where there is none, that both have done something is enough.
    pub fields: Vec<Field>,
    /// Whether rows of the old system that answer no event count: what it does of its own accord, the new agent would never do.
    pub unmatched: bool,
}

/// Where an answer stands in a decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Ours {
    /// Among what.
    pub what: What,
    /// Which of several, from 1.
    pub nth: usize,
    /// What is as good as nothing: any of these.
    pub nothing: Vec<Condition>,
}

/// What of a decision is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The effects: of one kind (the variant's name, where an agent's effect is an enum), or all.
    Effect(Option<String>),
    /// The events of this type that it says.
    Event(String),
}

/// Where the old system's answer stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Theirs {
    /// In which table, or among which events.
    pub source: Source,
    /// Only rows for which all of these hold.
    pub only: Vec<Condition>,
    /// What is as good as nothing: any of these.
    pub nothing: Vec<Condition>,
}

/// Where the old system leaves what it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Rows of a table or view of its own.
    Table {
        /// The table's schema.
        schema: String,
        /// The table.
        table: String,
        /// Which columns hold what of the event; at least one.
        key: Vec<(String, KeyPart)>,
        /// The column that says when it was written.
        at: String,
        /// Whether an answer is written over the one before it of the same key; where the mapping does not say, the table's own keys do.
        overwritten: Option<bool>,
    },
    /// Events that it appends.
    Events {
        /// Their type.
        event_type: String,
        /// By what they belong to the event.
        by: By,
    },
}

/// What of an event names the old system's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPart {
    /// The event's id.
    Id,
    /// What it happened to.
    AggregateId,
    /// Its project.
    ProjectId,
    /// The chain that it belongs to; its own id where it begins one.
    CorrelationId,
    /// A place in its payload.
    Payload(Vec<String>),
    /// A place in its metadata.
    Metadata(Vec<String>),
}

impl KeyPart {
    /// Whether two events can share it. The answer to a key that no two share cannot be overtaken.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        *self != Self::Id
    }

    /// Whether it stands in the event itself, beyond what the log keeps of it.
    #[must_use]
    pub fn is_in_event(&self) -> bool {
        matches!(self, Self::CorrelationId | Self::Payload(_) | Self::Metadata(_))
    }
}

/// How an event of the old system names the event that it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Its `causation_id` is that event.
    Causation,
    /// They are of one chain.
    Correlation,
    /// They are about the same thing.
    Aggregate,
}

/// A field that must agree.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// What reports call it.
    pub name: String,
    /// Where it stands in the agent's effect or event.
    pub ours: Path,
    /// Where it stands in the old system's row or event.
    pub theirs: Path,
    /// As what the two are compared.
    pub kind: Kind,
}

/// That a place holds one of some values, compared as text; where there are none, that it holds no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The place.
    pub path: Path,
    /// The values.
    pub is: Vec<String>,
}

impl Condition {
    /// Whether it holds for what stands at its path.
    #[must_use]
    pub fn holds(&self, found: &Value) -> bool {
        match crate::kind::text(found) {
            None => self.is.is_empty(),
            Some(text) => self.is.contains(&text),
        }
    }
}

impl Source {
    /// What of an event names the answer, part by part.
    #[must_use]
    pub fn key(&self) -> Vec<KeyPart> {
        match self {
            Self::Table { key, .. } => key.iter().map(|(_, part)| part.clone()).collect(),
            Self::Events { by: By::Causation, .. } => vec![KeyPart::Id],
            Self::Events { by: By::Correlation, .. } => vec![KeyPart::CorrelationId],
            Self::Events { by: By::Aggregate, .. } => vec![KeyPart::AggregateId],
        }
    }

    /// Whether two events can have the same key, so that the later one may overtake the answer to the earlier.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.key().iter().all(KeyPart::is_shared)
    }
}

impl Answer {
    /// What is read of the old system's row: the fields, then what may make it nothing. [`judge`](crate::judge) takes them in this order.
    pub fn asked(&self) -> impl Iterator<Item = &Path> {
        self.fields.iter().map(|field| &field.theirs).chain(self.theirs.nothing.iter().map(|condition| &condition.path))
    }
}
