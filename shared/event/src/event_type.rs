//! The name of a kind of event.

use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt};

/// The name of a kind of event, such as `feedback.created`.
///
/// A domain declares its types as constants, each by its name. No list of all types exists: an event of any name goes from the table to the
/// topic, and to the agents that subscribe to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventType(Cow<'static, str>);

impl EventType {
    /// Time passed. The steward emits it, since no agent reads a clock.
    pub const CLOCK_TICKED: Self = Self::named("clock.ticked");

    /// A type by its name, usable in constants: `const SUBSCRIBES: &[EventType] = &[EventType::named("model.evaluated")]`.
    #[must_use]
    pub const fn named(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// The name as it stands on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for EventType {
    fn from(name: String) -> Self {
        Self(Cow::Owned(name))
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
