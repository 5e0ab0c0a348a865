//! Keeping a dead-letter queue in step with the ledger, and bringing back what SNS could not deliver.

use crate::letters::{Fate, Found};
use std::time::Duration;
use switchyard_bus::{Destination, Message, Queue, Received};
use switchyard_operations::dead_letter::{DeadLetter, PROCESS_DIED, ParkedMessage};
use switchyard_runtime::dead_letter;
use switchyard_store::{Ask, ParkReport, State, Store, StoreError, Unidentified};

/// How long a letter that is being looked at is hidden from others: for more than two passes, so that a look which takes several of them meets
/// none twice.
const LOOK: Duration = Duration::from_secs(150);
/// How many letters are held at a time: a letter may have a mebibyte.
const AT_A_TIME: usize = 50;

/// What happened to a message without a reason.
const DIED_DETAIL: &str = "received so often without an answer that the queue gave it up: whatever handles it dies on it, or could not be reached for days";

/// What was done with a dead-letter queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    pub(crate) died: usize,
    pub(crate) stale: usize,
    /// The look has come to the queue's end.
    pub(crate) whole: bool,
}

/// Whose letters, and what the ledger knows of them.
#[derive(Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) store: &'a Store,
    pub(crate) name: &'a str,
    /// Whether the ledger has deliveries for it; ingest has none.
    pub(crate) has_deliveries: bool,
}

/// Looks at up to `at_most` letters, and counts in `swept` what was done, whatever comes of it in the end.
///
/// A letter that the queue itself has moved there: the ledger is told, then a letter that says so is put beside it, then it goes. A crash in between
/// doubles a letter at worst, and the next pass ends what this one began. A letter that nobody needs goes; all others are released at the end of the
/// look. Where that is not the end of this pass, they stay hidden until then: otherwise letters that stay would hide those behind them for ever.
///
/// # Errors
/// One line for the operator. What was done by then is done; what was received and not ended shows again within minutes.
pub(crate) async fn sweep<Q: Queue>(
    owner: Owner<'_>,
    letters: &Q,
    at_most: usize,
    swept: &mut Swept,
) -> Result<(), String> {
    let (mut looked, mut kept) = (0, Vec::new());
    let mut result = Ok(());
    while result.is_ok() && looked < at_most {
        let wanted = AT_A_TIME.min(at_most - looked);
        let received = match receive(letters, wanted).await {
            Ok(received) => received,
            Err(error) => {
                result = Err(error);
                break;
            }
        };
        looked += received.len();
        swept.whole = received.len() < wanted;
        if !received.is_empty() {
            result = owner.end_of(letters, received, &mut kept, swept).await;
        }
        if swept.whole {
            break;
        }
    }
    if swept.whole || result.is_err() {
        result = result.and(end(letters, &[], &kept).await);
    }
    result
}

/// Puts what SNS could not deliver into the queue, and then removes it; up to `at_most`. A crash in between doubles a message, and the claim
/// absorbs it. Counts them in `delivered`, whatever comes of it in the end.
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
        let some = queue.receive(at_most - all.len(), LOOK).await.map_err(|error| error.to_string())?;
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
    /// What becomes of some letters, carried out. Those that stay are added to `kept`, still hidden.
    async fn end_of<Q: Queue>(
        &self,
        letters: &Q,
        received: Vec<Received>,
        kept: &mut Vec<String>,
        swept: &mut Swept,
    ) -> Result<(), String> {
        let found: Vec<Found> = received.iter().map(Found::from).collect();
        let states = match self.states(&found).await {
            Ok(states) => states,
            Err(error) => {
                kept.extend(received.into_iter().map(|letter| letter.receipt_handle));
                return Err(error.to_string());
            }
        };
        let (mut died, mut gone) = (Vec::new(), Vec::new());
        for ((letter, found), state) in received.into_iter().zip(found).zip(states) {
            match found.fate(state) {
                Fate::Died => died.push((letter, found)),
                Fate::Stale => gone.push(letter.receipt_handle),
                Fate::Kept => kept.push(letter.receipt_handle),
            }
        }
        swept.stale += gone.len();
        let told = if died.is_empty() { Ok(()) } else { self.told_of(letters, died, &mut gone, kept, swept).await };
        told.and(end(letters, &gone, &[]).await)
    }

    /// The state of each letter's delivery; `None` where there is none.
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

    /// Tells the ledger of letters whose handler died, and puts one beside each that says so. What is told goes to `gone`, all else to `kept`.
    async fn told_of<Q: Queue>(
        &self,
        letters: &Q,
        died: Vec<(Received, Found)>,
        gone: &mut Vec<String>,
        kept: &mut Vec<String>,
        swept: &mut Swept,
    ) -> Result<(), String> {
        let all = |died: Vec<(Received, Found)>| died.into_iter().map(|(letter, _)| letter.receipt_handle);
        let known = match self.park(&died).await {
            Ok(known) => known,
            Err(error) => {
                kept.extend(all(died));
                return Err(error.to_string());
            }
        };
        // What belongs to an epoch that is over was sent again since, and its delivery goes on without this copy.
        let (told, over): (Vec<_>, Vec<_>) = died.into_iter().zip(known).partition(|(_, known)| *known);
        kept.extend(over.into_iter().map(|((letter, _), _)| letter.receipt_handle));
        let copies: Vec<Message> = told.iter().map(|((letter, found), _)| self.letter(letter, found)).collect();
        let mut trouble = None;
        for (((letter, _), _), answer) in told.into_iter().zip(letters.send(&copies).await) {
            match answer {
                Ok(()) => {
                    tracing::error!(agent = self.name, message.id = letter.message_id, reason = PROCESS_DIED, "parked");
                    gone.push(letter.receipt_handle);
                    swept.died += 1;
                }
                Err(error) => {
                    trouble = Some(error.to_string());
                    kept.push(letter.receipt_handle);
                }
            }
        }
        trouble.map_or(Ok(()), Err)
    }

    /// Parks in the ledger; says of each whether it is parked now.
    async fn park(&self, died: &[(Received, Found)]) -> Result<Vec<bool>, StoreError> {
        let mut parked = vec![true; died.len()];
        let (mut reports, mut nameless) = (Vec::new(), Vec::new());
        for (at, (letter, found)) in died.iter().enumerate() {
            let (reason, error) = (PROCESS_DIED.to_owned(), DIED_DETAIL.to_owned());
            match &found.delivery {
                Some(ask) if self.has_deliveries => reports.push((at, ParkReport { ask: ask.clone(), reason, error })),
                _ => nameless.push(Unidentified { message_id: letter.message_id.clone(), run: 0, reason, error }),
            }
        }
        if !nameless.is_empty() {
            self.store.park_unidentified(self.name, &nameless).await?;
        }
        let (places, reports): (Vec<usize>, Vec<ParkReport>) = reports.into_iter().unzip();
        if !reports.is_empty() {
            for (at, now) in places.into_iter().zip(self.store.park(self.name, &reports).await?) {
                parked[at] = !matches!(now.state, Some(State::Assigned | State::Failing));
            }
        }
        Ok(parked)
    }

    fn letter(&self, letter: &Received, found: &Found) -> Message {
        let copy = DeadLetter {
            agent: self.name,
            body: &letter.body,
            message_id: &letter.message_id,
            reason: PROCESS_DIED,
            error: DIED_DETAIL,
            attempts: 1,
            run: found.delivery.as_ref().map_or(0, |ask| ask.run),
            // As the message named it: without one, a letter that is moved back belongs to whichever epoch is the current one.
            epoch: letter.attributes.get("epoch").and_then(|epoch| epoch.parse().ok()),
            traceparent: letter.attributes.get("traceparent").map(String::as_str),
        };
        match found.delivery {
            Some(_) if self.has_deliveries => dead_letter::message(&copy),
            // What its row among the failures is found by: a redrive marks exactly what it has sent back.
            _ => dead_letter::message(&copy).text("message_id", letter.message_id.as_str()),
        }
    }
}

impl From<&Received> for Found {
    fn from(letter: &Received) -> Self {
        let parked = ParkedMessage::read(&letter.body, |name| letter.attributes.get(name).map(String::as_str));
        // The topic's messages name no epoch and are of the first. One of those that died must not park what was sent again since.
        let epoch = Some(parked.epoch.unwrap_or(0));
        let delivery = parked.delivery.map(|(event_id, run)| Ask { event_id, run, epoch });
        Self { delivery, says_why: parked.reason.is_some() }
    }
}
