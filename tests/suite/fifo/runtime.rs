//! A batch from a queue of FIFO through the runtime's layers: who holds back whom.

use crate::runtime::world::{PLENTY, RuntimeWorld, again, orders};
use std::{collections::BTreeSet, time::Duration};
use switchyard_bus::{Keys, MemoryQueues};
use switchyard_runtime::Message;
use switchyard_store::{Mode, Selection};
use tokio::time::Instant;

/// A world whose dead-letter queue is of FIFO, too.
async fn world() -> RuntimeWorld {
    RuntimeWorld { queues: MemoryQueues::fifo(), ..RuntimeWorld::new(Mode::Full).await }
}

/// What a queue of FIFO delivers: each body with its group and how often it was received.
fn batch(records: &[(&String, &str, u32)]) -> Vec<Message> {
    let message = |(at, (body, group, receives)): (usize, &(&String, &str, u32))| {
        let (group, receives) = (Some((*group).to_owned()), *receives);
        Message { group, receives, ..Message::new(at.to_string(), at.to_string(), *body) }
    };
    records.iter().enumerate().map(message).collect()
}

/// Each body in the group at its place, received for the first time.
fn in_groups(bodies: &[String], groups: &str) -> Vec<Message> {
    let groups: Vec<String> = groups.chars().map(String::from).collect();
    batch(&bodies.iter().zip(&groups).map(|(body, group)| (body, group.as_str(), 1)).collect::<Vec<_>>())
}

impl RuntimeWorld {
    /// The places of the records that must come again.
    async fn handle_in_groups(&self, bodies: &[String], groups: &str) -> Vec<usize> {
        again(self.worker().handle(in_groups(bodies, groups), Instant::now() + PLENTY).await)
    }
}

#[tokio::test]
async fn a_record_that_failed_holds_back_the_later_ones_of_its_group_for_as_long_as_itself_and_no_other_group() {
    let world = world().await;
    let work = ("apply", "work");
    let bodies = world.give(&orders([("gather", "retry"), work, work, work, work])).await;

    assert_eq!(world.handle_in_groups(&bodies, "abaab").await, [0, 2, 3]);

    // In the order of the log: failing, done, and those behind it not even tried.
    assert_eq!(world.states().await, "fdaad");
    assert_eq!(world.agent.gathered.get(), 3);
    assert_eq!(world.count("switchyard.delivery where attempts > 0").await, 1, "they cost no attempt");
    let held = world.queues.visibilities();
    let handles: BTreeSet<&str> = held.iter().map(|hold| hold.receipt_handle.as_str()).collect();
    assert_eq!(handles, BTreeSet::from(["0", "2", "3"]));
    assert_eq!(held.iter().map(|hold| hold.delay).collect::<BTreeSet<Duration>>().len(), 1, "they come together");
}

#[tokio::test]
async fn one_that_is_refused_at_the_commit_holds_back_its_group_as_well() {
    let world = world().await;
    let work = ("apply", "work");
    let bodies = world.give(&orders([work, ("apply", "retry"), work, ("apply", "panic"), work])).await;
    assert_eq!(world.handle_in_groups(&bodies, "aaabb").await, [1, 2, 3, 4]);
    assert_eq!((world.states().await, world.count("done").await), ("dfafa".to_owned(), 1));
}

#[tokio::test]
async fn a_parked_record_delays_no_other() {
    let world = world().await;
    let mut bodies = world.give(&orders([("gather", "reject"), ("apply", "work"), ("apply", "work")])).await;
    bodies.insert(1, "{ no event".into());
    assert!(world.handle_in_groups(&bodies, "aaab").await.is_empty());
    assert_eq!(world.states().await, "pdd");
    assert_eq!(
        world.reasons().into_iter().collect::<BTreeSet<_>>(),
        BTreeSet::from(["malformed".into(), "told_to".into()])
    );
}

#[tokio::test]
async fn the_last_attempt_lets_its_group_go_on_in_the_same_batch() {
    let world = world().await;
    let bodies = world.give(&orders([("gather", "retry"), ("apply", "work")])).await;
    assert_eq!(world.handle_in_groups(&bodies, "aa").await, [0, 1]);
    assert!(world.handle_in_groups(&bodies, "aa").await.is_empty());
    assert_eq!((world.states().await, world.reasons()), ("pd".to_owned(), vec!["attempts_used_up".to_owned()]));
}

#[tokio::test]
async fn a_record_that_is_never_answered_is_parked_and_its_group_goes_on() {
    let world = world().await;
    let bodies = world.give(&orders([("gather", "hang"), ("apply", "work")])).await;
    let mut given_back = 0;
    while world.reasons().is_empty() && given_back < 40 {
        let event = in_groups(&bodies, "aa");
        world.worker().handle(event, Instant::now() + Duration::from_millis(10_600)).await;
        given_back += i32::from(world.count("switchyard.failure").await == 0);
    }
    assert_eq!(world.reasons(), ["attempts_used_up"]);
    assert!(given_back >= 8, "what is down for some minutes only costs no attempt: {given_back}");

    assert!(world.handle_in_groups(&bodies, "aa").await.is_empty());
    assert_eq!((world.states().await, world.count("done").await), ("pd".to_owned(), 1));
}

#[tokio::test]
async fn one_that_is_not_answered_behind_one_that_was_has_had_an_attempt() {
    let world = world().await;
    let bodies = world.give(&orders([("apply", "work"), ("gather", "hang")])).await;
    let event = in_groups(&bodies, "aa");
    assert_eq!(again(world.worker().handle(event, Instant::now() + Duration::from_secs(14)).await), [1]);
    assert_eq!(world.states().await, "df");
}

#[tokio::test]
async fn while_what_the_agent_needs_is_down_a_group_comes_again_as_a_whole_and_costs_nothing() {
    let world = world().await;
    world.agent.model_is_down.set(true);
    let bodies = world.give(&orders([("apply", "work"); 4])).await;
    assert_eq!(world.handle_in_groups(&bodies, "aaab").await, [0, 1, 2, 3]);
    assert_eq!((world.agent.gathered.get(), world.count("switchyard.delivery where attempts > 0").await), (2, 0));

    world.agent.model_is_down.set(false);
    assert!(world.handle_in_groups(&bodies, "aaab").await.is_empty());
    assert_eq!(world.states().await, "dddd");
}

#[tokio::test]
async fn one_that_may_kill_its_process_is_not_overtaken_by_its_group() {
    let world = world().await;
    let bodies = world.give(&orders([("gather", "kill"), ("apply", "work"), ("apply", "work")])).await;
    let records = [(&bodies[0], "a", 9), (&bodies[1], "a", 1), (&bodies[2], "b", 1)];
    let worker = world.worker();
    let died = tokio::select! {
        biased;
        () = world.agent.dying.notified() => true,
        _ = worker.handle(batch(&records), Instant::now() + PLENTY) => false,
    };
    assert!(died);
    assert_eq!(world.states().await, "aad", "the other group was done before, and its own was not touched");
}

#[tokio::test]
async fn one_that_was_a_suspect_and_is_done_lets_its_group_go_on_the_next_time() {
    let world = world().await;
    let bodies = world.give(&orders([("apply", "work"), ("apply", "work")])).await;
    let records = [(&bodies[0], "a", 9), (&bodies[1], "a", 1)];
    assert_eq!(again(world.worker().handle(batch(&records), Instant::now() + PLENTY).await), [1]);
    assert!(again(world.worker().handle(batch(&records[1..]), Instant::now() + PLENTY).await).is_empty());
    assert_eq!(world.states().await, "dd");
}

#[tokio::test]
async fn dead_lettering_twice_is_a_duplicate_and_after_a_redrive_it_is_not() {
    let world = world().await;
    let bodies = world.give(&orders([("gather", "reject")])).await;
    assert!(world.handle_in_groups(&bodies, "a").await.is_empty());
    let first = world.queues.dead_letters().remove(0);

    assert_eq!(world.store.redrive("obedient", &Selection::default(), 0, "a person", "mended").await.unwrap().len(), 1);
    assert!(world.handle_in_groups(&bodies, "a").await.is_empty());

    let dead_letters = world.queues.dead_letters();
    assert_eq!(dead_letters.len(), 2, "within five minutes, and not dropped");
    let keys: Vec<&Keys> = dead_letters.iter().map(|letter| letter.keys()).collect();
    assert!(
        keys[0].deduplication_id != keys[1].deduplication_id
            && keys.iter().all(|keys| keys.group == keys.deduplication_id),
        "{keys:?}"
    );
    assert_eq!(*keys[0], *first.keys());
}

#[tokio::test]
async fn on_a_standard_queue_a_message_group_delays_nothing() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let bodies = world.give(&orders([("gather", "retry"), ("apply", "work")])).await;
    let records = bodies.iter().enumerate().map(|(at, body)| {
        serde_json::json!({ "messageId": at.to_string(), "receiptHandle": at.to_string(), "body": body,
            "eventSourceARN": "arn:aws:sqs:eu-west-1:000000000000:a-Queue",
            "attributes": { "ApproximateReceiveCount": "1", "MessageGroupId": "a" } })
    });
    let event = serde_json::json!({ "Records": records.collect::<Vec<_>>() });
    let messages = switchyard_runtime::lambda::messages(event).unwrap();
    assert_eq!(again(world.worker().handle(messages, Instant::now() + PLENTY).await), [0]);
    assert_eq!(world.states().await, "fd");
}
