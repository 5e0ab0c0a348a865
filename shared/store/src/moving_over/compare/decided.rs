//! The agent's side: its decisions, and the keys that find the old system's answers.

use serde_json::{Value, json};
use switchyard_compare::{COMMITS_US, KeyPart, Mapping, Source};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::columns::Key;
use super::statement::{Statement, events_for, logged_between, to_micros, types_of};
use crate::row::get;
use crate::{Store, StoreError};

/// How much text of decisions is read at a time. Each may be as large as a payload, and the steward has little memory.
const MOST_BYTES: i64 = 8 * 1024 * 1024;

/// What an agent in shadow mode decided about an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// The event.
    pub event_id: Uuid,
    /// Its place in the event log.
    pub seq: i64,
    /// When it was logged, in microseconds since 1970.
    pub at_us: i64,
    /// When it was due, in the same unit; never before it was logged.
    pub due_us: i64,
    /// The decision, as it was stored.
    pub decision: Value,
    /// For each answer of the mapping, the event's key for the old system's answer; a part that the event lacks is `None`.
    pub keys: Vec<Vec<Option<String>>>,
}

impl Store {
    /// Returns decisions that are not compared yet and whose wait is over, with a margin in which a late answer has committed; the oldest first, at
    /// most `at_most`, and fewer if they are large. Leaves out events that now belong to the agent, whose decision would be compared with itself.
    pub async fn uncompared(&self, agent: &str, mapping: &Mapping, at_most: i64) -> Result<Vec<Decided>, StoreError> {
        let over_us = mapping.wait.micros() + COMMITS_US;
        self.decided(agent, mapping, None, Some((over_us, at_most))).await
    }

    /// Returns the decisions about these events, compared or not. An event without a decision is left out.
    pub async fn decisions(&self, agent: &str, mapping: &Mapping, events: &[Uuid]) -> Result<Vec<Decided>, StoreError> {
        self.decided(agent, mapping, Some(events.to_vec()), None).await
    }

    async fn decided(
        &self,
        agent: &str,
        mapping: &Mapping,
        events: Option<Vec<Uuid>>,
        open: Option<(i64, i64)>,
    ) -> Result<Vec<Decided>, StoreError> {
        const OP: &str = "decided";
        let parts: Vec<Vec<KeyPart>> = mapping.answers.iter().map(|answer| answer.theirs.source.key()).collect();
        let all: Vec<KeyPart> = parts.iter().flatten().cloned().collect();
        let (over_us, at_most) = open.unzip();
        let mut statement = Statement::default();
        let agent = statement.bind(agent.to_owned(), Type::TEXT);
        let about = statement.bind(events, Type::UUID_ARRAY);
        let over = statement.bind(over_us, Type::INT8);
        let at_most = statement.bind(at_most, Type::INT8);
        let bytes = statement.bind(MOST_BYTES, Type::INT8);
        let keys = all.iter().map(|part| statement.key_part(part)).collect::<Vec<_>>().join(", ");
        let sql = format!(
            "select l.event_id, l.seq, {at}, {due}, l.decision, array[{keys}]::text[]
               from switchyard.decided({agent}, {about}, {over}::float8 * interval '1 microsecond', {at_most}, {bytes}) l {events}
              order by l.at, l.event_id",
            at = to_micros("l.logged_at"),
            due = to_micros("greatest(l.logged_at, l.due_at)"),
            events = events_for(&all),
        );
        let rows = self.read(OP, &sql, &statement.parameters()).await?;
        rows.iter().map(|row| decided_of(OP, row, &parts)).collect()
    }

    /// Returns when the next event of the same key was logged before `until`, for each of these events in their order, in microseconds since 1970:
    /// the old system's answer to that event may have overtaken its answer to this one. `answer` is the answer's place in the mapping. A key that no
    /// two events share has no next one.
    pub async fn next_of_key(
        &self,
        agent: &str,
        source: &Source,
        answer: usize,
        decided: &[Decided],
        until_us: i64,
    ) -> Result<Vec<Option<i64>>, StoreError> {
        const OP: &str = "next_of_key";
        let mut next = vec![None; decided.len()];
        let (Some(first), true) = (decided.iter().map(|decided| decided.at_us).min(), source.is_shared()) else {
            return Ok(next);
        };
        let parts = source.key();
        let mut statement = Statement::default();
        let agent = statement.bind(agent.to_owned(), Type::TEXT);
        let (from, until) = (statement.time(first), statement.time(until_us));
        let keys = parts.iter().enumerate().map(|(place, part)| format!("{} as k{place}", statement.key_part(part)));
        let keys = keys.collect::<Vec<_>>().join(", ");
        let names = (0..parts.len()).map(|place| format!("k{place}")).collect::<Vec<_>>().join(", ");
        let wanted: Vec<Vec<Option<String>>> =
            decided.iter().filter_map(|decided| decided.keys.get(answer).cloned()).collect();
        let columns: Vec<(String, Key)> = (0..parts.len()).map(|part| (format!("y.k{part}"), Key::Text)).collect();
        let among = statement.among(&columns, &wanted);
        let seqs: Vec<i64> = decided.iter().map(|decided| decided.seq).collect();
        let seqs = statement.bind(seqs, Type::INT8_ARRAY);
        let sql = format!(
            "select x.seq, {next}
               from (select y.seq, lead(y.logged_at) over (partition by {names} order by y.seq) as next
                       from (select l.seq, l.logged_at, {keys} from {log} l {events}) y
                      where {among}) x
              where x.seq = any ({seqs}) and x.next is not null",
            next = to_micros("x.next"),
            events = events_for(&parts),
            log = logged_between(&types_of(&agent), &from, &until),
        );
        let rows = self.read(OP, &sql, &statement.parameters()).await?;
        let found = rows
            .iter()
            .map(|row| Ok((get(OP, row, 0)?, get(OP, row, 1)?)))
            .collect::<Result<std::collections::HashMap<i64, i64>, StoreError>>()?;
        for (place, decided) in next.iter_mut().zip(decided) {
            *place = found.get(&decided.seq).copied();
        }
        Ok(next)
    }
}

/// A part of the key of one of a mapping's answers.
pub(super) fn part_of(decided: &Decided, answer: usize, part: usize) -> Option<String> {
    decided.keys.get(answer).and_then(|key| key.get(part)).cloned().flatten()
}

fn decided_of(operation: &'static str, row: &Row, parts: &[Vec<KeyPart>]) -> Result<Decided, StoreError> {
    let decision: &str = get(operation, row, 4)?;
    let mut keys = get::<Vec<Option<String>>>(operation, row, 5)?.into_iter();
    Ok(Decided {
        event_id: get(operation, row, 0)?,
        seq: get(operation, row, 1)?,
        at_us: get(operation, row, 2)?,
        due_us: get(operation, row, 3)?,
        // What no program could read again would do nothing either.
        decision: serde_json::from_str(decision).unwrap_or_else(|_| json!({ "refused": "it cannot be read" })),
        keys: parts.iter().map(|parts| keys.by_ref().take(parts.len()).collect()).collect(),
    })
}
