//! Back to the agent: which way, and everything by a move task.

use crate::{Redriver, dead_letter, moves, scan, table::count, words};
use std::time::Duration;
use switchyard_bus::{AgentPlaces, Directory, Kind, Move, MoveStatus, Moves, Queue};
use switchyard_operations::dead_letter::ParkedMessage;
use switchyard_operations::redrive::{Moving, Progress, Redrive, Redriven, Way};
use switchyard_store::{Ask, ParkReport, Selection, State};
use tokio::time::Instant;

/// How long a cancelled task is waited for, and how often it is asked.
const ENDS_WITHIN: Duration = Duration::from_secs(15);
const ASK_AGAIN: Duration = Duration::from_millis(250);

impl<D: Directory, M: Moves, Q: Queue> Redriver<D, M, Q> {
    /// Chooses how to send, and sends.
    pub(crate) async fn redrive(&self, order: &Redrive, ends: Instant) -> Result<Redriven, String> {
        let place = self.place(&order.agent).await?;
        moves::speed(Kind::of(&place.queue_url), order.per_second)?;
        if order.subscription {
            self.undelivered(&place, order, ends).await
        } else if order.selection.is_everything() {
            self.everything(&place, order, ends).await
        } else {
            self.by_table(&place, order, ends).await
        }
    }

    /// By a move task if the dead-letter queue has messages, otherwise from the table. On FIFO always from the table: a move task keeps the group of each
    /// dead letter, and the events must be in order with the others of their aggregate.
    async fn everything(&self, place: &AgentPlaces, order: &Redrive, ends: Instant) -> Result<Redriven, String> {
        let mut done = Redriven::nothing(order);
        let dead_letters = (self.open)(&place.dead_letter_url);
        let depth = Box::pin(dead_letters.depth()).await.map_err(|error| error.to_string())?;
        done.dead_letters = depth.visible;
        if let Some(task) = moves::running(&self.tasks(place).await?) {
            done.way = Way::AlreadyMoving;
            done.moving = Some(moves::answer(task));
            return Ok(done);
        }
        if depth.is_empty() || Kind::of(&place.queue_url).is_fifo() {
            return self.by_table(place, order, ends).await;
        }
        done.way = Way::Move;
        done.defer_secs = moves::defer_secs(depth.visible + depth.in_flight, order.per_second);
        if order.dry_run {
            done.deliveries = self.store.parked_count(&place.agent, &order.selection).await.map_err(words)?;
            done.groups = self.store.parked(&place.agent, &order.selection).await.map_err(words)?;
            return Ok(done);
        }
        self.ordered(order, Way::Move, done.dead_letters).await?;
        let (operator, reason) = (&order.operator, &order.reason);
        let (agent, defer_secs) = (&place.agent, done.defer_secs);
        let redriven = self.store.redrive_until(agent, &order.selection, defer_secs, operator, reason, ends).await;
        let redriven = redriven.map_err(words)?;
        done.deliveries = count(redriven.seqs.len());
        switchyard_faults::point("redrive.after_redrive");
        if !redriven.complete {
            // A move would also bring messages whose deliveries are still parked, and the agent would dead-letter them again.
            done.troubled(format!(
                "the time was up before everything was requeued, and no move task was started: do it again; the {} requeued deliveries \
                 are sent from the table after {defer_secs} seconds",
                done.deliveries
            ));
            return Ok(done);
        }
        let asked_at = Instant::now();
        let started = Box::pin(self.moves.start(&place.dead_letter_arn, &place.queue_arn, order.per_second)).await;
        switchyard_faults::point("redrive.after_send");
        let tasks = self.tasks(place).await?;
        done.moving = moves::latest(&tasks).map(moves::answer);
        match started {
            Ok(_) => {
                self.noted(order, "move_started", &done).await;
                // The running move brings what only the queue had. What was parked since then stays on the list.
                let marked = self.store.everything_sent_back(&place.agent, asked_at.elapsed(), operator).await;
                if let Err(error) = marked {
                    done.troubled(format!("what has no delivery is moved, and stays on the list: {}", words(error)));
                }
            }
            // Another caller has started a task, which moves the dead letters.
            Err(_) if moves::running(&tasks).is_some() => done.way = Way::AlreadyMoving,
            Err(error) => {
                self.noted(order, "move_refused", &done).await;
                let defer_secs = done.defer_secs;
                done.troubled(format!(
                    "the move task could not be started ({error}): the requeued deliveries are sent from the table after {defer_secs} \
                     seconds; for the rest, do it again"
                ));
            }
        }
        Ok(done)
    }

    /// The state of the move task and of the ledger.
    pub(crate) async fn progress(&self, agent: &str) -> Result<Progress, String> {
        let place = self.place(agent).await?;
        let tasks = self.tasks(&place).await?;
        self.standing(&place, moves::latest(&tasks).map(moves::answer)).await
    }

    /// Cancels the running move task, and parks the deliveries whose dead letters have stayed, since otherwise they would be sent from the table when
    /// their deferral ends. A task that is being cancelled or was cancelled is handled in the same way, so an interrupted call can be repeated.
    pub(crate) async fn cancel(&self, agent: &str, operator: &str, ends: Instant) -> Result<Progress, String> {
        let place = self.place(agent).await?;
        let tasks = self.tasks(&place).await?;
        let Some(task) = moves::to_cancel(&tasks) else {
            return Err(format!("no move task of {agent} is running: there is nothing to cancel"));
        };
        // Before the cancellation: if the row cannot be written, nothing is done.
        self.store.note(operator, "move_cancel_ordered", Some(agent), "{}").await.map_err(words)?;
        if let (MoveStatus::Running, Some(handle)) = (task.status, &task.handle) {
            Box::pin(self.moves.cancel(handle)).await.map_err(|error| error.to_string())?;
            if let Err(error) = self.store.note(operator, "move_cancelled", Some(agent), "{}").await {
                tracing::error!(agent, operator, %error, "a move task was cancelled, and the audit has only the order");
            }
        }
        let tasks = self.ended(&place, ends).await?;
        let complete = self.park_what_stayed(&place, ends).await?;
        let mut progress = self.standing(&place, moves::latest(&tasks).map(moves::answer)).await?;
        let ending = moves::running(&tasks).map(|_| format!("the move task of {agent} has not ended yet: do it again"));
        progress.trouble = ending.or_else(|| {
            (!complete).then(|| {
                "not every remaining dead letter could be read: do it again; deliveries that are not parked are sent from the table, an hour \
                 later at most"
                    .to_owned()
            })
        });
        Ok(progress)
    }

    /// The tasks, once none of them moves anything any more: an agent drops a message that is moved after its delivery was parked again. Waits for at
    /// most [`ENDS_WITHIN`].
    async fn ended(&self, place: &AgentPlaces, ends: Instant) -> Result<Vec<Move>, String> {
        let ends = ends.min(Instant::now() + ENDS_WITHIN);
        loop {
            let tasks = self.tasks(place).await?;
            if moves::running(&tasks).is_none() || Instant::now() >= ends {
                return Ok(tasks);
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Parks the deliveries of the remaining dead letters. Returns whether it has read all of them.
    async fn park_what_stayed(&self, place: &AgentPlaces, ends: Instant) -> Result<bool, String> {
        let queue = (self.open)(&place.dead_letter_url);
        // Half of the time, since the messages must be released in as many calls.
        let now = Instant::now();
        let reading_ends = now + ends.saturating_duration_since(now) / 2;
        let mut held = Vec::new();
        let complete = self.park_while_held(place, &queue, &mut held, reading_ends).await;
        scan::release(&queue, &held).await;
        complete
    }

    /// Receives until the queue shows nothing more. Received messages stay hidden meanwhile, so that none is received twice.
    async fn park_while_held(
        &self,
        place: &AgentPlaces,
        queue: &Q,
        held: &mut Vec<String>,
        ends: Instant,
    ) -> Result<bool, String> {
        loop {
            let seen = scan::receive(queue, scan::MOST_RECEIVED, ends).await.map_err(|error| error.to_string())?;
            // Those that were received before are in flight, too.
            let hidden = seen.hidden.saturating_sub(held.len() as u64);
            held.extend(seen.dead_letters.iter().map(|dead_letter| dead_letter.receipt_handle.clone()));
            let dead_letters: Vec<ParkedMessage> = seen.dead_letters.iter().map(dead_letter::read).collect();
            let states = self.states(&place.agent, &dead_letters).await?;
            self.store.park(&place.agent, &stayed(dead_letters, &states)).await.map_err(words)?;
            if seen.exhausted || Instant::now() >= ends {
                return Ok(seen.exhausted && hidden == 0);
            }
        }
    }

    async fn standing(&self, place: &AgentPlaces, moving: Option<Moving>) -> Result<Progress, String> {
        let depth = Box::pin((self.open)(&place.dead_letter_url).depth()).await.map_err(|error| error.to_string())?;
        let (mut under_way, mut parked) = (0, 0);
        if self.has_ledger(&place.agent).await? {
            let ledger = self.store.ledger(&place.agent).await.map_err(words)?;
            (under_way, parked) = (ledger.assigned + ledger.failing, ledger.parked);
        }
        Ok(Progress {
            agent: place.agent.clone(),
            moving,
            dead_letters: depth.visible,
            under_way,
            parked,
            trouble: None,
        })
    }

    async fn tasks(&self, place: &AgentPlaces) -> Result<Vec<Move>, String> {
        Box::pin(self.moves.list(&place.dead_letter_arn)).await.map_err(|error| error.to_string())
    }

    /// Writes an audit row before anything is done: if it cannot be written, nothing is done.
    pub(crate) async fn ordered(&self, order: &Redrive, way: Way, dead_letters: u64) -> Result<(), String> {
        let detail = serde_json::json!({
            "way": way, "dead_letters": dead_letters, "per_second": order.per_second, "reason": order.reason, "selection": audited(&order.selection),
        });
        let noted = self.store.note(&order.operator, "redrive_ordered", Some(&order.agent), &detail.to_string()).await;
        noted.map_err(words)
    }

    /// Writes an audit row for what was done outside the database. If it cannot be written, that is only logged.
    pub(crate) async fn noted(&self, order: &Redrive, action: &str, done: &Redriven) {
        let detail = serde_json::json!({ "dead_letters": done.dead_letters, "sent": done.sent, "per_second": order.per_second, "reason": order.reason });
        if let Err(error) = self.store.note(&order.operator, action, Some(&order.agent), &detail.to_string()).await {
            tracing::error!(agent = order.agent, operator = order.operator, action, %error, "done, and not in the audit");
        }
    }
}

/// Of what has stayed in the dead-letter queue: the deliveries that are to be parked again.
fn stayed(dead_letters: Vec<ParkedMessage>, states: &[Option<State>]) -> Vec<ParkReport> {
    dead_letters
        .into_iter()
        .zip(states)
        .filter(|(_, state)| **state == Some(State::Assigned))
        .filter_map(|(dead_letter, _)| {
            let (event_id, run) = dead_letter.delivery?;
            let ask = Ask { event_id, run, epoch: None };
            Some(ParkReport {
                ask,
                reason: dead_letter.reason().to_owned(),
                error: "its redrive was cancelled".to_owned(),
            })
        })
        .collect()
}

/// A selection as the audit keeps it: of events, their number.
fn audited(selection: &Selection) -> serde_json::Value {
    let mut detail = serde_json::json!(selection);
    if let Some(events) = detail.get_mut("events") {
        *events = selection.events.len().into();
    }
    detail
}
