//! Appending events that came as messages, each on its own.

use tokio_postgres::Row;

use crate::outbox::append::{AppendEvent, Columns};
use crate::row::get;
use crate::{Store, StoreError};

/// The answer for an event that came as a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ingested {
    /// It was appended.
    Appended,
    /// It existed already, with the same content.
    Duplicate,
    /// Its id existed already, with other content: one of the two publishers made a mistake.
    Conflict,
    /// The table cannot store it, and never will.
    Refused {
        /// A short word: `nul`, `too_deep`, `oversized`, `malformed`, `refused_by_the_table`.
        reason: String,
        /// What is wrong, for the operator.
        error: String,
    },
}

/// How often a batch is tried that meets another with the same ids in another order.
const TRIES: u32 = 3;

impl Store {
    /// Appends these events, in one transaction and one round trip, in the order given; the answers have the same order. An event that the table
    /// refuses does not affect the others. The same id twice in the batch is a repetition. `sequence` in the metadata is ignored, and a missing
    /// `timestamp` is filled in.
    ///
    /// Fails with [`StoreError::Conflict`] or [`StoreError::Unavailable`]. Then nothing was appended, unless the connection was lost during the
    /// commit: send the same batch again.
    pub async fn ingest(&self, events: &[AppendEvent]) -> Result<Vec<Ingested>, StoreError> {
        // A NUL cannot even be sent, so the event that holds one is answered here.
        let sendable: Vec<AppendEvent> = events.iter().filter(|e| !contains_nul(e)).cloned().collect();
        let mut answers = self.ingest_sendable(&sendable).await?.into_iter();
        events
            .iter()
            .map(|event| {
                if contains_nul(event) {
                    let error = "a NUL, which the table cannot store".to_owned();
                    return Ok(Ingested::Refused { reason: "nul".to_owned(), error });
                }
                answers.next().ok_or_else(|| StoreError::bug("ingest", "another number of answers than of events"))
            })
            .collect()
    }

    async fn ingest_sendable(&self, events: &[AppendEvent]) -> Result<Vec<Ingested>, StoreError> {
        const OP: &str = "ingest";
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let sql = "select answer, reason, error from switchyard.ingest($1, $2, $3, $4, $5, $6, $7) order by ord";
        let columns = Columns::of(events);
        let mut tries = 1;
        let rows = loop {
            match self.write(OP, sql, &columns.parameters()).await {
                Err(e) if e.is_conflict() && tries < TRIES => tries += 1,
                other => break other?,
            }
        };
        rows.iter().map(|row| answer(OP, row)).collect()
    }
}

fn contains_nul(event: &AppendEvent) -> bool {
    [&event.event_type, &event.aggregate_type, &event.aggregate_id, &event.payload, &event.metadata]
        .iter()
        .any(|text| text.contains('\0'))
}

fn answer(operation: &'static str, row: &Row) -> Result<Ingested, StoreError> {
    Ok(match get(operation, row, 0)? {
        "appended" => Ingested::Appended,
        "duplicate" => Ingested::Duplicate,
        "conflict" => Ingested::Conflict,
        "refused" => Ingested::Refused { reason: get(operation, row, 1)?, error: get(operation, row, 2)? },
        _ => return Err(StoreError::bug(operation, "an unknown answer: the schema is newer than this program")),
    })
}
