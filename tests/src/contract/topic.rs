//! The contract of [`Topic`].

use super::{Content, ODD, message, message_of, sorted, whole};
use switchyard_bus::{Message, TOPIC_BYTES, Topic};

/// A topic and a queue that is subscribed to it.
#[allow(async_fn_in_trait)]
pub trait TopicRig {
    /// The topic.
    fn topic(&self) -> &impl Topic;
    /// Every message published since the last call, as soon as there are `expected`.
    async fn published(&self, expected: usize) -> Vec<Content>;
}

const KIB: usize = 1024;

/// Every promise of a topic.
pub async fn keeps_what_a_topic_promises(rig: impl TopicRig) {
    delivers_every_message_unchanged(&rig).await;
    refuses_a_call_that_no_topic_takes(&rig).await;
    counts_attributes_and_the_whole_batch_up_to_the_last_byte(&rig).await;
}

async fn delivers_every_message_unchanged(rig: &impl TopicRig) {
    let bodies = (0..9).map(|n| format!("{{\"n\": {n}}}")).chain([ODD.to_owned()]);
    let messages: Vec<Message> = bodies.map(|body| message(&body)).collect();

    let answers = rig.topic().publish(&messages).await.unwrap();

    assert_eq!(answers, vec![Ok(()); 10], "one answer for each message");
    assert_eq!(sorted(rig.published(10).await), sorted(messages.iter().map(whole)));
}

async fn refuses_a_call_that_no_topic_takes(rig: &impl TopicRig) {
    for impossible in [vec![], vec![message("x"); 11]] {
        let refused = rig.topic().publish(&impossible).await.unwrap_err();
        assert!(!refused.transient, "the same call cannot succeed later: {refused}");
    }
}

async fn counts_attributes_and_the_whole_batch_up_to_the_last_byte(rig: &impl TopicRig) {
    for (bytes, fits) in [(255 * KIB, true), (TOPIC_BYTES, true), (TOPIC_BYTES + 1, false), (257 * KIB, false)] {
        let alone = vec![message_of(bytes)];
        let ten: Vec<Message> = (0..10).map(|n| message_of(bytes / 10 + if n == 0 { bytes % 10 } else { 0 })).collect();
        for call in [alone, ten] {
            assert_eq!(call.iter().map(Message::size).sum::<usize>(), bytes);
            let answer = rig.topic().publish(&call).await;
            if fits {
                assert_eq!(answer.unwrap(), vec![Ok(()); call.len()], "{bytes} bytes in {} messages", call.len());
                let lengths = sorted(rig.published(call.len()).await.into_iter().map(|(body, _)| body.len()));
                assert_eq!(lengths, sorted(call.iter().map(|message| message.body.len())), "all of it arrives");
            } else {
                let refused = answer.expect_err("more than a topic takes");
                assert!(!refused.transient, "{bytes} bytes in {} messages: {refused}", call.len());
            }
        }
    }
}
