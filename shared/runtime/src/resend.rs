//! Sending to one agent what is due: the one way in which reconciling, a redrive from the table and a replay put an event back into a queue.

use crate::envelope::{self, Unreadable};
use jiff::Timestamp;
use std::collections::{HashMap, HashSet};
use switchyard_bus::{BusError, Destination, Message};
use switchyard_store::{Ask, Due, Overdue, ParkReport, Pending, Store, StoreError};

/// How many events are read and sent at a time: payloads of up to 1 MiB come along, and a message carries 256 KiB of them at most.
const AT_A_TIME: usize = 25;

/// What became of what was due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// The queue has these.
    pub sent: usize,
    /// The queue did not take these, or their event was deleted meanwhile: they are due again later.
    pub failed: usize,
    /// No queue could carry these, so they are parked with that reason: an operator must look.
    pub parked: usize,
}

/// Sends up to `limit` deliveries of an agent that are due to its queue, or to its express queue, the longest overdue first.
///
/// At least once: each was leased by the ledger before it is sent, so that one which is lost on the way, or whose process dies here, is due again
/// when the lease runs out; one that arrives twice is absorbed by the claim. An event that cannot be read is parked, and fails nothing else.
///
/// # Errors
/// [`StoreError`] where the ledger did not answer; what was sent before is sent, and the rest is due again.
pub async fn send_due(
    store: &Store,
    queue: &impl Destination,
    agent: &str,
    limit: i32,
    overdue: Overdue,
) -> Result<Sent, StoreError> {
    let due = store.due(agent, limit, overdue).await?;
    switchyard_faults::point("steward.after_due");
    send_these(store, queue, agent, &due).await
}

/// The same for deliveries that the caller has chosen: those of a redrive, whose rows are deferred meanwhile.
///
/// # Errors
/// As [`send_due`].
pub async fn send_these(store: &Store, queue: &impl Destination, agent: &str, due: &[Due]) -> Result<Sent, StoreError> {
    let (mut sent, mut waits) = (Sent::default(), HashSet::new());
    for some in due.chunks(AT_A_TIME) {
        let seqs: Vec<i64> = some.iter().map(|due| due.seq).collect();
        let events = store.events(&seqs).await?;
        let Prepared { messages, unreadable, gone } = prepare(some, &events, Timestamp::now());
        let prepared = messages.len();
        let taken = Box::pin(send(queue, agent, messages, &mut waits)).await;
        switchyard_faults::point("steward.after_send");
        if !unreadable.is_empty() {
            store.park(agent, &unreadable).await?;
        }
        sent.sent += taken;
        sent.failed += prepared - taken + gone;
        sent.parked += unreadable.len();
    }
    Ok(sent)
}

/// What is to be done about some deliveries that are due.
struct Prepared {
    messages: Vec<Message>,
    unreadable: Vec<ParkReport>,
    /// Deliveries whose event is not in the table any more; the ledger settles them when they are due the next time.
    gone: usize,
}

/// Makes the messages, for sending at this time. Pure.
fn prepare(due: &[Due], events: &[Pending], at: Timestamp) -> Prepared {
    let events: HashMap<i64, &Pending> = events.iter().map(|event| (event.seq, event)).collect();
    let mut prepared = Prepared { messages: Vec::with_capacity(due.len()), unreadable: Vec::new(), gone: 0 };
    for due in due {
        let Some(event) = events.get(&due.seq) else {
            prepared.gone += 1;
            continue;
        };
        match envelope::delivery(event, due.run, due.epoch, at) {
            Ok(message) => prepared.messages.push(message),
            Err(error) => prepared.unreadable.push(parked(due, event, &error)),
        }
    }
    prepared
}

fn parked(due: &Due, event: &Pending, error: &Unreadable) -> ParkReport {
    let ask = Ask { event_id: event.id, run: due.run, epoch: Some(due.epoch) };
    ParkReport { ask, reason: error.reason().to_owned(), error: error.to_string() }
}

/// How many of the messages the queue has taken. What a queue keeps in order within one call is kept over all of them: behind a message that may be
/// taken later nothing of its group is sent, and `waits` remembers the group.
async fn send(
    queue: &impl Destination,
    agent: &str,
    messages: Vec<Message>,
    waits: &mut HashSet<Option<String>>,
) -> usize {
    let all = messages.len();
    let free: Vec<Message> = messages.into_iter().filter(|one| !waits.contains(&one.keys().group)).collect();
    if free.is_empty() {
        return 0;
    }
    let answers = queue.put(&free).await;
    let failed: Vec<(&Message, &BusError)> =
        free.iter().zip(&answers).filter_map(|(message, answer)| Some((message, answer.as_ref().err()?))).collect();
    if let Some((_, error)) = failed.first() {
        let failed = all - free.len() + failed.len();
        tracing::warn!(agent, %error, failed, "the queue did not take everything: the rest is due again later");
    }
    waits.extend(failed.iter().filter(|(_, error)| error.transient).map(|(message, _)| message.keys().group.clone()));
    free.len() - failed.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchyard_bus::{MemoryQueue, Queue};

    fn event(seq: i64, metadata: &str) -> Pending {
        Pending {
            seq,
            id: uuid::Uuid::from_u128(seq.unsigned_abs().into()),
            event_type: "a.b".into(),
            aggregate_type: "t".into(),
            aggregate_id: "t".into(),
            payload: Some("{}".into()),
            payload_bytes: 2,
            metadata: Some(metadata.into()),
            version: Some(1),
            created_at: None,
            project_id: None,
            revision: None,
            excess: None,
            seal_key: vec![7; 32],
        }
    }

    /// A queue that takes nothing of some groups for now.
    struct Busy(MemoryQueue, &'static str);

    impl Destination for Busy {
        async fn put(&self, messages: &[Message]) -> Vec<Result<(), BusError>> {
            let busy = || BusError { operation: "Send", detail: "busy".into(), transient: true, setup: false };
            let mut answers = Vec::new();
            for message in messages {
                let waits = message.body == self.1;
                answers.push(if waits {
                    Err(busy())
                } else {
                    self.0.send(std::slice::from_ref(message)).await.remove(0)
                });
            }
            answers
        }
    }

    #[tokio::test]
    async fn what_stands_behind_one_that_the_queue_did_not_take_waits_with_it_in_later_calls_too() {
        let of = |group: &str, body: &str| Message::new(body.into()).in_group(group, body);
        let (queue, mut waits) = (Busy(MemoryQueue::fifo(), "a1"), HashSet::new());
        let calls = [[of("a", "a1"), of("b", "b1")], [of("a", "a2"), of("b", "b2")], [of("a", "a3"), of("a", "a4")]];
        let mut taken = Vec::new();
        for call in calls {
            taken.push(send(&queue, "a", call.to_vec(), &mut waits).await);
        }
        assert_eq!(taken, [1, 1, 0]);
        assert_eq!(queue.0.messages().iter().map(|one| one.body.as_str()).collect::<Vec<_>>(), ["b1", "b2"]);
    }

    #[test]
    fn each_delivery_gets_a_message_of_its_own_with_its_run_and_epoch() {
        let due = [(1, 0, 2), (1, 7, 0), (2, 0, 0)].map(|(seq, run, epoch)| Due { seq, run, epoch, sends: 1 });
        let prepared = prepare(&due, &[event(1, "{}"), event(2, "{}")], Timestamp::UNIX_EPOCH);
        let delivery = |message: &Message| {
            let of = |name| message.attribute(name).map(str::to_owned);
            (of("run").unwrap_or_default(), of("epoch").unwrap_or_default())
        };
        let deliveries: Vec<_> = prepared.messages.iter().map(delivery).collect();
        assert_eq!(
            deliveries,
            [("0", "2"), ("7", "0"), ("0", "0")].map(|(run, epoch)| (run.to_owned(), epoch.to_owned()))
        );
    }

    #[test]
    fn an_unreadable_event_is_parked_and_a_deleted_one_is_counted_and_the_others_are_sent() {
        let due = [1, 2, 3].map(|seq| Due { seq, run: 0, epoch: 4, sends: 1 });
        let prepared = prepare(&due, &[event(1, "[]"), event(3, "{}")], Timestamp::UNIX_EPOCH);
        assert_eq!((prepared.messages.len(), prepared.gone), (1, 1));
        let [report] = prepared.unreadable.as_slice() else { panic!("one is unreadable") };
        assert_eq!((report.reason.as_str(), report.ask.epoch), ("unreadable", Some(4)));
    }
}
