//! Stopped at every place where it waits, and done again: a redrive loses nothing and doubles nothing. A real ledger, queues in memory.

use crate::store::world::{AGENT, LedgerWorld};
use redrive::Redriver;
use std::{
    future::Future,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    task::Poll,
    time::{Duration, Instant},
};
use switchyard_bus::{
    AgentPlaces, BusError, Depth, Directory, MemoryDirectory, MemoryMoves, MemoryQueue, Message, Move, MoveStatus,
    Moves, Queue, Received,
};
use switchyard_operations::redrive::{Dismiss, Redrive, Request};
use switchyard_runtime::resend::send_due;
use switchyard_store::{Overdue, Selection, Type, Verdict};
use uuid::Uuid;

const QUEUE: &str = "arn:queue";
const DEAD_LETTERS: &str = "arn:letters";
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

/// A move that takes its time to end: the first look after its cancellation still finds it at it.
struct Ending {
    moves: MemoryMoves,
    inspected: AtomicBool,
}

impl Moves for Ending {
    async fn start(&self, dead_letter_arn: &str, to_arn: &str, per_second: Option<u16>) -> Result<String, BusError> {
        self.moves.start(dead_letter_arn, to_arn, per_second).await
    }

    async fn list(&self, dead_letter_arn: &str) -> Result<Vec<Move>, BusError> {
        let mut tasks = self.moves.list(dead_letter_arn).await?;
        if !self.inspected.swap(true, Ordering::Relaxed) {
            tasks[0].status = MoveStatus::Cancelling;
        }
        Ok(tasks)
    }

    async fn cancel(&self, handle: &str) -> Result<i64, BusError> {
        self.moves.cancel(handle).await
    }
}

/// An agent with its queue and its dead-letter queue.
struct RedriveWorld {
    ledger: LedgerWorld,
    queue: MemoryQueue,
    dead_letters: MemoryQueue,
    undelivered: MemoryQueue,
    moves: MemoryMoves,
    redriver: Redriver<MemoryDirectory, Far<MemoryMoves>, Far<MemoryQueue>>,
}

impl RedriveWorld {
    async fn new() -> Self {
        let ledger = LedgerWorld::direct().await;
        let [queue, dead_letters, undelivered] = [(); 3].map(|()| MemoryQueue::default());
        let moves = MemoryMoves::default().queue(QUEUE, &queue).dead_letters(DEAD_LETTERS, &dead_letters);
        let place = AgentPlaces {
            agent: AGENT.into(),
            queue_url: QUEUE.into(),
            queue_arn: QUEUE.into(),
            dead_letter_url: DEAD_LETTERS.into(),
            dead_letter_arn: DEAD_LETTERS.into(),
            subscription_dead_letter_url: Some(UNDELIVERED.into()),
            function: "function".into(),
            mapping: "mapping".into(),
            express: None,
        };
        let queues = [(QUEUE, queue.clone()), (DEAD_LETTERS, dead_letters.clone()), (UNDELIVERED, undelivered.clone())];
        let redriver = Redriver {
            store: ledger.store.clone(),
            directory: MemoryDirectory::of(vec![place]),
            moves: Far(moves.clone()),
            open: Box::new(move |url| {
                let (_, queue) = queues.iter().find(|(known, _)| *known == url).expect("a queue of this world");
                Far(queue.clone())
            }),
        };
        Self { ledger, queue, dead_letters, undelivered, moves, redriver }
    }

    /// A parked event with its letter.
    async fn park(&self) -> Uuid {
        let event = self.ledger.event("thing.made").await;
        self.ledger.publish_all().await;
        self.dead_letter(event).await;
        self.ledger.park(event).await;
        event
    }

    async fn dead_letter(&self, event: Uuid) {
        let dead_letter = Message::new(format!("{{\"id\": \"{event}\"}}"))
            .text("event_id", event.to_string())
            .text("reason", "boom")
            .number("run", 0);
        assert!(self.dead_letters.send(&[dead_letter]).await.iter().all(Result::is_ok));
    }

    /// A failure without an event, on the list of what is parked. Its letter is another matter.
    async fn unidentified(&self, message_id: &str) {
        let unidentified = switchyard_store::Unidentified {
            message_id: message_id.into(),
            run: 0,
            reason: "malformed".into(),
            error: "no JSON".into(),
        };
        self.ledger.store.park_unidentified(AGENT, &[unidentified]).await.unwrap();
    }

    async fn ask(&self, order: &Redrive) -> serde_json::Value {
        let ends = tokio::time::Instant::now() + Duration::from_secs(60);
        self.redriver.answer(Request::Redrive(order.clone()), ends).await.unwrap()
    }

    /// Whether an event has a new version, and whether its delivery is parked, at the same moment.
    async fn revised_and_parked(&self, event: Uuid) -> (bool, bool) {
        let sql = "select exists (select from switchyard.revision where event_id = $1),
                          (select d.state = 'p' from switchyard.delivery d join switchyard.event_log e using (seq) where e.event_id = $1)";
        let row = self.ledger.one(sql, &[(&event, Type::UUID)]).await;
        (row.get(0), row.get(1))
    }

    /// The steward and the agent at work until the queue is empty. How often an event was handled.
    async fn work(&self, event: Uuid) -> usize {
        // A move in memory moves while it is looked at.
        while self.moves.list(DEAD_LETTERS).await.unwrap().iter().any(|task| task.status.is_running()) {}
        // What a stopped look had hidden is visible again; every hold is over.
        self.dead_letters.pass(Duration::from_secs(3_600));
        self.ledger.let_time_pass().await;
        send_due(&self.ledger.store, &self.queue, AGENT, 1_000, Overdue::Now).await.unwrap();
        let mut handled = 0;
        loop {
            let received = self.queue.receive(10, Duration::from_secs(30)).await.unwrap();
            if received.is_empty() {
                return handled;
            }
            for message in received {
                assert!(message.body.contains(&event.to_string()), "another event's message");
                handled += usize::from(self.ledger.claim(event).await == Verdict::Take);
                self.queue.delete(&[message.receipt_handle]).await;
            }
        }
    }
}

#[tokio::test]
async fn on_fifo_a_speed_is_refused_before_anything_is_done() {
    let mut world = RedriveWorld::new().await;
    let event = world.park().await;
    let mut place = world.redriver.directory.places().await.unwrap().agents.remove(0);
    place.queue_url = "queue.fifo".into();
    world.redriver.directory = MemoryDirectory::of(vec![place]);
    for dry_run in [true, false] {
        let order =
            Redrive { agent: AGENT.into(), operator: "ada".into(), per_second: Some(5), dry_run, ..Redrive::default() };
        let ends = tokio::time::Instant::now() + Duration::from_secs(60);
        let refused = world.redriver.answer(Request::Redrive(order), ends).await.unwrap_err();
        assert!(refused.contains("on FIFO") && refused.contains("at_most"), "{refused}");
    }
    assert_eq!((world.revised_and_parked(event).await.1, world.dead_letters.messages().len()), (true, 1));
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
    let world = RedriveWorld::new().await;
    let deadline = Instant::now() + Duration::from_secs(120);
    for waits in 0.. {
        assert!(Instant::now() < deadline, "it never came through");
        let event = world.park().await;

        let through = stopped_after(waits, world.ask(&order)).await;
        world.dead_letters.pass(Duration::from_secs(60));
        world.ask(&order).await;

        assert_eq!(world.work(event).await, 1, "after a stop at wait {waits}");
        assert!(world.ledger.row(event).await.is("n", "d"));
        // Copies that are left are of settled deliveries, which the steward removes.
        let left = world.dead_letters.receive(10, Duration::ZERO).await.unwrap();
        world
            .dead_letters
            .delete(&left.into_iter().map(|dead_letter| dead_letter.receipt_handle).collect::<Vec<_>>())
            .await;
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
    let world = RedriveWorld::new().await;
    let order = Redrive { subscription: true, ..everything() };
    let deadline = Instant::now() + Duration::from_secs(120);
    for waits in 0.. {
        assert!(Instant::now() < deadline, "it never came through");
        let event = world.ledger.event("thing.made").await;
        world.ledger.publish_all().await;
        let message = Message::new(format!("{{\"id\": \"{event}\"}}"));
        assert!(world.undelivered.send(&[message]).await.iter().all(Result::is_ok));

        let through = stopped_after(waits, world.ask(&order)).await;
        world.undelivered.pass(Duration::from_secs(60));
        world.ask(&order).await;

        assert_eq!(
            (world.work(event).await, world.undelivered.messages().len()),
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
    let world = RedriveWorld::new().await;
    let event = world.park().await;
    let (all, some) = (everything(), by_reason());

    let answers = tokio::join!(world.ask(&all), world.ask(&some), world.ask(&all), world.ask(&some), world.ask(&all));

    let redriven: i64 = [answers.0, answers.1, answers.2, answers.3, answers.4]
        .iter()
        .map(|answer| answer["deliveries"].as_i64().unwrap())
        .sum();
    assert_eq!(redriven, 1);
    assert_eq!(world.work(event).await, 1);
}

#[tokio::test]
async fn copies_of_what_goes_back_leave_the_queue_and_later_letters_stay() {
    let world = RedriveWorld::new().await;
    let (event, other) = (world.park().await, world.park().await);
    let order = Redrive { selection: Selection { events: vec![event], ..Selection::default() }, ..everything() };

    let answer = world.ask(&order).await;
    assert_eq!((answer["removed"].as_u64(), answer["sent"].as_u64()), (Some(1), Some(1)));
    world.dead_letter(event).await;
    world.ledger.park(event).await;

    let bodies: Vec<String> = world.dead_letters.messages().into_iter().map(|dead_letter| dead_letter.body).collect();
    assert_eq!(bodies.len(), 2, "{bodies:?}");
    assert!(
        bodies.iter().any(|body| body.contains(&other.to_string()))
            && bodies.iter().any(|body| body.contains(&event.to_string()))
    );
}

#[tokio::test]
async fn a_failed_event_without_a_delivery_leaves_the_list_once_its_letter_was_sent() {
    let world = RedriveWorld::new().await;
    world.unidentified("m").await;
    world.unidentified("whose dead letter is lost").await;
    let dead_letter = Message::new("{ no event".into())
        .text("reason", "malformed")
        .text("failed_at", "2026-01-05T09:30:00Z")
        .text("message_id", "m");
    assert!(world.dead_letters.send(&[dead_letter]).await.iter().all(Result::is_ok));
    let listed = async || -> i64 {
        world.ledger.store.parked(AGENT, &Selection::default()).await.unwrap().iter().map(|group| group.count).sum()
    };
    assert_eq!(listed().await, 2);

    let order =
        Redrive { selection: Selection { reasons: vec!["malformed".into()], ..Selection::default() }, ..everything() };
    let answer = world.ask(&order).await;

    assert_eq!(answer["sent"], 1);
    let left = (world.dead_letters.messages().len(), world.queue.messages().len(), listed().await);
    assert_eq!(left, (0, 1, 1), "what was not found stays on the list");
}

#[tokio::test]
async fn a_move_that_did_not_start_takes_nothing_off_the_list() {
    let world = RedriveWorld::new().await;
    world.unidentified("m").await;
    let dead_letter = Message::new("{ no event".into()).text("reason", "malformed").text("message_id", "m");
    assert!(world.dead_letters.send(&[dead_letter]).await.iter().all(Result::is_ok));
    let listed = async || world.ledger.store.parked(AGENT, &Selection::default()).await.unwrap().len();
    let refusing = Redriver {
        moves: Far(MemoryMoves::default().queue(QUEUE, &world.queue).queue(DEAD_LETTERS, &world.dead_letters)),
        ..world.redriver
    };

    let ends = tokio::time::Instant::now() + Duration::from_secs(60);
    let answer = refusing.answer(Request::Redrive(everything()), ends).await.unwrap();

    assert!(answer["trouble"].as_str().unwrap().contains("could not be started"), "{answer}");
    assert_eq!(listed().await, 1);
    let audit = world.ledger.store.audit(100).await.unwrap();
    let by_ada: Vec<&str> = audit.iter().rev().filter(|row| row.by == "ada").map(|row| row.action.as_str()).collect();
    assert_eq!(by_ada, ["redrive_ordered", "move_refused"], "the intention comes first");
}

/// So many parked deliveries, without letters.
fn many(deliveries: usize) -> String {
    format!(
        "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
         select gen_random_uuid(), 'thing.made', 'thing', gen_random_uuid(), '{{}}', '{{}}', 1 from generate_series(1, {deliveries});
         delete from switchyard.outbox;
         insert into switchyard.delivery (seq, run, agent, owner, state, reason)
         select l.seq, 0, a.id, 'n', 'p', 'boom' from switchyard.event_log l cross join switchyard.agent a"
    )
}

#[tokio::test]
async fn a_selection_of_more_than_a_page_goes_back_whole_and_no_further_than_its_number() {
    let world = RedriveWorld::new().await;
    world.ledger.run_sql(&many(2_100)).await;
    let first = Redrive { selection: Selection { at_most: Some(1_050), ..Selection::default() }, ..everything() };

    let dry = world.ask(&Redrive { dry_run: true, ..first.clone() }).await;
    let some = world.ask(&first).await;
    let rest = world.ask(&everything()).await;

    let told = |answer: &serde_json::Value| answer["deliveries"].as_i64();
    assert_eq!((told(&dry), told(&some), told(&rest)), (Some(1_050), Some(1_050), Some(1_050)));
    assert_eq!((some["sent"].as_i64(), world.queue.messages().len()), (Some(1_050), 2_100));
}

#[tokio::test]
async fn dead_letters_of_another_reader_are_not_counted_as_seen() {
    let world = RedriveWorld::new().await;
    world.park().await;
    world.park().await;
    let held = world.dead_letters.receive(1, Duration::from_secs(30)).await.unwrap();
    let ends = tokio::time::Instant::now() + Duration::from_secs(60);
    let inspect = Request::Inspect { agent: AGENT.into(), selection: Selection::default(), at_most: 100 };

    let while_held = world.redriver.answer(inspect.clone(), ends).await.unwrap();
    world.dead_letters.release(&[held[0].receipt_handle.clone()]).await;
    let then = world.redriver.answer(inspect, ends).await.unwrap();

    let told = |answer: &serde_json::Value| {
        let queue = &answer["queue"];
        (queue["seen"].as_u64(), queue["complete"].as_bool(), queue["hidden"].as_u64())
    };
    assert_eq!(told(&while_held), (Some(1), Some(false), Some(1)));
    assert_eq!(told(&then), (Some(2), Some(true), Some(0)));
}

#[tokio::test]
async fn a_second_cancellation_completes_an_interrupted_one() {
    let world = RedriveWorld::new().await;
    let event = world.park().await;
    world.ask(&Redrive { per_second: Some(1), ..everything() }).await;
    world.dead_letter(event).await;
    world.dead_letter(event).await;
    let running = world.moves.list(DEAD_LETTERS).await.unwrap().remove(0);
    // The first call was stopped before it had parked anything again.
    world.moves.cancel(&running.handle.unwrap()).await.unwrap();
    let redriver = Redriver {
        store: world.ledger.store.clone(),
        directory: world.redriver.directory,
        moves: Ending { moves: world.moves, inspected: AtomicBool::new(false) },
        open: world.redriver.open,
    };

    let answer = redriver.answer(cancel(), in_a_minute()).await.unwrap();

    assert_eq!((&answer["moving"]["status"], &answer["parked"]), (&"CANCELLED".into(), &1.into()), "{answer}");
    let again = redriver.answer(cancel(), in_a_minute()).await.unwrap();
    assert_eq!((&again["moving"]["status"], &again["parked"]), (&"CANCELLED".into(), &1.into()), "{again}");
}

fn cancel() -> Request {
    Request::Cancel { agent: AGENT.into(), operator: "ada".into() }
}

fn in_a_minute() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(60)
}

#[tokio::test]
async fn a_cancellation_stopped_anywhere_is_finished_by_doing_it_again() {
    let world = RedriveWorld::new().await;
    let deadline = Instant::now() + Duration::from_secs(120);
    for waits in 0.. {
        assert!(Instant::now() < deadline, "it never came through");
        let event = world.park().await;
        // Each look at the task moves one of them; more stay than it is looked at.
        for _ in 0..20 {
            world.dead_letter(event).await;
        }
        world.ask(&Redrive { per_second: Some(1), ..everything() }).await;

        let through = stopped_after(waits, world.redriver.answer(cancel(), in_a_minute())).await;
        world.dead_letters.pass(Duration::from_secs(60));
        let answer = world.redriver.answer(cancel(), in_a_minute()).await.unwrap();

        assert_eq!((&answer["moving"]["status"], answer.get("trouble")), (&"CANCELLED".into(), None), "{answer}");
        assert!(world.ledger.row(event).await.is("n", "p"), "after a stop at wait {waits}");
        for queue in [&world.dead_letters, &world.queue] {
            while let Some(left) = queue.receive(10, Duration::ZERO).await.unwrap().pop() {
                queue.delete(&[left.receipt_handle]).await;
            }
        }
        if through {
            assert!(waits > 10, "it waited {waits} times: this test stopped it nowhere");
            return;
        }
    }
}

#[tokio::test]
async fn a_cancellation_parks_more_than_one_look_shows_and_says_when_it_has_not_seen_all() {
    let world = RedriveWorld::new().await;
    world.ledger.run_sql(&many(2_100)).await;
    let parked = world.ledger.store.parked_deliveries(AGENT, &Selection::default(), None, 2_100).await.unwrap();
    for delivery in parked {
        world.dead_letter(delivery.event_id).await;
    }
    world.ask(&Redrive { per_second: Some(1), ..everything() }).await;

    let too_late = world.redriver.answer(cancel(), tokio::time::Instant::now()).await.unwrap();
    assert!(too_late["trouble"].as_str().unwrap().contains("do it again"), "{too_late}");
    let answer = world.redriver.answer(cancel(), in_a_minute()).await.unwrap();

    let stayed = world.dead_letters.messages().len();
    assert!(stayed > 2_000, "{stayed}");
    assert_eq!((answer["parked"].as_u64(), answer.get("trouble")), (Some(stayed as u64), None), "{answer}");
    assert_eq!(answer["dead_letters"].as_u64(), Some(stayed as u64), "all are put back");
}

#[tokio::test]
async fn a_cancellation_is_in_the_audit_before_it_is_done_or_is_not_done() {
    let world = RedriveWorld::new().await;
    let event = world.park().await;
    for _ in 0..20 {
        world.dead_letter(event).await;
    }
    world.ask(&Redrive { per_second: Some(1), ..everything() }).await;
    let refuse = |action: &str| {
        format!("alter table switchyard.audit add constraint {action} check (action <> '{action}') not valid")
    };

    world.ledger.run_sql(&refuse("move_cancel_ordered")).await;
    assert!(world.redriver.answer(cancel(), in_a_minute()).await.is_err());
    assert_eq!(world.moves.list(DEAD_LETTERS).await.unwrap()[0].status, MoveStatus::Running);
    world.ledger.run_sql("alter table switchyard.audit drop constraint move_cancel_ordered").await;
    world.ledger.run_sql(&refuse("move_cancelled")).await;
    world.redriver.answer(cancel(), in_a_minute()).await.unwrap();

    assert_eq!(world.moves.list(DEAD_LETTERS).await.unwrap()[0].status, MoveStatus::Cancelled);
    assert!(world.ledger.row(event).await.is("n", "p"), "the deed is done, so the rest is, too");
}

#[tokio::test]
async fn without_time_nothing_is_begun_and_that_is_said() {
    let world = RedriveWorld::new().await;
    let event = world.park().await;
    let now = tokio::time::Instant::now();
    let dismiss = Dismiss {
        agent: AGENT.into(),
        selection: Selection { reasons: vec!["boom".into()], ..Selection::default() },
        operator: "ada".into(),
        reason: "a test".into(),
        ..Dismiss::default()
    };

    let moved = world.redriver.answer(Request::Redrive(everything()), now).await.unwrap();
    let dismissed = world.redriver.answer(Request::Dismiss(dismiss), now).await.unwrap();

    for answer in [&moved, &dismissed] {
        assert_eq!(answer["deliveries"], 0);
        assert!(answer["trouble"].as_str().unwrap().contains("do it again"), "{answer}");
    }
    assert!(world.moves.list(DEAD_LETTERS).await.unwrap().is_empty(), "no move of what is parked still");
    assert!(world.ledger.row(event).await.is("n", "p"));
}

#[tokio::test]
async fn letters_without_an_event_go_before_the_table_takes_its_time() {
    let world = RedriveWorld::new().await;
    let deadline = Instant::now() + Duration::from_secs(120);
    for waits in 0.. {
        assert!(Instant::now() < deadline, "it never came through");
        let event = world.park().await;
        let loose = Message::new("{ no event".into()).text("reason", "boom").text("message_id", "m");
        assert!(world.dead_letters.send(&[loose]).await.iter().all(Result::is_ok));

        let through = stopped_after(waits, world.ask(&by_reason())).await;

        let forwarded = world.queue.messages().iter().any(|message| message.body == "{ no event");
        assert!(forwarded || world.ledger.row(event).await.is("n", "p"), "after a stop at wait {waits}");
        world.dead_letters.pass(Duration::from_secs(60));
        for queue in [&world.dead_letters, &world.queue] {
            while let Some(left) = queue.receive(10, Duration::ZERO).await.unwrap().pop() {
                queue.delete(&[left.receipt_handle]).await;
            }
        }
        if through {
            assert!(waits > 10, "it waited {waits} times: this test stopped it nowhere");
            return;
        }
    }
}

#[tokio::test]
async fn an_unreadable_event_is_parked_again_and_reported() {
    let world = RedriveWorld::new().await;
    world.ledger.run_sql(&many(2).replacen("'{}', 1 from", "'[]', 1 from", 1)).await;

    let answer = world.ask(&everything()).await;

    assert_eq!((answer["deliveries"].as_i64(), answer["sent"].as_i64()), (Some(2), Some(0)), "{answer}");
    assert!(answer["trouble"].as_str().unwrap().contains("2 cannot be read"), "{answer}");
}

#[tokio::test]
async fn an_edit_stopped_anywhere_has_done_both_or_nothing() {
    let world = RedriveWorld::new().await;
    let deadline = Instant::now() + Duration::from_secs(120);
    for waits in 0.. {
        assert!(Instant::now() < deadline, "it never came through");
        let event = world.park().await;
        let edit = Request::Edit {
            agent: AGENT.into(),
            event_id: event,
            payload: "{\"mended\": true}".into(),
            operator: "ada".into(),
            reason: "a test".into(),
        };
        let ends = tokio::time::Instant::now() + Duration::from_secs(60);

        let through = stopped_after(waits, world.redriver.answer(edit, ends)).await;

        // In one query: the server may still execute an abandoned statement.
        let (revised, parked) = world.revised_and_parked(event).await;
        assert_eq!(revised, !parked, "after a stop at wait {waits}");
        if parked {
            world.ask(&by_reason()).await;
        }
        assert_eq!(world.work(event).await, 1, "after a stop at wait {waits}");
        let left = world.dead_letters.receive(10, Duration::ZERO).await.unwrap();
        world
            .dead_letters
            .delete(&left.into_iter().map(|dead_letter| dead_letter.receipt_handle).collect::<Vec<_>>())
            .await;
        if through {
            assert!(waits > 5, "it waited {waits} times: this test stopped it nowhere");
            return;
        }
    }
}

#[tokio::test]
async fn what_neither_the_table_nor_the_queue_has_is_said_to_be_lost_and_stays_on_the_list() {
    let world = RedriveWorld::new().await;
    world.unidentified("m").await;

    let answer = world.ask(&everything()).await;

    assert_eq!(answer["way"], "nothing");
    assert!(answer["trouble"].as_str().unwrap().contains("lost"), "{answer}");
    assert!(answer["trouble"].as_str().unwrap().contains("within 15 minutes"), "or held back in the agent's queue");
    assert_eq!(world.ledger.store.parked(AGENT, &Selection::default()).await.unwrap().len(), 1);
}
