//! Stopped at every place where it waits, and done again: a redrive loses nothing and doubles nothing. A real ledger, queues in memory.

use crate::store::scene::{AGENT, Scene};
use redrive::{Redrive, Request, Yard};
use std::{
    future::Future,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};
use switchyard_bus::{
    AgentPlaces, BusError, Depth, MemoryDirectory, MemoryMoves, MemoryQueue, Message, Move, Moves, Queue, Received,
};
use switchyard_runtime::resend::send_due;
use switchyard_store::{Overdue, Selection, Verdict};
use uuid::Uuid;

const QUEUE: &str = "arn:queue";
const LETTERS: &str = "arn:letters";
const UNDELIVERED: &str = "undelivered";

/// Waits before and after every call, as something far away does: places to be stopped at.
struct Far<T>(T);

impl<T> Far<T> {
    async fn ask<R>(&self, call: impl Future<Output = R>) -> R {
        tokio::task::yield_now().await;
        let answer = call.await;
        tokio::task::yield_now().await;
        answer
    }
}

impl Queue for Far<MemoryQueue> {
    async fn depth(&self) -> Result<Depth, BusError> {
        self.ask(self.0.depth()).await
    }

    async fn send(&self, messages: &[Message]) -> Vec<Result<(), BusError>> {
        self.ask(self.0.send(messages)).await
    }

    async fn receive(&self, max: usize, visibility: Duration) -> Result<Vec<Received>, BusError> {
        self.ask(self.0.receive(max, visibility)).await
    }

    async fn delete(&self, receipt_handles: &[String]) -> Vec<Result<(), BusError>> {
        self.ask(self.0.delete(receipt_handles)).await
    }

    async fn release(&self, receipt_handles: &[String]) -> usize {
        self.ask(self.0.release(receipt_handles)).await
    }
}

impl Moves for Far<MemoryMoves> {
    async fn start(&self, dead_letter_arn: &str, to_arn: &str, per_second: Option<u16>) -> Result<String, BusError> {
        self.ask(self.0.start(dead_letter_arn, to_arn, per_second)).await
    }

    async fn list(&self, dead_letter_arn: &str) -> Result<Vec<Move>, BusError> {
        self.ask(self.0.list(dead_letter_arn)).await
    }

    async fn cancel(&self, handle: &str) -> Result<i64, BusError> {
        self.ask(self.0.cancel(handle)).await
    }
}

/// An agent with its queue and its dead-letter queue.
struct Bench {
    scene: Scene,
    queue: MemoryQueue,
    letters: MemoryQueue,
    undelivered: MemoryQueue,
    moves: MemoryMoves,
    yard: Yard<MemoryDirectory, Far<MemoryMoves>, Far<MemoryQueue>>,
}

impl Bench {
    async fn new() -> Self {
        let scene = Scene::direct().await;
        let [queue, letters, undelivered] = [(); 3].map(|()| MemoryQueue::default());
        let moves = MemoryMoves::default().queue(QUEUE, &queue).dead_letters(LETTERS, &letters);
        let place = AgentPlaces {
            agent: AGENT.into(),
            queue_url: QUEUE.into(),
            queue_arn: QUEUE.into(),
            dead_letter_url: LETTERS.into(),
            dead_letter_arn: LETTERS.into(),
            subscription_dead_letter_url: Some(UNDELIVERED.into()),
            function: "function".into(),
            mapping: "mapping".into(),
        };
        let queues = [(QUEUE, queue.clone()), (LETTERS, letters.clone()), (UNDELIVERED, undelivered.clone())];
        let yard = Yard {
            store: scene.store.clone(),
            directory: MemoryDirectory::of(vec![place]),
            moves: Far(moves.clone()),
            open: Box::new(move |url| {
                let (_, queue) = queues.iter().find(|(known, _)| *known == url).expect("a queue of this bench");
                Far(queue.clone())
            }),
        };
        Self { scene, queue, letters, undelivered, moves, yard }
    }

    /// A parked event with its letter.
    async fn park(&self) -> Uuid {
        let event = self.scene.event("thing.made").await;
        self.scene.publish_all().await;
        self.letter(event).await;
        self.scene.park(event).await;
        event
    }

    async fn letter(&self, event: Uuid) {
        let letter = Message::new(format!("{{\"id\": \"{event}\"}}"))
            .text("event_id", event.to_string())
            .text("reason", "boom")
            .number("run", 0);
        assert!(self.letters.send(&[letter]).await.iter().all(Result::is_ok));
    }

    async fn ask(&self, order: &Redrive) -> serde_json::Value {
        let ends = tokio::time::Instant::now() + Duration::from_secs(60);
        self.yard.answer(Request::Redrive(order.clone()), ends).await.unwrap()
    }

    /// The steward and the agent at work until the queue is empty. How often an event was handled.
    async fn work(&self, event: Uuid) -> usize {
        // A move in memory moves while it is looked at.
        while self.moves.list(LETTERS).await.unwrap().iter().any(|task| task.status.is_running()) {}
        // What a stopped look had hidden is visible again; every hold is over.
        self.letters.pass(Duration::from_secs(3_600));
        self.scene.let_time_pass().await;
        send_due(&self.scene.store, &self.queue, AGENT, 1_000, Overdue::Now).await.unwrap();
        let mut handled = 0;
        loop {
            let received = self.queue.receive(10, Duration::from_secs(30)).await.unwrap();
            if received.is_empty() {
                return handled;
            }
            for message in received {
                assert!(message.body.contains(&event.to_string()), "another event's message");
                handled += usize::from(self.scene.claim(event).await == Verdict::Take);
                self.queue.delete(&[message.receipt_handle]).await;
            }
        }
    }
}

/// Polls a future until it has waited `times` times, and drops it there. Whether it came to its end before.
async fn stopped_after<F: Future>(times: usize, future: F) -> bool {
    let mut future = pin!(future);
    let mut waited = 0;
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(_) => Poll::Ready(true),
        Poll::Pending if waited == times => Poll::Ready(false),
        Poll::Pending => {
            waited += 1;
            Poll::Pending
        }
    })
    .await
}

fn everything() -> Redrive {
    Redrive { agent: AGENT.into(), operator: "ada".into(), ..Redrive::default() }
}

fn by_reason() -> Redrive {
    Redrive { selection: Selection { reasons: vec!["boom".into()], ..Selection::default() }, ..everything() }
}

/// Stops `order` at its first, second, third wait and so on until it comes through, each time with an event of its own.
async fn stopped_everywhere(order: Redrive) {
    let bench = Bench::new().await;
    let patience = Instant::now() + Duration::from_secs(120);
    for waits in 0.. {
        assert!(Instant::now() < patience, "it never came through");
        let event = bench.park().await;

        let through = stopped_after(waits, bench.ask(&order)).await;
        bench.letters.pass(Duration::from_secs(60));
        bench.ask(&order).await;

        assert_eq!(bench.work(event).await, 1, "after a stop at wait {waits}");
        assert!(bench.scene.row(event).await.is("n", "d"));
        // Copies that are left are of settled deliveries, which the steward removes.
        let left = bench.letters.receive(10, Duration::ZERO).await.unwrap();
        bench.letters.delete(&left.into_iter().map(|letter| letter.receipt_handle).collect::<Vec<_>>()).await;
        if through {
            assert!(waits > 10, "it waited {waits} times: this test stopped it nowhere");
            return;
        }
    }
}

#[tokio::test]
async fn everything_stopped_anywhere_is_redriven_once_by_doing_it_again() {
    stopped_everywhere(everything()).await;
}

#[tokio::test]
async fn a_selection_stopped_anywhere_is_redriven_once_by_doing_it_again() {
    stopped_everywhere(by_reason()).await;
}

#[tokio::test]
async fn what_sns_could_not_deliver_stopped_anywhere_is_handled_once_by_doing_it_again() {
    let bench = Bench::new().await;
    let order = Redrive { subscription: true, ..everything() };
    let patience = Instant::now() + Duration::from_secs(120);
    for waits in 0.. {
        assert!(Instant::now() < patience, "it never came through");
        let event = bench.scene.event("thing.made").await;
        bench.scene.publish_all().await;
        let message = Message::new(format!("{{\"id\": \"{event}\"}}"));
        assert!(bench.undelivered.send(&[message]).await.iter().all(Result::is_ok));

        let through = stopped_after(waits, bench.ask(&order)).await;
        bench.undelivered.pass(Duration::from_secs(60));
        bench.ask(&order).await;

        assert_eq!(
            (bench.work(event).await, bench.undelivered.messages().len()),
            (1, 0),
            "after a stop at wait {waits}"
        );
        if through {
            assert!(waits > 10, "it waited {waits} times: this test stopped it nowhere");
            return;
        }
    }
}

#[tokio::test]
async fn many_at_once_redrive_each_delivery_once() {
    let bench = Bench::new().await;
    let event = bench.park().await;
    let (all, some) = (everything(), by_reason());

    let answers = tokio::join!(bench.ask(&all), bench.ask(&some), bench.ask(&all), bench.ask(&some), bench.ask(&all));

    let redriven: i64 = [answers.0, answers.1, answers.2, answers.3, answers.4]
        .iter()
        .map(|answer| answer["deliveries"].as_i64().unwrap())
        .sum();
    assert_eq!(redriven, 1);
    assert_eq!(bench.work(event).await, 1);
}

#[tokio::test]
async fn copies_of_what_goes_back_leave_the_queue_and_later_letters_stay() {
    let bench = Bench::new().await;
    let (event, other) = (bench.park().await, bench.park().await);
    let order = Redrive { selection: Selection { events: vec![event], ..Selection::default() }, ..everything() };

    let answer = bench.ask(&order).await;
    assert_eq!((answer["removed"].as_u64(), answer["sent"].as_u64()), (Some(1), Some(1)));
    bench.letter(event).await;
    bench.scene.park(event).await;

    let bodies: Vec<String> = bench.letters.messages().into_iter().map(|letter| letter.body).collect();
    assert_eq!(bodies.len(), 2, "{bodies:?}");
    assert!(
        bodies.iter().any(|body| body.contains(&other.to_string()))
            && bodies.iter().any(|body| body.contains(&event.to_string()))
    );
}

#[tokio::test]
async fn a_failed_event_without_a_delivery_leaves_the_list_once_its_letter_was_sent() {
    let bench = Bench::new().await;
    let letter =
        Message::new("{ no event".into()).text("reason", "malformed").text("failed_at", "2026-01-05T09:30:00Z");
    assert!(bench.letters.send(&[letter]).await.iter().all(Result::is_ok));
    let nameless = switchyard_store::Nameless {
        message_id: "m".into(),
        run: 0,
        reason: "malformed".into(),
        error: "no JSON".into(),
    };
    bench.scene.store.park_nameless(AGENT, &[nameless]).await.unwrap();
    let listed = async || bench.scene.store.parked(AGENT, &Selection::default()).await.unwrap().len();
    assert_eq!(listed().await, 1);

    let order =
        Redrive { selection: Selection { reasons: vec!["malformed".into()], ..Selection::default() }, ..everything() };
    let answer = bench.ask(&order).await;

    assert_eq!(answer["sent"], 1);
    assert_eq!((bench.letters.messages().len(), bench.queue.messages().len(), listed().await), (0, 1, 0));
}

#[tokio::test]
async fn what_neither_the_table_nor_the_queue_has_is_said_to_be_lost_and_stays_on_the_list() {
    let bench = Bench::new().await;
    let nameless = switchyard_store::Nameless {
        message_id: "m".into(),
        run: 0,
        reason: "malformed".into(),
        error: "no JSON".into(),
    };
    bench.scene.store.park_nameless(AGENT, &[nameless]).await.unwrap();

    let answer = bench.ask(&everything()).await;

    assert_eq!(answer["way"], "nothing");
    assert!(answer["trouble"].as_str().unwrap().contains("lost"), "{answer}");
    assert_eq!(bench.scene.store.parked(AGENT, &Selection::default()).await.unwrap().len(), 1);
}
