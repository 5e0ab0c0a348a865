//! The agent: workers of the real runtime, which retry, reject, and are abandoned in the middle of whatever they do.

use crate::world::{AGENT, Phase, TYPE, World, nap};
use serde::{Deserialize, Serialize};
use std::{cell::RefCell, time::Duration};
use switchyard_agent::{Agent, Change, Decision, Refusal, Reject, Schedule};
use switchyard_bus::{MemoryQueues, Queue, Received};
use switchyard_event::{Event, EventType, NewEvent};
use switchyard_runtime::{Budget, Message, Tx, Type, Worker};
use switchyard_store::Store;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

/// How many batches are worked on at the same time.
const WORKERS: u64 = 3;
/// For how long a received message is hidden.
const HIDDEN: Duration = Duration::from_secs(30);
/// When the messages of a process that died come again: its visibility timeout, cut short.
const AFTER_A_DEATH: Duration = Duration::from_millis(300);

/// Writes one row for each event.
struct Mover<'a> {
    world: &'a World,
    chance: RefCell<fastrand::Rng>,
}

/// The row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Row {
    event_id: Uuid,
}

impl Agent for Mover<'_> {
    const NAME: &'static str = AGENT;
    const SUBSCRIBES: &'static [EventType] = &[EventType::named(TYPE)];
    const SCHEDULE: Schedule = Schedule { base_ms: 50, cap_ms: 400 };

    type Facts = ();
    type Effect = Row;
    type Tx = Tx;

    async fn gather(&self, _: &Event) -> Result<(), Refusal> {
        let (takes, fate) = {
            let mut chance = self.chance.borrow_mut();
            (Duration::from_millis(chance.u64(..40)), chance.u8(..100))
        };
        nap(takes).await;
        match fate {
            _ if self.world.phase() != Phase::Chaos => Ok(()),
            0..4 => Err(Refusal::retry("told to")),
            4 => Err(Reject::new("told_to", "by chance").into()),
            _ => Ok(()),
        }
    }

    fn decide(event: &Event, (): &()) -> Result<Decision<Row>, Reject> {
        Ok(Decision::nothing().effect(Row { event_id: event.id }))
    }

    async fn apply(change: Change<'_, Row>, tx: &mut Tx) -> Result<Vec<NewEvent>, Refusal> {
        tx.execute(
            "insert into public.effect (event_id, by) values ($1, 'new')",
            &[(&change.effect.event_id, Type::UUID)],
        )
        .await?;
        Ok(Vec::new())
    }
}

/// Works until everything is over.
pub(crate) async fn work(world: &World) {
    let store = world.another_store();
    let queues = MemoryQueues::default();
    let mover = Mover { world, chance: RefCell::new(world.chance(3)) };
    tokio::join!(
        worker(world, &mover, &store, &queues, 0),
        worker(world, &mover, &store, &queues, 1),
        worker(world, &mover, &store, &queues, WORKERS - 1),
    );
}

/// One process after the other.
async fn worker(world: &World, mover: &Mover<'_>, store: &Store, queues: &MemoryQueues, nth: u64) {
    let mut chance = world.chance(10 + nth);
    while !world.is_over() {
        let process = Worker::new(mover, store, queues, Budget::DEFAULT);
        while !world.is_over() {
            if !world.agent_works.get() {
                nap(Duration::from_millis(50)).await;
                continue;
            }
            let received = world.queue.receive(10, HIDDEN).await.unwrap();
            if received.is_empty() {
                nap(Duration::from_millis(10)).await;
                continue;
            }
            let handles: Vec<String> = received.iter().map(|one| one.receipt_handle.clone()).collect();
            let handling = Box::pin(process.handle(batch(&received), Instant::now() + Duration::from_secs(60)));
            let dies = world.phase() == Phase::Chaos && chance.u8(..100) < 6;
            let lives = if dies { Duration::from_millis(chance.u64(..60)) } else { Duration::from_secs(120) };
            let Ok(answers) = timeout(lives, handling).await else {
                world.count("processes of the agent that died", 1);
                world.queue.set_visibility(&handles, AFTER_A_DEATH);
                break;
            };
            let again: Vec<String> = handles
                .iter()
                .zip(answers)
                .filter(|(_, answer)| answer.is_redelivery())
                .map(|(handle, _)| handle.clone())
                .collect();
            world.queue.set_visibility(&again, Duration::from_millis(chance.u64(20..200)));
            let done: Vec<String> = handles.into_iter().filter(|handle| !again.contains(handle)).collect();
            world.queue.delete(&done).await;
        }
    }
}

/// Messages as the queue delivers them, each with its place for a name.
fn batch(received: &[Received]) -> Vec<Message> {
    let message = |(at, one): (usize, &Received)| Message {
        attributes: one.attributes.clone(),
        receives: one.receives,
        ..Message::new(at.to_string(), &one.receipt_handle, &one.body)
    };
    received.iter().enumerate().map(message).collect()
}
