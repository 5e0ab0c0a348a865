//! One writer: a connection, its own aggregates, and a seed.

use super::{Intents, Outcome};
use crate::{agents::WRITTEN, broker::SOLO, server::connect};
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Client;
use uuid::Uuid;

/// Aggregates of this type are written to by every writer at the same time.
pub const SHARED: &str = "shared";

/// A payload version that no agent knows.
pub const VERSION_OF_TOMORROW: i32 = 99;

/// What the writers do. All of it follows from the seed, but for what the database's and the network's timing makes of it.
#[derive(Debug, Clone)]
pub struct Workload {
    /// What everything is drawn from.
    pub seed: u64,
    /// How many events they try to write, all together.
    pub events: usize,
    /// How many of them there are.
    pub writers: usize,
    /// How many events a transaction has at most.
    pub batch: usize,
    /// How many aggregates a writer has to itself.
    pub solo: usize,
    /// How many aggregates they share; the first few are hot.
    pub shared: usize,
    /// How many transactions of a hundred are rolled back.
    pub rollbacks: f64,
    /// The longest that a transaction stays open before it ends.
    pub linger: Duration,
    /// How many events of a thousand are of a version that no agent knows.
    pub of_tomorrow: u32,
    /// How many bytes the payload of a bulky event has, and how many events of a thousand are bulky.
    pub bulky: (usize, u32),
    /// How many transactions of a hundred call `switchyard.publish` instead of inserting.
    pub publish: u32,
    /// The pause between two transactions of a writer.
    pub pause: Duration,
}

impl Workload {
    /// So many events from four writers, with a bit of everything.
    #[must_use]
    pub const fn of(seed: u64, events: usize) -> Self {
        Self {
            seed,
            events,
            writers: 4,
            batch: 10,
            solo: 8,
            shared: 50,
            rollbacks: 10.0,
            linger: Duration::from_millis(5),
            of_tomorrow: 2,
            bulky: (0, 0),
            publish: 20,
            pause: Duration::ZERO,
        }
    }
}

struct Draft {
    id: Uuid,
    aggregate_type: &'static str,
    aggregate_id: Uuid,
    version: i32,
    payload: String,
}

/// Runs all writers to their end, or until the deadline: an event that was not tried by then is no intent.
pub async fn write(url: &str, workload: &Workload, intents: &Intents, deadline: Instant) {
    let mut random = fastrand::Rng::with_seed(workload.seed);
    let shared: Vec<Uuid> = (0..workload.shared.max(1)).map(|_| uuid(&mut random)).collect();
    let mut writers = tokio::task::JoinSet::new();
    let share = workload.events.div_ceil(workload.writers.max(1));
    for n in 0..workload.writers {
        let events = share.min(workload.events.saturating_sub(n * share));
        let writer = Writer {
            url: url.to_owned(),
            workload: workload.clone(),
            random: fastrand::Rng::with_seed(random.u64(..)),
            shared: shared.clone(),
            solo: Vec::new(),
            intents: intents.clone(),
            client: None,
        };
        writers.spawn(writer.run(events, deadline));
    }
    while writers.join_next().await.is_some() {}
}

struct Writer {
    url: String,
    workload: Workload,
    random: fastrand::Rng,
    shared: Vec<Uuid>,
    solo: Vec<Uuid>,
    intents: Intents,
    client: Option<Client>,
}

impl Writer {
    async fn run(mut self, mut events: usize, deadline: Instant) {
        while events > 0 && Instant::now() < deadline {
            if self.solo.is_empty() {
                self.solo = (0..self.workload.solo.max(1)).map(|_| uuid(&mut self.random)).collect();
            }
            let size = self.random.usize(1..=self.workload.batch.max(1)).min(events);
            events -= size;
            let mut drafts: Vec<Draft> = (0..size).map(|_| self.draft()).collect();
            let outcome = self.transaction(&mut drafts, deadline).await;
            if outcome == Outcome::Unknown {
                // The server may still be committing, so what comes next overlaps with it in time: no longer one after the other.
                self.solo.clear();
            }
            self.intents.note(drafts.iter().map(|draft| draft.id), outcome);
            if !self.workload.pause.is_zero() {
                tokio::time::sleep(self.workload.pause).await;
            }
        }
    }

    fn draft(&mut self) -> Draft {
        let random = &mut self.random;
        let solo = random.bool();
        let aggregate_id = if solo {
            self.solo[random.usize(..self.solo.len())]
        } else {
            // Half of what is shared is written to a handful of hot aggregates.
            let hot = self.shared.len().min(4);
            self.shared[if random.bool() { random.usize(..hot) } else { random.usize(..self.shared.len()) }]
        };
        let version = if random.u32(..1_000) < self.workload.of_tomorrow { VERSION_OF_TOMORROW } else { 1 };
        let (bytes, bulky) = self.workload.bulky;
        let filling = if random.u32(..1_000) < bulky { "x".repeat(bytes) } else { String::new() };
        let id = uuid(random);
        let payload = format!(r#"{{"n": {}, "filling": "{filling}"}}"#, random.u32(..));
        Draft { id, aggregate_type: if solo { SOLO } else { SHARED }, aggregate_id, version, payload }
    }

    async fn transaction(&mut self, drafts: &mut [Draft], deadline: Instant) -> Outcome {
        while self.client.as_ref().is_none_or(Client::is_closed) {
            self.client = connect(&self.url).await.ok();
            if self.client.is_none() {
                if Instant::now() > deadline {
                    return Outcome::Fail;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let Some(client) = self.client.take() else { return Outcome::Fail };
        let by_call = self.random.u32(..100) < self.workload.publish;
        let roll_back = self.random.f64() * 100.0 < self.workload.rollbacks;
        let linger = self.workload.linger.mul_f64(self.random.f64());
        let patience = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        let written = tokio::time::timeout(patience, async {
            client.batch_execute("begin").await?;
            if by_call { publish(&client, drafts).await } else { insert(&client, drafts).await }
        });
        if !matches!(written.await, Ok(Ok(()))) {
            return Outcome::Fail; // nobody has asked for a commit, and the connection goes
        }
        if !linger.is_zero() {
            tokio::time::sleep(linger).await;
        }
        let end = if roll_back { "rollback" } else { "commit" };
        let outcome = match tokio::time::timeout(patience, client.batch_execute(end)).await {
            _ if roll_back => Outcome::Fail,
            Ok(Ok(())) => Outcome::Ok,
            _ => return Outcome::Unknown,
        };
        self.client = Some(client);
        outcome
    }
}

async fn insert(client: &Client, drafts: &[Draft]) -> Result<(), tokio_postgres::Error> {
    let ids: Vec<Uuid> = drafts.iter().map(|draft| draft.id).collect();
    let types: Vec<&str> = drafts.iter().map(|draft| draft.aggregate_type).collect();
    let aggregates: Vec<Uuid> = drafts.iter().map(|draft| draft.aggregate_id).collect();
    let payloads: Vec<&str> = drafts.iter().map(|draft| draft.payload.as_str()).collect();
    let versions: Vec<i32> = drafts.iter().map(|draft| draft.version).collect();
    let sql = format!(
        "insert into public.events (id, type, aggregate_type, aggregate_id, payload, version, metadata)
         select u.id, '{WRITTEN}', u.kind, u.aggregate, u.payload::jsonb, u.version, '{{}}'
           from unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::int[]) with ordinality
                u (id, kind, aggregate, payload, version, ord)
          order by u.ord"
    );
    client.execute(&sql, &[&ids, &types, &aggregates, &payloads, &versions]).await.map(|_| ())
}

/// The same by `switchyard.publish`, which names its events itself.
async fn publish(client: &Client, drafts: &mut [Draft]) -> Result<(), tokio_postgres::Error> {
    for draft in drafts {
        let sql = "select switchyard.publish($1, $2, $3, $4::text::jsonb, null, $5, '{}', $6)";
        let (aggregate, key) = (draft.aggregate_id.to_string(), draft.id.to_string());
        let row = client
            .query_one(sql, &[&WRITTEN, &draft.aggregate_type, &aggregate, &draft.payload, &draft.version, &key])
            .await?;
        draft.id = row.try_get(0)?;
    }
    Ok(())
}

fn uuid(random: &mut fastrand::Rng) -> Uuid {
    uuid::Builder::from_random_bytes(random.u128(..).to_le_bytes()).into_uuid()
}
