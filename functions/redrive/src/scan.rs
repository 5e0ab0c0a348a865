//! Reads a dead-letter queue: receive, decide, release.

use std::time::Duration;
use switchyard_bus::{BusError, Queue, Received};
use tokio::time::Instant;

/// How many dead letters one request receives.
pub(crate) const MOST_RECEIVED: usize = 1_000;
/// How many bytes of bodies one scan keeps: a thousand of the largest messages would not fit into the function's memory.
pub(crate) const MOST_BYTES: usize = 64 << 20;
/// How long a received message is hidden from other readers. It is released at once afterwards; this bounds it if the process dies.
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one scan may take, so that the first message is still hidden when the last one is received.
pub(crate) const LONGEST: Duration = Duration::from_secs(20);

/// What was received, hidden from other readers.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) dead_letters: Vec<Received>,
    /// Whether that is all that the queue had to show.
    pub(crate) exhausted: bool,
    /// How many messages were hidden by another reader: the steward, or another redrive. SQS counts approximately.
    pub(crate) hidden: u64,
}

impl Scan {
    /// Whether that is all that the queue holds.
    pub(crate) fn complete(&self) -> bool {
        self.exhausted && self.hidden == 0
    }
}

/// Receives up to `at_most` dead letters, or [`MOST_BYTES`] and what one call brings. The caller releases or deletes each of them.
///
/// # Errors
/// What the queue said; what was received by then is released.
pub(crate) async fn receive<Q: Queue>(queue: &Q, at_most: usize, ends: Instant) -> Result<Scan, BusError> {
    let ends = ends.min(Instant::now() + LONGEST);
    let mut scan = Scan::default();
    let mut bytes = 0;
    while scan.dead_letters.len() < at_most && bytes < MOST_BYTES && Instant::now() < ends {
        let wanted = (at_most - scan.dead_letters.len()).min(switchyard_bus::BATCH_ENTRIES);
        match Box::pin(queue.receive(wanted, VISIBILITY_TIMEOUT)).await {
            Ok(dead_letters) if dead_letters.is_empty() => {
                scan.exhausted = true;
                break;
            }
            Ok(dead_letters) => {
                bytes += dead_letters.iter().map(|dead_letter| dead_letter.body.len()).sum::<usize>();
                scan.dead_letters.extend(dead_letters);
            }
            Err(error) => {
                put_back(queue, &scan.dead_letters).await;
                return Err(error);
            }
        }
    }
    match Box::pin(queue.depth()).await {
        // The received messages are in flight, too.
        Ok(depth) => scan.hidden = depth.in_flight.saturating_sub(scan.dead_letters.len() as u64),
        Err(error) => {
            put_back(queue, &scan.dead_letters).await;
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
    Box::pin(queue.receive(switchyard_bus::BATCH_ENTRIES, VISIBILITY_TIMEOUT)).await
}

/// Makes messages visible again. One that cannot be released is visible when its visibility timeout ends.
pub(crate) async fn put_back<'a, Q: Queue>(queue: &Q, dead_letters: impl IntoIterator<Item = &'a Received>) {
    let handles: Vec<String> = dead_letters.into_iter().map(|dead_letter| dead_letter.receipt_handle.clone()).collect();
    release(queue, &handles).await;
}

/// The same by their receipt handles.
pub(crate) async fn release<Q: Queue>(queue: &Q, handles: &[String]) {
    if !handles.is_empty() {
        Box::pin(queue.release(handles)).await;
    }
}

/// Deletes messages and returns how many were deleted. One that could not be deleted is visible again when its visibility timeout ends.
pub(crate) async fn delete<Q: Queue>(queue: &Q, dead_letters: &[&Received]) -> usize {
    let handles: Vec<String> = dead_letters.iter().map(|dead_letter| dead_letter.receipt_handle.clone()).collect();
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
    async fn a_scan_ends_before_its_bodies_fill_the_memory() {
        let queue = MemoryQueue::default();
        let body = "x".repeat(200 << 10);
        let fitting = MOST_BYTES.div_ceil(body.len());
        for _ in 0..fitting + 20 {
            assert!(queue.send(&[Message::new(body.clone())]).await.iter().all(Result::is_ok));
        }

        let scan = receive(&queue, MOST_RECEIVED, Instant::now() + LONGEST).await.unwrap();

        assert!((fitting..fitting + switchyard_bus::BATCH_ENTRIES).contains(&scan.dead_letters.len()));
        assert!(!scan.exhausted && !scan.complete());
    }
}
