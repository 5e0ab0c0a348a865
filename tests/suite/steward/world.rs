//! A steward with a real ledger, and queues and mappings in memory.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};
use steward::{Clients, Limits, Steward};
use switchyard_bus::{
    AgentPlaces, BusError, Depth, Express, Mappings, MemoryDirectory, MemoryMappings, MemoryQueue, Message, Queue,
    Received,
};
use switchyard_operations::pass::{Pass, Reconciled};
use switchyard_store::{AgentSpec, Mode, RoutedBy, Since, Store};
use switchyard_tests::database::Database;
use tokio::time::Instant;
use tokio_postgres::Client;
use uuid::Uuid;

/// The agent of most tests; it listens to `thing.made`.
pub(crate) const AGENT: &str = "painter";

/// A steward with its ledger, queues and mappings.
pub(crate) struct StewardWorld {
    pub(crate) store: Store,
    pub(crate) side: Client,
    pub(crate) mappings: MemoryMappings,
    pub(crate) queues: Queues,
    pub(crate) steward: InMemory,
    places: Vec<AgentPlaces>,
    // Last, so that it is dropped after the connections.
    _database: Database,
}

pub(crate) type InMemory = Steward<MemoryDirectory, MemoryMappings, Breakable>;

impl StewardWorld {
    /// An agent, registered and deployed. What is lost is taken for lost at once.
    pub(crate) async fn new() -> Self {
        let world = Self::of(&[AGENT]).await;
        world.register(AGENT, Since::Now).await;
        world
    }

    /// The same for an agent with an express queue.
    pub(crate) async fn with_express_queue() -> Self {
        let place = |what: &str| format!("{AGENT}/{what}");
        let (queue_url, queue_arn, mapping) = (place("express"), place("express-arn"), place("express-mapping"));
        let express = Some(Express { from: 8, queue_url, queue_arn, mapping });
        let world = Self::at(vec![AgentPlaces { express, ..places(AGENT) }]).await;
        world.register(AGENT, Since::Now).await;
        world
    }

    /// These are deployed; who is registered is the test's to say.
    pub(crate) async fn of(deployed: &[&str]) -> Self {
        Self::at(deployed.iter().map(|agent| places(agent)).collect()).await
    }

    async fn at(places: Vec<AgentPlaces>) -> Self {
        let database = Database::migrated().await;
        let (store, side) = (database.store(), database.connect().await);
        let mappings = MemoryMappings::of(places.iter().flat_map(AgentPlaces::mappings));
        let queues = Queues::default();
        let steward = steward(&store, &places, &mappings, &queues, Limits::DEFAULT);
        Self { store, side, mappings, queues, steward, places, _database: database }
    }

    /// Another steward of the same stack, with limits of its own.
    pub(crate) fn another(&self, limits: Limits) -> InMemory {
        steward(&self.store, &self.places, &self.mappings, &self.queues, limits)
    }

    /// The steward of another stack on the same database, and that stack's mapping, `elsewhere`.
    pub(crate) fn of_a_second_stack(&self) -> (InMemory, MemoryMappings) {
        let places = vec![AgentPlaces { mapping: "elsewhere".into(), ..places(AGENT) }];
        let mappings = MemoryMappings::of(["elsewhere"]);
        (steward(&self.store, &places, &mappings, &Queues::default(), Limits::DEFAULT), mappings)
    }

    /// Another steward, to whose directory one queue more belongs, of which this is told.
    pub(crate) fn with_trouble(&self, trouble: &str) -> InMemory {
        let queues = self.queues.clone();
        let outside = Clients {
            directory: MemoryDirectory::of(self.places.clone()).with_trouble(trouble),
            mappings: self.mappings.clone(),
            queue: Box::new(move |url| queues.open(url)),
        };
        Steward::new(self.store.clone(), outside, Limits::DEFAULT)
    }

    pub(crate) async fn register(&self, agent: &str, since: Since) {
        let spec = AgentSpec {
            name: agent.into(),
            subscribes: vec!["thing.made".into()],
            routed_by: RoutedBy::Aggregate,
            max_attempts: 4,
        };
        self.store.register(&spec, Mode::Full, since).await.unwrap();
        self.store.set_grace(agent, 0).await.unwrap();
    }

    /// Events that were published, and whose messages are nowhere.
    pub(crate) async fn lost(&self, count: usize) -> Vec<Uuid> {
        let mut all = Vec::new();
        for _ in 0..count {
            let id = Uuid::new_v4();
            let insert = "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
                          values ($1, 'thing.made', 'thing', $1, '{}', '{}', 1)";
            self.side.execute(insert, &[&id]).await.unwrap();
            all.push(id);
        }
        self.run("delete from switchyard.outbox").await;
        all
    }

    pub(crate) async fn pass(&self) -> Pass {
        let pass = self.steward.pass(soon()).await.unwrap();
        assert!(!pass.busy);
        pass
    }

    /// A pass, and what it did for the agent.
    pub(crate) async fn reconcile(&self) -> Reconciled {
        let pass = self.pass().await;
        pass.agents.into_iter().find(|done| done.standing.agent == AGENT).unwrap()
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.side.batch_execute(sql).await.unwrap();
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.side.query_one(&format!("select ({sql})::bigint"), &[]).await.unwrap().get(0)
    }

    /// How many deliveries are in this state.
    pub(crate) async fn in_state(&self, state: &str) -> i64 {
        self.number(&format!("select count(*) from switchyard.delivery where state = '{state}'")).await
    }

    /// Lets time pass, for the ledger and for the queues.
    pub(crate) async fn later(&self, time: Duration) {
        let by = format!("interval '{} seconds'", time.as_secs());
        self.run(&format!(
            "update switchyard.delivery set next_attempt_at = next_attempt_at - {by}, at = at - {by};
             update switchyard.breaker set since = since - {by}, retry_at = retry_at - {by}, probe_until = probe_until - {by}"
        ))
        .await;
        self.queues.pass(time);
    }

    /// Whether messages flow to the agent's function.
    pub(crate) async fn flows(&self) -> bool {
        self.mappings.enabled("painter/mapping").await.unwrap().wanted
    }

    pub(crate) fn queue(&self) -> MemoryQueue {
        self.queues.named("painter/queue")
    }

    pub(crate) fn dead_letters(&self) -> MemoryQueue {
        self.queues.named("painter/letters")
    }
}

/// A deadline like that of the function.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn steward(
    store: &Store,
    places: &[AgentPlaces],
    mappings: &MemoryMappings,
    queues: &Queues,
    limits: Limits,
) -> InMemory {
    let queues = queues.clone();
    let outside = Clients {
        directory: MemoryDirectory::of(places.to_vec()),
        mappings: mappings.clone(),
        queue: Box::new(move |url| queues.open(url)),
    };
    Steward::new(store.clone(), outside, limits)
}

fn places(agent: &str) -> AgentPlaces {
    let place = |what: &str| format!("{agent}/{what}");
    AgentPlaces {
        agent: agent.into(),
        queue_url: place("queue"),
        queue_arn: place("queue-arn"),
        dead_letter_url: place("letters"),
        dead_letter_arn: place("letters-arn"),
        subscription_dead_letter_url: Some(place("undelivered")),
        function: place("function"),
        mapping: place("mapping"),
        express: None,
    }
}

/// Queues by their names, each made when it is first asked for. Clones are the same queues.
#[derive(Clone, Default)]
pub(crate) struct Queues {
    all: Rc<RefCell<BTreeMap<String, MemoryQueue>>>,
    broken: Rc<RefCell<BTreeSet<String>>>,
}

impl Queues {
    pub(crate) fn named(&self, name: &str) -> MemoryQueue {
        self.all.borrow_mut().entry(name.to_owned()).or_default().clone()
    }

    /// From now on this one does not answer.
    pub(crate) fn break_down(&self, name: &str) {
        self.broken.borrow_mut().insert(name.to_owned());
    }

    /// It answers again.
    pub(crate) fn mend(&self, name: &str) {
        self.broken.borrow_mut().remove(name);
    }

    fn open(&self, name: &str) -> Breakable {
        Breakable { queue: self.named(name), name: name.to_owned(), broken: Rc::clone(&self.broken) }
    }

    fn pass(&self, time: Duration) {
        self.all.borrow().values().for_each(|queue| queue.pass(time));
    }
}

/// A queue that may be out of order.
pub(crate) struct Breakable {
    queue: MemoryQueue,
    name: String,
    broken: Rc<RefCell<BTreeSet<String>>>,
}

impl Breakable {
    fn works(&self) -> Result<(), BusError> {
        let down = || BusError { operation: "any", detail: "it is down".into(), transient: true, setup: false };
        if self.broken.borrow().contains(&self.name) { Err(down()) } else { Ok(()) }
    }
}

impl Queue for Breakable {
    async fn depth(&self) -> Result<Depth, BusError> {
        self.works()?;
        self.queue.depth().await
    }
    async fn send(&self, messages: &[Message]) -> Vec<Result<(), BusError>> {
        match self.works() {
            Ok(()) => self.queue.send(messages).await,
            Err(_) => messages.iter().map(|_| self.works()).collect(),
        }
    }
    async fn receive(&self, max: usize, visibility: Duration) -> Result<Vec<Received>, BusError> {
        self.works()?;
        self.queue.receive(max, visibility).await
    }
    async fn delete(&self, receipt_handles: &[String]) -> Vec<Result<(), BusError>> {
        match self.works() {
            Ok(()) => self.queue.delete(receipt_handles).await,
            Err(_) => receipt_handles.iter().map(|_| self.works()).collect(),
        }
    }
    async fn release(&self, receipt_handles: &[String]) -> usize {
        self.queue.release(receipt_handles).await
    }
}
