//! The shim's promise where everything goes on at once: writers that commit late or not at all, transactions that never end, a topic that refuses
//! and loses its answers, and several shims that come, go, freeze and die.

use super::publishing::{LEFT, number, sweeping};
use shim::{Publisher, Settings, Times};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use switchyard_bus::{BusError, Message, Published, Refused, Topic};
use switchyard_event::Event;
use switchyard_tests::{Database, eventually};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_postgres::Client;
use uuid::Uuid;

const SEED: u64 = 20_260_105;
const WRITERS: u64 = 64;
const TRANSACTIONS: u32 = 12;
const AGGREGATES: u128 = 48;
const SHIMS: u64 = 4;
/// As in production, and twelve times as fast.
const TIMES: Times = Times {
    lease: Duration::from_millis(900),
    renew: Duration::from_millis(150),
    ask: Duration::from_millis(20),
    call: Duration::from_millis(300),
};

/// An insert that was committed: its transaction began to insert and was known to be committed at these times.
struct Written {
    id: Uuid,
    aggregate: u128,
    began: Instant,
    committed: Instant,
}

/// A call in flight: of which shim, since when, and whether it was decided on before its process froze.
struct Call {
    shim: u64,
    began: Instant,
    stale: bool,
}

/// What the topic has seen.
#[derive(Default)]
struct Seen {
    /// Every copy, in the order in which they came.
    published: Vec<(u64, Uuid)>,
    calls: HashMap<String, Call>,
    /// Aggregates that two shims published at the same time.
    overlaps: Vec<String>,
    refused: u32,
    lost: u32,
    frozen: u32,
}

/// A topic with every fault that one may have, for one life of one shim.
struct Stormy {
    shim: u64,
    random: RefCell<fastrand::Rng>,
    seen: Arc<Mutex<Seen>>,
    /// When it last stood still, and went on again.
    thawed: Cell<Option<Instant>>,
}

impl Stormy {
    /// The whole process stands still, past its lease; then it goes on as if nothing had been.
    fn freeze(&self) {
        self.seen.lock().unwrap().frozen += 1;
        thread::sleep(TIMES.lease * 2);
        self.thawed.set(Some(Instant::now()));
    }

    /// Whether calls may still begin that were decided on before the process stood still. No lease can keep those from being a copy.
    fn is_stale(&self) -> bool {
        self.thawed.get().is_some_and(|thawed| thawed.elapsed() < TIMES.call)
    }
}

/// An aggregate's entry among the calls in flight, removed with the call however it ends.
struct Underway {
    shim: u64,
    aggregates: Vec<String>,
    seen: Arc<Mutex<Seen>>,
}

impl Underway {
    fn enter(shim: u64, stale: bool, events: &[Event], seen: &Arc<Mutex<Seen>>) -> Self {
        let mut all = seen.lock().unwrap();
        let aggregates: Vec<String> = events.iter().map(|event| event.aggregate_id.clone()).collect();
        for aggregate in &aggregates {
            let call = Call { shim, began: Instant::now(), stale };
            // A call that goes on for longer than a call may is one of a process that stood still, and proves nothing.
            if let Some(other) = all.calls.insert(aggregate.clone(), call)
                && other.shim != shim
                && !stale
                && !other.stale
                && other.began.elapsed() < TIMES.call
            {
                all.overlaps.push(aggregate.clone());
            }
        }
        Self { shim, aggregates, seen: Arc::clone(seen) }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let mut all = self.seen.lock().unwrap();
        for aggregate in &self.aggregates {
            if all.calls.get(aggregate).is_some_and(|call| call.shim == self.shim) {
                all.calls.remove(aggregate);
            }
        }
    }
}

impl Topic for Stormy {
    async fn publish(&self, messages: &[Message]) -> Result<Vec<Published>, BusError> {
        let mut random = self.random.borrow_mut().fork();
        let events: Vec<Event> = messages.iter().map(|message| Event::parse(&message.body).unwrap()).collect();
        let down = || BusError { operation: "PublishBatch", detail: "a storm".into(), transient: true, setup: false };
        if random.u8(..) < 2 {
            self.freeze();
        }
        let underway = Underway::enter(self.shim, self.is_stale(), &events, &self.seen);
        let took = Duration::from_millis(random.u64(0..12));
        timeout(TIMES.call, sleep(took)).await.map_err(|_| down())?;
        let mut all = self.seen.lock().unwrap();
        if random.u8(..) < 10 {
            return Err(down());
        }
        let mut answers = Vec::new();
        for event in &events {
            let refuse = random.u8(..) < 20;
            all.refused += u32::from(refuse);
            if !refuse {
                all.published.push((self.shim, event.id));
            }
            answers.push(if refuse { Err(Refused { code: "Throttled".into(), permanent: false }) } else { Ok(()) });
        }
        let lost = random.u8(..) < 10;
        all.lost += u32::from(lost);
        drop(all);
        drop(underway);
        if lost { Err(down()) } else { Ok(answers) }
    }
}

/// One writer: transactions of one to three events, held open for a drawn time, a tenth of them undone.
async fn write(client: Client, number: u64) -> Vec<Written> {
    let mut random = fastrand::Rng::with_seed(SEED ^ (number << 32));
    let mut written = Vec::new();
    for _ in 0..TRANSACTIONS {
        client.batch_execute("begin").await.unwrap();
        let mut inserted = Vec::new();
        for _ in 0..random.u8(1..=3) {
            let (id, aggregate) = (Uuid::from_u128(random.u128(..)), random.u128(0..AGGREGATES));
            let began = Instant::now();
            let insert = "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
                          values ($1, 'stressed', 'thing', $2, '{}', '{}', 1)";
            client.execute(insert, &[&id, &Uuid::from_u128(aggregate)]).await.unwrap();
            inserted.push((id, aggregate, began));
            sleep(Duration::from_millis(random.u64(0..25))).await;
        }
        if random.u8(0..10) == 0 {
            client.batch_execute("rollback").await.unwrap();
        } else {
            client.batch_execute("commit").await.unwrap();
            let committed = Instant::now();
            written.extend(inserted.into_iter().map(|(id, aggregate, began)| Written {
                id,
                aggregate,
                began,
                committed,
            }));
        }
    }
    written
}

/// One shim after the other, each for a drawn while, on a thread of its own as in a process of its own. A third of them dies without a word.
fn shims(number: u64, database: &Database, seen: &Arc<Mutex<Seen>>, done: &Arc<AtomicBool>) -> thread::JoinHandle<u32> {
    let (store, seen, done) = (database.url(), Arc::clone(seen), Arc::clone(done));
    thread::spawn(move || {
        let mut random = fastrand::Rng::with_seed(SEED ^ number);
        let mut deaths = 0;
        while !done.load(Ordering::Relaxed) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let resident = Duration::from_millis(random.u64(300..2_000));
            let settings =
                Settings { resident, publish_concurrency: 4, shims: SHIMS as u16, times: TIMES, ..sweeping() };
            let topic = Stormy {
                shim: random.u64(..),
                random: RefCell::new(random.fork()),
                seen: Arc::clone(&seen),
                thawed: Cell::new(None),
            };
            let dies = random.u8(0..3) == 0;
            runtime.block_on(async {
                let store = switchyard_store::Store::open(&store.parse().unwrap(), 2).unwrap();
                let publisher = Publisher::new(store, topic, settings);
                let publishing = publisher.publish(Instant::now() + Duration::from_secs(60));
                if dies {
                    deaths += u32::from(timeout(resident / 2, publishing).await.is_err());
                } else {
                    publishing.await.unwrap();
                }
            });
        }
        deaths
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_the_committed_events_are_published_in_order_whatever_fails() {
    let database = Database::migrated().await;
    // Neither the end of the horizon that VACUUM and every watermark go by, nor a snapshot from before, holds anything back.
    let (unrelated, snapshot) = (database.connect().await, database.connect().await);
    unrelated.batch_execute("create table unrelated (n int); begin; insert into unrelated values (1)").await.unwrap();
    snapshot.batch_execute("begin isolation level repeatable read; select count(*) from events").await.unwrap();
    let (seen, done) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
    let began = Instant::now();

    let publishers: Vec<_> = (0..SHIMS).map(|number| shims(number, &database, &seen, &done)).collect();
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        writers.spawn(write(database.connect().await, number));
    }
    let written: Vec<Written> = writers.join_all().await.into_iter().flatten().collect();
    let client = database.connect().await;
    eventually("nothing pending", async || (number(&client, LEFT).await == 0).then_some(())).await;
    done.store(true, Ordering::Relaxed);
    let ended = tokio::task::spawn_blocking(|| publishers.into_iter().map(|shim| shim.join().unwrap()).sum::<u32>());
    let deaths = ended.await.unwrap();

    let seen = seen.lock().unwrap();
    let mut known = HashSet::new();
    let first: Vec<Uuid> = seen.published.iter().map(|(_, id)| *id).filter(|id| known.insert(*id)).collect();
    let lives: BTreeSet<u64> = seen.published.iter().map(|(shim, _)| *shim).collect();
    println!(
        "seed {SEED}: {} events in {:.1} s by {} shims; {deaths} died, {} froze; {} entries refused, {} answers lost, {} copies",
        first.len(),
        began.elapsed().as_secs_f64(),
        lives.len(),
        seen.frozen,
        seen.refused,
        seen.lost,
        seen.published.len() - first.len()
    );
    let committed: BTreeSet<Uuid> = written.iter().map(|event| event.id).collect();
    assert_eq!(first.iter().copied().collect::<BTreeSet<_>>(), committed, "published against committed");
    assert_eq!(
        inversions(&written, &first),
        Vec::new(),
        "an event went before one that was committed before it was inserted"
    );
    assert!(seen.overlaps.is_empty(), "published by two at once: {:?}", seen.overlaps);
    // Or none of it was put to the test.
    assert!(lives.len() > 4 && deaths > 0 && seen.refused > 20 && seen.lost > 0);
    drop((unrelated, snapshot));
}

/// Pairs of an aggregate's events whose inserts did not overlap, and whose first copies went the other way round.
fn inversions(written: &[Written], first: &[Uuid]) -> Vec<(Uuid, Uuid)> {
    let place: HashMap<Uuid, usize> = first.iter().enumerate().map(|(at, id)| (*id, at)).collect();
    let mut of: BTreeMap<u128, Vec<&Written>> = BTreeMap::new();
    for event in written {
        of.entry(event.aggregate).or_default().push(event);
    }
    let pairs = of.values().flat_map(|events| events.iter().flat_map(move |a| events.iter().map(move |b| (*a, *b))));
    let ordered = pairs.filter(|(a, b)| a.committed < b.began);
    ordered.filter(|(a, b)| place[&a.id] > place[&b.id]).map(|(a, b)| (a.id, b.id)).collect()
}
