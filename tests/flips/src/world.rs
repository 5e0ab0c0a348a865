//! A database, an agent that is registered, its queue, and what all who take part share.

use crate::clock::GRACE;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    time::Duration,
};
use switchyard_bus::MemoryQueue;
use switchyard_store::{AgentSpec, Mode, RoutedBy, Since, Store};
use switchyard_tests::Database;
use tokio_postgres::Client;

/// The agent that is moved.
pub(crate) const AGENT: &str = "mover";
/// What it listens to.
pub(crate) const TYPE: &str = "thing.made";

/// Effects of both sides, without a constraint that would hide a second one, and what the old system was told.
const TABLES: &str = "
    create table public.effect (event_id uuid not null, by text not null, at timestamptz not null default clock_timestamp());
    create index on public.effect (event_id);
    create table public.told (answer text not null, n int not null);";

/// How far the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Everything goes wrong that may, and the lever moves.
    Chaos,
    /// It is written still, nothing goes wrong any more, and the lever moves once.
    Calm,
    /// Nothing is written any more: what is there is finished.
    Rest,
    /// All go home.
    Over,
}

/// The world.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) side: Client,
    pub(crate) queue: MemoryQueue,
    /// Whether the agent works; it stops for good where the old system is to finish.
    pub(crate) agent_works: Cell<bool>,
    /// Whether so much is written that the agent falls behind.
    pub(crate) rush: Cell<bool>,
    pub(crate) seed: u64,
    phase: Cell<Phase>,
    counts: RefCell<BTreeMap<String, u64>>,
    // Last, so that it is dropped after the connections.
    database: Database,
}

impl World {
    /// Sets it: the old system has everything.
    pub(crate) async fn set(seed: u64) -> Self {
        let database = Database::migrated().await;
        let (store, side) = (database.store(), database.connect().await);
        side.batch_execute(TABLES).await.unwrap();
        let spec = AgentSpec {
            name: AGENT.into(),
            subscribes: vec![TYPE.into()],
            routed_by: RoutedBy::Aggregate,
            max_attempts: 4,
        };
        store.register(&spec, Mode::Off, Since::Now).await.unwrap();
        store.set_grace(AGENT, u32::try_from(GRACE.as_millis()).unwrap()).await.unwrap();
        Self {
            store,
            side,
            queue: MemoryQueue::default(),
            agent_works: Cell::new(true),
            rush: Cell::new(false),
            seed,
            phase: Cell::new(Phase::Chaos),
            counts: RefCell::default(),
            database,
        }
    }

    pub(crate) fn url(&self) -> String {
        self.database.url()
    }

    /// A store of its own, so that no part waits for another's connections.
    pub(crate) fn another_store(&self) -> Store {
        self.database.store()
    }

    pub(crate) async fn another_connection(&self) -> Client {
        self.database.connect().await
    }

    /// What chance is drawn from by somebody: the same for the same seed.
    pub(crate) fn chance(&self, whose: u64) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed.wrapping_mul(1_000).wrapping_add(whose))
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
    }

    pub(crate) fn over(&self) {
        self.enter(Phase::Over);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.phase() == Phase::Over
    }

    pub(crate) fn count(&self, what: impl Into<String>, n: u64) {
        *self.counts.borrow_mut().entry(what.into()).or_default() += n;
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.borrow().clone()
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.side.query_one(&format!("select ({sql})::bigint"), &[]).await.unwrap().get(0)
    }
}

/// Waits, and says so by its name: this is a simulation of people and machines that take their time.
pub(crate) async fn nap(time: Duration) {
    tokio::time::sleep(time).await;
}
