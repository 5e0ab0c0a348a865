//! Sends events from the table to one agent's queue.

use crate::{Redriver, copies::Copies, dead_letter, scan, words};
use std::collections::BTreeSet;
use switchyard_bus::{AgentPlaces, AgentQueues, Destination, Directory, Keys, Message, Moves, Queue, Received};
use switchyard_operations::dead_letter::ParkedMessage;
use switchyard_operations::redrive::{Redrive, Redriven, Way};
use switchyard_runtime::resend::send_these;
use switchyard_store::{Ask, ClaimAnswer, Due, Verdict};
use tokio::time::Instant;
use uuid::Uuid;

/// How long the ledger defers these deliveries for this call. The steward sends what the call has not sent by then.
const DEFER_SECS: u32 = 60;
/// How many deliveries are read and requeued at once: they fit into memory, and are sent long before the deferral ends.
pub(crate) const AT_ONCE: i64 = 1_000;
/// A message that neither the table nor a queue has is lost. A message that comes back again and again may be in the agent's own queue, hidden for
/// a quarter of an hour at most, and SQS does not list hidden messages.
const LOST: &str = "what failed is in no table, and the dead-letter queue does not have it: what was moved back to the agent shortly before may \
                    be held back in its queue, and lies there again within 15 minutes; the rest is lost, and its rows stay among the failures";
/// How many events are read and sent at a time.
const AT_A_TIME: usize = 100;

/// The state of a redrive from the table.
#[derive(Default)]
pub(crate) struct Back {
    /// Copies of what goes back.
    pub(crate) copies: Option<Copies>,
    unsent: usize,
    /// Parked again, since they cannot be read.
    unreadable: usize,
}

impl<D: Directory, M: Moves, Q: Queue> Redriver<D, M, Q> {
    /// The selected deliveries, some at once: first the ledger, then their copies in the dead-letter queue, then their messages. If it stops anywhere,
    /// the steward sends the requeued deliveries when the deferral ends, and the rest is still parked.
    pub(crate) async fn by_table(
        &self,
        place: &AgentPlaces,
        order: &Redrive,
        ends: Instant,
    ) -> Result<Redriven, String> {
        let mut done = Redriven::nothing(order);
        let depth = Box::pin((self.open)(&place.dead_letter_url).depth()).await.map_err(|error| error.to_string())?;
        done.dead_letters = depth.visible;
        let groups = self.store.parked(&place.agent, &order.selection).await.map_err(words)?;
        let parked = self.store.parked_count(&place.agent, &order.selection).await.map_err(words)?;
        if parked == 0 && depth.is_empty() {
            done.trouble = (!groups.is_empty()).then(|| LOST.to_owned());
            return Ok(done);
        }
        if groups.is_empty() {
            return Ok(done);
        }
        done.way = Way::Table;
        if order.dry_run {
            (done.deliveries, done.groups) = (parked, groups);
            return Ok(done);
        }
        self.ordered(order, Way::Table, done.dead_letters).await?;
        done.defer_secs = DEFER_SECS;
        let mut back = Back { copies: Some(self.copies(place, ends).await?), ..Back::default() };
        // Unmatched messages first, while they are surely hidden: another reader would send them a second time, and no row would prevent it.
        self.forward_unmatched(place, order, &mut back, &mut done).await?;
        self.pages(place, order, &mut back, &mut done, ends).await?;
        switchyard_faults::point("redrive.after_send");
        self.finish(place, back, &mut done).await;
        Ok(done)
    }

    async fn pages(
        &self,
        place: &AgentPlaces,
        order: &Redrive,
        back: &mut Back,
        done: &mut Redriven,
        ends: Instant,
    ) -> Result<(), String> {
        let mut left = order.selection.at_most.unwrap_or(i64::MAX);
        // What is parked again meanwhile is before this position, and not read twice.
        let mut after = None;
        while left > 0 {
            if Instant::now() >= ends {
                done.troubled("the time was up before everything was redriven: do it again".to_owned());
                break;
            }
            let page = self
                .store
                .parked_deliveries(&place.agent, &order.selection, after, left.min(AT_ONCE))
                .await
                .map_err(words)?;
            let Some(last) = page.last() else { break };
            after = Some((last.seq, last.run));
            left -= count(page.len());
            let page: Vec<(Uuid, i32)> = page.iter().map(|one| (one.event_id, one.run)).collect();
            let redriven = self
                .store
                .redrive_these(&place.agent, &page, DEFER_SECS, &order.operator, &order.reason)
                .await
                .map_err(words)?;
            switchyard_faults::point("redrive.after_redrive");
            done.deliveries += count(redriven.len());
            self.send_back(place, order, &redriven, back, done, ends).await?;
        }
        Ok(())
    }

    /// The messages of the dead-letter queue, hidden from other readers for the moment.
    pub(crate) async fn copies(&self, place: &AgentPlaces, ends: Instant) -> Result<Copies, String> {
        let queue = (self.open)(&place.dead_letter_url);
        let scan = scan::receive(&queue, scan::MOST_RECEIVED, ends).await.map_err(|error| error.to_string())?;
        let dead_letters: Vec<ParkedMessage> = scan.dead_letters.iter().map(dead_letter::read).collect();
        let states = self.states(&place.agent, &dead_letters).await?;
        Ok(Copies::of(scan, dead_letters, &states))
    }

    /// For requeued deliveries: deletes their copies in the dead-letter queue, then sends them. In this order, since a copy that is there afterwards was
    /// parked again.
    pub(crate) async fn send_back(
        &self,
        place: &AgentPlaces,
        order: &Redrive,
        redriven: &[(Uuid, i32)],
        back: &mut Back,
        done: &mut Redriven,
        ends: Instant,
    ) -> Result<(), String> {
        if let Some(copies) = &mut back.copies {
            let redriven: BTreeSet<(Uuid, i32)> = redriven.iter().copied().collect();
            done.removed += copies.remove(&(self.open)(&place.dead_letter_url), &order.selection, &redriven).await;
        }
        let queue = AgentQueues::of(place, &self.open);
        for some in redriven.chunks(AT_A_TIME) {
            if Instant::now() >= ends {
                back.unsent += some.len();
                continue;
            }
            let asks: Vec<Ask> =
                some.iter().map(|(event_id, run)| Ask { event_id: *event_id, run: *run, epoch: None }).collect();
            let standings = self.store.preview(&place.agent, &asks).await.map_err(words)?.answers;
            let due: Vec<Due> = standings.iter().filter_map(due).collect();
            let sent = Box::pin(send_these(&self.store, &queue, &place.agent, &due)).await.map_err(words)?;
            done.sent += sent.sent;
            back.unsent += sent.failed;
            back.unreadable += sent.parked;
        }
        Ok(())
    }

    /// Sends unmatched dead letters to the agent's queue as they are. Then marks the rows in `failure` of those that arrived, then deletes the messages. If
    /// it stops in between, a message is sent twice, and no failure is marked that was not sent.
    async fn forward_unmatched(
        &self,
        place: &AgentPlaces,
        order: &Redrive,
        back: &mut Back,
        done: &mut Redriven,
    ) -> Result<(), String> {
        let Some(copies) = &mut back.copies else { return Ok(()) };
        let dead_letters = (self.open)(&place.dead_letter_url);
        let unmatched = copies.unmatched(&order.selection);
        for some in unmatched.chunks(AT_A_TIME) {
            let messages: Vec<&Received> = some.iter().map(|(received, _)| received).collect();
            let sent = forward(&(self.open)(&place.queue_url), &dead_letters, &messages).await;
            let arrived = |received: &Received| sent.iter().any(|sent| sent.receipt_handle == received.receipt_handle);
            let of: Vec<&ParkedMessage> =
                some.iter().filter(|(received, _)| arrived(received)).map(|(_, dead_letter)| dead_letter).collect();
            let events: Vec<Uuid> =
                of.iter().filter_map(|dead_letter| dead_letter.delivery.map(|(event, _)| event)).collect();
            let messages: Vec<String> = of.iter().filter_map(|dead_letter| dead_letter.message_id.clone()).collect();
            self.store.sent_back(&place.agent, &events, &messages, &order.operator).await.map_err(words)?;
            scan::delete(&dead_letters, &sent).await;
            done.sent += sent.len();
        }
        Ok(())
    }

    /// Releases the hidden messages and reports what is left.
    pub(crate) async fn finish(&self, place: &AgentPlaces, back: Back, done: &mut Redriven) {
        if back.unsent > 0 {
            let unsent = back.unsent;
            done.troubled(format!("{unsent} could not be sent now: the steward sends them within some minutes"));
        }
        if back.unreadable > 0 {
            let unreadable = back.unreadable;
            done.troubled(format!(
                "{unreadable} cannot be read by any agent and are parked again: see what is parked, and edit them"
            ));
        }
        if let Some(copies) = &back.copies
            && !copies.complete
            && count(done.removed) < done.deliveries
        {
            let seen = copies.seen;
            done.troubled(format!(
                "the dead-letter queue holds more than the {seen} messages that were read: copies may be left, which the steward removes"
            ));
        }
        self.put_back(place, back.copies).await;
    }

    /// Makes the hidden messages visible again.
    pub(crate) async fn put_back(&self, place: &AgentPlaces, copies: Option<Copies>) {
        if let Some(copies) = copies {
            copies.put_back(&(self.open)(&place.dead_letter_url)).await;
        }
    }
}

/// What to send for a delivery; nothing if it has ended meanwhile.
fn due(standing: &ClaimAnswer) -> Option<Due> {
    let seq = standing.seq.filter(|_| matches!(standing.verdict, Verdict::Take | Verdict::Shadow))?;
    Some(Due { seq, run: standing.run, epoch: standing.epoch, sends: 0 })
}

/// Sends messages to the agent's queue, and returns those that arrived, for the caller to delete; if the process dies before that, they are sent twice.
/// Releases the rest.
pub(crate) async fn forward<'a, Q: Queue>(
    queue: &impl Destination,
    from: &Q,
    dead_letters: &[&'a Received],
) -> Vec<&'a Received> {
    let mut arrived = Vec::new();
    for some in dead_letters.chunks(AT_A_TIME) {
        let messages: Vec<Message> = some.iter().map(|dead_letter| forwarded_message(dead_letter)).collect();
        let answers = Box::pin(queue.put(&messages)).await;
        let (sent, kept): (Vec<_>, Vec<_>) = some.iter().zip(&answers).partition(|(_, answer)| answer.is_ok());
        scan::put_back(from, kept.into_iter().map(|(dead_letter, _)| *dead_letter)).await;
        arrived.extend(sent.into_iter().map(|(dead_letter, _)| *dead_letter));
    }
    arrived
}

/// The body as it is, with the attributes that name the delivery for an agent's runtime, and the reason for ingest: a chain that was too long is not
/// stopped again. On FIFO each message has a deduplication id by its message id: the same message sent twice is a copy, and one that was parked again
/// meanwhile is another message.
fn forwarded_message(dead_letter: &Received) -> Message {
    let number = |name: &str| dead_letter.attributes.get(name).and_then(|value| value.parse().ok());
    let text = |name: &str| dead_letter.attributes.get(name).map(String::as_str).unwrap_or_default();
    let deduplication_id =
        dead_letter.keys.deduplication_id.as_ref().map(|_| Keys::id(&format!("{}.again", dead_letter.message_id)));
    let message = Message::new(dead_letter.body.clone())
        .keyed(Keys { deduplication_id, ..dead_letter.keys.clone() })
        .number("run", number("run").unwrap_or(0))
        .text("event_type", text("event_type"))
        .text("reason", text("reason"))
        .text("traceparent", text("traceparent"));
    // The priority selects the queue; a dead letter of an agent has none, and goes to the first queue.
    ["epoch", "priority"].into_iter().fold(message, |message, name| match number(name) {
        Some(value) => message.number(name, value),
        None => message,
    })
}

pub(crate) fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use switchyard_bus::MemoryQueue;

    #[tokio::test]
    async fn on_fifo_a_dead_letter_that_is_sent_twice_is_a_copy_and_one_that_was_parked_again_is_not() {
        let (dead_letters, queue) = (MemoryQueue::fifo(), MemoryQueue::fifo());
        let dead_letter = Message::new("{}".into()).in_group("e.parked.1", "e.parked.1");
        dead_letters.send(std::slice::from_ref(&dead_letter)).await;
        let received = dead_letters.receive(1, Duration::from_secs(30)).await.unwrap().remove(0);
        // The call that sent it died before it could delete it.
        for _ in 0..2 {
            assert_eq!(forward(&queue, &dead_letters, &[&received]).await.len(), 1);
        }
        assert_eq!(queue.messages().len(), 1);

        let parked_again = Received { message_id: "another".into(), ..received };
        assert_eq!(forward(&queue, &dead_letters, &[&parked_again]).await.len(), 1);
        assert_eq!(queue.messages().len(), 2, "within five minutes, and not dropped");
    }

    #[test]
    fn a_forwarded_message_keeps_its_delivery_and_its_reason_and_drops_its_attempts() {
        let attributes = [("run", "2"), ("epoch", "5"), ("reason", "too_many_hops"), ("attempts", "3")];
        let dead_letter = Received {
            attributes: attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            body: "{}".into(),
            message_id: "1".into(),
            receipt_handle: "1".into(),
            sent_at: None,
            keys: Keys::default(),
            receives: 1,
        };
        let message = forwarded_message(&dead_letter);
        let kept = ["run", "epoch", "reason", "attempts"].map(|name| message.attribute(name));
        assert_eq!(kept, [Some("2"), Some("5"), Some("too_many_hops"), None]);
    }
}
