//! Keeping a dead-letter queue in step with the ledger, and bringing back what SNS could not deliver.

use crate::letters::{Fate, Found};
use std::time::Duration;
use switchyard_bus::{Message, Queue, Received};
use switchyard_event::Event;
use switchyard_runtime::letter::Letter;
use switchyard_store::{Ask, Nameless, ParkReport, State, Store, StoreError};

/// How long a letter that is being looked at is hidden from others: longer than a pass, so that none is met twice.
const LOOK: Duration = Duration::from_secs(60);

/// Why a letter lies there that says nothing.
const DIED: &str = "process_died";
const DIED_DETAIL: &str = "received so often without an answer that the queue gave it up: whatever handles it dies on it, or could not be reached for days";

/// What was done with a dead-letter queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    pub(crate) died: usize,
    pub(crate) stale: usize,
}

/// Whose letters, and what the ledger knows of them.
#[derive(Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) store: &'a Store,
    pub(crate) name: &'a str,
    /// Whether the ledger has deliveries for it; ingest has none.
    pub(crate) has_deliveries: bool,
}

/// Looks at up to `at_most` letters.
///
/// A letter that the queue itself has moved there: the ledger is told, then a letter that says so is put beside it, then it goes. A crash in between
/// doubles a letter at worst, and the next pass ends what this one began. A letter that nobody needs goes; all others are released.
///
/// # Errors
/// One line for the operator. What was done by then is done; what was received and not ended is hidden for a minute.
pub(crate) async fn sweep<Q: Queue>(owner: Owner<'_>, letters: &Q, at_most: usize) -> Result<Swept, String> {
    let received = receive(letters, at_most).await?;
    if received.is_empty() {
        return Ok(Swept::default());
    }
    let found: Vec<Found> = received.iter().map(Found::from).collect();
    let states = owner.states(&found).await.map_err(|error| error.to_string())?;
    let (mut died, mut gone, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for ((letter, found), state) in received.into_iter().zip(found).zip(states) {
        match found.fate(state) {
            Fate::Died => died.push((letter, found)),
            Fate::Stale => gone.push(letter.receipt_handle),
            Fate::Kept => kept.push(letter.receipt_handle),
        }
    }
    let mut swept = Swept { stale: gone.len(), died: 0 };
    let told = owner.told_of(letters, died, &mut gone, &mut kept).await;
    if let Ok(died) = &told {
        swept.died = *died;
    }
    end(letters, &gone, &kept).await?;
    told.map(|_| swept)
}

/// Puts what SNS could not deliver into the queue, and then removes it; up to `at_most`. A crash in between doubles a message, and the claim
/// absorbs it. Returns how many.
///
/// # Errors
/// As [`sweep`].
pub(crate) async fn deliver<Q: Queue>(undelivered: &Q, queue: &Q, at_most: usize) -> Result<usize, String> {
    let received = receive(undelivered, at_most).await?;
    if received.is_empty() {
        return Ok(0);
    }
    let messages: Vec<Message> = received.iter().map(Received::again).collect();
    let (mut gone, mut kept) = (Vec::new(), Vec::new());
    let mut trouble = None;
    for (message, answer) in received.into_iter().zip(queue.send(&messages).await) {
        match answer {
            Ok(()) => gone.push(message.receipt_handle),
            Err(error) => {
                trouble = Some(error.to_string());
                kept.push(message.receipt_handle);
            }
        }
    }
    end(undelivered, &gone, &kept).await?;
    trouble.map_or(Ok(gone.len()), Err)
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
        Err(format!("{failed} messages could not be deleted or released; they show again within a minute"))
    }
}

impl Owner<'_> {
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
    ) -> Result<usize, String> {
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
        let mut count = 0;
        let mut trouble = None;
        for (((letter, _), _), answer) in told.into_iter().zip(letters.send(&copies).await) {
            match answer {
                Ok(()) => {
                    tracing::error!(agent = self.name, message.id = letter.message_id, reason = DIED, "parked");
                    gone.push(letter.receipt_handle);
                    count += 1;
                }
                Err(error) => {
                    trouble = Some(error.to_string());
                    kept.push(letter.receipt_handle);
                }
            }
        }
        trouble.map_or(Ok(count), Err)
    }

    /// Parks in the ledger; says of each whether it is parked now.
    async fn park(&self, died: &[(Received, Found)]) -> Result<Vec<bool>, StoreError> {
        let mut parked = vec![true; died.len()];
        let (mut reports, mut nameless) = (Vec::new(), Vec::new());
        for (at, (letter, found)) in died.iter().enumerate() {
            let (reason, error) = (DIED.to_owned(), DIED_DETAIL.to_owned());
            match &found.delivery {
                Some(ask) if self.has_deliveries => reports.push((at, ParkReport { ask: ask.clone(), reason, error })),
                _ => nameless.push(Nameless { message_id: letter.message_id.clone(), run: 0, reason, error }),
            }
        }
        if !nameless.is_empty() {
            self.store.park_nameless(self.name, &nameless).await?;
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
        let copy = Letter {
            agent: self.name,
            body: &letter.body,
            reason: DIED,
            error: DIED_DETAIL,
            attempts: 1,
            run: found.delivery.as_ref().map_or(0, |ask| ask.run),
            epoch: found.delivery.as_ref().and_then(|ask| ask.epoch),
            traceparent: letter.attributes.get("traceparent").map(String::as_str),
        };
        copy.message()
    }
}

impl From<&Received> for Found {
    fn from(letter: &Received) -> Self {
        let number = |name: &str| -> Option<i32> { letter.attributes.get(name)?.parse().ok() };
        let event_id = Event::id_of(&letter.body);
        let ask = |event_id| Ask { event_id, run: number("run").unwrap_or(0), epoch: number("epoch") };
        Self { delivery: event_id.map(ask), says_why: letter.attributes.contains_key("reason") }
    }
}
