//! `echo`: says of everything written that it was.

use super::{ECHOED, WRITTEN, notes};
use crate::agents::Note;
use switchyard_agent::{Agent, Change, Decision, Refusal, Reject, Schedule};
use switchyard_event::{Event, EventType, NewEvent};
use switchyard_runtime::{Database, Tx};

/// Says of everything written that it was.
pub struct Echo(Database);

impl Echo {
    /// The agent, reading from this database.
    #[must_use]
    pub const fn new(database: Database) -> Self {
        Self(database)
    }
}

impl Agent for Echo {
    const NAME: &'static str = "echo";
    const SUBSCRIBES: &'static [EventType] = &[EventType::named(WRITTEN)];
    const SCHEDULE: Schedule = Schedule { base_ms: 100, cap_ms: 1_000 };

    type Facts = ();
    type Effect = Note;
    type Tx = Tx;

    async fn gather(&self, event: &Event) -> Result<(), Refusal> {
        notes::suffer(&self.0, Self::NAME, event).await
    }

    fn decide(event: &Event, (): &()) -> Result<Decision<Note>, Reject> {
        let note = Note::of(event)?;
        let said = serde_json::json!({ "of": note.seq });
        // Of a type of its own: what several processes say of one aggregate overlaps in time, whoever wrote to it.
        let echo = NewEvent::new(EventType::named(ECHOED), "echo", &event.aggregate_id, &said)?;
        Ok(Decision::nothing().effect(note).event(echo))
    }

    async fn apply(change: Change<'_, Note>, tx: &mut Tx) -> Result<Vec<NewEvent>, Refusal> {
        change.effect.write(Self::NAME, tx).await?;
        Ok(Vec::new())
    }
}
