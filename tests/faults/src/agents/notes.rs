//! What both agents do: suffer an event's fate, and note that it was done.

use super::fate::{Fate, REJECTED, fate};
use serde::{Deserialize, Serialize};
use switchyard_agent::{Refusal, Reject};
use switchyard_event::Event;
use switchyard_runtime::{Database, Tx, Type};

/// The effect of both agents: that this event was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub(super) event_id: String,
    pub(super) aggregate_type: String,
    pub(super) aggregate_id: String,
    pub(super) seq: i64,
}

impl Note {
    /// The note on an event.
    ///
    /// # Errors
    /// A rejection where the event has no sequence, which the log gives to every one.
    pub(super) fn of(event: &Event) -> Result<Self, Reject> {
        Ok(Self {
            event_id: event.id.to_string(),
            aggregate_type: event.aggregate_type.clone(),
            aggregate_id: event.aggregate_id.clone(),
            seq: event.metadata.sequence.ok_or_else(|| Reject::new("no_sequence", "the log gives each event one"))?,
        })
    }

    pub(super) async fn write(&self, agent: &str, tx: &mut Tx) -> Result<(), Refusal> {
        tx.execute(
            "insert into public.applied (agent, event_id) values ($1, $2::text::uuid)",
            &[(&agent, Type::TEXT), (&self.event_id, Type::TEXT)],
        )
        .await
        .map(|_| ())
    }
}

/// Gathers: whether the dependency is up and what was tried before, as far as the event's fate asks for it.
pub(super) async fn suffer(database: &Database, agent: &'static str, event: &Event) -> Result<(), Refusal> {
    let fate = fate(agent, event.id);
    // Nobody asks a dependency for what is fine while there is no outage in this run: a query for each event would be all that the agent does.
    if std::env::var_os("DEPENDENCY").is_some() {
        let rows = database.query("select up from public.dependency", &[]).await?;
        if !rows.iter().any(|row| row.get::<_, bool>(0)) {
            return Err(Refusal::Unavailable("the dependency is down".into()));
        }
    }
    match fate {
        Fate::Fine => Ok(()),
        Fate::Rejected => Err(Reject::new(REJECTED, "the event's id says so").into()),
        Fate::Hopeless => Err(Refusal::retry("it fails at every attempt")),
        Fate::Flaky if tried(database, agent, event).await? < 2 => Err(Refusal::retry("it fails twice")),
        Fate::Panics if tried(database, agent, event).await? < 1 => panic!("it panics once"),
        Fate::Flaky | Fate::Panics => Ok(()),
    }
}

/// How often the event was tried before; notes that it is tried now.
async fn tried(database: &Database, agent: &str, event: &Event) -> Result<i64, Refusal> {
    let rows = database
        .query(
            "with now as (insert into public.tried (agent, event_id) values ($1, $2))
             select count(*) from public.tried where agent = $1 and event_id = $2",
            &[(&agent, Type::TEXT), (&event.id, Type::UUID)],
        )
        .await?;
    Ok(rows.first().map_or(0, |row| row.get(0)))
}
