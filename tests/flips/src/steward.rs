//! The steward: the real one, with the agent's queue in memory.

use crate::{
    clock::PASS,
    world::{AGENT, World, nap},
};
use std::time::Duration;
use steward::{Clients, Limits, Steward};
use switchyard_bus::{AgentPlaces, MemoryDirectory, MemoryMappings, MemoryQueue};
use tokio::time::Instant;

/// Passes until everything is over.
pub(crate) async fn pass(world: &World) {
    let place = |what: &str| format!("{AGENT}/{what}");
    let places = AgentPlaces {
        agent: AGENT.into(),
        queue_url: place("queue"),
        queue_arn: place("queue-arn"),
        dead_letter_url: place("letters"),
        dead_letter_arn: place("letters-arn"),
        subscription_dead_letter_url: None,
        function: place("function"),
        mapping: place("mapping"),
        express: None,
    };
    let (queue, letters, of_the_agent) = (world.queue.clone(), MemoryQueue::default(), places.queue_url.clone());
    let outside = Clients {
        mappings: MemoryMappings::of([places.mapping.as_str()]),
        directory: MemoryDirectory::of(vec![places]),
        queue: Box::new(move |url| if url == of_the_agent { queue.clone() } else { letters.clone() }),
    };
    let steward = Steward::new(world.another_store(), outside, Limits::DEFAULT);
    while !world.is_over() {
        let pass = steward.pass(Instant::now() + Duration::from_secs(60)).await.unwrap();
        world.count("passes of the steward", 1);
        for done in &pass.agents {
            world.count("deliveries sent again", u64::try_from(done.sent).unwrap_or(0));
            world.count("rows that a sweep has found missing", done.found.unsigned_abs());
        }
        nap(PASS).await;
    }
}
