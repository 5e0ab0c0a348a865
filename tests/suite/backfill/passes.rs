//! What the steward's passes make of a backfill: queues and mappings in memory, the ledger a real one.

use super::world::{all, minute};
use crate::steward::world::{AGENT, StewardWorld, soon};
use std::{cell::RefCell, time::Duration};
use steward::{Limits, backfill::answer};
use switchyard_bus::{Message, Queue, Received};
use switchyard_event::Event;
use switchyard_operations::{
    backfill::{Act, BackfillRequest, Backfilled},
    pass::Pass,
};
use switchyard_store::{
    Ask, BackfillPhase, BackfillProgress, BackfillSelection, BackfillState, BreakerState, Mode, RoutingChange, Since,
    Verdict,
};
use switchyard_tests::eventually;
use tokio::time::Instant;
use uuid::Uuid;

impl StewardWorld {
    /// So many events that stood in the table before there was a log, a second apart, the oldest first.
    async fn history(&self, count: i64) -> Vec<Uuid> {
        self.run(&format!(
            "begin;
             alter table events disable trigger switchyard_log;
             insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version, created_at)
             select gen_random_uuid(), 'thing.made', 'thing', gen_random_uuid(), '{{}}', '{{}}', 1,
                    timestamptz '2020-01-01' + n * interval '1 second' from generate_series(1, {count}) n;
             alter table events enable always trigger switchyard_log;
             commit"
        ))
        .await;
        let rows =
            self.side.query("select id from events where created_at < '2021-01-01' order by created_at, id", &[]);
        rows.await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    async fn start(&self, per_second: u16) -> i32 {
        self.store.start_backfill(AGENT, &all(), per_second, "ada").await.unwrap()
    }

    /// As if nothing had been taken for a minute.
    async fn fill_bucket(&self) {
        self.run("update switchyard.backfill set spent_until = clock_timestamp() - interval '1 minute'").await;
    }

    async fn progress(&self) -> BackfillProgress {
        self.store.backfill_progress(AGENT).await.unwrap().unwrap()
    }

    /// A pass with so little time that it ends although something is still under way.
    async fn short_pass(&self) -> Pass {
        let reserve = Duration::from_secs(8);
        self.steward.pass(Instant::now() + reserve + Duration::from_secs(3)).await.unwrap()
    }

    /// The agent's function, for as long as `other` takes: claims what comes in batches, and says which run and event it took.
    async fn beside<T>(&self, taken: &RefCell<Vec<(i32, Uuid)>>, other: impl Future<Output = T>) -> T {
        tokio::select! {
            done = other => done,
            () = self.works(taken) => unreachable!("it works until nobody needs it"),
        }
    }

    async fn works(&self, taken: &RefCell<Vec<(i32, Uuid)>>) {
        loop {
            let batch = self.queue().receive(10, Duration::from_secs(300)).await.unwrap();
            if batch.is_empty() {
                tokio::task::yield_now().await;
                continue;
            }
            self.handle(batch, taken).await;
        }
    }

    async fn handle(&self, batch: Vec<Received>, taken: &RefCell<Vec<(i32, Uuid)>>) {
        let asks: Vec<Ask> = batch.iter().map(ask).collect();
        // What a connection that was ended did not do comes again, as from any queue.
        let Ok(mut tx) = self.store.begin().await else { return self.again(&batch) };
        let Ok(standings) = tx.claim(AGENT, &asks).await else { return self.again(&batch) };
        if tx.commit().await.is_err() {
            return self.again(&batch);
        }
        let took = standings.iter().zip(&asks).filter(|(standing, _)| standing.verdict == Verdict::Take);
        taken.borrow_mut().extend(took.map(|(_, ask)| (ask.run, ask.event_id)));
        let handles: Vec<String> = batch.into_iter().map(|received| received.receipt_handle).collect();
        self.queue().delete(&handles).await;
    }

    fn again(&self, batch: &[Received]) {
        let handles: Vec<String> = batch.iter().map(|received| received.receipt_handle.clone()).collect();
        self.queue().set_visibility(&handles, Duration::ZERO);
    }
}

fn ask(received: &Received) -> Ask {
    let number = |name| received.attributes.get(name).map(|n| n.parse().unwrap());
    let event_id = Event::parse(&received.body).unwrap().id;
    Ask { event_id, run: number("run").unwrap_or(0), epoch: number("epoch") }
}

fn backfilled(pass: &Pass) -> &Backfilled {
    assert_eq!(pass.troubles, Vec::<String>::new());
    let [one] = pass.backfills.as_slice() else { panic!("one backfill: {pass:?}") };
    one
}

#[tokio::test]
async fn a_pass_numbers_counts_sends_in_order_and_ends_it() {
    let world = StewardWorld::new().await;
    let events = world.history(120).await;
    let run = world.start(1_000).await;
    let taken = RefCell::default();

    let pass = world.beside(&taken, world.pass()).await;

    let done = backfilled(&pass);
    assert_eq!((done.taken, done.sent, done.stands), (120, 120, Some(BackfillState::Done)));
    assert_eq!(*taken.borrow(), events.iter().map(|event| (run, *event)).collect::<Vec<_>>());
    let progress = world.progress().await;
    assert_eq!((progress.state, progress.done, progress.pending), (BackfillState::Done, 120, 0));
    assert!(world.pass().await.backfills.is_empty(), "there is none any more");
}

#[tokio::test]
async fn without_a_backfill_a_pass_sends_none() {
    let world = StewardWorld::new().await;
    world.history(3).await;
    assert!(world.pass().await.backfills.is_empty());
    assert_eq!(world.number("select count(*) from switchyard.event_log").await, 0);
}

#[tokio::test]
async fn the_queue_never_holds_more_of_it_than_a_second_s_worth_and_a_hundred_at_most() {
    for (per_second, at_a_time) in [(20, 20), (1_000, 100)] {
        let world = StewardWorld::new().await;
        world.history(300).await;
        world.start(per_second).await;
        for _ in 0..3 {
            world.short_pass().await;
            world.fill_bucket().await;
        }
        assert_eq!(world.queue().messages().len(), at_a_time, "nobody handles them, so no more come");
    }
}

#[tokio::test]
async fn a_live_event_is_handled_before_all_but_a_hundred_of_a_backfill() {
    let world = StewardWorld::new().await;
    let history = world.history(800).await;
    let run = world.start(1_000).await;
    let taken: RefCell<Vec<(i32, Uuid)>> = RefCell::default();
    // Whenever sixty more of history are done, a live event comes: how many of history were done by then.
    let live: RefCell<Vec<(Uuid, usize)>> = RefCell::default();
    let application = async {
        loop {
            let done = taken.borrow().iter().filter(|(of, _)| *of == run).count();
            if done >= live.borrow().len() * 60 {
                let event = world.lost(1).await[0];
                let body = format!(
                    r#"{{"id":"{event}","type":"thing.made","aggregate_type":"thing","aggregate_id":"{event}","payload":{{}},"version":1,"metadata":{{"timestamp":"2026-01-01T00:00:00Z"}}}}"#
                );
                live.borrow_mut().push((event, done));
                world.queue().send(&[Message::new(body).number("run", 0)]).await;
            }
            tokio::task::yield_now().await;
        }
    };
    let backfill = async {
        while world.progress().await.state == BackfillState::Running {
            world.pass().await;
        }
    };
    world
        .beside(&taken, async {
            tokio::select! {
                () = backfill => {}
                () = application => unreachable!("the application does not end"),
            }
        })
        .await;

    let taken = taken.into_inner();
    assert_eq!(taken.iter().filter(|(of, _)| *of == run).count(), history.len());
    let live = live.into_inner();
    assert!(live.len() >= 10, "{}", live.len());
    for (event, done) in live {
        let Some(place) = taken.iter().position(|(of, id)| (*of, *id) == (0, event)) else { continue };
        let before = taken[..place].iter().filter(|(of, _)| *of == run).count();
        assert!(before - done <= 110, "{} of history overtook a live event", before - done);
    }
}

#[tokio::test]
async fn while_the_queue_holds_what_is_live_nothing_of_it_is_sent_and_then_it_goes_on() {
    let world = StewardWorld::new().await;
    world.history(10).await;
    world.start(100).await;
    let flood: Vec<Message> = (0..150).map(|n| Message::new(format!("live {n}"))).collect();
    world.queue().send(&flood).await;

    let pass = world.short_pass().await;

    assert_eq!((backfilled(&pass).taken, world.queue().messages().len()), (0, 150));
    let progress = world.progress().await;
    assert_eq!((progress.phase, progress.taken), (BackfillPhase::Sending, 0), "what is prepared disturbs nobody");
    assert_eq!(progress.waits.as_deref(), Some("its queue holds 150 other messages"));

    while world.queue().messages().len() > 100 {
        let handles = handles(world.queue().receive(10, Duration::from_secs(60)).await.unwrap());
        world.queue().delete(&handles).await;
    }
    assert_eq!(backfilled(&world.short_pass().await).taken, 10);
    assert_eq!(world.progress().await.waits, None);
}

fn handles(received: Vec<Received>) -> Vec<String> {
    received.into_iter().map(|received| received.receipt_handle).collect()
}

#[tokio::test]
async fn it_stands_still_for_an_agent_that_does_not_run_or_owns_nothing_and_says_why() {
    let world = StewardWorld::new().await;
    world.history(5).await;
    world.start(100).await;
    let stands = async |why: &str| {
        let pass = world.pass().await;
        let [one] = pass.backfills.as_slice() else { panic!("{pass:?}") };
        assert_eq!((one.taken, one.waits.as_deref()), (0, Some(why)));
        assert_eq!(world.progress().await.waits.as_deref(), Some(why));
    };
    world.store.force_breaker(AGENT, Some(BreakerState::Open), "ada").await.unwrap();
    stands("its breaker is not closed").await;
    world.store.force_breaker(AGENT, None, "ada").await.unwrap();
    world.run("update switchyard.breaker set state = 'closed'").await;
    world.store.set_paused(AGENT, &["painter/mapping"], false).await.unwrap();
    switchyard_bus::Mappings::set_enabled(&world.mappings, "painter/mapping", false).await.unwrap();
    stands("its mapping is off").await;
    switchyard_bus::Mappings::set_enabled(&world.mappings, "painter/mapping", true).await.unwrap();
    let lever = |mode| RoutingChange { mode, drain: false, beside: false };
    world.store.set_routing(AGENT, lever(Mode::Off), "ada").await.unwrap();
    stands("the routing gives it nothing").await;
    world.store.set_routing(AGENT, lever(Mode::Full), "ada").await.unwrap();
    assert_eq!(backfilled(&world.short_pass().await).taken, 5);
}

#[tokio::test]
async fn an_agent_that_is_not_deployed_is_waited_for() {
    let world = StewardWorld::of(&[]).await;
    world.register(AGENT, Since::Now).await;
    world.history(2).await;
    world.start(100).await;
    let pass = world.pass().await;
    assert!(pass.backfills[0].waits.as_ref().unwrap().contains("not deployed"));
    assert_eq!(world.number("select count(*) from switchyard.delivery").await, 0);
}

#[tokio::test]
async fn a_refusing_queue_is_reported_and_its_deliveries_are_due_again() {
    let world = StewardWorld::new().await;
    let events = world.history(60).await;
    let run = world.start(30).await;
    world.short_pass().await;
    world.fill_bucket().await;
    world.short_pass().await;
    assert_eq!(world.queue().messages().len(), 30);
    world.queues.break_down("painter/queue");
    world.later(Duration::from_secs(3_600)).await;
    assert!(world.short_pass().await.troubles.iter().any(|line| line.contains("the backfill of painter: its queue")));
    world.queues.mend("painter/queue");

    // As if the queue had lost what it held.
    let lost = handles(world.queue().receive(100, Duration::from_secs(60)).await.unwrap());
    world.queue().delete(&lost).await;
    let taken: RefCell<Vec<(i32, Uuid)>> = RefCell::default();
    while world.progress().await.state == BackfillState::Running {
        world.later(Duration::from_secs(3_600)).await;
        world.beside(&taken, world.short_pass()).await;
    }
    let mut done = taken.into_inner();
    done.sort_unstable();
    let mut expected: Vec<(i32, Uuid)> = events.iter().map(|event| (run, *event)).collect();
    expected.sort_unstable();
    assert_eq!(done, expected);
}

#[tokio::test]
async fn with_more_backfills_than_a_pass_can_run_each_gets_a_turn() {
    let agents = ["one", "two", "three", "four", "five"];
    let world = StewardWorld::of(&agents).await;
    for agent in agents {
        world.register(agent, Since::Now).await;
    }
    world.history(600).await;
    for agent in agents {
        world.store.start_backfill(agent, &all(), 1, "ada").await.unwrap();
    }
    let begun = "select count(*) from switchyard.backfill where taken > 0";
    eventually("each has begun", async || {
        world.short_pass().await;
        world.fill_bucket().await;
        (world.number(begun).await == 5).then_some(())
    })
    .await;
}

#[tokio::test]
async fn two_stewards_at_once_send_nothing_twice() {
    let world = StewardWorld::new().await;
    let events = world.history(300).await;
    world.start(1_000).await;
    let (other, taken) = (world.another(Limits::DEFAULT), RefCell::default());

    let both = async { tokio::join!(world.steward.pass(soon()), other.pass(soon())) };
    let (one, two) = world.beside(&taken, both).await;

    let sent: Vec<usize> =
        [one, two].iter().map(|pass| pass.as_ref().unwrap().backfills.iter().map(|b| b.sent).sum()).collect();
    assert_eq!(sent.iter().sum::<usize>(), 300, "{sent:?}");
    let order: Vec<Uuid> = taken.borrow().iter().map(|(_, event)| *event).collect();
    assert_eq!(order.len(), 300);
    assert_eq!(world.progress().await.done, 300);
    assert!(events.iter().all(|event| order.contains(event)));
}

#[tokio::test]
async fn cut_off_at_any_moment_it_goes_on_exactly_where_it_was() {
    let world = StewardWorld::new().await;
    let events = world.history(400).await;
    let run = world.start(1_000).await;
    let taken: RefCell<Vec<(i32, Uuid)>> = RefCell::default();
    let cuts = RefCell::new(0);
    let cutting = async {
        loop {
            let end = format!(
                "select count(*) filter (where pg_terminate_backend(pid)) from pg_stat_activity
                  where datname = current_database() and pid <> pg_backend_pid() and pid % 2 = {}",
                fastrand::u8(0..2)
            );
            *cuts.borrow_mut() += world.number(&end).await;
            for _ in 0..fastrand::u32(1..400) {
                tokio::task::yield_now().await;
            }
        }
    };
    let passing = async {
        // Sixty cuts, then in peace.
        let running = "select count(*) from switchyard.backfill where state = 'running'";
        while *cuts.borrow() < 60 && world.number(running).await > 0 {
            let _ = world.steward.pass(Instant::now() + Duration::from_millis(8_300)).await;
        }
    };
    world
        .beside(&taken, async {
            tokio::select! {
                () = passing => {}
                () = cutting => unreachable!("it cuts until it is stopped"),
            }
        })
        .await;
    eventually("all of it", async || {
        // Whatever was leased and not sent, or received and not handled, comes again.
        world.later(Duration::from_secs(3_600)).await;
        let _ = world.beside(&taken, world.steward.pass(Instant::now() + Duration::from_millis(9_000))).await;
        (world.progress().await.state == BackfillState::Done).then_some(())
    })
    .await;

    assert!(*cuts.borrow() > 0);
    let progress = world.progress().await;
    assert_eq!((progress.selected, progress.taken, progress.done), (400, 400, 400), "{progress:?}");
    let rows = "select count(*) from switchyard.delivery where run > 0 and state = 'd'";
    assert_eq!(world.number(rows).await, 400);
    assert_eq!(
        world.number("select count(distinct seq) from switchyard.event_log where seq between -400 and -1").await,
        400
    );
    // A commit whose answer was cut off was made: no event was taken twice, and none is missing in the ledger.
    let mut taken = taken.into_inner();
    let heard = taken.len();
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken.len(), heard);
    assert!(taken.iter().all(|(of, event)| *of == run && events.contains(event)));
}

#[tokio::test]
async fn a_request_returns_the_progress() {
    let world = StewardWorld::new().await;
    world.history(8).await;
    let ask = async |act, selection: Option<BackfillSelection>, per_second| {
        let request = BackfillRequest { agent: AGENT.into(), act, selection, per_second, operator: "ada".into() };
        answer(&world.store, request).await
    };
    assert_eq!(ask(Act::Progress, None, None).await.unwrap().progress, None);
    let part = BackfillSelection { until: Some(minute(0).replace(":00Z", ":06Z")), ..all() };
    let preview = ask(Act::Preview, Some(part), None).await.unwrap();
    assert_eq!((preview.preview.unwrap()[0].events, preview.progress), (5, None));
    let started = ask(Act::Start, Some(all()), Some(7)).await.unwrap().progress.unwrap();
    assert_eq!((started.state, started.per_second), (BackfillState::Running, 7));
    assert!(ask(Act::Start, Some(all()), None).await.unwrap_err().to_string().contains("running backfill"));
    let paused = ask(Act::Pause, None, None).await.unwrap().progress.unwrap();
    assert_eq!(paused.state, BackfillState::Paused);
    assert!(world.pass().await.backfills.is_empty(), "nobody's step");
    let going = ask(Act::Resume, None, Some(9)).await.unwrap().progress.unwrap();
    assert_eq!((going.state, going.per_second), (BackfillState::Running, 9));
    world.short_pass().await;
    world.fill_bucket().await;
    world.short_pass().await;
    let ended = ask(Act::Cancel, None, None).await.unwrap();
    assert_eq!(ended.progress.unwrap().state, BackfillState::Cancelled);
    assert_eq!(ended.cancelled, Some(8));
}
