//! Dead-letter queues say what the ledger says; what can heal by itself is tried again.

use super::world::{AGENT, StewardWorld};
use std::time::Duration;
use switchyard_bus::{Message, Queue};
use switchyard_operations::dead_letter::DeadLetter;
use switchyard_runtime::dead_letter;
use switchyard_store::{Ask, AutoRedrive, ParkReport, State};
use uuid::Uuid;

#[tokio::test]
async fn a_message_that_the_queue_gave_up_is_parked_and_its_dead_letter_has_the_reason() {
    let world = StewardWorld::new().await;
    let event = world.lost(1).await[0];
    world.reconcile().await;
    let raw = world.queue().messages().remove(0);
    world.dead_letters().send(std::slice::from_ref(&raw)).await;

    let done = world.reconcile().await;

    assert_eq!((done.died, done.stale), (1, 0));
    let dead_letters = world.dead_letters().messages();
    assert_eq!(dead_letters.len(), 1, "one stands for the other");
    let of = |name| dead_letters[0].attribute(name).map(str::to_owned);
    assert_eq!(
        (of("reason"), of("agent"), of("event_id")),
        (Some("process_died".into()), Some(AGENT.into()), Some(event.to_string()))
    );
    assert_eq!(
        (of("run"), of("epoch"), of("event_type")),
        (Some("0".into()), Some("0".into()), Some("thing.made".into()))
    );
    assert_eq!(dead_letters[0].body, raw.body);
    assert_eq!(world.store.settled(AGENT, &[(event, 0)]).await.unwrap(), [Some(State::Parked)]);
    let failures = world.store.failures(AGENT, 10).await.unwrap();
    assert_eq!((failures.len(), failures[0].reason.as_str(), failures[0].parked), (1, "process_died", true));

    let again = world.reconcile().await;
    assert_eq!((again.died, again.stale, world.dead_letters().messages().len()), (0, 0, 1), "it lies where it should");
}

#[tokio::test]
async fn a_crash_between_row_and_dead_letter_is_completed_by_the_next_pass() {
    let world = StewardWorld::new().await;
    let event = world.lost(1).await[0];
    world.reconcile().await;
    world.dead_letters().send(&[world.queue().messages().remove(0)]).await;
    let report = ParkReport {
        ask: Ask { event_id: event, run: 0, epoch: None },
        reason: "process_died".into(),
        error: "told, and then it died".into(),
    };
    world.store.park(AGENT, &[report]).await.unwrap();

    assert_eq!(world.reconcile().await.died, 1);

    assert_eq!(world.dead_letters().messages()[0].attribute("reason"), Some("process_died"));
    assert_eq!(world.number("select count(*) from switchyard.failure").await, 1, "and is one failure");
}

#[tokio::test]
async fn only_the_dead_letter_of_a_settled_delivery_is_removed() {
    let world = StewardWorld::new().await;
    let events = world.lost(3).await;
    world.reconcile().await;
    let stranger = Uuid::new_v4();
    let dead_letters: Vec<Message> = events.iter().chain([&stranger]).map(|event| dead_letter(*event)).collect();
    world.dead_letters().send(&dead_letters).await;
    world.dead_letters().send(&[unidentified()]).await;
    for event in &events[..2] {
        let report = ParkReport {
            ask: Ask { event_id: *event, run: 0, epoch: None },
            reason: "no_text".into(),
            error: "none".into(),
        };
        world.store.park(AGENT, &[report]).await.unwrap();
    }
    let mut tx = world.store.begin().await.unwrap();
    tx.claim(AGENT, &[Ask { event_id: events[2], run: 0, epoch: None }]).await.unwrap();
    tx.commit().await.unwrap();

    let done = world.reconcile().await;

    assert_eq!((done.died, done.stale), (0, 1));
    let kept = [dead_letters[0].clone(), dead_letters[1].clone(), dead_letters[3].clone(), unidentified()];
    assert_eq!(world.dead_letters().messages(), kept);
    let depth = world.dead_letters().depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (4, 0), "and everybody can see them");
}

#[tokio::test]
async fn an_unidentified_message_that_kills_its_process_is_parked_by_its_message_id() {
    let world = StewardWorld::new().await;
    world.dead_letters().send(&[Message::new("{ no event".into())]).await;
    assert_eq!(world.reconcile().await.died, 1);
    let failures = world.store.failures(AGENT, 10).await.unwrap();
    assert_eq!(
        (failures[0].reason.as_str(), failures[0].event_id, failures[0].message_id.is_some()),
        ("process_died", None, true)
    );
    assert_eq!(world.dead_letters().messages()[0].attribute("reason"), Some("process_died"));
}

#[tokio::test]
async fn a_copy_from_an_epoch_that_is_over_does_not_park_what_was_sent_again_since() {
    let world = StewardWorld::new().await;
    let event = world.lost(1).await[0];
    world.reconcile().await;
    world.dead_letters().send(&[world.queue().messages().remove(0)]).await;
    let seqs: Vec<i64> = vec![world.number("select max(seq) from switchyard.event_log").await];
    world.store.resend(AGENT, &seqs, 0, "a test").await.unwrap();

    assert_eq!(world.reconcile().await.died, 0);

    assert_eq!(world.store.settled(AGENT, &[(event, 0)]).await.unwrap(), [Some(State::Assigned)]);
    assert_eq!(world.dead_letters().messages().len(), 1, "nothing is removed that might still be needed");
}

#[tokio::test]
async fn a_copy_of_the_first_publication_names_no_epoch_and_does_not_park_what_was_sent_again_since() {
    let world = StewardWorld::new().await;
    let event = world.lost(1).await[0];
    world.reconcile().await;
    let published = Message::new(world.queue().messages().remove(0).body);
    world.dead_letters().send(&[published]).await;
    let seqs: Vec<i64> = vec![world.number("select max(seq) from switchyard.event_log").await];
    world.store.resend(AGENT, &seqs, 0, "a test").await.unwrap();

    assert_eq!(world.reconcile().await.died, 0);

    assert_eq!(world.store.settled(AGENT, &[(event, 0)]).await.unwrap(), [Some(State::Assigned)]);
}

#[tokio::test]
async fn a_dead_letter_queue_is_read_again_only_when_its_depth_changes() {
    let world = StewardWorld::new().await;
    world.dead_letters().send(&[unidentified()]).await;
    for _ in 0..5 {
        world.reconcile().await;
        world.later(Duration::from_secs(60)).await;
    }
    let receives = async || {
        let seen = world.dead_letters().receive(10, Duration::ZERO).await.unwrap();
        seen.into_iter().map(|dead_letter| dead_letter.receives).collect::<Vec<_>>()
    };
    assert_eq!(receives().await, [2], "by one look of the steward, and by this one");

    world.dead_letters().send(&[Message::new("{ killed it".into())]).await;
    assert_eq!(world.reconcile().await.died, 1);
    assert!(receives().await.contains(&4), "the look at the new one met the old one too");
}

#[tokio::test]
async fn later_passes_reach_the_dead_letters_behind_the_first_ones() {
    let world = StewardWorld::new().await;
    world.dead_letters().send(&vec![unidentified(); 50]).await;
    world.dead_letters().send(&[Message::new("{ killed it".into())]).await;
    let steward = world.another(steward::Limits { dead_letters: 20, ..steward::Limits::DEFAULT });
    let mut died = 0;
    for _ in 0..3 {
        let done = steward.pass(super::world::soon()).await.unwrap().agents.remove(0);
        assert_eq!(done.standing.dead_letters, Some(51), "those that are hidden meanwhile are counted");
        died += done.died;
        world.later(Duration::from_secs(60)).await;
    }
    assert_eq!(died, 1);
}

#[tokio::test]
async fn changes_to_dead_letters_leave_one_audit_row_a_pass() {
    let world = StewardWorld::new().await;
    world.dead_letters().send(&[Message::new("{ killed it".into()), Message::new("{ too".into())]).await;
    world.queues.named("painter/undelivered").send(&[Message::new("{}".into())]).await;

    world.reconcile().await;
    world.reconcile().await;

    let audit = world.store.audit(100).await.unwrap();
    let [row] = audit.iter().filter(|row| row.action == "dead_letters").collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((row.by.as_str(), row.component.as_deref()), ("steward", Some(AGENT)));
    assert_eq!(row.detail, serde_json::json!({ "died": 2, "stale": 0, "delivered": 1 }));
}

#[tokio::test]
async fn a_pass_reads_no_more_dead_letters_than_its_limit() {
    let world = StewardWorld::new().await;
    let bodies: Vec<Message> = (0..35).map(|n| Message::new(format!("{{ {n}"))).collect();
    world.dead_letters().send(&bodies).await;
    let steward = world.another(steward::Limits { dead_letters: 20, ..steward::Limits::DEFAULT });
    let died = async || steward.pass(super::world::soon()).await.unwrap().agents[0].died;
    assert_eq!(died().await, 20);
    world.later(Duration::from_secs(60)).await;
    assert_eq!(died().await + died().await, 15);
    assert_eq!(world.dead_letters().messages().len(), 35);
}

#[tokio::test]
async fn what_sns_could_not_deliver_is_in_the_queue_after_a_pass_with_its_attributes() {
    let world = StewardWorld::new().await;
    let undelivered = world.queues.named("painter/undelivered");
    let message =
        Message::new("{}".into()).text("event_type", "thing.made").number("run", 0).text("traceparent", "00-a-b-01");
    undelivered.send(std::slice::from_ref(&message)).await;

    assert_eq!(world.reconcile().await.delivered, 1);

    assert!(undelivered.messages().is_empty());
    let [delivered] = world.queue().messages().try_into().unwrap();
    let of =
        |message: &Message| ["event_type", "run", "traceparent"].map(|name| message.attribute(name).map(str::to_owned));
    assert_eq!((of(&delivered), delivered.body), (of(&message), message.body));
}

#[tokio::test]
async fn what_sns_could_not_deliver_stays_where_it_is_while_the_queue_takes_nothing() {
    let world = StewardWorld::new().await;
    let undelivered = world.queues.named("painter/undelivered");
    undelivered.send(&[Message::new("{}".into())]).await;
    world.queues.break_down("painter/queue");
    let done = world.reconcile().await;
    assert_eq!((done.delivered, undelivered.messages().len()), (0, 1));
    assert!(!done.standing.troubles.is_empty());
    assert_eq!(undelivered.depth().await.unwrap().visible, 1, "released at once");
}

#[tokio::test]
async fn an_automatic_redrive_runs_after_its_wait_and_up_to_its_limit() {
    let world = StewardWorld::new().await;
    let event = world.lost(1).await[0];
    world.store.set_auto_redrive(AGENT, Some(AutoRedrive { times: 2, first_after_secs: 900 }), "ada").await.unwrap();
    world.reconcile().await;
    let mut redriven = Vec::new();
    for _ in 0..4 {
        let report = ParkReport {
            ask: Ask { event_id: event, run: 0, epoch: None },
            reason: "attempts_used_up".into(),
            error: "again".into(),
        };
        world.store.park(AGENT, &[report]).await.unwrap();
        let handles: Vec<String> =
            world.queue().receive(10, Duration::ZERO).await.unwrap().into_iter().map(|m| m.receipt_handle).collect();
        world.queue().delete(&handles).await;
        assert_eq!(world.reconcile().await.redriven, 0, "not at once");
        world.later(Duration::from_secs(3_600)).await;
        let done = world.reconcile().await;
        assert_eq!(done.redriven, done.sent);
        redriven.push(done.redriven);
    }
    assert_eq!(redriven, [1, 1, 0, 0]);
}

/// A letter as an agent writes it.
fn dead_letter(event: Uuid) -> Message {
    let body = serde_json::json!({ "id": event }).to_string();
    let (reason, error) = ("no_text", "nothing to read");
    let message_id = "as the agent received it";
    let (run, epoch, traceparent) = (0, None, None);
    dead_letter::message(&DeadLetter {
        agent: AGENT,
        body: &body,
        message_id,
        reason,
        error,
        attempts: 1,
        run,
        epoch,
        traceparent,
    })
}

fn unidentified() -> Message {
    Message::new("{".into()).text("reason", "malformed")
}
