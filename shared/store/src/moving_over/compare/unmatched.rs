//! What is unmatched: rows of the old system that answer no event.

use std::collections::HashMap;

use switchyard_compare::{Answer, Mapping};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::columns::{Key, OldTable};
use super::statement::{Statement, events_for, from_micros, logged_between, to_micros, types_of};
use crate::row::{get, only};
use crate::{Store, StoreError};

/// How many rows are read at a time.
const PAGE: usize = 2_000;
/// How far back, at least, to look for the event that a row answers: a late answer is not unmatched.
const AT_LEAST_BACK_US: i64 = 3_600_000_000;

/// A row of the old system that answers no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmatched {
    /// The answer of the mapping that it was read for.
    pub answer: String,
    /// Its key, part by part; empty where a part is missing.
    pub key: Vec<String>,
    /// When it was written, in microseconds since 1970.
    pub at_us: i64,
}

/// Where a search stopped before the end; the next one continues after this row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookedTo {
    /// When it was written, in microseconds since 1970.
    pub at_us: i64,
    key: Vec<String>,
}

/// A row of the old system, without its values.
struct Row {
    key: Vec<String>,
    at_us: i64,
    /// Its own id, if it is an event.
    event_id: Option<Uuid>,
}

/// The first two events of a key: when they were logged, and their ids.
type Firsts = Vec<(i64, Uuid)>;

impl Store {
    /// Searches rows of one answer, written between these times (microseconds since 1970, the end exclusive), for those whose key no event has that
    /// the agent subscribes to. An event counts if it was logged before the row, give or take the mapping's `early`, by at most ten times its
    /// `wait`, and an hour at least. It reads one page, and returns where the next one starts; `None` after the last.
    ///
    /// Fails with [`StoreError::Config`] if this role may not read the table.
    #[allow(clippy::too_many_arguments, reason = "whose, of what, and from where to where")]
    pub async fn unmatched(
        &self,
        agent: &str,
        mapping: &Mapping,
        answer: &Answer,
        table: &OldTable,
        from_us: i64,
        until_us: i64,
        after: Option<&LookedTo>,
    ) -> Result<(Vec<Unmatched>, Option<LookedTo>), StoreError> {
        let rows = self.rows_between(answer, table, from_us, until_us, after).await?;
        let next = rows.last().filter(|_| rows.len() == PAGE);
        let next = next.map(|row| LookedTo { at_us: row.at_us, key: row.key.clone() });
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok((Vec::new(), None)) };
        let back = mapping.wait.micros().saturating_mul(10).max(AT_LEAST_BACK_US);
        let early = mapping.early.micros();
        let between = (first.at_us.saturating_sub(back), last.at_us.saturating_add(early + 1));
        let firsts = self.firsts_of(agent, answer, &rows, between).await?;
        let asked_for = |row: &Row| {
            let firsts = firsts.get(&row.key).map_or(&[][..], Vec::as_slice);
            firsts
                .iter()
                .any(|(at_us, event)| Some(*event) != row.event_id && *at_us <= row.at_us.saturating_add(early))
        };
        let unmatched = rows.into_iter().filter(|row| !asked_for(row));
        let unmatched = unmatched.map(|Row { key, at_us, .. }| Unmatched { answer: answer.name.clone(), key, at_us });
        Ok((unmatched.collect(), next))
    }

    async fn rows_between(
        &self,
        answer: &Answer,
        table: &OldTable,
        from_us: i64,
        until_us: i64,
        after: Option<&LookedTo>,
    ) -> Result<Vec<Row>, StoreError> {
        const OP: &str = "rows_between";
        let mut statement = Statement::default();
        let rows = statement.rows(&answer.theirs.source, table, &answer.theirs.only, from_us, Some(until_us));
        let keys: Vec<String> = rows.key.iter().map(|(column, _)| format!("coalesce({column}::text, '')")).collect();
        let keys = keys.join(", ");
        let behind = after.map(|after| {
            let at = statement.time(after.at_us);
            let key = after.key.iter().map(|part| statement.bind(part.clone(), Type::TEXT)).collect::<Vec<_>>();
            format!("and ({}, {keys}) > ({at}, {})", rows.at, key.join(", "))
        });
        let most = statement.bind(i64::try_from(PAGE).unwrap_or(i64::MAX), Type::INT8);
        let sql = format!(
            "select array[{keys}]::text[], {at_us}, {event_id} from {source} where {only} {behind} order by {at}, {keys} limit {most}",
            at_us = to_micros(&rows.at),
            event_id = rows.event_id.as_deref().unwrap_or("null::uuid"),
            source = rows.from,
            only = rows.only,
            behind = behind.unwrap_or_default(),
            at = rows.at,
        );
        let found = self.read(OP, &sql, &statement.parameters()).await?;
        let row = |row: &tokio_postgres::Row| {
            Ok(Row { key: get(OP, row, 0)?, at_us: get(OP, row, 1)?, event_id: get(OP, row, 2)? })
        };
        found.iter().map(row).collect()
    }

    async fn firsts_of(
        &self,
        agent: &str,
        answer: &Answer,
        rows: &[Row],
        (from_us, until_us): (i64, i64),
    ) -> Result<HashMap<Vec<String>, Firsts>, StoreError> {
        const OP: &str = "firsts_of";
        let parts = answer.theirs.source.key();
        let mut statement = Statement::default();
        let agent = statement.bind(agent.to_owned(), Type::TEXT);
        let (from, until) = (statement.time(from_us), statement.time(until_us));
        let keys = parts.iter().enumerate().map(|(place, part)| format!("{} as k{place}", statement.key_part(part)));
        let keys = keys.collect::<Vec<_>>().join(", ");
        let columns: Vec<(String, Key)> = (0..parts.len()).map(|part| (format!("y.k{part}"), Key::Text)).collect();
        let names = columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let wanted: Vec<Vec<Option<String>>> =
            rows.iter().map(|row| row.key.iter().cloned().map(Some).collect()).collect();
        let among = statement.among(&columns, &wanted);
        let sql = format!(
            "select array[{names}]::text[], (array_agg({at_us} order by y.seq))[1:2], (array_agg(y.event_id order by y.seq))[1:2]
               from (select l.seq, l.event_id, l.logged_at, {keys} from {log} l {events}) y
              where {among} group by {names}",
            at_us = to_micros("y.logged_at"),
            events = events_for(&parts),
            log = logged_between(&types_of(&agent), &from, &until),
        );
        let found = self.read(OP, &sql, &statement.parameters()).await?;
        let first = |row: &tokio_postgres::Row| {
            let (times, events): (Vec<i64>, Vec<Uuid>) = (get(OP, row, 1)?, get(OP, row, 2)?);
            Ok((get(OP, row, 0)?, times.into_iter().zip(events).collect()))
        };
        found.iter().map(first).collect()
    }

    /// Stores unmatched rows and counts each once, and stores up to when the rows were searched. Does nothing if the mapping has changed. Returns how many
    /// were new.
    pub async fn note_unmatched(
        &self,
        agent: &str,
        version: i32,
        unmatched: &[Unmatched],
        looked_to_us: i64,
    ) -> Result<u64, StoreError> {
        const OP: &str = "note_unmatched";
        let answers: Vec<&str> = unmatched.iter().map(|unmatched| unmatched.answer.as_str()).collect();
        let keys: Vec<String> =
            unmatched.iter().map(|unmatched| serde_json::Value::from(unmatched.key.clone()).to_string()).collect();
        let ats: Vec<i64> = unmatched.iter().map(|unmatched| unmatched.at_us).collect();
        let sql = format!(
            "select switchyard.note_unmatched($1, $2, $3, $4, array(select {} from unnest($5) with ordinality u (us, ord) order by u.ord), {})",
            from_micros("u.us"),
            from_micros("$6")
        );
        let rows = self
            .write(
                OP,
                &sql,
                &[
                    (&agent, Type::TEXT),
                    (&version, Type::INT4),
                    (&answers, Type::TEXT_ARRAY),
                    (&keys, Type::TEXT_ARRAY),
                    (&ats, Type::INT8_ARRAY),
                    (&looked_to_us, Type::INT8),
                ],
            )
            .await?;
        Ok(u64::try_from(get::<i64>(OP, &only(OP, rows)?, 0)?).unwrap_or(0))
    }
}
