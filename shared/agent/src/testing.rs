//! Tests that read as sentences: given an event and facts, then this decision.

use crate::{Agent, Decision, Reject};
use switchyard_event::Event;

/// An event and what the agent knows about it.
pub struct Given<'a, A: Agent> {
    event: &'a Event,
    facts: A::Facts,
}

/// Starts the sentence.
pub fn given<A: Agent>(event: &Event, facts: A::Facts) -> Given<'_, A> {
    Given { event, facts }
}

impl<A: Agent> Given<'_, A> {
    /// The agent decides exactly this.
    ///
    /// # Panics
    /// If it decides otherwise, or rejects.
    #[track_caller]
    pub fn then(self, expected: Decision<A::Effect>) {
        let decided = self.decide();
        assert_eq!(decided, expected, "{} decided otherwise", A::NAME);
    }

    /// The agent rejects the event for this reason.
    ///
    /// # Panics
    /// If it decides, or rejects for another reason.
    #[track_caller]
    pub fn then_rejected(self, reason: &str) {
        match self.decided() {
            Ok(decision) => panic!("{} should have rejected for {reason}, and decided {decision:?}", A::NAME),
            Err(reject) => assert_eq!(reject.reason, reason, "{reject}"),
        }
    }

    /// What the agent decides, for looking at a part of it.
    ///
    /// # Panics
    /// If it rejects.
    #[track_caller]
    pub fn decide(self) -> Decision<A::Effect> {
        match self.decided() {
            Ok(decision) => decision,
            Err(reject) => panic!("{} rejected: {reject}", A::NAME),
        }
    }

    /// Decides twice: by the facts as they are, and by what a replay would have recorded of them.
    #[track_caller]
    fn decided(&self) -> Result<Decision<A::Effect>, Reject> {
        let recorded = serde_json::to_string(&self.facts).map(|json| serde_json::from_str(&json));
        let Ok(Ok(recorded)) = recorded else {
            panic!("{}: these facts cannot be recorded: {:?}", A::NAME, self.facts)
        };
        let decided = A::decide(self.event, &self.facts);
        assert_eq!(A::decide(self.event, &recorded), decided, "{} decides otherwise by recorded facts", A::NAME);
        decided
    }
}
