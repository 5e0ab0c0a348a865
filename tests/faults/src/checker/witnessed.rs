//! What was seen outside of the database: by the topic, in the dead-letter queues, and by who keeps the processes.

use crate::broker::Sighting;
use std::collections::{BTreeSet, HashSet};
use uuid::Uuid;

/// A message in an agent's dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Whose queue it lies in.
    pub agent: String,
    /// The event that it is about, where it is about one.
    pub event: Option<Uuid>,
    /// The body as it came.
    pub body: String,
}

/// Everything that was seen outside of the database.
#[derive(Debug, Clone, Default)]
pub struct Witnessed {
    /// What the topic saw.
    pub sighting: Sighting,
    /// Sequences that no topic has ever accepted.
    pub unseen: HashSet<i64>,
    /// What lies in the dead-letter queues.
    pub dead_letters: Vec<DeadLetter>,
    /// Bodies that were put into queues and can never be handled, by agent.
    pub strangers: BTreeSet<(String, String)>,
    /// How many of the agents' processes died at work, were killed at their deadline, or were stopped for a while.
    pub deaths: u64,
}
