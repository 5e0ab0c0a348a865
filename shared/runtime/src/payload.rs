//! Claim checks redeemed: the payloads that no message could carry are fetched from the table, all of a batch in one round trip. So are those
//! that an operator has edited since the message was made: the newest revision is handled.

use crate::{
    batch::Admitted,
    outcome::{Cause, Outcome, Outcomes},
    settle::{Settled, settle},
};
use std::time::Duration;
use switchyard_event::Reason;
use switchyard_store::{Store, StoredPayload};
use tokio::time::Instant;
use uuid::Uuid;

/// The largest payload that an agent reads, and the most that one batch fetches: three copies of it at the same time fit into a function of
/// 128 MB.
pub const MAX_PAYLOAD_BYTES: u64 = 8 * 1024 * 1024;

/// How long what does not fit into one batch with the others waits for its turn.
const NEXT_TURN: Duration = Duration::from_secs(1);

/// Why it waits.
const TURN: &str = "other payloads fill this batch";

/// Gives every event its payload. What is larger than [`MAX_PAYLOAD_BYTES`] is refused as `oversized`; what is not JSON that may enter is
/// refused as `parse` would have refused it. An event that was deleted meanwhile is settled as expired, as the ledger itself does it.
pub(crate) async fn layer(
    store: &Store,
    agent: &str,
    admitted: Vec<Admitted>,
    deadline: Instant,
    outcomes: &mut Outcomes<'_>,
) -> Vec<Admitted> {
    let mut whole = Vec::with_capacity(admitted.len());
    let (mut checked, mut room) = (Vec::new(), MAX_PAYLOAD_BYTES);
    for record in admitted {
        match wanted(&record) {
            None => whole.push(record),
            Some(bytes) if checked.is_empty() || bytes <= room => {
                room = room.saturating_sub(bytes);
                checked.push(record);
            }
            Some(_) => record.return_untried(TURN, Cause::Turn(NEXT_TURN), outcomes),
        }
    }
    if checked.is_empty() {
        return whole;
    }
    let ids: Vec<Uuid> = checked.iter().map(|record| record.parsed.event.id).collect();
    let limit = i64::try_from(MAX_PAYLOAD_BYTES).unwrap_or(i64::MAX);
    match store.payloads(&ids, limit).await {
        Ok(payloads) => {
            for (record, payload) in checked.into_iter().zip(payloads) {
                match payload {
                    Some(payload) => whole.extend(redeem(record, payload, outcomes)),
                    None => expire(store, agent, record, deadline, outcomes).await,
                }
            }
        }
        Err(error) => {
            tracing::warn!(agent, %error, records = checked.len(), "payloads could not be fetched: their records are delivered again");
            for record in checked {
                record.return_untried(error.to_string(), Cause::Passing, outcomes);
            }
        }
    }
    whole
}

/// How many bytes are to be fetched for this record, if any. None for one that will be refused, unless an operator has made it smaller.
fn wanted(record: &Admitted) -> Option<u64> {
    let metadata = &record.parsed.event.metadata;
    let edited = u32::try_from(record.standing.revision).unwrap_or(0) > metadata.revision.unwrap_or(0);
    let bytes = match metadata.claim_check {
        // How long a payload is that was edited since, the message cannot know.
        _ if edited => MAX_PAYLOAD_BYTES,
        Some(check) if check.bytes > MAX_PAYLOAD_BYTES => 0,
        Some(check) => check.bytes,
        None => return None,
    };
    record.refused.is_none().then_some(bytes)
}

fn redeem(mut record: Admitted, payload: StoredPayload, outcomes: &mut Outcomes<'_>) -> Option<Admitted> {
    let StoredPayload { revision, bytes, text } = payload;
    let Some(text) = text else {
        if u64::try_from(bytes).is_ok_and(|bytes| bytes <= MAX_PAYLOAD_BYTES) {
            // Its message, or another of the batch, knew of a smaller payload than the table has now.
            record.return_untried(TURN, Cause::Turn(NEXT_TURN), outcomes);
            return None;
        }
        let detail = format!("the payload has {bytes} bytes, and an agent reads {MAX_PAYLOAD_BYTES} at most");
        return record.refuse(Reason::Oversized, detail, outcomes);
    };
    let event = &mut record.parsed.event;
    match event.set_payload(text) {
        Ok(()) => {
            if let Some(revision) = u32::try_from(revision).ok().filter(|revision| *revision > 0) {
                event.metadata = event.metadata.clone().with_revision(revision);
            }
            Some(record)
        }
        Err(error) => {
            let reason = Reason::of(error.reason()).unwrap_or(Reason::Malformed);
            record.refuse(reason, error.to_string(), outcomes)
        }
    }
}

async fn expire(store: &Store, agent: &str, record: Admitted, deadline: Instant, outcomes: &mut Outcomes<'_>) {
    let (at, ask) = (record.parsed.at, record.parsed.ask);
    match settle(store, agent, &ask, Settled::DELETED, deadline).await {
        Ok((outcome, standing)) => outcomes.end(at, outcome, Some(standing)),
        Err(refusal) => outcomes.end(at, Outcome::of_refusal(refusal), Some(record.standing)),
    }
}
