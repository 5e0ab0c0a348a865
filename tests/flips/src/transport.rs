//! What lies between the table and the agent: a publisher, and a queue that loses and doubles.

use crate::world::{Phase, World, nap};
use std::time::Duration;
use switchyard_bus::Queue;
use switchyard_runtime::envelope;
use switchyard_store::{Known, Page};

/// What is in the outbox goes into the queue: most of it once, some twice, some not at all.
pub(crate) async fn publish(world: &World) {
    let store = world.another_store();
    let mut chance = world.chance(2);
    while !world.is_over() {
        let pending = store.pending(&Known::default(), Page::of(200)).await.unwrap();
        for event in &pending {
            let message = envelope::message(event).unwrap();
            let fate = if world.phase() == Phase::Chaos { chance.u8(..100) } else { 100 };
            match fate {
                0..3 => world.count("messages lost", 1),
                3..6 => {
                    world.count("messages doubled", 1);
                    world.queue.send(&[message.clone(), message]).await;
                }
                _ => {
                    world.queue.send(&[message]).await;
                }
            }
        }
        if !pending.is_empty() {
            store.published(&pending.iter().map(|event| event.seq).collect::<Vec<_>>()).await.unwrap();
        }
        nap(Duration::from_millis(20)).await;
    }
}

/// The queue's time stands still unless a test lets it pass.
pub(crate) async fn let_time_pass(world: &World) {
    const STEP: Duration = Duration::from_millis(20);
    while !world.is_over() {
        nap(STEP).await;
        world.queue.pass(STEP);
    }
}
