//! The contract of [`Queue`] and [`Topic`] where they are FIFO.

use super::{HIDDEN, TopicRig, message, message_of};
use crate::eventually;
use std::collections::BTreeMap;
use switchyard_bus::{Message, QUEUE_BYTES, Queue, Received, Topic};

/// Every promise of a FIFO queue, given an empty one that no other test uses. It is empty again afterwards.
pub async fn keeps_what_a_fifo_queue_promises(queue: impl Queue) {
    keeps_the_order_of_each_group_over_several_calls(&queue).await;
    returns_no_message_of_a_group_with_a_received_one_and_all_of_other_groups(&queue).await;
    returns_released_messages_before_later_ones_of_the_group(&queue).await;
    drops_a_copy_and_nothing_else(&queue).await;
    refuses_a_message_without_keys_and_no_other(&queue).await;
    returns_the_keys_of_each_message(&queue).await;
    assert_eq!(queue.receive(10, HIDDEN).await.unwrap(), []);
}

/// That there is no FIFO, given a queue with a FIFO name: every message is refused for good, so none is taken without its order.
pub async fn lacks_fifo(queue: impl Queue) {
    let refused = queue.send(&[of("a1")]).await.remove(0).expect_err("there is no such queue");
    assert!(refused.setup && !refused.transient, "{refused}");
}

/// Every promise of a FIFO topic: rig it with a FIFO queue.
pub async fn keeps_what_a_fifo_topic_promises(rig: impl TopicRig) {
    let call: Vec<Message> = (0..9).map(|n| of(&format!("{}{n}", ["a", "b", "c"][n % 3]))).collect();
    for message in call.chunks(4) {
        assert_eq!(rig.topic().publish(message).await.unwrap(), vec![Ok(()); message.len()]);
    }
    let heard = rig.published(9).await;
    assert_eq!(
        by_group(heard.iter().map(|(body, _)| body.as_str())),
        by_group(call.iter().map(|one| one.body.as_str()))
    );

    let again = [of("a0"), of("a9"), message("a10").in_group("a", "a9")];
    assert_eq!(rig.topic().publish(&again).await.unwrap(), vec![Ok(()); 3], "a copy is accepted");
    let marker = [of("z0")];
    assert_eq!(rig.topic().publish(&marker).await.unwrap(), [Ok(())]);
    let heard: Vec<String> = rig.published(2).await.into_iter().map(|(body, _)| body).collect();
    assert_eq!(super::sorted(heard), ["a9", "z0"], "and goes nowhere");

    let refused = rig.topic().publish(&[message("x")]).await.unwrap_err();
    assert!(!refused.transient, "what has no keys cannot be taken later: {refused}");
}

/// A message of the group that its first letter names, known by its body.
fn of(body: &str) -> Message {
    message(body).in_group(&body[..1], body)
}

fn by_group<'a>(bodies: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, Vec<&'a str>> {
    bodies.fold(BTreeMap::new(), |mut groups, body| {
        groups.entry(&body[..1]).or_default().push(body);
        groups
    })
}

fn bodies(received: &[Received]) -> Vec<&str> {
    received.iter().map(|one| one.body.as_str()).collect()
}

async fn send(queue: &impl Queue, messages: &[Message]) {
    assert_eq!(queue.send(messages).await, vec![Ok(()); messages.len()]);
}

/// What may be received now, as soon as there is something.
async fn some(queue: &impl Queue, most: usize) -> Vec<Received> {
    let received =
        async || Some(queue.receive(most, HIDDEN).await.expect("it answers")).filter(|some| !some.is_empty());
    eventually("a message that may be received", received).await
}

async fn delete(queue: &impl Queue, received: &[Received]) {
    let handles: Vec<String> = received.iter().map(|one| one.receipt_handle.clone()).collect();
    assert_eq!(queue.delete(&handles).await, vec![Ok(()); handles.len()]);
}

/// Receives and deletes until there were so many.
async fn drained(queue: &impl Queue, expected: usize) -> Vec<Received> {
    let mut all = Vec::new();
    while all.len() < expected {
        let received = some(queue, 10).await;
        delete(queue, &received).await;
        all.extend(received);
    }
    assert_eq!(all.len(), expected, "no more than were sent: {:?}", bodies(&all));
    all
}

async fn keeps_the_order_of_each_group_over_several_calls(queue: &impl Queue) {
    let messages: Vec<Message> = (0..26).map(|n| of(&format!("{}{n:02}", ["a", "b"][n % 2]))).collect();
    send(queue, &messages).await;
    let received = drained(queue, 26).await;
    assert_eq!(by_group(bodies(&received).into_iter()), by_group(messages.iter().map(|one| one.body.as_str())));
}

async fn returns_no_message_of_a_group_with_a_received_one_and_all_of_other_groups(queue: &impl Queue) {
    send(queue, &["c1", "c2", "d1", "d2"].map(of)).await;
    let held = some(queue, 1).await;
    let own = held[0].body[..1].to_owned();
    let others = some(queue, 10).await;
    assert!(others.iter().all(|one| !one.body.starts_with(&own)), "{own}: {:?}", bodies(&others));
    assert_eq!(others.len(), 2, "other groups go on");
    delete(queue, &others).await;
    assert_eq!(queue.receive(10, HIDDEN).await.unwrap(), [], "its group is locked");
    delete(queue, &held).await;
    assert_eq!(bodies(&drained(queue, 1).await), [format!("{own}2")]);
}

async fn returns_released_messages_before_later_ones_of_the_group(queue: &impl Queue) {
    send(queue, &["e1", "e2", "e3"].map(of)).await;
    let received = some(queue, 10).await;
    assert_eq!(bodies(&received), ["e1", "e2", "e3"]);
    let handles: Vec<String> = received.iter().map(|one| one.receipt_handle.clone()).collect();
    assert_eq!(queue.release(&handles[1..]).await, 0);
    assert_eq!(queue.receive(10, HIDDEN).await.unwrap(), [], "the first of them is held still");
    assert_eq!(queue.release(&handles[..1]).await, 0);
    assert_eq!(bodies(&drained(queue, 3).await), ["e1", "e2", "e3"]);
}

async fn drops_a_copy_and_nothing_else(queue: &impl Queue) {
    let again = message("f1 with another body").in_group("f", "f1");
    send(queue, &[of("f1"), again.clone(), of("f2")]).await;
    assert_eq!(bodies(&drained(queue, 2).await), ["f1", "f2"]);
    send(queue, &[again, message("f1").in_group("f", "f1, sent again")]).await;
    assert_eq!(
        bodies(&drained(queue, 1).await),
        ["f1"],
        "a copy of a handled message is dropped; one with another id is not"
    );
}

async fn refuses_a_message_without_keys_and_no_other(queue: &impl Queue) {
    let mut messages =
        vec![message("no keys"), of("g1"), message_of(QUEUE_BYTES + 1).in_group("g", "too large"), of("g2")];
    messages.push(message("a tenant is no group").of_tenant("g"));
    let answers = queue.send(&messages).await;
    assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, false, true, false]);
    assert!(answers.iter().filter_map(|answer| answer.as_ref().err()).all(|error| !error.transient), "{answers:?}");
    assert_eq!(bodies(&drained(queue, 2).await), ["g1", "g2"]);
}

async fn returns_the_keys_of_each_message(queue: &impl Queue) {
    let odd = "größe of a group";
    let sent = message("h").in_group(odd, "h1").of_tenant("somebody");
    send(queue, std::slice::from_ref(&sent)).await;
    let received = drained(queue, 1).await;
    let keys = &received[0].keys;
    assert_eq!(
        (&keys.group, &keys.deduplication_id, &keys.tenant),
        (&sent.keys().group, &sent.keys().deduplication_id, &None)
    );
    assert!(keys.group.as_ref().is_some_and(|group| group.is_ascii()), "{keys:?}");
}
