//! Both sides written down, as each of them would have.

use crate::plan::{Plan, Story};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_postgres::{Client, types::Type};

/// What the old system keeps, in names that have to be quoted.
const TABLES: &str = r#"
create schema if not exists legacy;
create table if not exists legacy."Appraisals" (
  id bigint generated always as identity primary key,
  thing uuid not null,
  label text,
  price numeric(12, 2),
  weight double precision,
  details jsonb,
  "Seen At" timestamp,
  noted_at timestamptz not null,
  deleted_at timestamptz
);
create index if not exists appraisals_thing on legacy."Appraisals" (thing, noted_at);
"#;

/// Writes a plan into a migrated database, as if it had happened just before now: the events and what the log says of them, what the agent decided,
/// and what the old system did. Answers with when it began.
///
/// # Errors
/// What the database said.
pub async fn write(database: &Client, agent: &str, plan: &Plan) -> Result<SystemTime, tokio_postgres::Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let began = i64::try_from(now.as_millis()).unwrap_or(i64::MAX) - plan.lasts;
    database.batch_execute(TABLES).await?;
    events(database, plan, began).await?;
    decisions(database, agent, plan, began).await?;
    rows(database, plan, began).await?;
    Ok(UNIX_EPOCH + Duration::from_millis(u64::try_from(began).unwrap_or(0)))
}

/// In the order in which they happened, so that the log's sequences follow its times.
async fn events(database: &Client, plan: &Plan, began: i64) -> Result<(), tokio_postgres::Error> {
    let mut happened: Vec<(i64, Value)> = Vec::new();
    for story in &plan.stories {
        let Story { event_id, thing, at, .. } = story;
        happened.push((
            *at,
            json!({ "id": event_id, "type": "thing.made", "thing": thing, "payload": {}, "metadata": {} }),
        ));
        happened.extend(story.said.iter().map(|(said_at, payload)| {
            let metadata = json!({ "causation_id": event_id });
            let event = json!({ "id": answer_id(story), "type": "old.appraised", "thing": thing, "payload": payload, "metadata": metadata });
            (*said_at, event)
        }));
    }
    happened.sort_by_key(|(at, _)| *at);
    let all = happened.into_iter().enumerate().map(|(n, (at, mut event))| {
        event["n"] = json!(n);
        event["at"] = json!(began + at);
        event
    });
    let all = Value::Array(all.collect()).to_string();
    let given = "jsonb_to_recordset($1::text::jsonb) as x (n int, at bigint, id uuid, type text, thing uuid, payload jsonb, metadata jsonb)";
    let insert = format!(
        "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
         select x.id, x.type, 'thing', x.thing, x.payload, x.metadata, 1 from {given} order by x.n"
    );
    send(database, &insert, &all).await?;
    let logged = format!(
        "update switchyard.event_log l set logged_at = timestamptz 'epoch' + x.at * interval '1 millisecond' from {given} where l.event_id = x.id"
    );
    send(database, &logged, &all).await
}

/// The id of what the old system says about an event: derived, so that a plan needs no more of them.
fn answer_id(story: &Story) -> uuid::Uuid {
    uuid::Uuid::from_u128(story.event_id.as_u128() ^ 1)
}

async fn decisions(database: &Client, agent: &str, plan: &Plan, began: i64) -> Result<(), tokio_postgres::Error> {
    let all = plan.stories.iter().map(|story| {
        json!({ "agent": agent, "id": story.event_id, "at": began + story.at + 300, "decision": story.decision.to_string() })
    });
    let all = Value::Array(all.collect()).to_string();
    let insert = "insert into switchyard.shadow (agent, event_id, run, at, decision)
         select switchyard._agent_id(x.agent), x.id, 0, timestamptz 'epoch' + x.at * interval '1 millisecond', x.decision::json
           from jsonb_to_recordset($1::text::jsonb) as x (agent text, at bigint, id uuid, decision text)";
    send(database, insert, &all).await
}

async fn rows(database: &Client, plan: &Plan, began: i64) -> Result<(), tokio_postgres::Error> {
    let mut all: Vec<_> = plan.stories.iter().flat_map(|story| &story.rows).cloned().collect();
    all.extend(plan.unmatched.iter().map(|unmatched| unmatched.row.clone()));
    all.iter_mut().for_each(|row| row.noted_at += began);
    let all = serde_json::to_string(&all).unwrap_or_default();
    let insert = r#"insert into legacy."Appraisals" (thing, label, price, weight, details, "Seen At", noted_at)
         select x.thing, x.label, x.price::numeric, x.weight, x.details, (timestamptz 'epoch' + x.seen_at * interval '1 millisecond') at time zone 'UTC',
                timestamptz 'epoch' + x.noted_at * interval '1 millisecond'
           from jsonb_to_recordset($1::text::jsonb)
             as x (thing uuid, label text, price text, weight double precision, details jsonb, seen_at bigint, noted_at bigint)"#;
    send(database, insert, &all).await?;
    // What was taken back never counts.
    let taken_back = r#"insert into legacy."Appraisals" (thing, label, price, noted_at, deleted_at)
         select thing, 'taken back', 0, noted_at + interval '1 millisecond', now() from legacy."Appraisals" where id % 7 = 0"#;
    database.batch_execute(taken_back).await
}

async fn send(database: &Client, sql: &str, all: &str) -> Result<(), tokio_postgres::Error> {
    database.query_typed(sql, &[(&all, Type::TEXT)]).await.map(drop)
}
