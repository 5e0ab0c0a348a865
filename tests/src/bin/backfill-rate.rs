//! How fast a backfill goes through a table, and what the application's inserts notice of it.
//!
//! `backfill-rate [--events N] [--project-to N]`. Each step's pace is told for its first and its last tenth, so that whatever grows with the square of the
//! table shows. Deliveries are claimed as an agent claims them, ten in a transaction, by this same process. The last column is what an insert of
//! the application takes meanwhile, one every ten milliseconds.
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a measurement prints its figures, and a failure ends it")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use switchyard_store::{AgentSpec, Ask, BackfillPhase, BackfillSelection, BackfillState, Mode, RoutedBy, Since, Store};
use switchyard_tests::database::Database;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_postgres::Client;

const AGENT: &str = "painter";
/// How many claims an agent makes in a transaction.
const BATCH: usize = 10;
/// How many deliveries are under way at a time.
const UNDER_WAY: u32 = 100;

#[tokio::main]
async fn main() {
    let number = |name: &str, default: u32| {
        let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
        arguments.next().map_or(default, |value| value.parse().expect("a whole number"))
    };
    let (events, projected) = (number("--events", 200_000), number("--project-to", 5_000_000));
    let database = Database::migrated().await;
    let (store, side) = (database.store(), database.connect().await);
    fill(&side, events).await;
    let measurement = Measurement { events, projected, store, side, database };
    measurement.run().await;
}

/// History in no order on disk, of two types of which one is backfilled, over five years.
async fn fill(side: &Client, events: u32) {
    side.batch_execute(&format!(
        "alter table events disable trigger switchyard_log;
         insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version, created_at)
         select gen_random_uuid(), case n % 5 when 0 then 'thing.sold' else 'thing.made' end, 'thing', gen_random_uuid(),
                jsonb_build_object('title', repeat('words ', 50)), jsonb_build_object('project_id', n % 100), 1,
                timestamptz '2019-01-01' + random() * interval '5 years' from generate_series(1, {events}) n;
         alter table events enable always trigger switchyard_log"
    ))
    .await
    .expect("the history");
    side.batch_execute("vacuum analyze events").await.expect("its figures");
}

struct Measurement {
    events: u32,
    projected: u32,
    store: Store,
    side: Client,
    database: Database,
}

/// How long each window took, and how many events it brought.
#[derive(Default)]
struct Windows {
    all: Vec<(Duration, usize)>,
}

impl Windows {
    fn rate(some: &[(Duration, usize)]) -> f64 {
        let time: Duration = some.iter().map(|(time, _)| *time).sum();
        some.iter().map(|(_, n)| *n as f64).sum::<f64>() / time.as_secs_f64().max(0.001)
    }

    fn of_all(&self) -> f64 {
        Self::rate(&self.all)
    }

    fn first_and_last_tenth(&self) -> (f64, f64) {
        let tenth = (self.all.len() / 10).max(1);
        (Self::rate(&self.all[..tenth]), Self::rate(&self.all[self.all.len() - tenth..]))
    }
}

impl Measurement {
    async fn run(&self) {
        let spec = AgentSpec {
            name: AGENT.into(),
            subscribes: vec!["thing.made".into(), "thing.live".into()],
            routed_by: RoutedBy::Aggregate,
            max_attempts: 4,
        };
        self.store.register(&spec, Mode::Full, Since::Now).await.expect("the agent");
        let url = self.database.url().parse().expect("our own address");
        let start = Instant::now();
        switchyard_store::index_history(&url).await.expect("the index");
        println!("{} events, the index on time and id made in {:.1} s", self.events, start.elapsed().as_secs_f64());
        let selection = BackfillSelection {
            types: vec!["thing.made".into()],
            projects: Vec::new(),
            since: "2000-01-01T00:00:00Z".into(),
            until: None,
        };
        let start = Instant::now();
        let preview = self.store.preview_backfill(AGENT, &selection).await.expect("a preview");
        println!("a dry run counts {} of them in {:.1} s", preview[0].events, start.elapsed().as_secs_f64());

        println!(
            "{:<22}{:>12}{:>16}{:>16}{:>16}   insert p50, p99",
            "",
            "per second",
            "first tenth",
            "last tenth",
            format!("{} take", self.projected)
        );
        let alone = self.beside_inserts(async { tokio::time::sleep(Duration::from_secs(5)).await }).await.1;
        println!("{:<22}{:>60}   {alone}", "nothing", "");
        self.store.start_backfill(AGENT, &selection, 1_000, "bench").await.expect("a backfill");
        for (what, phase) in [("numbering", BackfillPhase::Numbering), ("counting", BackfillPhase::Counting)] {
            let (windows, inserts) = self.beside_inserts(self.prepare(phase)).await;
            self.tell(what, &windows, &inserts);
        }
        let (windows, inserts) = self.beside_inserts(self.send()).await;
        self.tell("taking and claiming", &windows, &inserts);

        let start = Instant::now();
        let progress = self.store.backfill_progress(AGENT).await.expect("the progress").expect("a backfill");
        println!(
            "its progress is asked in {:.1} ms: {} selected, {} done",
            start.elapsed().as_secs_f64() * 1e3,
            progress.selected,
            progress.done
        );
        assert_eq!((progress.state, progress.done), (BackfillState::Done, progress.selected), "all of it is done");
    }

    fn tell(&self, what: &str, windows: &Windows, inserts: &str) {
        let (first, last) = windows.first_and_last_tenth();
        let projected = f64::from(self.projected) / windows.of_all() / 60.0;
        println!("{what:<22}{:>12.0}{first:>16.0}{last:>16.0}{:>12.1} min   {inserts}", windows.of_all(), projected);
    }

    /// Windows of one phase, each with what it got through.
    async fn prepare(&self, phase: BackfillPhase) -> Windows {
        let mut windows = Windows::default();
        let sql = "select case phase when 'numbering' then -first_seq else cursor_seq - first_seq + 1 end from switchyard.backfill";
        let place = async || self.side.query_one(sql, &[]).await.expect("its place").get::<_, i64>(0);
        let mut before = place().await;
        loop {
            self.store.tick().await.expect("a tick");
            let start = Instant::now();
            let prepared = self.store.prepare_backfill(AGENT).await.expect("a window");
            let took = start.elapsed();
            if prepared.phase != phase {
                windows.all.push((took, (i64::from(self.events) - before).max(0) as usize));
                // The last one may only find that there is nothing left.
                windows.all.retain(|(_, n)| *n > 0);
                return windows;
            }
            let now = place().await;
            windows.all.push((took, (now - before).max(0) as usize));
            before = now;
        }
    }

    /// Takes and claims until it is done.
    async fn send(&self) -> Windows {
        let mut windows = Windows::default();
        loop {
            // As if time were no object: what is measured is not the rate that was asked for.
            self.side
                .execute("update switchyard.backfill set spent_until = clock_timestamp() - interval '1 minute'", &[])
                .await
                .expect("a full bucket");
            let start = Instant::now();
            let taken = self.store.take_backfill(AGENT, UNDER_WAY, UNDER_WAY).await.expect("a window");
            if taken.state == BackfillState::Done {
                return windows;
            }
            let seqs: Vec<i64> = taken.due.iter().map(|due| due.seq).collect();
            let events = self.store.events(&seqs).await.expect("the events");
            for (due, events) in taken.due.chunks(BATCH).zip(events.chunks(BATCH)) {
                let asks: Vec<Ask> = events
                    .iter()
                    .zip(due)
                    .map(|(event, due)| Ask { event_id: event.id, run: due.run, epoch: Some(due.epoch) })
                    .collect();
                let mut tx = self.store.begin().await.expect("a transaction");
                tx.claim(AGENT, &asks).await.expect("a claim");
                tx.commit().await.expect("a commit");
            }
            if !seqs.is_empty() {
                windows.all.push((start.elapsed(), seqs.len()));
            }
        }
    }

    /// What `other` comes to, and how long the application's inserts took meanwhile.
    async fn beside_inserts<T>(&self, other: impl Future<Output = T>) -> (T, String) {
        let ends = Arc::new(AtomicBool::new(false));
        let inserting = tokio::spawn(inserts(self.database.connect().await, Arc::clone(&ends)));
        let done = other.await;
        ends.store(true, Ordering::Relaxed);
        let mut took = inserting.await.expect("the inserts");
        took.sort_unstable();
        let quantile = |q: f64| took.get((took.len() as f64 * q) as usize).map_or(0.0, |time| time.as_secs_f64() * 1e3);
        (done, format!("{:.1} ms, {:.1} ms ({})", quantile(0.5), quantile(0.99), took.len()))
    }
}

async fn inserts(application: Client, ends: Arc<AtomicBool>) -> Vec<Duration> {
    let mut took = Vec::new();
    let mut ticks = interval(Duration::from_millis(10));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let insert = "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
                  values (gen_random_uuid(), 'thing.live', 'thing', gen_random_uuid(), '{}', '{}', 1)";
    while !ends.load(Ordering::Relaxed) {
        ticks.tick().await;
        let start = Instant::now();
        application.batch_execute(insert).await.expect("the application's insert");
        took.push(start.elapsed());
    }
    took
}
