//! The world that the actors share, and the small ones among them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use switchyard_store::{Known, Page, Row, Store, StoreError, ToSql, Type};
use uuid::Uuid;

use super::plants::{Client, Plant};
use super::random::Random;

/// How far a seed has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Chaos,
    Calm,
    Over,
}

pub(super) struct World {
    pub(super) store: Store,
    pub(super) old_lives: bool,
    /// Writers commit at once. Otherwise some open transaction hides what depends on the stable point.
    pub(super) brisk: bool,
    plant: Option<&'static Plant>,
    phase: AtomicU8,
    settled: AtomicBool,
    violations: Mutex<BTreeSet<String>>,
    counts: Mutex<BTreeMap<String, u64>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(super) fn new(store: Store, plant: Option<&'static Plant>, old_lives: bool, brisk: bool) -> Self {
        Self {
            store,
            old_lives,
            brisk,
            plant,
            phase: AtomicU8::new(0),
            settled: AtomicBool::new(false),
            violations: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::SeqCst);
    }

    /// The router has set the routing that is to hold at the end.
    pub(super) fn settled(&self) {
        self.settled.store(true, Ordering::SeqCst);
    }

    pub(super) fn has_settled(&self) -> bool {
        self.settled.load(Ordering::SeqCst)
    }

    pub(super) fn violation(&self, what: String) {
        locked(&self.violations).insert(what);
    }

    pub(super) fn violations(&self) -> Vec<String> {
        locked(&self.violations).iter().cloned().collect()
    }

    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        locked(&self.counts).clone()
    }
}

/// One worker, with randomness of its own.
pub(super) struct Actor {
    pub(super) world: Arc<World>,
    pub(super) random: Random,
}

/// A query's parameters.
pub(super) type Parameters<'p> = [(&'p (dyn ToSql + Sync), Type)];

impl Actor {
    pub(super) fn new(world: Arc<World>, seed: u64, role: &str) -> Self {
        Self { world, random: Random::new(seed, role) }
    }

    pub(super) fn store(&self) -> Store {
        self.world.store.clone()
    }

    pub(super) fn chaos(&self) -> bool {
        self.world.phase.load(Ordering::SeqCst) == Phase::Chaos as u8
    }

    pub(super) fn over(&self) -> bool {
        self.world.phase.load(Ordering::SeqCst) == Phase::Over as u8
    }

    pub(super) fn plays(&self, fault: Client) -> bool {
        self.world.plant.is_some_and(|p| p.client == Some(fault))
    }

    pub(super) fn count(&self, what: impl Into<String>) {
        *locked(&self.world.counts).entry(what.into()).or_default() += 1;
    }

    pub(super) async fn query(&self, sql: &str, parameters: &Parameters<'_>) -> Result<Vec<Row>, StoreError> {
        self.world.store.query(sql, parameters).await
    }

    pub(super) async fn nap(&mut self, at_most: Duration) {
        let fraction = self.random.fraction();
        tokio::time::sleep(at_most.mul_f64(fraction)).await;
    }

    /// Judges what a step came to: the world is full of kills and conflicts, but not of mistakes.
    pub(super) fn took(&self, step: Result<(), StoreError>) {
        match step {
            Ok(()) => {}
            Err(StoreError::Unavailable { .. }) => self.count("error unavailable"),
            Err(StoreError::Conflict { .. }) => self.count("error conflict"),
            Err(e) => {
                let cause = std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default();
                self.world.violation(format!("unexpected error: {e} {cause}"));
            }
        }
    }
}

/// Puts a message into an agent's queue, as well as a bad network does.
pub(super) async fn send(actor: &mut Actor, agent: &str, event: Uuid, run: i32, epoch: i32) -> Result<(), StoreError> {
    let fate = actor.random.fraction();
    let copies = match actor.chaos() {
        true if fate < 0.12 => 0,
        true if fate < 0.30 => 2,
        _ => 1,
    };
    for _ in 0..copies {
        let most = if actor.chaos() { actor.random.pick(&[0.0, 0.0, 0.05, 0.3, 0.9]) } else { 0.0 };
        let delay = most * actor.random.fraction();
        actor
            .query(
                "insert into checker.queue (agent, event_id, run, epoch, visible_at)
                 values ($1, $2, $3, $4, clock_timestamp() + $5 * interval '1 second')",
                &[
                    (&agent, Type::TEXT),
                    (&event, Type::UUID),
                    (&run, Type::INT4),
                    (&epoch, Type::INT4),
                    (&delay, Type::FLOAT8),
                ],
            )
            .await?;
    }
    Ok(())
}

/// Inserts events, some of them committed long after later ones, some never.
pub(super) async fn writer(mut actor: Actor) {
    while !actor.over() {
        if actor.chaos() {
            let step = write(&mut actor).await;
            actor.took(step);
        }
        actor.nap(Duration::from_millis(120)).await;
    }
}

async fn write(actor: &mut Actor) -> Result<(), StoreError> {
    let mut tx = actor.store().begin().await?;
    for _ in 0..=actor.random.below(3) {
        let aggregate = Uuid::from_u128(actor.random.below(6) as u128);
        let mut metadata = format!(r#"{{"project_id": "p{}""#, actor.random.below(4));
        if actor.random.chance(0.2) {
            metadata += &format!(r#", "max_attempts": {}"#, actor.random.pick(&[1, 2, 5]));
        }
        let later = actor.random.chance(0.1);
        let (id, event_type) = (actor.random.uuid(), actor.random.pick(&["t1", "t2", "t3", "t9"]));
        tx.execute(
            "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
             values ($1, $2, 'x', $3, '{}', $4::text::jsonb || case when $5
                then jsonb_build_object('deliver_at', switchyard.rfc3339(clock_timestamp() + interval '0.4 s')) else '{}' end, 1)",
            &[
                (&id, Type::UUID),
                (&event_type, Type::TEXT),
                (&aggregate, Type::UUID),
                (&format!("{metadata}}}"), Type::TEXT),
                (&later, Type::BOOL),
            ],
        )
        .await?;
        if actor.random.chance(0.4) && !actor.world.brisk {
            let nap = actor.random.pick(&[20, 100, 350]);
            actor.nap(Duration::from_millis(nap)).await;
        }
    }
    if actor.random.chance(0.15) {
        return tx.rollback().await;
    }
    tx.commit().await
}

/// The shim: what is pending goes to whoever has ever listened to its type. Sometimes it dies before deleting.
pub(super) async fn publisher(mut actor: Actor) {
    while !actor.over() {
        let step = publish(&mut actor).await;
        actor.took(step);
        actor.nap(Duration::from_millis(40)).await;
    }
}

async fn publish(actor: &mut Actor) -> Result<(), StoreError> {
    if actor.chaos() && actor.random.chance(0.02) {
        actor.query("delete from checker.queue", &[]).await?;
        actor.count("queue wiped");
    }
    let pending = actor.store().pending(&Known::default(), Page::of(5)).await?;
    for event in &pending {
        for (agent, types) in [("A", ["t1", "t2"]), ("B", ["t2", "t3"])] {
            if types.contains(&event.event_type.as_str()) {
                send(actor, agent, event.id, 0, 0).await?;
            }
        }
    }
    if actor.chaos() && actor.random.chance(0.1) {
        actor.count("publisher died");
        return Ok(());
    }
    let seqs: Vec<i64> = pending.iter().map(|e| e.seq).collect();
    actor.store().published(&seqs).await?;
    Ok(())
}

/// Kills whoever is in the middle of a transaction, but not the judge, who connects without a name.
pub(super) async fn killer(mut actor: Actor) {
    while !actor.over() {
        if actor.chaos() && actor.random.chance(0.3) {
            let killed = actor
                .query(
                    "select pg_terminate_backend(pid) from pg_stat_activity
                      where datname = current_database() and application_name = 'switchyard' and pid <> pg_backend_pid()
                        and xact_start is not null
                      order by random() limit 1",
                    &[],
                )
                .await;
            if killed.is_ok_and(|rows| !rows.is_empty()) {
                actor.count("backend killed");
            }
        }
        actor.nap(Duration::from_millis(300)).await;
    }
}
