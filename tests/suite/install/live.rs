//! An installation while the application is at work: no writer waits longer than the limit.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::shop::empty;
use switchyard_store::{Progress, StoreError, WaitPolicy, migrate_with, remove};
use switchyard_tests::{database::Database, eventually};
use tokio_postgres::Client;

/// A table of the customary form with a few thousand rows of history.
const BUSY: &str = "create table events (id uuid primary key, type text, aggregate_type text, aggregate_id uuid, payload jsonb, metadata jsonb,
      version integer, created_at timestamptz default now());
    create index on events (created_at);
    insert into events (id, type, payload) select gen_random_uuid(), 'old.news', '{}' from generate_series(1, 5000)";

/// What an operator agrees to here.
const LOCK_TIMEOUT: Duration = Duration::from_millis(400);
/// What a statement may take beside the wait for a lock, on a machine that has other work.
const MARGIN: Duration = Duration::from_millis(1_600);

/// The application: clients that insert one event after the other until they are told to stop.
#[derive(Default)]
struct Application {
    stop: AtomicBool,
    longest: Mutex<Duration>,
}

impl Application {
    /// Each row says whose it is (`type`) and the how-manieth of its client (`version`).
    async fn write(&self, client: &Client, writer: usize) -> i32 {
        let mut written = 0;
        while !self.stop.load(Ordering::Relaxed) {
            written += 1;
            let insert = format!(
                "insert into events (id, type, version) values (gen_random_uuid(), 'writer.{writer}', {written})"
            );
            let begun = Instant::now();
            client.batch_execute(&insert).await.expect("the application's insert never fails because of us");
            let mut longest = self.longest.lock().unwrap();
            *longest = longest.max(begun.elapsed());
        }
        written
    }

    fn longest(&self) -> Duration {
        *self.longest.lock().unwrap()
    }
}

/// What an installation told, and the way to hear of it while it goes on.
#[derive(Default)]
struct Told {
    busy: Mutex<Vec<String>>,
    done: Mutex<Vec<String>>,
}

impl Told {
    fn hear(&self, progress: Progress<'_>) {
        match progress {
            Progress::Busy { what, .. } => self.busy.lock().unwrap().push(what.to_owned()),
            Progress::Done(what) => self.done.lock().unwrap().push(what.to_owned()),
        }
    }

    fn times_busy(&self) -> usize {
        self.busy.lock().unwrap().len()
    }
}

async fn clients<const N: usize>(database: &Database) -> [Client; N] {
    let mut clients = Vec::new();
    for _ in 0..N {
        clients.push(database.connect().await);
    }
    clients.try_into().map_err(|_| "so many").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_wait_no_longer_than_the_limit_and_a_reader_that_never_ends_blocks_no_writer() {
    let (database, holder) = empty(BUSY).await;
    let url = database.url().parse().unwrap();
    let (application, told) = (Application::default(), Told::default());
    let [one, two, three, reader, side] = clients(&database).await;
    // A report that runs all the time, and a transaction that has written and does not come to its end.
    reader.batch_execute("begin isolation level repeatable read; select count(*) from events").await.unwrap();
    holder.batch_execute("begin; insert into events (id, type) values (gen_random_uuid(), 'slow')").await.unwrap();

    let hear = |progress: Progress<'_>| told.hear(progress);
    let patience = WaitPolicy { lock_timeout: LOCK_TIMEOUT, report: &hear, ..WaitPolicy::default() };
    let installation = async {
        let migrated = migrate_with(&url, None, &patience).await;
        application.stop.store(true, Ordering::Relaxed);
        migrated.unwrap()
    };
    let in_its_way = async {
        // By then it has tried with its longest wait.
        eventually("the installation was held up four times", async || (told.times_busy() >= 4).then_some(())).await;
        holder.batch_execute("commit").await.unwrap();
    };
    let (migrated, (), first, second, third) = tokio::join!(
        installation,
        in_its_way,
        application.write(&one, 1),
        application.write(&two, 2),
        application.write(&three, 3)
    );

    println!(
        "{} inserts, the longest {:?}, held up {} times",
        first + second + third,
        application.longest(),
        told.times_busy()
    );
    assert!(application.longest() <= LOCK_TIMEOUT + MARGIN, "{:?}", application.longest());
    assert!(told.busy.lock().unwrap().iter().all(|what| what == "log_trigger"), "only the trigger waits for writers");
    assert_eq!(*told.done.lock().unwrap(), [&migrated.applied[..], &migrated.triggers[..]].concat());
    reader.batch_execute("select count(*) from events; commit").await.unwrap();

    // Of each client the first events are history, and from some event on every one is logged.
    let gaps = "select count(*) from (
        select l.seq is not null as logged, lag(l.seq is not null) over (partition by e.type order by e.version) as before
          from events e left join switchyard.event_log l on l.event_id = e.id where e.type like 'writer.%') x where before and not logged";
    assert_eq!(side.query_one(gaps, &[]).await.unwrap().get::<_, i64>(0), 0);
    let written = side.query_one("select count(*) from events where type like 'writer.%'", &[]).await.unwrap();
    assert_eq!(written.get::<_, i64>(0), i64::from(first + second + third));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_keeps_to_the_same_bound_for_readers_too() {
    let (database, holder) = empty(BUSY).await;
    let url = database.url().parse().unwrap();
    migrate_with(&url, None, &WaitPolicy::default()).await.unwrap();
    let (application, told) = (Application::default(), Told::default());
    let [one, two] = clients(&database).await;
    holder.batch_execute("begin; select count(*) from events").await.unwrap();

    let hear = |progress: Progress<'_>| told.hear(progress);
    let patience = WaitPolicy { lock_timeout: LOCK_TIMEOUT, report: &hear, ..WaitPolicy::default() };
    let removal = async {
        let removed = remove(&url, &patience).await;
        application.stop.store(true, Ordering::Relaxed);
        removed.unwrap()
    };
    let in_its_way = async {
        eventually("the removal was held up twice", async || (told.times_busy() >= 2).then_some(())).await;
        holder.batch_execute("commit").await.unwrap();
    };
    let (removed, (), _, _) = tokio::join!(removal, in_its_way, application.write(&one, 1), application.write(&two, 2));
    assert_eq!(removed.unwrap().on_the_applications_tables, ["trigger switchyard_log on public.events"]);
    assert!(application.longest() <= LOCK_TIMEOUT + MARGIN, "{:?}", application.longest());
}

#[tokio::test]
async fn an_installation_that_never_finds_a_gap_says_so_and_goes_on_the_next_time() {
    let (database, holder) = empty(BUSY).await;
    let url = database.url().parse().unwrap();
    holder.batch_execute("begin; insert into events (id, type) values (gen_random_uuid(), 'slow')").await.unwrap();
    let hear = |_: Progress<'_>| {};
    let hasty = WaitPolicy { lock_timeout: Duration::from_millis(50), at_most: Duration::ZERO, report: &hear };
    let given_up = migrate_with(&url, None, &hasty).await.unwrap_err();
    assert!(matches!(given_up, StoreError::Conflict { .. }), "{given_up}");
    holder.batch_execute("insert into events (id, type) values (gen_random_uuid(), 'slow'); commit").await.unwrap();
    let migrated = migrate_with(&url, None, &hasty).await.unwrap();
    assert_eq!(migrated.applied[0], "log_trigger", "what was done stays done");
}
