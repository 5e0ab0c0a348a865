//! From the table to one agent's queue, and from nowhere else.

use crate::{
    Yard,
    answer::{Redriven, Way},
    letter::{Fate, Letter, fate},
    request::Redrive,
    scan, words,
};
use std::collections::BTreeSet;
use switchyard_bus::{AgentPlaces, Directory, Message, Moves, Queue, Received};
use switchyard_runtime::resend::send_these;
use switchyard_store::{Ask, Due, ParkedDelivery, Selection, Standing, Verdict};
use tokio::time::Instant;
use uuid::Uuid;

/// How long the ledger leaves the sending to this call. Whatever it does not send by then, the steward does.
const HOLD_SECS: u32 = 60;
/// How many letters one request looks through: for copies, or for what has stayed.
pub(crate) const LOOKED_THROUGH: usize = 1_000;
/// Nothing can bring back a message that neither the table nor the queue has.
const LOST: &str =
    "what failed is in no table, and the dead-letter queue has lost it: its rows stay among the failures";
/// How many events are read and sent at a time.
const AT_A_TIME: usize = 100;

impl<D: Directory, M: Moves, Q: Queue> Yard<D, M, Q> {
    /// The selected deliveries: the ledger, then the copies in the dead-letter queue, then the messages. Stopped anywhere, the rest is due
    /// when the hold is over, and the steward sends it.
    pub(crate) async fn by_table(
        &self,
        place: &AgentPlaces,
        order: &Redrive,
        ends: Instant,
    ) -> Result<Redriven, String> {
        let parked = self.store.parked_deliveries(&place.agent, &order.selection).await.map_err(words)?;
        let dead_letters = (self.open)(&place.dead_letter_url);
        let mut done = Redriven::nothing(order);
        let depth = Box::pin(dead_letters.depth()).await.map_err(|error| error.to_string())?;
        done.letters = depth.visible;
        let groups = self.store.parked(&place.agent, &order.selection).await.map_err(words)?;
        if parked.is_empty() && depth.is_empty() {
            done.trouble = (!groups.is_empty()).then(|| LOST.to_owned());
            return Ok(done);
        }
        if groups.is_empty() {
            return Ok(done);
        }
        done.way = Way::Table;
        if order.dry_run {
            done.deliveries = count(parked.len());
            done.groups = groups;
            return Ok(done);
        }
        let redriven = self.assign(&place.agent, &deliveries_only(&order.selection), HOLD_SECS, order).await?;
        switchyard_faults::point("redrive.after_redrive");
        let redriven: Vec<&ParkedDelivery> = parked.iter().filter(|one| redriven.contains(&one.seq)).collect();
        (done.deliveries, done.hold_secs) = (count(redriven.len()), HOLD_SECS);
        self.clear(place, &dead_letters, order, &redriven, &mut done, ends).await?;
        self.send(place, &redriven, &mut done, ends).await?;
        switchyard_faults::point("redrive.after_send");
        Ok(done)
    }

    /// Parked deliveries become the agent's turn: the step that counts. Their sequences.
    pub(crate) async fn assign(
        &self,
        agent: &str,
        selection: &Selection,
        hold_secs: u32,
        order: &Redrive,
    ) -> Result<BTreeSet<i64>, String> {
        let redriven = self.store.redrive(agent, selection, hold_secs, &order.operator, &order.reason).await;
        Ok(redriven.map_err(words)?.into_iter().collect())
    }

    /// Removes copies of what goes back from the dead-letter queue, before anything is sent: what lies there now was parked before. What no
    /// table can bring goes to the agent's queue as it is.
    async fn clear(
        &self,
        place: &AgentPlaces,
        dead_letters: &Q,
        order: &Redrive,
        redriven: &[&ParkedDelivery],
        done: &mut Redriven,
        ends: Instant,
    ) -> Result<(), String> {
        let scan = scan::receive(dead_letters, LOOKED_THROUGH, ends).await.map_err(|error| error.to_string())?;
        let letters: Vec<Letter> =
            scan.letters.iter().map(|letter| Letter::of(&letter.body, &letter.attributes)).collect();
        let states = self.states(&place.agent, &letters).await?;
        let back: BTreeSet<(Uuid, i32)> = redriven.iter().map(|one| (one.event_id, one.run)).collect();
        let (mut remove, mut forward, mut leave) = (Vec::new(), Vec::new(), Vec::new());
        for ((received, letter), state) in scan.letters.iter().zip(&letters).zip(&states) {
            match fate(letter, state.is_some(), &order.selection, &back) {
                Fate::Remove => remove.push(received),
                Fate::Forward => forward.push(received),
                Fate::Leave => leave.push(received),
            }
        }
        scan::put_back(dead_letters, leave).await;
        done.removed = scan::delete(dead_letters, &remove).await;
        let forwarded = forward_all(&(self.open)(&place.queue_url), dead_letters, &forward).await;
        done.sent += forwarded;
        if forwarded > 0 {
            // Their rows among the failures are marked only now: what was not found stays on the list.
            self.assign(&place.agent, &order.selection, HOLD_SECS, order).await?;
        }
        if !scan.complete && done.removed + forwarded < redriven.len() {
            done.trouble = Some(format!(
                "the dead-letter queue holds more than the {} letters looked through: copies may be left, which the steward removes",
                scan.letters.len()
            ));
        }
        Ok(())
    }

    /// The messages of deliveries that are still the agent's turn, with their epochs of now.
    async fn send(
        &self,
        place: &AgentPlaces,
        redriven: &[&ParkedDelivery],
        done: &mut Redriven,
        ends: Instant,
    ) -> Result<(), String> {
        let queue = (self.open)(&place.queue_url);
        let mut unsent = 0;
        for some in redriven.chunks(AT_A_TIME) {
            if Instant::now() >= ends {
                unsent += some.len();
                continue;
            }
            let asks: Vec<Ask> =
                some.iter().map(|one| Ask { event_id: one.event_id, run: one.run, epoch: None }).collect();
            let standings = self.store.look(&place.agent, &asks).await.map_err(words)?.standings;
            let due: Vec<Due> = standings.iter().filter_map(due).collect();
            let sent = Box::pin(send_these(&self.store, &queue, &place.agent, &due)).await.map_err(words)?;
            done.sent += sent.sent;
            unsent += sent.failed;
        }
        if unsent > 0 {
            done.trouble =
                Some(format!("{unsent} could not be sent now: the steward sends them after {HOLD_SECS} seconds"));
        }
        Ok(())
    }
}

/// What is to be sent for a delivery; nothing where somebody else has ended it meanwhile.
fn due(standing: &Standing) -> Option<Due> {
    let seq = standing.seq.filter(|_| matches!(standing.verdict, Verdict::Take | Verdict::Shadow))?;
    Some(Due { seq, run: standing.run, epoch: standing.epoch, sends: 0 })
}

/// To the agent's queue, then out of the dead-letter queue: what dies in between comes twice. How many arrived.
pub(crate) async fn forward_all<Q: Queue>(queue: &Q, from: &Q, letters: &[&Received]) -> usize {
    let mut forwarded = 0;
    for some in letters.chunks(AT_A_TIME) {
        let messages: Vec<Message> = some.iter().map(|letter| forwarded_message(letter)).collect();
        let answers = Box::pin(queue.send(&messages)).await;
        let (sent, kept): (Vec<_>, Vec<_>) = some.iter().zip(&answers).partition(|(_, answer)| answer.is_ok());
        let sent: Vec<&Received> = sent.into_iter().map(|(letter, _)| *letter).collect();
        scan::delete(from, &sent).await;
        scan::put_back(from, kept.into_iter().map(|(letter, _)| *letter)).await;
        forwarded += sent.len();
    }
    forwarded
}

/// The body as it is, with the attributes that tell an agent's runtime which delivery it is for.
fn forwarded_message(letter: &Received) -> Message {
    let number = |name: &str| letter.attributes.get(name).and_then(|value| value.parse().ok());
    let text = |name: &str| letter.attributes.get(name).map(String::as_str).unwrap_or_default();
    let message = Message::new(letter.body.clone())
        .number("run", number("run").unwrap_or(0))
        .text("event_type", text("event_type"))
        .text("traceparent", text("traceparent"));
    match number("epoch") {
        Some(epoch) => message.number("epoch", epoch),
        None => message,
    }
}

/// The selection without what only the dead-letter queue has: the store takes that along only where no number bounds the selection.
fn deliveries_only(selection: &Selection) -> Selection {
    Selection { at_most: Some(selection.at_most.unwrap_or(i64::MAX)), ..selection.clone() }
}

pub(crate) fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
