//! One batch of messages: appends the events, parks the rest.

use crate::read::{self, Refused, TOO_MANY_HOPS};
use switchyard_agent::STOPPED_CHAIN;
use switchyard_bus::{Message as BusMessage, Queues, Visibility};
use switchyard_operations::dead_letter::DeadLetter;
use switchyard_runtime::{Answer, Message, dead_letter, wait};
use switchyard_store::{AppendEvent, Ingested, Store, StoreError, Unidentified};

/// The name under which failures are kept; no agent may have it.
pub const NAME: &str = "ingest";

/// The outcome of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// It is in the table, from now or from before.
    Taken,
    /// It can never be an event: to the dead-letter queue.
    Parked(Refused),
}

/// The way in: a queue of the ingress topic, and the table.
pub struct Ingest<Q> {
    store: Store,
    queues: Q,
    max_hops: u32,
}

impl<Q: Queues> Ingest<Q> {
    /// A way from these queues to this store, for chains of at most so many hops.
    pub const fn new(store: Store, queues: Q, max_hops: u32) -> Self {
        Self { store, queues, max_hops }
    }

    /// One batch, in one round trip to the table.
    ///
    /// Never fails: the answer names the messages that must come again. Where the database does not answer that is all of them, after a growing
    /// wait of up to a quarter of an hour; such a wait costs no attempt, since there are none to count.
    pub async fn take(&self, messages: Vec<Message>) -> Vec<Answer> {
        let again = match self.append(&messages).await {
            Ok(outcomes) => self.park(&messages, outcomes).await,
            Err(error) => {
                tracing::warn!(%error, messages = messages.len(), "the database did not answer; the messages come again");
                (0..messages.len()).collect()
            }
        };
        self.answer(&messages, &again).await
    }

    /// Appends what is an event. Returns each message's outcome, in their order.
    async fn append(&self, messages: &[Message]) -> Result<Vec<Outcome>, StoreError> {
        let read: Vec<Result<AppendEvent, Refused>> =
            messages.iter().map(|message| read::row(&message.body, hops(message, self.max_hops))).collect();
        let rows: Vec<AppendEvent> = read.iter().filter_map(|row| row.as_ref().ok()).cloned().collect();
        let answers = if rows.is_empty() { Vec::new() } else { self.appended(&rows).await? };
        switchyard_faults::point("ingest.after_append");
        let mut answers = answers.into_iter();
        read.into_iter()
            .map(|row| match row {
                Err(refused) => Ok(Outcome::Parked(refused)),
                Ok(row) => answers.next().map(|answer| outcome(answer, &row)).ok_or(StoreError::Bug {
                    operation: "ingest",
                    problem: "fewer answers than events".into(),
                    source: None,
                }),
            })
            .collect()
    }

    async fn appended(&self, rows: &[AppendEvent]) -> Result<Vec<Ingested>, StoreError> {
        if switchyard_faults::bug("no_savepoint") {
            let mut tx = self.store.begin().await?;
            tx.append(rows).await?;
            tx.commit().await?;
            return Ok(rows.iter().map(|_| Ingested::Appended).collect());
        }
        self.store.ingest(rows).await
    }

    /// Parks what can never be an event: the row, then the dead letter, then the acknowledgement. The row comes first, since it goes by the message's
    /// id and repeating it changes nothing, while each dead letter would be another: a database that is down must not fill the dead-letter queue. A
    /// crash after the dead letter causes a copy of it at worst. Returns the places of those that could not be parked.
    async fn park(&self, messages: &[Message], outcomes: Vec<Outcome>) -> Vec<usize> {
        let parked: Vec<(usize, Refused)> = outcomes
            .into_iter()
            .enumerate()
            .filter_map(|(at, outcome)| match outcome {
                Outcome::Taken => None,
                Outcome::Parked(refused) => Some((at, refused)),
            })
            .collect();
        if parked.is_empty() {
            return Vec::new();
        }
        let rows: Vec<Unidentified> =
            parked.iter().map(|(at, refused)| unidentified(&messages[*at], refused)).collect();
        if let Err(error) = self.store.park_unidentified(NAME, &rows).await {
            tracing::warn!(%error, messages = parked.len(), "the failures could not be recorded; the messages come again");
            return parked.into_iter().map(|(at, _)| at).collect();
        }
        let dead_letters: Vec<BusMessage> =
            parked.iter().map(|(at, refused)| dead_letter(&messages[*at], refused)).collect();
        // Boxed: the futures of an AWS SDK are so deep that the compiler gives up on laying out one around them.
        let answers = Box::pin(self.queues.dead_letter(&dead_letters)).await;
        let mut again = Vec::new();
        for ((at, refused), answer) in parked.into_iter().zip(answers) {
            let message = &messages[at];
            match answer {
                Ok(()) => log_parked(message, &refused),
                Err(error) => {
                    tracing::warn!(message.id = message.id, %error, "the message could not be sent to the dead-letter queue; it comes again");
                    again.push(at);
                }
            }
        }
        again
    }

    /// Delays the messages at these places; the others are acknowledged.
    async fn answer(&self, messages: &[Message], again: &[usize]) -> Vec<Answer> {
        let mut answers = vec![Answer::Acknowledge; messages.len()];
        let mut changes = Vec::with_capacity(again.len());
        for at in again {
            let message = &messages[*at];
            let delay = wait::after_return(message.receives, fastrand::f64());
            changes.push(Visibility { queue_arn: None, receipt_handle: message.receipt.clone(), delay });
            answers[*at] = Answer::Redeliver { after: Some(delay) };
        }
        if !changes.is_empty() {
            Box::pin(self.queues.set_visibility(&changes)).await;
        }
        answers
    }
}

/// What the table's answer means for the message.
fn outcome(answer: Ingested, row: &AppendEvent) -> Outcome {
    match answer {
        Ingested::Appended | Ingested::Duplicate => Outcome::Taken,
        Ingested::Conflict => Outcome::Parked(Refused::new(
            "id_conflict",
            format!("the table has another event with the id {}; an id belongs to one event", row.id),
        )),
        Ingested::Refused { reason, error } => {
            Outcome::Parked(Refused::new(reason, format!("the event {}: {error}", row.id)))
        }
    }
}

fn log_parked(message: &Message, refused: &Refused) {
    let Refused { reason, error } = refused;
    tracing::error!(agent = NAME, message.id = message.id, reason, error, "{}", words(reason));
}

/// The log message. A metric filter counts stopped chains by it, here as for every agent.
fn words(reason: &str) -> &'static str {
    if reason == TOO_MANY_HOPS { STOPPED_CHAIN } else { "parked" }
}

fn unidentified(message: &Message, refused: &Refused) -> Unidentified {
    Unidentified {
        message_id: message.id.clone(),
        run: 0,
        reason: refused.reason.clone(),
        error: refused.error.clone(),
    }
}

fn dead_letter(message: &Message, refused: &Refused) -> BusMessage {
    let (reason, error) = (&refused.reason, &refused.error);
    let (body, message_id) = (&message.body, &message.id);
    let dead_letter = DeadLetter {
        agent: NAME,
        body,
        message_id,
        reason,
        error,
        attempts: 1,
        run: 0,
        epoch: None,
        traceparent: None,
    };
    // What its row among the failures is found by: a redrive marks exactly what it has sent back.
    dead_letter::message(&dead_letter).text("message_id", message.id.as_str())
}

/// How many hops the event of this message may have; no limit where an operator has sent it back after its chain had become too long.
fn hops(message: &Message, max: u32) -> u32 {
    if message.attribute("reason") == Some(TOO_MANY_HOPS) { u32::MAX } else { max }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_chain_is_logged_in_the_words_that_the_alarm_counts() {
        assert_eq!(words(TOO_MANY_HOPS), STOPPED_CHAIN);
        assert_eq!(words("malformed"), "parked");
    }

    #[test]
    fn a_chain_that_an_operator_has_sent_back_is_not_stopped_again() {
        let of = |reason: &str| {
            let attributes = [("reason".to_owned(), reason.to_owned())].into();
            hops(&Message { attributes, ..Message::new("m", "r", "{}") }, 16)
        };
        assert_eq!((of(TOO_MANY_HOPS), of("malformed")), (u32::MAX, 16));
    }
}
