//! An agent's queues as one destination: urgent messages go to its express queue, as the topic's subscriptions deliver them.

use crate::{AgentPlaces, BusError, Depth, Message, Queue};

/// The attribute by which the topic's subscriptions separate the express queue from the other.
const PRIORITY: &str = "priority";

/// Where messages for an agent are sent: a queue, or all of its queues.
#[allow(async_fn_in_trait)]
pub trait Destination {
    /// Sends messages; as [`Queue::send`].
    async fn put(&self, messages: &[Message]) -> Vec<Result<(), BusError>>;
}

impl<Q: Queue> Destination for Q {
    async fn put(&self, messages: &[Message]) -> Vec<Result<(), BusError>> {
        self.send(messages).await
    }
}

/// The queues of one agent: its queue, and its express queue where it has one.
#[derive(Debug, Clone)]
pub struct AgentQueues<Q> {
    queue: Q,
    /// The least priority that goes to the express queue, and that queue.
    express: Option<(u8, Q)>,
}

impl<Q: Queue> AgentQueues<Q> {
    /// The queues of an agent, each opened by its URL.
    pub fn of(places: &AgentPlaces, open: impl Fn(&str) -> Q) -> Self {
        let express = places.express.as_ref().map(|express| (express.from, open(&express.queue_url)));
        Self { queue: open(&places.queue_url), express }
    }

    /// The number of messages in all of them, approximately.
    ///
    /// # Errors
    /// As [`Queue::depth`], of whichever queue does not answer.
    pub async fn depth(&self) -> Result<Depth, BusError> {
        let mut depth = self.queue.depth().await?;
        if let Some((_, express)) = &self.express {
            let more = express.depth().await?;
            depth.visible += more.visible;
            depth.in_flight += more.in_flight;
            depth.delayed += more.delayed;
        }
        Ok(depth)
    }
}

impl<Q: Queue> Destination for AgentQueues<Q> {
    async fn put(&self, messages: &[Message]) -> Vec<Result<(), BusError>> {
        let Some((from, express)) = &self.express else { return self.queue.send(messages).await };
        let (urgent, others): (Vec<_>, Vec<_>) =
            messages.iter().cloned().enumerate().partition(|(_, message)| is_urgent(message, *from));
        let mut answers: Vec<_> = messages.iter().map(|_| Ok(())).collect();
        for (queue, some) in [(express, urgent), (&self.queue, others)] {
            let (places, some): (Vec<usize>, Vec<Message>) = some.into_iter().unzip();
            if some.is_empty() {
                continue;
            }
            for (at, answer) in places.into_iter().zip(queue.send(&some).await) {
                answers[at] = answer;
            }
        }
        answers
    }
}

/// Whether a message's priority is at least `from`. One without a priority is not urgent.
fn is_urgent(message: &Message, from: u8) -> bool {
    let priority = message.attribute(PRIORITY).and_then(|priority| priority.parse::<u8>().ok());
    priority.is_some_and(|priority| priority >= from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Express, MemoryQueue};

    fn places(express: Option<Express>) -> AgentPlaces {
        AgentPlaces {
            agent: "a".into(),
            queue_url: "usual".into(),
            queue_arn: String::new(),
            dead_letter_url: String::new(),
            dead_letter_arn: String::new(),
            subscription_dead_letter_url: None,
            function: String::new(),
            mapping: String::new(),
            express,
        }
    }

    fn express() -> Express {
        Express { from: 8, queue_url: "express".into(), queue_arn: String::new(), mapping: String::new() }
    }

    fn bodies(queue: &MemoryQueue) -> Vec<String> {
        queue.messages().into_iter().map(|message| message.body).collect()
    }

    #[tokio::test]
    async fn each_message_goes_to_the_queue_of_its_priority_and_has_its_own_answer() {
        let (usual, urgent) = (MemoryQueue::default(), MemoryQueue::default());
        let queues =
            AgentQueues::of(
                &places(Some(express())),
                |url| if url == "express" { urgent.clone() } else { usual.clone() },
            );
        let of = |body: &str, priority| Message::new(body.into()).number(PRIORITY, priority);
        let messages = [of("a", 8), of("b", 7), Message::new("c".into()), of("", 10), of("e", 10)];

        let answers = queues.put(&messages).await;

        assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, true, false, true]);
        assert_eq!(
            (bodies(&urgent), bodies(&usual)),
            (vec!["a".to_owned(), "e".into()], vec!["b".to_owned(), "c".into()])
        );
        assert_eq!(queues.depth().await.unwrap().visible, 4);
    }

    #[tokio::test]
    async fn an_agent_without_an_express_queue_has_one_queue() {
        let usual = MemoryQueue::default();
        let queues = AgentQueues::of(&places(None), |_| usual.clone());
        assert_eq!(queues.put(&[Message::new("x".into()).number(PRIORITY, 10)]).await, [Ok(())]);
        assert_eq!(bodies(&usual), ["x"]);
    }
}
