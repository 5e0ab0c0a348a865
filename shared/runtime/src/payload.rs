//! Claim checks redeemed: the payloads that no message could carry are fetched from the table, all of a batch in one round trip.

use crate::batch::{Admitted, Cause, Endings};
use std::time::Duration;
use switchyard_event::Reason;
use switchyard_store::{Store, StoredPayload};
use uuid::Uuid;

/// The largest payload that an agent reads, and the most that one batch fetches: three copies of it at the same time fit into a function of
/// 128 MB.
pub const MAX_PAYLOAD_BYTES: u64 = 8 * 1024 * 1024;

/// How long what does not fit into one batch with the others waits for its turn.
const NEXT_TURN: Duration = Duration::from_secs(1);

/// Gives every event its payload. What is larger than [`MAX_PAYLOAD_BYTES`] is refused as `oversized`; what is not JSON that may enter is
/// refused as it would have been at the door.
pub(crate) async fn layer(store: &Store, admitted: Vec<Admitted>, endings: &mut Endings<'_>) -> Vec<Admitted> {
    let mut whole = Vec::with_capacity(admitted.len());
    let (mut checked, mut room) = (Vec::new(), MAX_PAYLOAD_BYTES);
    for record in admitted {
        match wanted(&record) {
            None => whole.push(record),
            Some(bytes) if checked.is_empty() || bytes <= room => {
                room = room.saturating_sub(bytes);
                checked.push(record);
            }
            Some(_) => record.give_back("other payloads fill this batch", Cause::Turn(NEXT_TURN), endings),
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
                whole.extend(redeem(record, payload, endings));
            }
        }
        Err(error) => {
            tracing::warn!(%error, records = checked.len(), "payloads could not be fetched: their records come again");
            for record in checked {
                record.give_back(error.to_string(), Cause::Passing, endings);
            }
        }
    }
    whole
}

/// How many bytes are to be fetched for this record, if any. None of them for one that will be refused, unless somebody has made it smaller.
fn wanted(record: &Admitted) -> Option<u64> {
    let bytes = record.parsed.event.metadata.claim_check?.bytes;
    record.refused.is_none().then_some(if bytes > MAX_PAYLOAD_BYTES { 0 } else { bytes })
}

fn redeem(mut record: Admitted, payload: Option<StoredPayload>, endings: &mut Endings<'_>) -> Option<Admitted> {
    let text = match payload {
        Some(StoredPayload::Text(text)) => text,
        Some(StoredPayload::TooLarge(bytes)) => {
            let detail = format!("the payload has {bytes} bytes, and an agent reads {MAX_PAYLOAD_BYTES} at most");
            return record.refuse(Reason::Oversized, detail, endings);
        }
        None => {
            let detail = "its payload was left in the table, and its row is gone".to_owned();
            return record.refuse(Reason::NotInTable, detail, endings);
        }
    };
    match record.parsed.event.set_payload(text) {
        Ok(()) => Some(record),
        Err(error) => {
            let reason = Reason::of(error.reason()).unwrap_or(Reason::Malformed);
            record.refuse(reason, error.to_string(), endings)
        }
    }
}
