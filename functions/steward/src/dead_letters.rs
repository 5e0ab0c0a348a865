//! Makes a dead-letter queue agree with the ledger, and sends what SNS could not deliver.

use crate::fate::{Fate, Found};
use std::time::Duration;
use switchyard_bus::{Destination, Message, Queue, Received};
use switchyard_operations::dead_letter::{DeadLetter, PROCESS_DIED, ParkedMessage};
use switchyard_runtime::dead_letter;
use switchyard_store::{Ask, ParkReport, State, Store, StoreError, Unidentified};

/// How long a received dead letter is hidden from other readers: for more than two passes, so that an inspection over several passes receives none
/// twice.
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(150);
/// How many dead letters are held at a time: a dead letter may have a mebibyte.
const AT_A_TIME: usize = 50;

/// What happened to a message without a reason.
const DIED_DETAIL: &str = "received so often without an answer that the redrive policy moved it: its handler dies on it, or could not be reached for days";

/// What was done with a dead-letter queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    pub(crate) died: usize,
    pub(crate) stale: usize,
    /// The inspection has reached the end of the queue.
    pub(crate) whole: bool,
}

/// Whose dead letters they are.
#[derive(Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) store: &'a Store,
    pub(crate) name: &'a str,
    /// Whether the ledger has deliveries for it; ingest has none.
    pub(crate) has_deliveries: bool,
}

/// Inspects up to `at_most` dead letters, and counts in `swept` what was done, even if it fails.
///
/// A message that the queue's redrive policy has moved there is replaced: the ledger parks the delivery, a dead letter with the reason is sent, and the
/// message is deleted. A crash in between leaves a second copy at worst, and the next pass continues. A dead letter of a settled delivery is deleted; all
/// others are released at the end of the inspection. If the inspection continues in the next pass, they stay hidden until then: SQS would show them again
/// instead of those behind them.
///
/// # Errors
/// One line for the operator. What was done by then is done; what was received and not ended shows again within minutes.
pub(crate) async fn sweep<Q: Queue>(
    owner: Owner<'_>,
    dead_letters: &Q,
    at_most: usize,
    swept: &mut Swept,
) -> Result<(), String> {
    let (mut looked, mut kept) = (0, Vec::new());
    let mut result = Ok(());
    while result.is_ok() && looked < at_most {
        let wanted = AT_A_TIME.min(at_most - looked);
        let received = match receive(dead_letters, wanted).await {
            Ok(received) => received,
            Err(error) => {
                result = Err(error);
                break;
            }
        };
        looked += received.len();
        swept.whole = received.len() < wanted;
        if !received.is_empty() {
            result = owner.end_of(dead_letters, received, &mut kept, swept).await;
        }
        if swept.whole {
            break;
        }
    }
    if swept.whole || result.is_err() {
        result = result.and(end(dead_letters, &[], &kept).await);
    }
    result
}

/// Sends up to `at_most` messages that SNS could not deliver to the queue, and then deletes them. A crash in between leaves a second copy, which the
/// claim refuses. Counts them in `delivered`, even if it fails.
///
/// # Errors
/// As [`sweep`].
pub(crate) async fn deliver<Q: Queue>(
    undelivered: &Q,
    queue: &impl Destination,
    at_most: usize,
    delivered: &mut usize,
) -> Result<(), String> {
    let received = receive(undelivered, at_most).await?;
    if received.is_empty() {
        return Ok(());
    }
    let messages: Vec<Message> = received.iter().map(Received::again).collect();
    let (mut gone, mut kept) = (Vec::new(), Vec::new());
    let mut trouble = None;
    for (message, answer) in received.into_iter().zip(queue.put(&messages).await) {
        match answer {
            Ok(()) => gone.push(message.receipt_handle),
            Err(error) => {
                trouble = Some(error.to_string());
                kept.push(message.receipt_handle);
            }
        }
    }
    *delivered += gone.len();
    end(undelivered, &gone, &kept).await?;
    trouble.map_or(Ok(()), Err)
}

async fn receive<Q: Queue>(queue: &Q, at_most: usize) -> Result<Vec<Received>, String> {
    let mut all = Vec::new();
    while all.len() < at_most {
        let some = queue.receive(at_most - all.len(), VISIBILITY_TIMEOUT).await.map_err(|error| error.to_string())?;
        if some.is_empty() {
            break;
        }
        all.extend(some);
    }
    Ok(all)
}

async fn end<Q: Queue>(queue: &Q, gone: &[String], kept: &[String]) -> Result<(), String> {
    let mut failed = 0;
    if !gone.is_empty() {
        failed += queue.delete(gone).await.into_iter().filter(Result::is_err).count();
    }
    if !kept.is_empty() {
        failed += queue.release(kept).await;
    }
    if failed == 0 {
        Ok(())
    } else {
        Err(format!("{failed} messages could not be deleted or released; they show again within minutes"))
    }
}

impl Owner<'_> {
    /// Decides and carries out what becomes of some dead letters. Those that stay are added to `kept`, still hidden.
    async fn end_of<Q: Queue>(
        &self,
        dead_letters: &Q,
        received: Vec<Received>,
        kept: &mut Vec<String>,
        swept: &mut Swept,
    ) -> Result<(), String> {
        let found: Vec<Found> = received.iter().map(Found::from).collect();
        let states = match self.states(&found).await {
            Ok(states) => states,
            Err(error) => {
                kept.extend(received.into_iter().map(|dead_letter| dead_letter.receipt_handle));
                return Err(error.to_string());
            }
        };
        let (mut died, mut gone) = (Vec::new(), Vec::new());
        for ((dead_letter, found), state) in received.into_iter().zip(found).zip(states) {
            match found.fate(state) {
                Fate::Died => died.push((dead_letter, found)),
                Fate::Stale => gone.push(dead_letter.receipt_handle),
                Fate::Kept => kept.push(dead_letter.receipt_handle),
            }
        }
        swept.stale += gone.len();
        let reported =
            if died.is_empty() { Ok(()) } else { self.report_died(dead_letters, died, &mut gone, kept, swept).await };
        reported.and(end(dead_letters, &gone, &[]).await)
    }

    /// The state of each dead letter's delivery; `None` where there is none.
    async fn states(&self, found: &[Found]) -> Result<Vec<Option<State>>, StoreError> {
        let mut states = vec![None; found.len()];
        if !self.has_deliveries {
            return Ok(states);
        }
        let asked: Vec<(usize, (uuid::Uuid, i32))> = found
            .iter()
            .enumerate()
            .filter_map(|(at, found)| found.delivery.as_ref().map(|ask| (at, (ask.event_id, ask.run))))
            .collect();
        let deliveries: Vec<_> = asked.iter().map(|(_, delivery)| *delivery).collect();
        for ((at, _), state) in asked.into_iter().zip(self.store.settled(self.name, &deliveries).await?) {
            states[at] = state;
        }
        Ok(states)
    }

    /// Parks the deliveries of messages whose handler died, and sends a dead letter with the reason for each. Adds the replaced messages to `gone`, all
    /// others to `kept`.
    async fn report_died<Q: Queue>(
        &self,
        dead_letters: &Q,
        died: Vec<(Received, Found)>,
        gone: &mut Vec<String>,
        kept: &mut Vec<String>,
        swept: &mut Swept,
    ) -> Result<(), String> {
        let all = |died: Vec<(Received, Found)>| died.into_iter().map(|(dead_letter, _)| dead_letter.receipt_handle);
        let known = match self.park(&died).await {
            Ok(known) => known,
            Err(error) => {
                kept.extend(all(died));
                return Err(error.to_string());
            }
        };
        // A delivery of an earlier epoch was sent again since, and does not need this copy.
        let (parked, over): (Vec<_>, Vec<_>) = died.into_iter().zip(known).partition(|(_, known)| *known);
        kept.extend(over.into_iter().map(|((dead_letter, _), _)| dead_letter.receipt_handle));
        let copies: Vec<Message> =
            parked.iter().map(|((dead_letter, found), _)| self.dead_letter(dead_letter, found)).collect();
        let mut trouble = None;
        for (((dead_letter, _), _), answer) in parked.into_iter().zip(dead_letters.send(&copies).await) {
            match answer {
                Ok(()) => {
                    tracing::error!(
                        agent = self.name,
                        message.id = dead_letter.message_id,
                        reason = PROCESS_DIED,
                        "parked"
                    );
                    gone.push(dead_letter.receipt_handle);
                    swept.died += 1;
                }
                Err(error) => {
                    trouble = Some(error.to_string());
                    kept.push(dead_letter.receipt_handle);
                }
            }
        }
        trouble.map_or(Ok(()), Err)
    }

    /// Parks in the ledger. Returns for each whether it is parked now.
    async fn park(&self, died: &[(Received, Found)]) -> Result<Vec<bool>, StoreError> {
        let mut parked = vec![true; died.len()];
        let (mut reports, mut unidentified) = (Vec::new(), Vec::new());
        for (at, (dead_letter, found)) in died.iter().enumerate() {
            let (reason, error) = (PROCESS_DIED.to_owned(), DIED_DETAIL.to_owned());
            match &found.delivery {
                Some(ask) if self.has_deliveries => reports.push((at, ParkReport { ask: ask.clone(), reason, error })),
                _ => unidentified.push(Unidentified {
                    message_id: dead_letter.message_id.clone(),
                    run: 0,
                    reason,
                    error,
                }),
            }
        }
        if !unidentified.is_empty() {
            self.store.park_unidentified(self.name, &unidentified).await?;
        }
        let (places, reports): (Vec<usize>, Vec<ParkReport>) = reports.into_iter().unzip();
        if !reports.is_empty() {
            for (at, now) in places.into_iter().zip(self.store.park(self.name, &reports).await?) {
                parked[at] = !matches!(now.state, Some(State::Assigned | State::Failing));
            }
        }
        Ok(parked)
    }

    fn dead_letter(&self, dead_letter: &Received, found: &Found) -> Message {
        let copy = DeadLetter {
            agent: self.name,
            body: &dead_letter.body,
            message_id: &dead_letter.message_id,
            reason: PROCESS_DIED,
            error: DIED_DETAIL,
            attempts: 1,
            run: found.delivery.as_ref().map_or(0, |ask| ask.run),
            // The message's own epoch. Without it, a dead letter that is moved back counts for the current epoch.
            epoch: dead_letter.attributes.get("epoch").and_then(|epoch| epoch.parse().ok()),
            traceparent: dead_letter.attributes.get("traceparent").map(String::as_str),
        };
        match found.delivery {
            Some(_) if self.has_deliveries => dead_letter::message(&copy),
            // Its row in `failure` is found by this id: a redrive marks exactly the rows that it has sent back.
            _ => dead_letter::message(&copy).text("message_id", dead_letter.message_id.as_str()),
        }
    }
}

impl From<&Received> for Found {
    fn from(dead_letter: &Received) -> Self {
        let parked =
            ParkedMessage::read(&dead_letter.body, |name| dead_letter.attributes.get(name).map(String::as_str));
        // Messages of the topic name no epoch and are of epoch 0. One that died must not park what was sent again since.
        let epoch = Some(parked.epoch.unwrap_or(0));
        let delivery = parked.delivery.map(|(event_id, run)| Ask { event_id, run, epoch });
        Self { delivery, has_reason: parked.reason.is_some() }
    }
}
