//! Reports of attempts that did not succeed.

use std::time::Duration;

use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use switchyard_operations::words;

use crate::ledger::claim::Ask;
use crate::row::{clean, count, get, known};
use crate::{Store, StoreError};

/// A failed attempt.
#[derive(Clone, Debug)]
pub struct Failed {
    /// What was asked for, with the epoch of its standing.
    pub ask: Ask,
    /// A short word for the kind of failure, kept in the row.
    pub reason: String,
    /// What happened, for the operator.
    pub error: String,
    /// When the queue delivers it again, in milliseconds from now. At most twelve hours count, which is the longest that SQS hides a message.
    pub delay_ms: u64,
}

/// A delivery whose message was sent to the dead-letter queue.
#[derive(Clone, Debug)]
pub struct ParkReport {
    /// What was asked for, with the epoch of its standing.
    pub ask: Ask,
    /// A short word for the kind of failure, kept in the row.
    pub reason: String,
    /// What happened, for the operator.
    pub error: String,
}

/// A message that is no event and was sent to the dead-letter queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unidentified {
    /// The queue's id of the message, since its body names no event.
    pub message_id: String,
    /// The run of its attributes; 0 where they name none.
    pub run: i32,
    /// A short word for the kind of failure.
    pub reason: String,
    /// What is wrong with it, for the operator; never the body.
    pub error: String,
}

/// A delivery's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Assigned to its owner, and not failed yet.
    Assigned,
    /// Failed, and to be tried again.
    Failing,
    /// In the dead-letter queue, for an operator.
    Parked,
    /// Done. Final.
    Done,
    /// A newer event of the aggregate has already written. Final.
    Superseded,
    /// Not needed any more: deleted, cancelled or dismissed. Final.
    Expired,
}

words!(State { Assigned = "a", Failing = "f", Parked = "p", Done = "d", Superseded = "s", Expired = "e" });

/// The state of a delivery after a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// The event reported on.
    pub event_id: Uuid,
    /// The run reported on.
    pub run: i32,
    /// Whether the report counted. It does not if the delivery is settled or parked, belongs to the other side, has a newer epoch, or has no row.
    pub counted: bool,
    /// The state now; `None` without a row (unknown, too old, not subscribed).
    pub state: Option<State>,
    /// How many attempts have failed.
    pub attempts: u16,
    /// How many attempts it has.
    pub max_attempts: u16,
    /// The row's epoch.
    pub epoch: i32,
}

impl Reported {
    /// Whether the attempts are used up, so that it must be parked.
    pub fn exhausted(&self) -> bool {
        self.state == Some(State::Failing) && self.attempts >= self.max_attempts
    }
}

/// The longest that SQS hides a message.
const LONGEST_DELAY: Duration = Duration::from_secs(12 * 60 * 60);

/// The operator reads the error: a few thousand characters are enough.
const LONGEST_ERROR: usize = 8_000;

impl Store {
    /// Reports failed attempts, in a transaction of its own and one round trip, after the claim's transaction was rolled back. Counts one attempt
    /// each. It never parks; see [`Reported::exhausted`].
    ///
    /// Fails with [`StoreError::Conflict`] or [`StoreError::Unavailable`]. The attempts may then not be counted, which costs one more try.
    pub async fn fail(&self, agent: &str, failures: &[Failed]) -> Result<Vec<Reported>, StoreError> {
        if failures.is_empty() {
            return Ok(Vec::new());
        }
        let asks: Vec<&Ask> = failures.iter().map(|f| &f.ask).collect();
        let texts = Texts::of(failures.iter().map(|f| (f.reason.as_str(), f.error.as_str())));
        let delays: Vec<i64> = failures.iter().map(|f| i64::try_from(f.delay_ms).unwrap_or(i64::MAX / 2)).collect();
        let (events, runs, epochs) = columns(&asks);
        let rows = self
            .write(
                "fail",
                "select counted, state::text, attempts, max_attempts, epoch
                   from switchyard.fail_batch($1, 'n', $2, $3, $4, $5, $6, $7) order by ord",
                &[
                    (&agent, Type::TEXT),
                    (&events, Type::UUID_ARRAY),
                    (&runs, Type::INT4_ARRAY),
                    (&epochs, Type::INT4_ARRAY),
                    (&texts.reasons, Type::TEXT_ARRAY),
                    (&texts.errors, Type::TEXT_ARRAY),
                    (&delays, Type::INT8_ARRAY),
                ],
            )
            .await?;
        reported("fail", &asks, &rows)
    }

    /// Reports messages that were sent to the dead-letter queue, like [`Store::fail`]. A second call changes no row. An event without a row
    /// (unknown, too old, not subscribed) adds a failure with each call.
    ///
    /// Fails with [`StoreError::Conflict`] or [`StoreError::Unavailable`]. Report again then, or leave it to the next delivery.
    pub async fn park(&self, agent: &str, parked: &[ParkReport]) -> Result<Vec<Reported>, StoreError> {
        if parked.is_empty() {
            return Ok(Vec::new());
        }
        let asks: Vec<&Ask> = parked.iter().map(|p| &p.ask).collect();
        let texts = Texts::of(parked.iter().map(|p| (p.reason.as_str(), p.error.as_str())));
        let (events, runs, epochs) = columns(&asks);
        let rows = self
            .write(
                "park",
                "select counted, state::text, attempts, max_attempts, epoch
                   from switchyard.park_batch($1, 'n', $2, $3, $4, $5, $6) order by ord",
                &[
                    (&agent, Type::TEXT),
                    (&events, Type::UUID_ARRAY),
                    (&runs, Type::INT4_ARRAY),
                    (&epochs, Type::INT4_ARRAY),
                    (&texts.reasons, Type::TEXT_ARRAY),
                    (&texts.errors, Type::TEXT_ARRAY),
                ],
            )
            .await?;
        reported("park", &asks, &rows)
    }

    /// Adds a row for each message that is no event, after it was sent to the dead-letter queue. A second call changes nothing. `agent` may be any
    /// name with such a queue.
    pub async fn park_unidentified(&self, agent: &str, messages: &[Unidentified]) -> Result<(), StoreError> {
        if messages.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = messages.iter().map(|m| clean(&m.message_id).into_owned()).collect();
        let runs: Vec<i32> = messages.iter().map(|m| m.run).collect();
        let texts = Texts::of(messages.iter().map(|m| (m.reason.as_str(), m.error.as_str())));
        self.write(
            "park_unidentified",
            "select switchyard.park_unidentified($1, $2, $3, $4, $5)",
            &[
                (&agent, Type::TEXT),
                (&ids, Type::TEXT_ARRAY),
                (&runs, Type::INT4_ARRAY),
                (&texts.reasons, Type::TEXT_ARRAY),
                (&texts.errors, Type::TEXT_ARRAY),
            ],
        )
        .await?;
        Ok(())
    }

    /// Reports that messages were returned to their queue without an attempt (no time, no room, an open breaker), and that the queue delivers them
    /// again after `delay`. They count in [`ClaimAnswer::returns`](crate::ClaimAnswer::returns), and are due from the table only after that delay
    /// and the grace. One round trip and one transaction for a batch. It changes nothing where [`Store::fail`] would not, and skips rows that a
    /// transaction holds.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn returned(&self, agent: &str, asks: &[Ask], delay: Duration) -> Result<(), StoreError> {
        if asks.is_empty() {
            return Ok(());
        }
        let (events, runs, epochs) = columns(&asks.iter().collect::<Vec<_>>());
        self.write(
            "returned",
            "select switchyard.returned($1, $2, $3, $4, $5::float8 * interval '1 second')",
            &[
                (&agent, Type::TEXT),
                (&events, Type::UUID_ARRAY),
                (&runs, Type::INT4_ARRAY),
                (&epochs, Type::INT4_ARRAY),
                (&delay.min(LONGEST_DELAY).as_secs_f64(), Type::FLOAT8),
            ],
        )
        .await?;
        Ok(())
    }

    /// Returns the present state of deliveries (event, run), in the order asked; `None` without a row.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn settled(&self, agent: &str, deliveries: &[(Uuid, i32)]) -> Result<Vec<Option<State>>, StoreError> {
        const OP: &str = "settled";
        if deliveries.is_empty() {
            return Ok(Vec::new());
        }
        let (events, runs): (Vec<Uuid>, Vec<i32>) = deliveries.iter().copied().unzip();
        let rows = self
            .read(
                OP,
                "select state from switchyard.delivery_states($1, $2, $3) order by ord",
                &[(&agent, Type::TEXT), (&events, Type::UUID_ARRAY), (&runs, Type::INT4_ARRAY)],
            )
            .await?;
        rows.iter().map(|row| state(OP, row, 0)).collect()
    }
}

struct Texts {
    reasons: Vec<String>,
    errors: Vec<String>,
}

impl Texts {
    fn of<'t>(texts: impl Iterator<Item = (&'t str, &'t str)>) -> Self {
        let short = |text: &str| clean(text).chars().take(LONGEST_ERROR).collect::<String>();
        let (reasons, errors) = texts.map(|(reason, error)| (short(reason), short(error))).unzip();
        Self { reasons, errors }
    }
}

fn columns(asks: &[&Ask]) -> (Vec<Uuid>, Vec<i32>, Vec<Option<i32>>) {
    (
        asks.iter().map(|a| a.event_id).collect(),
        asks.iter().map(|a| a.run).collect(),
        asks.iter().map(|a| a.epoch).collect(),
    )
}

fn reported(operation: &'static str, asks: &[&Ask], rows: &[Row]) -> Result<Vec<Reported>, StoreError> {
    if rows.len() != asks.len() {
        return Err(StoreError::bug(operation, "another number of answers than of reports"));
    }
    asks.iter()
        .zip(rows)
        .map(|(ask, row)| {
            Ok(Reported {
                event_id: ask.event_id,
                run: ask.run,
                counted: get(operation, row, 0)?,
                state: state(operation, row, 1)?,
                attempts: count(get(operation, row, 2)?),
                max_attempts: count(get(operation, row, 3)?),
                epoch: get(operation, row, 4)?,
            })
        })
        .collect()
}

/// The state of a row, if there is one.
fn state(operation: &'static str, row: &Row, column: usize) -> Result<Option<State>, StoreError> {
    get::<Option<&str>>(operation, row, column)?.map(|letter| known(operation, State::named(letter))).transpose()
}
