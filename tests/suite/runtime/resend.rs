//! What the ledger says is due goes back into the agent's queue.

use super::world::{PLENTY, RuntimeWorld, again, delivered, orders, published};
use switchyard_bus::MemoryQueue;
use switchyard_event::Event;
use switchyard_runtime::resend::{Sent, send_due};
use switchyard_store::{Mode, Overdue, Selection};
use tokio::time::Instant;

/// Two deliveries that used up their attempts and that a person has sent back.
async fn redriven() -> RuntimeWorld {
    let world = RuntimeWorld::new(Mode::Full).await;
    let bodies = world.give(&orders([("apply", "work"), ("apply", "work")])).await;
    // What has not been published yet is the shim's to send, and not due.
    assert_eq!(published(&world.store).await.len(), 2);
    let refuse = "alter table done add constraint refuse check (false) not valid";
    world.client.batch_execute(refuse).await.unwrap();
    while !world.handle(&bodies, PLENTY).await.is_empty() {}
    world.client.batch_execute("alter table done drop constraint refuse").await.unwrap();
    let all = Selection::default();
    assert_eq!(world.store.redrive("obedient", &all, 0, "a person", "mended").await.unwrap().len(), 2);
    world
}

#[tokio::test]
async fn what_is_due_is_sent_once_and_done() {
    let world = redriven().await;
    let queue = MemoryQueue::default();

    let first = send_due(&world.store, &queue, "obedient", 100, Overdue::Now).await.unwrap();
    let second = send_due(&world.store, &queue, "obedient", 100, Overdue::Now).await.unwrap();

    assert_eq!((first, second), (Sent { sent: 2, failed: 0, parked: 0 }, Sent::default()));
    let messages = queue.messages();
    assert!(messages.iter().all(|message| message.attribute("epoch") == Some("1")));
    assert!(again(world.worker().handle(delivered(&messages), Instant::now() + PLENTY).await).is_empty());
    assert_eq!((world.states().await, world.count("done").await), ("dd".to_owned(), 2));
}

#[tokio::test]
async fn no_more_is_sent_than_was_asked_for() {
    let world = redriven().await;
    let queue = MemoryQueue::default();

    assert_eq!(send_due(&world.store, &queue, "obedient", 1, Overdue::Now).await.unwrap().sent, 1);
    assert_eq!(send_due(&world.store, &queue, "obedient", 1, Overdue::Now).await.unwrap().sent, 1);

    let ids: Vec<_> = queue.messages().iter().map(|message| Event::parse(&message.body).unwrap().id).collect();
    assert!(ids.len() == 2 && ids[0] != ids[1]);
}

#[tokio::test]
async fn an_unreadable_row_is_parked_and_the_other_is_sent() {
    let world = redriven().await;
    let queue = MemoryQueue::default();
    let spoil =
        "update events set metadata = '[]' where id = (select event_id from switchyard.event_log order by seq limit 1)";
    world.client.batch_execute(spoil).await.unwrap();

    let sent = send_due(&world.store, &queue, "obedient", 100, Overdue::Now).await.unwrap();

    assert_eq!(sent, Sent { sent: 1, failed: 0, parked: 1 });
    assert_eq!((world.states().await, queue.messages().len()), ("pa".to_owned(), 1));
    assert_eq!(world.count("switchyard.failure where reason = 'unreadable' and parked").await, 1);
}
