//! From the table to one agent's queue, and from nowhere else.

use crate::{Redriver, copies::Copies, dead_letter, scan, words};
use std::collections::BTreeSet;
use switchyard_bus::{AgentPlaces, AgentQueues, Destination, Directory, Keys, Message, Moves, Queue, Received};
use switchyard_operations::dead_letter::ParkedMessage;
use switchyard_operations::redrive::{Redrive, Redriven, Way};
use switchyard_runtime::resend::send_these;
use switchyard_store::{Ask, ClaimAnswer, Due, Verdict};
use tokio::time::Instant;
use uuid::Uuid;

/// How long the ledger leaves the sending to this call. Whatever it does not send by then, the steward does.
const HOLD_SECS: u32 = 60;
/// How many deliveries are read and made the agent's turn at once: what a call holds in its memory, and what it sends well within the hold.
pub(crate) const AT_ONCE: i64 = 1_000;
/// Nothing can bring back a message that neither the table nor a queue has. The runtime holds back what is moved back again and again in the
/// agent's own queue, for a quarter of an hour at most, and which messages are there nobody can look up.
const LOST: &str = "what failed is in no table, and the dead-letter queue does not have it: what was moved back to the agent shortly before may \
                    be held back in its queue, and lies there again within 15 minutes; the rest is lost, and its rows stay among the failures";
/// How many events are read and sent at a time.
const AT_A_TIME: usize = 100;

/// What a redrive from the table holds and has met on its way.
#[derive(Default)]
pub(crate) struct Back {
    /// Copies of what goes back.
    pub(crate) copies: Option<Copies>,
    unsent: usize,
    /// Parked again, since nobody can read them.
    unreadable: usize,
}

impl<D: Directory, M: Moves, Q: Queue> Redriver<D, M, Q> {
    /// The selected deliveries, some at once: the ledger, then their copies in the dead-letter queue, then their messages. Stopped anywhere,
    /// what is the agent's turn is sent by the steward when the hold is over, and the rest is still parked.
    pub(crate) async fn by_table(
        &self,
        place: &AgentPlaces,
        order: &Redrive,
        ends: Instant,
    ) -> Result<Redriven, String> {
        let mut done = Redriven::nothing(order);
        let depth = Box::pin((self.open)(&place.dead_letter_url).depth()).await.map_err(|error| error.to_string())?;
        done.letters = depth.visible;
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
        self.ordered(order, Way::Table, done.letters).await?;
        done.defer_secs = HOLD_SECS;
        let mut back = Back { copies: Some(self.copies(place, ends).await?), ..Back::default() };
        // First what no table has, while it is surely held: once somebody else sees it, it goes twice, and no row would absorb that.
        self.forward_loose(place, order, &mut back, &mut done).await?;
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
        // What is parked again meanwhile is behind, and not met twice.
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
                .redrive_these(&place.agent, &page, HOLD_SECS, &order.operator, &order.reason)
                .await
                .map_err(words)?;
            switchyard_faults::point("redrive.after_redrive");
            done.deliveries += count(redriven.len());
            self.send_back(place, order, &redriven, back, done, ends).await?;
        }
        Ok(())
    }

    /// What the dead-letter queue shows, kept from others for the moment.
    pub(crate) async fn copies(&self, place: &AgentPlaces, ends: Instant) -> Result<Copies, String> {
        let queue = (self.open)(&place.dead_letter_url);
        let scan = scan::receive(&queue, scan::LOOKED_THROUGH, ends).await.map_err(|error| error.to_string())?;
        let letters: Vec<ParkedMessage> = scan.letters.iter().map(dead_letter::read).collect();
        let states = self.states(&place.agent, &letters).await?;
        Ok(Copies::of(scan, letters, &states))
    }

    /// Deliveries that are the agent's turn again: their copies leave the dead-letter queue, then they are sent. Copies go first: what lies
    /// there afterwards was parked anew.
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

    /// What no table can bring goes to the agent's queue as it is. Only of what arrived there, the rows among the failures are marked; then
    /// it leaves the dead-letter queue. What stops in between comes twice, and nothing is hidden that has not gone.
    async fn forward_loose(
        &self,
        place: &AgentPlaces,
        order: &Redrive,
        back: &mut Back,
        done: &mut Redriven,
    ) -> Result<(), String> {
        let Some(copies) = &mut back.copies else { return Ok(()) };
        let dead_letters = (self.open)(&place.dead_letter_url);
        let loose = copies.loose(&order.selection);
        for some in loose.chunks(AT_A_TIME) {
            let letters: Vec<&Received> = some.iter().map(|(received, _)| received).collect();
            let sent = forward(&(self.open)(&place.queue_url), &dead_letters, &letters).await;
            let arrived = |received: &Received| sent.iter().any(|sent| sent.receipt_handle == received.receipt_handle);
            let of: Vec<&ParkedMessage> =
                some.iter().filter(|(received, _)| arrived(received)).map(|(_, letter)| letter).collect();
            let events: Vec<Uuid> = of.iter().filter_map(|letter| letter.delivery.map(|(event, _)| event)).collect();
            let messages: Vec<String> = of.iter().filter_map(|letter| letter.message_id.clone()).collect();
            self.store.sent_back(&place.agent, &events, &messages, &order.operator).await.map_err(words)?;
            scan::delete(&dead_letters, &sent).await;
            done.sent += sent.len();
        }
        Ok(())
    }

    /// Puts back what was held and tells what is left.
    pub(crate) async fn finish(&self, place: &AgentPlaces, back: Back, done: &mut Redriven) {
        if back.unsent > 0 {
            let unsent = back.unsent;
            done.troubled(format!("{unsent} could not be sent now: the steward sends them within some minutes"));
        }
        if back.unreadable > 0 {
            let unreadable = back.unreadable;
            done.troubled(format!(
                "{unreadable} cannot be read by anybody and are parked again: see what is parked, and mend them"
            ));
        }
        if let Some(copies) = &back.copies
            && !copies.complete
            && count(done.removed) < done.deliveries
        {
            let seen = copies.seen;
            done.troubled(format!(
                "the dead-letter queue holds more than the {seen} letters looked through: copies may be left, which the steward removes"
            ));
        }
        self.put_back(place, back.copies).await;
    }

    /// Makes what is held visible again.
    pub(crate) async fn put_back(&self, place: &AgentPlaces, copies: Option<Copies>) {
        if let Some(copies) = copies {
            copies.put_back(&(self.open)(&place.dead_letter_url)).await;
        }
    }
}

/// What is to be sent for a delivery; nothing where somebody else has ended it meanwhile.
fn due(standing: &ClaimAnswer) -> Option<Due> {
    let seq = standing.seq.filter(|_| matches!(standing.verdict, Verdict::Take | Verdict::Shadow))?;
    Some(Due { seq, run: standing.run, epoch: standing.epoch, sends: 0 })
}

/// To the agent's queue: those that arrived, for the caller to delete; what dies before that comes twice. The rest is visible again.
pub(crate) async fn forward<'a, Q: Queue>(
    queue: &impl Destination,
    from: &Q,
    letters: &[&'a Received],
) -> Vec<&'a Received> {
    let mut arrived = Vec::new();
    for some in letters.chunks(AT_A_TIME) {
        let messages: Vec<Message> = some.iter().map(|letter| forwarded_message(letter)).collect();
        let answers = Box::pin(queue.put(&messages)).await;
        let (sent, kept): (Vec<_>, Vec<_>) = some.iter().zip(&answers).partition(|(_, answer)| answer.is_ok());
        scan::put_back(from, kept.into_iter().map(|(letter, _)| *letter)).await;
        arrived.extend(sent.into_iter().map(|(letter, _)| *letter));
    }
    arrived
}

/// The body as it is, with the attributes that tell an agent's runtime which delivery it is for, and the ingest what it was parked for: a
/// chain that was too long is not stopped again. On FIFO each letter goes under an id of its own: the same letter sent twice is a copy, and one
/// that was parked again meanwhile is another letter, whatever it is known by where it lies.
fn forwarded_message(letter: &Received) -> Message {
    let number = |name: &str| letter.attributes.get(name).and_then(|value| value.parse().ok());
    let text = |name: &str| letter.attributes.get(name).map(String::as_str).unwrap_or_default();
    let deduplication_id =
        letter.keys.deduplication_id.as_ref().map(|_| Keys::id(&format!("{}.again", letter.message_id)));
    let message = Message::new(letter.body.clone())
        .keyed(Keys { deduplication_id, ..letter.keys.clone() })
        .number("run", number("run").unwrap_or(0))
        .text("event_type", text("event_type"))
        .text("reason", text("reason"))
        .text("traceparent", text("traceparent"));
    // Its lane is told by the priority; a letter of an agent has none, and goes the usual way.
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
    async fn on_fifo_a_letter_that_goes_back_twice_is_a_copy_and_one_that_was_parked_again_is_none() {
        let (letters, queue) = (MemoryQueue::fifo(), MemoryQueue::fifo());
        let letter = Message::new("{}".into()).in_group("e.parked.1", "e.parked.1");
        letters.send(std::slice::from_ref(&letter)).await;
        let received = letters.receive(1, Duration::from_secs(30)).await.unwrap().remove(0);
        // The call that sent it died before it could delete it.
        for _ in 0..2 {
            assert_eq!(forward(&queue, &letters, &[&received]).await.len(), 1);
        }
        assert_eq!(queue.messages().len(), 1);

        let parked_again = Received { message_id: "another".into(), ..received };
        assert_eq!(forward(&queue, &letters, &[&parked_again]).await.len(), 1);
        assert_eq!(queue.messages().len(), 2, "within five minutes, and not dropped");
    }

    #[test]
    fn what_is_forwarded_says_which_delivery_it_is_for_and_why_it_was_parked_and_not_how_often() {
        let attributes = [("run", "2"), ("epoch", "5"), ("reason", "too_many_hops"), ("attempts", "3")];
        let letter = Received {
            attributes: attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            body: "{}".into(),
            message_id: "1".into(),
            receipt_handle: "1".into(),
            sent_at: None,
            keys: Keys::default(),
            receives: 1,
        };
        let message = forwarded_message(&letter);
        let kept = ["run", "epoch", "reason", "attempts"].map(|name| message.attribute(name));
        assert_eq!(kept, [Some("2"), Some("5"), Some("too_many_hops"), None]);
    }
}
