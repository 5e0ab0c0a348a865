//! The contract of [`Queue`].

use super::{HIDDEN, ODD, contents, message, message_of, receive_all, sorted, whole};
use crate::eventually;
use std::collections::BTreeSet;
use switchyard_bus::{Depth, Keys, Message, QUEUE_BYTES, Queue, Received};

/// Every promise of a queue, given an empty one that no other test uses. It is empty again afterwards.
pub async fn keeps_what_a_queue_promises(queue: impl Queue) {
    is_empty_and_says_so(&queue).await;
    returns_every_message_unchanged(&queue).await;
    refuses_a_message_that_no_queue_takes_and_no_other(&queue).await;
    takes_a_mebibyte_a_call_and_as_many_calls_as_it_needs(&queue).await;
    hides_a_received_message_until_it_is_released(&queue).await;
    deletes_each_by_itself(&queue).await;
    is_empty_and_says_so(&queue).await;
}

/// What a standard queue that is fair promises, given an empty one that no other test uses: it returns the tenant of each message.
pub async fn returns_the_tenant_of_a_message(queue: impl Queue) {
    let messages = [message("a").of_tenant("project 7"), message("b").of_tenant("p").in_group("g", "o"), message("c")];
    assert_eq!(queue.send(&messages).await, vec![Ok(()); 3]);
    let received = receive_all(&queue, 3).await;
    for message in &messages {
        let one = received.iter().find(|one| one.body == message.body).expect("each is there");
        assert_eq!(one.keys, Keys { tenant: message.keys().tenant.clone(), ..Keys::default() }, "{}", one.body);
    }
    empty(&queue, &received).await;
}

/// That a queue takes a message with a tenant and forgets the tenant, given an empty standard queue that no other test uses.
pub async fn lacks_tenants(queue: impl Queue) {
    assert_eq!(queue.send(&[message("a").of_tenant("p")]).await, [Ok(())]);
    let received = receive_all(&queue, 1).await;
    assert_eq!(received[0].keys, Keys::default());
    empty(&queue, &received).await;
}

async fn is_empty_and_says_so(queue: &impl Queue) {
    becomes(queue, Depth::default()).await;
    assert_eq!(queue.receive(10, HIDDEN).await.unwrap(), []);
    assert_eq!((queue.send(&[]).await, queue.delete(&[]).await, queue.release(&[]).await), (vec![], vec![], 0));
}

async fn becomes(queue: &impl Queue, depth: Depth) {
    eventually(&format!("{depth:?}"), async || (queue.depth().await.expect("it answers") == depth).then_some(())).await;
}

async fn returns_every_message_unchanged(queue: &impl Queue) {
    let messages: Vec<Message> =
        (0..22).map(|n| n.to_string()).chain([ODD.into()]).map(|body| message(&body)).collect();
    assert_eq!(
        queue.send(&messages).await,
        vec![Ok(()); 23],
        "one answer for each, though it takes more than one call"
    );
    becomes(queue, Depth { visible: 23, ..Depth::default() }).await;

    let received = receive_all(queue, 23).await;

    assert_eq!(contents(&received), sorted(messages.iter().map(whole)));
    assert!(received.iter().all(|one| one.receives == 1 && one.sent_at.is_some()));
    let ids: BTreeSet<&String> = received.iter().map(|one| &one.message_id).collect();
    assert_eq!(ids.len(), 23, "each has an id of its own");
    empty(queue, &received).await;
}

async fn refuses_a_message_that_no_queue_takes_and_no_other(queue: &impl Queue) {
    let bad = [String::new(), "\u{0}".into(), "a\u{1b}b".into(), "\u{ffff}".into(), "x".repeat(QUEUE_BYTES)];
    let good = ["tab\tand\r\n", "\u{7f}", "\u{fffd}", "\u{10ffff}", "😀"];
    let mut messages: Vec<Message> = good.iter().map(|body| message(body)).collect();
    for (n, body) in bad.iter().enumerate() {
        messages.insert((n * 2).min(messages.len()), message(body));
    }

    let answers = queue.send(&messages).await;

    assert_eq!(answers.len(), messages.len());
    for (message, answer) in messages.iter().zip(answers) {
        match answer {
            Ok(()) => assert!(good.contains(&message.body.as_str())),
            Err(error) => {
                assert!(bad.contains(&message.body), "{error}");
                assert!(!error.transient, "the same message cannot be taken later: {error}");
            }
        }
    }
    let received = receive_all(queue, good.len()).await;
    assert_eq!(sorted(received.iter().map(|one| one.body.as_str())), sorted(good));
    empty(queue, &received).await;
}

async fn takes_a_mebibyte_a_call_and_as_many_calls_as_it_needs(queue: &impl Queue) {
    let exactly = [QUEUE_BYTES - 1000, 1000].map(message_of);
    let more = [QUEUE_BYTES, 1000, QUEUE_BYTES - 999].map(message_of);
    for messages in [exactly.to_vec(), more.to_vec()] {
        assert_eq!(queue.send(&messages).await, vec![Ok(()); messages.len()]);
        let received = receive_all(queue, messages.len()).await;
        assert_eq!(contents(&received), sorted(messages.iter().map(whole)));
        empty(queue, &received).await;
    }
}

async fn hides_a_received_message_until_it_is_released(queue: &impl Queue) {
    let messages = ["one", "two", "three"].map(message);
    assert_eq!(queue.send(&messages).await, vec![Ok(()); 3]);
    assert_eq!(queue.receive(0, HIDDEN).await.unwrap(), [], "none wanted, none taken");
    let one = eventually("a message", async || queue.receive(1, HIDDEN).await.expect("it answers").pop()).await;
    let others = receive_all(queue, 2).await;
    assert_eq!(queue.receive(10, HIDDEN).await.unwrap(), [], "what was received is hidden");
    becomes(queue, Depth { in_flight: 3, ..Depth::default() }).await;

    assert_eq!(queue.release(&[one.receipt_handle.clone(), "no such handle".into()]).await, 1, "one could not be");
    let again = receive_all(queue, 1).await;

    assert_eq!((&again[0].body, &again[0].message_id), (&one.body, &one.message_id), "and nothing but it");
    assert_eq!(again[0].receives, 2);
    assert_ne!(again[0].receipt_handle, one.receipt_handle, "a handle is good for one receive");
    assert_eq!(contents(&[others.clone(), again.clone()].concat()), sorted(messages.iter().map(whole)));
    empty(queue, &[others, again].concat()).await;
}

async fn deletes_each_by_itself(queue: &impl Queue) {
    let messages: Vec<Message> = (0..12).map(|n| message(&n.to_string())).collect();
    assert_eq!(queue.send(&messages).await, vec![Ok(()); 12]);
    let received = receive_all(queue, 12).await;
    let mut handles: Vec<String> = received.iter().map(|one| one.receipt_handle.clone()).collect();
    handles.insert(5, "no such handle".into());

    let answers = queue.delete(&handles).await;

    let failed: Vec<usize> = (0..answers.len()).filter(|at| answers[*at].is_err()).collect();
    assert_eq!((answers.len(), failed), (13, vec![5]));
    assert!(!answers[5].as_ref().unwrap_err().transient);
    becomes(queue, Depth::default()).await;
    handles.remove(5);
    assert_eq!(queue.delete(&handles).await, vec![Ok(()); 12], "what is gone already counts as removed");
}

async fn empty(queue: &impl Queue, received: &[Received]) {
    let handles: Vec<String> = received.iter().map(|one| one.receipt_handle.clone()).collect();
    assert_eq!(queue.delete(&handles).await, vec![Ok(()); handles.len()]);
    becomes(queue, Depth::default()).await;
}
