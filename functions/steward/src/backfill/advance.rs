//! What a pass does: every backfill that is running goes on, as far as there is time and live traffic leaves room.
//!
//! Each step is one short transaction that moves the backfill together with the rows that it writes. A steward that dies before it has changed nothing;
//! one that dies after it, before the messages are sent, leaves deliveries that are due when their lease ends. Two stewards at the same time wait for
//! each other at the row, so the lease on the pass is not needed here.

use super::decide::{Seen, Step, Why, decide, pause_after};
use futures_util::{StreamExt, stream};
use std::time::Duration;
use switchyard_bus::{AgentQueues, Queue};
use switchyard_operations::backfill::Backfilled;
use switchyard_runtime::resend;
use switchyard_store::{BackfillNow, BackfillPhase, BackfillState, Due, Store, StoreError};
use tokio::time::{Instant, sleep_until};

/// How many agents' backfills go on at the same time: they share two connections.
const AT_ONCE: usize = 4;
/// How long to wait before what may soon be otherwise is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// How an agent is reached.
pub(crate) struct Reach<Q> {
    /// Its queue: history is never urgent, whatever its priority was.
    pub(crate) queue: Q,
    /// The same queue, and its express queue where it has one: both keep its function busy.
    pub(crate) queues: AgentQueues<Q>,
    /// Whether messages flow to the function; none where the mapping could not be asked.
    pub(crate) flows: Option<bool>,
}

/// Every backfill that is running goes on until `until`, [`AT_ONCE`] of them; where there are more, others each time. `reach` tells how an agent is
/// reached; none for one that is not deployed.
pub(crate) async fn advance<Q: Queue>(
    store: &Store,
    mut running: Vec<BackfillNow>,
    reach: impl Fn(&str) -> Option<Reach<Q>>,
    until: Instant,
) -> Vec<Backfilled> {
    fastrand::shuffle(&mut running);
    let one = |now: BackfillNow| {
        let reach = reach(&now.agent);
        async move {
            Going {
                store,
                agent: &now.agent,
                reach,
                done: Backfilled { agent: now.agent.clone(), ..Backfilled::default() },
            }
            .advance(until)
            .await
        }
    };
    let mut all: Vec<Backfilled> = stream::iter(running).map(one).buffer_unordered(AT_ONCE).collect().await;
    all.sort_by(|one, other| one.agent.cmp(&other.agent));
    all
}

/// One backfill under way.
struct Going<'a, Q> {
    store: &'a Store,
    agent: &'a str,
    reach: Option<Reach<Q>>,
    done: Backfilled,
}

/// What follows a step.
enum Next {
    /// The next one, after so long.
    After(Duration),
    /// A look, whether there is something to do by then.
    LookAgain,
    /// Nothing more in this pass.
    Enough,
}

impl<Q: Queue> Going<'_, Q> {
    async fn advance(mut self, until: Instant) -> Backfilled {
        while Instant::now() < until {
            let pause = match self.step().await {
                Ok(Next::After(pause)) => pause,
                Ok(Next::LookAgain) => LOOK_AGAIN,
                Ok(Next::Enough) => break,
                Err(trouble) => {
                    self.done.trouble = Some(trouble);
                    break;
                }
            };
            sleep_until(until.min(Instant::now() + pause)).await;
        }
        self.tell().await;
        self.done
    }

    async fn step(&mut self) -> Result<Next, String> {
        let now = self.store.backfill_now(self.agent).await.map_err(|error| error.to_string())?;
        // Paused, cancelled or done meanwhile.
        let Some(now) = now else { return Ok(Next::Enough) };
        let seen = self.see(now.phase).await?;
        match decide(&now, seen) {
            Step::Prepare => self.prepare().await,
            Step::Take { at_most, unfinished } => self.take(at_most, unfinished, now.per_second).await,
            Step::End => self.take(0, 1, now.per_second).await,
            Step::Rest => {
                self.done.waits = None;
                Ok(Next::LookAgain)
            }
            Step::Wait(why) => {
                self.done.waits = Some(why.to_string());
                Ok(if why.passes_soon() { Next::LookAgain } else { Next::Enough })
            }
        }
    }

    /// The queue is asked only where something may be sent.
    async fn see(&self, phase: BackfillPhase) -> Result<Seen, String> {
        let Some(reach) = &self.reach else { return Ok(Seen { flows: None, in_queue: 0 }) };
        let in_queue = match phase {
            BackfillPhase::Sending => {
                let depth = reach.queues.depth().await.map_err(|error| format!("its queue: {error}"))?;
                depth.total()
            }
            _ => 0,
        };
        Ok(Seen { flows: reach.flows, in_queue })
    }

    async fn prepare(&mut self) -> Result<Next, String> {
        let Some(prepared) = unless_in_conflict(self.store.prepare_backfill(self.agent).await)? else {
            return Ok(Next::LookAgain);
        };
        self.done.prepared += 1;
        if prepared.further {
            self.done.waits = None;
            return Ok(Next::After(Duration::ZERO));
        }
        // The next pass ticks, and sees whether it has ended.
        self.done.waits = Some(Why::HeldBack.to_string());
        Ok(Next::Enough)
    }

    /// Takes and sends. With nothing to take it is only looked at whether all of it is finished.
    async fn take(&mut self, at_most: u32, unfinished: u32, per_second: u32) -> Result<Next, String> {
        let Some(taken) = unless_in_conflict(self.store.take_backfill(self.agent, at_most, unfinished).await)? else {
            return Ok(Next::LookAgain);
        };
        self.done.waits = None;
        self.done.taken += taken.due.len();
        self.send(&taken.due).await?;
        match taken.state {
            BackfillState::Running if taken.further => Ok(Next::After(pause_after(taken.due.len(), per_second))),
            BackfillState::Running if at_most == 0 => Ok(Next::LookAgain),
            BackfillState::Running => {
                self.done.waits = Some(Why::HeldBack.to_string());
                Ok(Next::Enough)
            }
            ended => {
                self.done.stands = Some(ended);
                Ok(Next::Enough)
            }
        }
    }

    async fn send(&mut self, due: &[Due]) -> Result<(), String> {
        let Some(reach) = &self.reach else { return Ok(()) };
        let sent = resend::send_these(self.store, &reach.queue, self.agent, due).await;
        let sent = sent.map_err(|error| format!("sending it: {error}"))?;
        self.done.sent += sent.sent;
        self.done.parked += sent.parked;
        if sent.failed > 0 {
            return Err(format!("{} of it could not be sent, and are due again", sent.failed));
        }
        Ok(())
    }

    /// Stores in the database why it waits.
    async fn tell(&mut self) {
        if let Err(error) = self.store.backfill_waits(self.agent, self.done.waits.as_deref()).await {
            self.done.trouble.get_or_insert_with(|| error.to_string());
        }
        let Backfilled { agent, prepared, taken, sent, parked, stands, waits, .. } = &self.done;
        tracing::info!(agent, prepared, taken, sent, parked, ?stands, waits, "backfilled");
    }
}

/// None where another one was at the same rows at the same moment: they are looked at again.
fn unless_in_conflict<T>(answer: Result<T, StoreError>) -> Result<Option<T>, String> {
    match answer {
        Err(error) if error.is_conflict() => Ok(None),
        other => other.map(Some).map_err(|error| error.to_string()),
    }
}
