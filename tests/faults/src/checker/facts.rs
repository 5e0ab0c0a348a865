//! What stands in the database when everything has come to rest.

use crate::Error;
use std::collections::HashMap;
use switchyard_store::{Ledger, Store};
use tokio_postgres::Client;
use uuid::Uuid;

/// An event of the table and its log row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Its id.
    pub id: Uuid,
    /// Its place in the log; 0 where it has none.
    pub seq: i64,
    /// Its type.
    pub event_type: String,
    /// The aggregate that it is about.
    pub aggregate: String,
    /// The version of its payload.
    pub version: i32,
    /// The event that led to it, where one did.
    pub cause: Option<Uuid>,
    /// Whether it still stands in the outbox.
    pub pending: bool,
}

/// A live delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its state: one of `a f p d s e`.
    pub state: char,
    /// Whose it is: `n` or `o`.
    pub owner: char,
    /// Why it was parked.
    pub reason: Option<String>,
}

/// How often an event's effect was applied, by the new agent and by the old system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Effects {
    /// By the agent.
    pub new: u64,
    /// By the old system.
    pub old: u64,
}

/// Everything that is judged, by agent where it says so.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The table.
    pub events: Vec<Logged>,
    /// What each agent hears of.
    pub hears: HashMap<String, String>,
    /// Deliveries by agent and event.
    pub deliveries: HashMap<(String, Uuid), Delivery>,
    /// Effects by agent and event.
    pub effects: HashMap<(String, Uuid), Effects>,
    /// Attempts that were counted, by agent and event, with what the last of them said.
    pub failures: HashMap<(String, Uuid), (u64, String)>,
    /// The newest sequence that was written of each aggregate.
    pub newest: HashMap<String, i64>,
    /// Failures without an event, by agent: bodies that are none, and rows that no table takes.
    pub unmatched: HashMap<String, u64>,
    /// Writes of an older sequence over a newer one.
    pub inverted: Vec<String>,
    /// Each agent's ledger.
    pub ledgers: HashMap<String, Ledger>,
}

/// Reads everything. For databases that have come to rest: what changes between two statements is not seen as one.
///
/// # Errors
/// [`Error::Database`], [`Error::Store`].
pub async fn gather(client: &Client, store: &Store) -> Result<Facts, Error> {
    let mut facts = Facts::default();
    let rows = client
        .query(
            "select e.id, coalesce(l.seq, 0), e.type, coalesce(e.version, 1), e.metadata ->> 'causation_id', o.seq is not null,
                    e.aggregate_id::text
               from public.events e
               left join switchyard.event_log l on l.event_id = e.id
               left join switchyard.outbox o on o.seq = l.seq",
            &[],
        )
        .await?;
    facts.events = rows
        .iter()
        .map(|row| Logged {
            id: row.get(0),
            seq: row.get(1),
            event_type: row.get(2),
            version: row.get(3),
            cause: row.get::<_, Option<&str>>(4).and_then(|id| id.parse().ok()),
            pending: row.get(5),
            aggregate: row.get::<_, Option<String>>(6).unwrap_or_default(),
        })
        .collect();
    for row in client
        .query("select a.name, s.type from switchyard.subscription s join switchyard.agent a on a.id = s.agent", &[])
        .await?
    {
        facts.hears.insert(row.get(0), row.get(1));
    }
    let rows = client
        .query(
            "select a.name, l.event_id, d.state::text, d.owner::text, d.reason
               from switchyard.delivery d join switchyard.agent a on a.id = d.agent join switchyard.event_log l on l.seq = d.seq
              where d.run = 0",
            &[],
        )
        .await?;
    for row in rows {
        let first = |text: &str| text.chars().next().unwrap_or('?');
        let delivery = Delivery { state: first(row.get(2)), owner: first(row.get(3)), reason: row.get(4) };
        facts.deliveries.insert((row.get(0), row.get(1)), delivery);
    }
    let sql = "select agent, event_id, count(*) filter (where by = 'new'), count(*) filter (where by <> 'new')
                 from public.applied group by agent, event_id";
    for row in client.query(sql, &[]).await? {
        let count = |at| u64::try_from(row.get::<_, i64>(at)).unwrap_or_default();
        facts.effects.insert((row.get(0), row.get(1)), Effects { new: count(2), old: count(3) });
    }
    let sql =
        "select component, event_id, count(*), (array_agg(reason || ': ' || coalesce(error, '') order by id desc))[1]
                 from switchyard.failure where event_id is not null and reason = 'failed' group by component, event_id";
    for row in client.query(sql, &[]).await? {
        let count = u64::try_from(row.get::<_, i64>(2)).unwrap_or_default();
        facts.failures.insert((row.get(0), row.get(1)), (count, row.get(3)));
    }
    let sql = "select component, count(distinct message_id) from switchyard.failure where unmatched and event_id is null group by component";
    for row in client.query(sql, &[]).await? {
        facts.unmatched.insert(row.get(0), u64::try_from(row.get::<_, i64>(1)).unwrap_or_default());
    }
    for row in client.query("select aggregate_id::text, max(seq) from public.written group by 1", &[]).await? {
        facts.newest.insert(row.get(0), row.get(1));
    }
    let sql = "select aggregate_id::text, seq, newest from (
                 select *, max(seq) over (partition by aggregate_id order by n rows between unbounded preceding and 1 preceding) as newest
                   from public.written) w
                where seq < newest
               union all
               select l.aggregate_id::text, l.seq, w.newest
                 from public.latest l join (select aggregate_id, max(seq) as newest from public.written group by 1) w using (aggregate_id)
                where l.seq < w.newest";
    for row in client.query(sql, &[]).await? {
        let (aggregate, seq, newest): (&str, i64, i64) = (row.get(0), row.get(1), row.get(2));
        facts.inverted.push(format!("{seq} was written over {newest} of aggregate {aggregate}"));
    }
    for agent in facts.hears.keys() {
        facts.ledgers.insert(agent.clone(), store.ledger(agent).await?);
    }
    Ok(facts)
}
