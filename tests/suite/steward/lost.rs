//! What is lost is sent again; what is not is left alone.

use super::world::{AGENT, StewardWorld, soon};
use std::{collections::BTreeSet, time::Duration};
use steward::Limits;
use switchyard_bus::{MemoryQueue, Message, Queue};
use switchyard_event::Event;
use switchyard_operations::breaker::BreakerState;
use switchyard_store::{Ask, Since};
use uuid::Uuid;

#[tokio::test]
async fn a_lost_message_is_sent_from_the_table() {
    let world = StewardWorld::new().await;
    let lost = world.lost(30).await;

    let done = world.reconcile().await;

    assert_eq!((done.found, done.sent), (30, 30));
    let messages = world.queue().messages();
    assert_eq!(events(&messages), lost.into_iter().collect());
    assert!(messages.iter().all(|m| m.attribute("run") == Some("0") && m.attribute("epoch") == Some("0")));
    assert_eq!(messages[0].attribute("event_type"), Some("thing.made"));
    assert!(world.number("select count(*) from switchyard.audit where action = 'resent'").await >= 1);
}

#[tokio::test]
async fn a_queue_with_messages_receives_only_deliveries_due_for_an_hour() {
    let world = StewardWorld::new().await;
    let queue = world.queue();
    queue.send(&[Message::new("under way".into())]).await;
    world.lost(5).await;
    assert_eq!(world.reconcile().await.sent, 0, "waiting");

    let [received] = queue.receive(1, Duration::from_secs(7_200)).await.unwrap().try_into().unwrap();
    assert_eq!(world.reconcile().await.sent, 0, "being handled");

    world.later(Duration::from_secs(3_590)).await;
    assert_eq!(world.reconcile().await.sent, 0, "not yet an hour");
    world.later(Duration::from_secs(20)).await;
    assert_eq!(world.reconcile().await.sent, 5, "a queue that is never empty hides nothing for longer than an hour");

    assert!(queue.delete(&[received.receipt_handle]).await[0].is_ok());
}

#[tokio::test]
async fn what_an_outage_has_kept_waiting_is_not_sent_again_while_the_queue_drains() {
    let world = StewardWorld::new().await;
    world.lost(5).await;
    world.queue().send(&[Message::new("has waited".into())]).await;
    world.store.trip(AGENT, "down").await.unwrap();
    world.reconcile().await;
    world.later(Duration::from_secs(7_200)).await;
    let done = world.reconcile().await;
    assert_eq!((done.standing.breaker.unwrap().state, done.sent), (BreakerState::HalfOpen, 0));
    assert!(world.store.probe(AGENT).await.unwrap());
    world.store.recovered(AGENT).await.unwrap();

    assert_eq!(world.reconcile().await.sent, 0, "due by hours, and the queue holds what has waited");
    empty(&world.queue()).await;
    assert_eq!(world.reconcile().await.sent, 5, "what an empty queue lacks is lost");
}

#[tokio::test]
async fn sends_to_a_queue_that_is_never_empty_do_not_park_a_delivery() {
    let world = StewardWorld::new().await;
    world.lost(1).await;
    overdue(&world).await;
    world.queue().send(&[Message::new("always there".into())]).await;
    let mut sent = 0;
    for _ in 0..30 {
        world.later(Duration::from_secs(2 * 3_600 + 1_800)).await;
        sent += world.reconcile().await.sent;
    }
    assert!(sent >= 25, "{sent}");
    assert_eq!(world.in_state("p").await, 0);
}

#[tokio::test]
async fn a_pass_sends_no_more_than_it_may_and_the_next_ones_the_rest() {
    let world = StewardWorld::new().await;
    world.lost(25).await;
    overdue(&world).await;
    let steward = world.another(Limits { resends: 10, ..Limits::DEFAULT });
    let mut sent = Vec::new();
    for _ in 0..5 {
        sent.push(steward.pass(soon()).await.unwrap().agents[0].sent);
        empty(&world.queue()).await;
    }
    assert_eq!(sent, [10, 10, 5, 0, 0]);
}

#[tokio::test]
async fn an_unanswered_delivery_is_sent_ever_less_often_and_finally_parked() {
    let world = StewardWorld::new().await;
    world.lost(1).await;
    overdue(&world).await;
    let (mut sent, mut minutes, mut first_ten) = (0, 0, 0);
    while world.in_state("p").await == 0 {
        sent += world.reconcile().await.sent;
        empty(&world.queue()).await;
        world.later(Duration::from_secs(600)).await;
        minutes += 10;
        first_ten += usize::from(minutes == 100) * sent;
        assert!(minutes < 3_000, "it is parked in the end");
    }
    assert_eq!(sent, 20);
    assert!(first_ten < 10, "{first_ten} sends in the first hundred minutes, one each ten were due at a constant pace");
    let groups = world.store.parked(AGENT, &Default::default()).await.unwrap();
    assert_eq!((groups.len(), groups[0].reason.as_str(), groups[0].count), (1, "unanswered", 1));
}

#[tokio::test]
async fn all_queues_wiped_and_every_event_is_sent_again_but_what_is_settled() {
    let world = StewardWorld::new().await;
    let lost = world.lost(40).await;
    assert_eq!(world.reconcile().await.sent, 40);
    for event in &lost[..15] {
        settle(&world, *event).await;
    }

    empty(&world.queue()).await;
    world.later(Duration::from_secs(3_600)).await;
    let done = world.reconcile().await;

    assert_eq!(done.sent, 25);
    assert_eq!(events(&world.queue().messages()), lost[15..].iter().copied().collect());
}

#[tokio::test]
async fn a_late_subscriber_starts_where_it_subscribed_or_when_asked_at_the_beginning() {
    let world = StewardWorld::of(&["from-now", "from-the-beginning"]).await;
    let before = world.lost(12).await;
    world.register("from-now", Since::Now).await;
    world.register("from-the-beginning", Since::Beginning).await;
    let after = world.lost(3).await;

    let pass = world.pass().await;

    assert_eq!(pass.agents.iter().map(|done| done.sent).collect::<Vec<_>>(), [3, 15]);
    assert_eq!(events(&world.queues.named("from-now/queue").messages()), after.iter().copied().collect());
    let all: BTreeSet<Uuid> = before.into_iter().chain(after).collect();
    assert_eq!(events(&world.queues.named("from-the-beginning/queue").messages()), all);
}

#[tokio::test]
async fn a_failed_send_is_reported_and_due_again() {
    let world = StewardWorld::new().await;
    world.lost(3).await;
    world.queues.break_down("painter/queue");
    assert!(!world.reconcile().await.standing.troubles.is_empty());
    world.queues.mend("painter/queue");
    world.later(Duration::from_secs(60)).await;
    assert_eq!(world.reconcile().await.sent, 3);
}

/// What is lost by now was lost long ago, and what is sent counts as under way for a minute.
async fn overdue(world: &StewardWorld) {
    world.store.set_grace(AGENT, 60_000).await.unwrap();
    world.run("update switchyard.event_log set logged_at = logged_at - interval '1 hour'").await;
}

/// The events of messages.
fn events(messages: &[Message]) -> BTreeSet<Uuid> {
    messages.iter().map(|message| Event::parse(&message.body).unwrap().id).collect()
}

async fn empty(queue: &MemoryQueue) {
    loop {
        let handles: Vec<String> =
            queue.receive(10, Duration::from_secs(60)).await.unwrap().into_iter().map(|m| m.receipt_handle).collect();
        if handles.is_empty() {
            return;
        }
        queue.delete(&handles).await;
    }
}

async fn settle(world: &StewardWorld, event_id: Uuid) {
    let mut tx = world.store.begin().await.unwrap();
    tx.claim(AGENT, &[Ask { event_id, run: 0, epoch: None }]).await.unwrap();
    tx.commit().await.unwrap();
}
