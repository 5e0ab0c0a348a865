//! The steward of an agent with two lanes.

use crate::steward::world::{AGENT, StewardWorld};
use std::time::Duration;
use switchyard_bus::{Mappings, MemoryQueue, Message, Queue};
use switchyard_operations::status::PausedBy;
use uuid::Uuid;

impl StewardWorld {
    fn express(&self) -> MemoryQueue {
        self.queues.named("painter/express")
    }

    /// Whether messages flow from the usual queue, and from the express one.
    async fn both_flow(&self) -> (bool, bool) {
        let express = self.mappings.enabled("painter/express-mapping").await.unwrap();
        (self.flows().await, express.wanted)
    }

    /// Events of these priorities that were published, and whose messages are nowhere.
    async fn lost_of(&self, priorities: &[i32]) {
        for priority in priorities {
            let insert = "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
                          values ($1, 'thing.made', 'thing', $1, '{}', jsonb_build_object('priority', $2::int), 1)";
            self.side.execute(insert, &[&Uuid::new_v4(), priority]).await.unwrap();
        }
        self.run("delete from switchyard.outbox").await;
    }
}

fn priorities(queue: &MemoryQueue) -> Vec<String> {
    queue.messages().iter().filter_map(|message| message.attribute("priority").map(str::to_owned)).collect()
}

#[tokio::test]
async fn a_lost_message_goes_back_to_the_queue_of_its_priority() {
    let world = StewardWorld::with_express_queue().await;
    world.lost_of(&[5, 8, 7, 10]).await;
    assert_eq!(world.reconcile().await.sent, 4);
    assert_eq!(
        (priorities(&world.queue()), priorities(&world.express())),
        (vec!["5".to_owned(), "7".into()], vec!["8".to_owned(), "10".into()])
    );
}

#[tokio::test]
async fn an_undelivered_message_goes_to_the_queue_of_its_priority() {
    let world = StewardWorld::with_express_queue().await;
    let of = |priority| Message::new(format!("{{\"of\":{priority}}}")).number("priority", priority);
    let undelivered = world.queues.named("painter/undelivered");
    undelivered.send(&[of(9), of(2)]).await;
    world.reconcile().await;
    assert_eq!((world.queue().messages(), world.express().messages()).0[0].body, "{\"of\":2}");
    assert_eq!(world.express().messages()[0].body, "{\"of\":9}");
    assert!(undelivered.messages().is_empty());
}

#[tokio::test]
async fn nothing_is_sent_again_while_either_queue_has_messages() {
    let world = StewardWorld::with_express_queue().await;
    world.lost_of(&[5]).await;
    world.express().send(&[Message::new("waits".into())]).await;
    let done = world.reconcile().await;
    assert_eq!((done.sent, done.standing.queue.map(|queue| queue.total())), (0, Some(1)));
}

#[tokio::test]
async fn a_breaker_pauses_both_mappings_and_a_probe_resumes_both() {
    let world = StewardWorld::with_express_queue().await;
    world.lost_of(&[5]).await;
    world.store.trip(AGENT, "the model is down").await.unwrap();
    assert_eq!(world.reconcile().await.standing.paused_by, Some(PausedBy::Steward));
    assert_eq!(world.both_flow().await, (false, false));

    world.later(Duration::from_secs(31)).await;
    assert_eq!(world.reconcile().await.standing.flows, Some(true));
    assert_eq!(world.both_flow().await, (true, true));
}

#[tokio::test]
async fn a_mapping_that_an_operator_turned_off_stays_off_and_the_other_stays_on() {
    let world = StewardWorld::with_express_queue().await;
    world.lost_of(&[5]).await;
    world.mappings.set_enabled("painter/express-mapping", false).await.unwrap();
    for _ in 0..3 {
        let done = world.reconcile().await;
        assert_eq!((done.sent, done.standing.paused_by), (0, Some(PausedBy::Operator)));
    }
    world.store.trip(AGENT, "down").await.unwrap();
    world.reconcile().await;
    assert_eq!(world.both_flow().await, (false, false), "an open breaker pauses the other one all the same");

    world.later(Duration::from_secs(31)).await;
    let done = world.reconcile().await;
    assert_eq!(world.both_flow().await, (true, false));
    assert_eq!((done.sent, done.standing.paused_by), (0, Some(PausedBy::Operator)));
}

#[tokio::test]
async fn a_pause_interrupted_after_the_first_mapping_is_completed_by_the_next_pass() {
    let world = StewardWorld::with_express_queue().await;
    world.store.trip(AGENT, "down").await.unwrap();
    world.store.set_paused(AGENT, &["painter/mapping", "painter/express-mapping"], true).await.unwrap();
    world.mappings.set_enabled("painter/mapping", false).await.unwrap();
    world.reconcile().await;
    assert_eq!(world.both_flow().await, (false, false));
}
