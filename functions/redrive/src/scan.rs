//! Looking through a dead-letter queue: receive, decide, put back.

use std::time::Duration;
use switchyard_bus::{BusError, Queue, Received};
use tokio::time::Instant;

/// How many letters one request looks through: for copies, or for what has stayed.
pub(crate) const LOOKED_THROUGH: usize = 1_000;
/// How much of their bodies one look holds: of the largest letters there are, a thousand would not fit into the function's memory.
pub(crate) const HELD_BYTES: usize = 64 << 20;
/// How long a letter is kept from others while it is looked at. Put back at once afterwards; this is for a process that dies meanwhile.
const HELD: Duration = Duration::from_secs(30);
/// How long one look through a queue may take, so that the first letter is still held when the last one is received.
pub(crate) const LONGEST: Duration = Duration::from_secs(20);

/// What was received and is held.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) letters: Vec<Received>,
    /// Whether that is all that the queue had to show.
    pub(crate) exhausted: bool,
    /// How many letters it did not show, since somebody else is looking at them: the steward, or another redrive. SQS counts approximately.
    pub(crate) hidden: u64,
}

impl Scan {
    /// Whether that is all that the queue holds.
    pub(crate) fn complete(&self) -> bool {
        self.exhausted && self.hidden == 0
    }
}

/// Receives up to `at_most` letters, or [`HELD_BYTES`] and what one call brings. The caller puts back or deletes each of them.
///
/// # Errors
/// What the queue said; what was received by then is put back.
pub(crate) async fn receive<Q: Queue>(queue: &Q, at_most: usize, ends: Instant) -> Result<Scan, BusError> {
    let ends = ends.min(Instant::now() + LONGEST);
    let mut scan = Scan::default();
    let mut bytes = 0;
    while scan.letters.len() < at_most && bytes < HELD_BYTES && Instant::now() < ends {
        let wanted = (at_most - scan.letters.len()).min(switchyard_bus::BATCH_ENTRIES);
        match Box::pin(queue.receive(wanted, HELD)).await {
            Ok(letters) if letters.is_empty() => {
                scan.exhausted = true;
                break;
            }
            Ok(letters) => {
                bytes += letters.iter().map(|letter| letter.body.len()).sum::<usize>();
                scan.letters.extend(letters);
            }
            Err(error) => {
                put_back(queue, &scan.letters).await;
                return Err(error);
            }
        }
    }
    match Box::pin(queue.depth()).await {
        // Those that are held here are in flight, too.
        Ok(depth) => scan.hidden = depth.in_flight.saturating_sub(scan.letters.len() as u64),
        Err(error) => {
            put_back(queue, &scan.letters).await;
            return Err(error);
        }
    }
    Ok(scan)
}

/// Receives what one call brings, ten at most.
///
/// # Errors
/// What the queue said.
pub(crate) async fn some<Q: Queue>(queue: &Q) -> Result<Vec<Received>, BusError> {
    Box::pin(queue.receive(switchyard_bus::BATCH_ENTRIES, HELD)).await
}

/// Makes letters visible again. One that cannot be is visible when its time is over.
pub(crate) async fn put_back<'a, Q: Queue>(queue: &Q, letters: impl IntoIterator<Item = &'a Received>) {
    let handles: Vec<String> = letters.into_iter().map(|letter| letter.receipt_handle.clone()).collect();
    release(queue, &handles).await;
}

/// The same by their handles, for who keeps no bodies.
pub(crate) async fn release<Q: Queue>(queue: &Q, handles: &[String]) {
    if !handles.is_empty() {
        Box::pin(queue.release(handles)).await;
    }
}

/// Deletes letters and says how many are gone. One that could not be deleted is visible again when its time is over.
pub(crate) async fn delete<Q: Queue>(queue: &Q, letters: &[&Received]) -> usize {
    let handles: Vec<String> = letters.iter().map(|letter| letter.receipt_handle.clone()).collect();
    if handles.is_empty() {
        return 0;
    }
    Box::pin(queue.delete(&handles)).await.iter().filter(|answer| answer.is_ok()).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchyard_bus::{MemoryQueue, Message};

    #[tokio::test]
    async fn a_look_ends_where_its_bodies_would_fill_the_memory() {
        let queue = MemoryQueue::default();
        let body = "x".repeat(200 << 10);
        let fitting = HELD_BYTES.div_ceil(body.len());
        for _ in 0..fitting + 20 {
            assert!(queue.send(&[Message::new(body.clone())]).await.iter().all(Result::is_ok));
        }

        let scan = receive(&queue, LOOKED_THROUGH, Instant::now() + LONGEST).await.unwrap();

        assert!((fitting..fitting + switchyard_bus::BATCH_ENTRIES).contains(&scan.letters.len()));
        assert!(!scan.exhausted && !scan.complete());
    }
}
