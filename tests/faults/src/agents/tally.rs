//! `tally`: keeps the newest sequence of every aggregate, where the last writer wins.

use super::{ECHOED, notes};
use crate::agents::Note;
use switchyard_agent::{Agent, Change, Decision, Refusal, Reject, Schedule, State};
use switchyard_event::{Event, EventType, NewEvent};
use switchyard_runtime::{Database, Tx, Type};

/// Keeps the newest sequence of every aggregate.
pub struct Tally(Database);

impl Tally {
    /// The agent, reading from this database.
    #[must_use]
    pub const fn new(database: Database) -> Self {
        Self(database)
    }
}

impl Agent for Tally {
    const NAME: &'static str = "tally";
    const SUBSCRIBES: &'static [EventType] = &[EventType::named(ECHOED)];
    const SCHEDULE: Schedule = Schedule { base_ms: 100, cap_ms: 1_000 };

    type Facts = ();
    type Effect = Note;
    type Tx = Tx;

    async fn gather(&self, event: &Event) -> Result<(), Refusal> {
        notes::suffer(&self.0, Self::NAME, event).await
    }

    fn decide(event: &Event, (): &()) -> Result<Decision<Note>, Reject> {
        Ok(Decision::nothing().effect(Note::of(event)?))
    }

    fn overwrites(note: &Note) -> Option<State> {
        Some(State::new(note.aggregate_type.clone(), &note.aggregate_id))
    }

    async fn apply(change: Change<'_, Note>, tx: &mut Tx) -> Result<Vec<NewEvent>, Refusal> {
        let note = change.effect;
        note.write(Self::NAME, tx).await?;
        tx.execute(
            "with now as (
               insert into public.latest (aggregate_id, seq) values ($1::text::uuid, $2)
               on conflict (aggregate_id) do update set seq = excluded.seq returning aggregate_id, seq)
             insert into public.written (aggregate_id, seq) select aggregate_id, seq from now",
            &[(&note.aggregate_id, Type::TEXT), (&note.seq, Type::INT8)],
        )
        .await?;
        Ok(Vec::new())
    }
}
