//! An hour in which what an agent needs is down, in simulated time: the ledger, the agent's runtime and the steward are the real ones; queue,
//! mapping and clock are the test's.

use super::world::{AGENT, StewardWorld};
use std::{cell::Cell, time::Duration};
use switchyard_agent::{Agent, Decision, Refusal, Reject};
use switchyard_bus::{BusError, DeadLetter, MemoryQueue, Message as BusMessage, Queue, Queues, Received, Visibility};
use switchyard_event::{Event, EventType};
use switchyard_operations::breaker::BreakerState;
use switchyard_runtime::{Answer, Budget, Message, Tx, Worker, envelope};
use tokio::time::Instant;

/// How far the clock goes at a time.
const STEP: Duration = Duration::from_secs(5);
/// How often the schedule starts the steward, in steps.
const MINUTE: u32 = 12;
/// What the template sets for an agent's queue.
const VISIBILITY: Duration = Duration::from_secs(180);
const MAX_RECEIVES: u32 = 1_000;

/// An agent that needs something which is down, until it is not.
struct Painter {
    down: Cell<bool>,
    asked: Cell<u32>,
}

impl Agent for Painter {
    const NAME: &'static str = AGENT;
    const SUBSCRIBES: &'static [EventType] = &[];
    type Facts = ();
    type Effect = ();
    type Tx = Tx;

    async fn gather(&self, _: &Event) -> Result<(), Refusal> {
        self.asked.set(self.asked.get() + 1);
        if self.down.get() { Err(Refusal::Unavailable("the model is down".into())) } else { Ok(()) }
    }
    fn decide(_: &Event, (): &()) -> Result<Decision<()>, Reject> {
        Ok(Decision::nothing())
    }
}

/// The agent's side of its queues.
struct Own {
    queue: MemoryQueue,
    dead_letters: MemoryQueue,
}

impl Queues for Own {
    async fn set_visibility(&self, holds: &[Visibility]) -> usize {
        holds.iter().map(|hold| self.queue.set_visibility(std::slice::from_ref(&hold.receipt_handle), hold.delay)).sum()
    }
    async fn dead_letter(&self, dead_letters: &[DeadLetter]) -> Vec<Result<(), BusError>> {
        self.dead_letters.send(dead_letters).await
    }
}

/// What was seen while it ran.
#[derive(Debug, Default)]
struct Seen {
    most_receives: u32,
    steps_paused: u32,
    half_open: u32,
}

/// The whole system: the clock, the poller, two processes of the agent, and the steward's schedule.
struct Timeline<'a> {
    world: &'a StewardWorld,
    own: &'a Own,
    workers: [Worker<'a, Painter, Own>; 2],
    step: u32,
    seen: Seen,
}

impl Timeline<'_> {
    async fn goes_on_for(&mut self, steps: u32) {
        for _ in 0..steps {
            self.world.later(STEP).await;
            self.step += 1;
            if self.step.is_multiple_of(MINUTE) {
                let done = self.world.reconcile().await;
                assert_eq!(done.standing.troubles, Vec::<String>::new());
                self.seen.half_open += u32::from(done.standing.breaker.unwrap().state == BreakerState::HalfOpen);
            }
            if self.world.flows().await {
                self.poll().await;
            } else {
                self.seen.steps_paused += 1;
            }
        }
    }

    /// What the event source mapping does: batches of ten until the queue shows nothing more.
    async fn poll(&mut self) {
        for worker in (0..2).cycle() {
            let batch = self.own.queue.receive(10, VISIBILITY).await.unwrap();
            if batch.is_empty() {
                return;
            }
            self.seen.most_receives =
                batch.iter().map(|message| message.receives).fold(self.seen.most_receives, u32::max);
            let ends = Instant::now() + Duration::from_secs(30);
            let answers = Box::pin(self.workers[worker].handle(messages(&batch), ends)).await;
            let done = batch.into_iter().zip(answers).filter(|(_, answer)| *answer == Answer::Acknowledge);
            let done = done.map(|(message, _)| message);
            self.own.queue.delete(&done.map(|message| message.receipt_handle).collect::<Vec<_>>()).await;
        }
    }

    async fn publishes(&self, count: usize) {
        for id in self.world.lost(count).await {
            let seq = "select l.seq from switchyard.event_log l where l.event_id = $1";
            let seq: i64 = self.world.side.query_one(seq, &[&id]).await.unwrap().get(0);
            let body = envelope::message(&self.world.store.events(&[seq]).await.unwrap().remove(0)).unwrap().body;
            self.own.queue.send(&[BusMessage::new(body).number("run", 0)]).await;
        }
    }
}

#[tokio::test]
async fn an_hour_of_downtime_spends_no_attempt_fills_no_dead_letter_queue_and_drains_after() {
    let world = StewardWorld::new().await;
    world.store.set_grace(AGENT, 120_000).await.unwrap();
    let own = Own { queue: world.queue(), dead_letters: world.dead_letters() };
    let agent = Painter { down: Cell::new(false), asked: Cell::new(0) };
    let worker = || Worker::new(&agent, &world.store, &own, Budget::DEFAULT);
    let mut timeline =
        Timeline { world: &world, own: &own, workers: [worker(), worker()], step: 0, seen: Seen::default() };
    timeline.publishes(10).await;
    timeline.goes_on_for(MINUTE).await;
    assert_eq!((world.in_state("d").await, agent.asked.get()), (10, 10), "at first all is well");

    agent.down.set(true);
    for _ in 0..60 {
        timeline.publishes(1).await;
        timeline.goes_on_for(MINUTE).await;
    }

    println!("downtime: {:?}, asked {} times", timeline.seen, agent.asked.get());
    assert_eq!(own.queue.messages().len(), 60, "all of them wait in the queue, each once");
    assert!(own.dead_letters.messages().is_empty());
    assert_eq!(world.number("select count(*) from switchyard.failure").await, 0);
    assert_eq!(world.number("select coalesce(sum(attempts), 0) from switchyard.delivery").await, 0);
    assert!(timeline.seen.most_receives < MAX_RECEIVES / 20, "{:?}", timeline.seen);
    assert!(timeline.seen.steps_paused > 60 * MINUTE / 2, "it is paused for most of the hour: {:?}", timeline.seen);
    assert!((3..=12).contains(&timeline.seen.half_open), "and probed now and then: {:?}", timeline.seen);
    assert!(agent.asked.get() < 60, "what is down is asked seldom: {} times", agent.asked.get());

    agent.down.set(false);
    let mut minutes = 0;
    while world.in_state("d").await < 70 {
        timeline.goes_on_for(MINUTE).await;
        minutes += 1;
        assert!(minutes <= 35, "{} of 70 are done", world.in_state("d").await);
    }
    println!("drained after {minutes} minutes");
    assert!(own.dead_letters.messages().is_empty());
    assert!(timeline.seen.most_receives < MAX_RECEIVES / 20, "{:?}", timeline.seen);
    timeline.goes_on_for(40 * MINUTE).await;
    assert!(own.queue.messages().is_empty(), "and no copy is left");
    assert_eq!(world.number("select count(*) from switchyard.delivery where state <> 'd'").await, 0);
    let standing = world.reconcile().await.standing;
    assert_eq!((standing.breaker.unwrap().state, standing.flows), (BreakerState::Closed, Some(true)));
}

/// A batch as the queue delivers it.
fn messages(batch: &[Received]) -> Vec<Message> {
    let message = |received: &Received| Message {
        attributes: received.attributes.clone(),
        receives: received.receives,
        ..Message::new(&received.message_id, &received.receipt_handle, &received.body)
    };
    batch.iter().map(message).collect()
}
