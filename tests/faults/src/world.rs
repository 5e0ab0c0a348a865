//! Everything that a run needs, started: a database, a broker, the functions as processes, and who feeds and starts them.

use crate::{
    Error,
    agents::{ECHOED, WRITTEN},
    broker::{Broker, Names},
    checker::{Check, DeadLetter, Verdict, Witnessed, gather, judge},
    host::{Counts, Ended, Function, Mapping, Settings as FunctionSettings, schedule},
    programs::Programs,
    report::of_functions,
    server::{Server, connect},
    workload::Intents,
};
use hyper::body::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use switchyard_event::Event;
use switchyard_store::Store;
use tokio::{task::JoinHandle, time::Instant};

/// The stack's name, which its queues' names begin with.
const STACK: &str = "faults";
const TOPIC: &str = "faults-Topic";
const INGRESS: &str = "faults-IngressTopic";
/// After how long a delivery counts as lost where a steward looks for such.
const GRACE: Duration = Duration::from_secs(5);
/// How long a shim that was stopped is given to do what it was about to: it does so at once, or asks for its lease again.
const AFTERMATH: Duration = Duration::from_secs(2);
/// What works on one thing at a time and then ends; the shims go on for ever.
const AT_WORK: [&str; 5] = ["echo", "tally", "ingest", "steward", "redrive"];

/// How a world is set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of its database and of its logs.
    pub name: String,
    /// What the broker's faults are drawn from.
    pub seed: u64,
    /// How many times faster the broker's clock runs than ours.
    pub pace: f64,
    /// How long a received message is hidden, by the broker's clock.
    pub visibility: Duration,
    /// How many batches each agent handles at the same time.
    pub pollers: usize,
    /// How many shims run at the same time.
    pub shims: usize,
    /// A mistake that is switched on in every function.
    pub bug: Option<String>,
    /// Whether the agents ask for their dependency with every event.
    pub dependency: bool,
    /// How often the steward makes a pass, if there is one. Deliveries then count as lost after a few seconds instead of two minutes.
    pub steward: Option<Duration>,
    /// For how long nothing may move before the world counts as stuck: longer than any wait that is meant to be.
    pub standstill: Duration,
    /// A dead shim's lease ends with it instead of twelve seconds later: the database's clock, so to speak, is put forward. Only where there
    /// is one shim, and it is certainly dead.
    pub leases_end_with_their_holders: bool,
}

/// A world. Dropping it ends every process of it.
pub struct World {
    settings: Settings,
    url: String,
    /// The broker.
    pub broker: Broker,
    /// The functions by name: `shim`, `steward`, `redrive`, `ingest`, and the agents `echo` and `tally`.
    pub functions: BTreeMap<&'static str, Function>,
    /// The agents' mappings by name.
    pub mappings: BTreeMap<&'static str, Mapping>,
    /// The agents' queues by name.
    pub queues: BTreeMap<&'static str, Names>,
    /// What the writers wanted.
    pub intents: Intents,
    strangers: Mutex<BTreeSet<(String, String)>>,
    store: Store,
    tasks: Vec<JoinHandle<()>>,
    server: Arc<Server>,
}

impl World {
    /// Prepares a world; nothing runs until [`World::open`], so that functions can be armed first. `through` is where the functions find the
    /// database, if it is not the database itself: a proxy, or a pooler.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn set(
        server: Arc<Server>,
        programs: &Programs,
        settings: Settings,
        through: Option<u16>,
    ) -> Result<Self, Error> {
        let url = server.database(&settings.name).await?;
        let seen =
            through.map_or_else(|| url.clone(), |port| switchyard_localstack::postgres::url(port, &settings.name));
        let broker = Broker::start(settings.seed, settings.pace).await.map_err(Error::doing("start the broker"))?;
        let topic = broker.create_topic(TOPIC);
        let mut functions = BTreeMap::new();
        let mut queues = BTreeMap::new();
        let function = |name: &str, program: &str, timeout: u64, extra: &[(&str, &str)]| -> Result<Function, Error> {
            let mut environment: Vec<(String, String)> = [
                ("DATABASE_URL", seen.as_str()),
                ("AWS_ENDPOINT_URL", &broker.endpoint()),
                ("AWS_REGION", "us-east-1"),
                ("AWS_ACCESS_KEY_ID", "test"),
                ("AWS_SECRET_ACCESS_KEY", "test"),
                ("AWS_EC2_METADATA_DISABLED", "true"),
                ("STACK_NAME", STACK),
                ("SWITCHYARD_LOG", "warn"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
            environment.extend(extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
            Ok(Function::new(FunctionSettings {
                name: format!("{STACK}-{name}"),
                program: programs.path(program)?,
                environment,
                timeout: Duration::from_secs(timeout),
                log: server.folder().join(format!("{}-{name}.log", settings.name)),
                bug: settings.bug.clone(),
            }))
        };
        functions.insert("shim", function("shim", "shim", 90, &[("TOPIC_ARN", &topic)])?);
        let passes = [("RESENDS_PER_PASS", "10000"), ("DEAD_LETTERS_PER_PASS", "1000")];
        functions.insert("steward", function("steward", "steward", 60, &passes)?);
        functions.insert("redrive", function("redrive", "redrive", 60, &[])?);
        broker.create_topic(INGRESS);
        for (agent, program, topic, hears) in [
            ("echo", "agents", TOPIC, &[WRITTEN][..]),
            ("tally", "agents", TOPIC, &[ECHOED]),
            ("ingest", "ingest", INGRESS, &[]),
        ] {
            let names = broker.create_agent(STACK, topic, agent, hears, settings.visibility);
            let (queue, dead_letters) = (broker.queue_url(&names.queue), broker.queue_url(&names.dead_letters));
            let mut extra = vec![("AGENT", agent), ("QUEUE_URL", queue.as_str()), ("DEAD_LETTER_URL", &dead_letters)];
            if settings.dependency {
                extra.push(("DEPENDENCY", "asked"));
            }
            functions.insert(agent, function(agent, program, 20, &extra)?);
            queues.insert(agent, names);
        }
        let store = Store::open(&url.parse()?, 4)?;
        if settings.steward.is_some() {
            for agent in ["echo", "tally"] {
                store.set_grace(agent, u32::try_from(GRACE.as_millis()).unwrap_or(u32::MAX)).await?;
            }
        }
        let intents = Intents::default();
        let (mappings, tasks) = (BTreeMap::new(), Vec::new());
        let strangers = Mutex::default();
        Ok(Self { settings, url, broker, functions, mappings, queues, intents, strangers, store, tasks, server })
    }

    /// Starts the shims and the steward, and feeds the agents.
    pub fn open(&mut self) {
        if let (Some(steward), Some(pause)) = (self.functions.get("steward"), self.settings.steward) {
            self.tasks.push(schedule(steward.clone(), &serde_json::json!({}), pause));
        }
        for (agent, names) in &self.queues {
            if let Some(function) = self.functions.get(agent) {
                let pollers = if *agent == "ingest" { 1 } else { self.settings.pollers };
                let mapping = Mapping::start(self.broker.clone(), names.queue.clone(), function.clone(), pollers);
                self.mappings.insert(agent, mapping);
            }
        }
        if let Some(shim) = self.functions.get("shim") {
            for _ in 0..self.settings.shims {
                let ends_leases = self.settings.leases_end_with_their_holders;
                self.tasks.push(tokio::spawn(keep_shim(shim.clone(), self.store.clone(), ends_leases)));
            }
        }
    }

    /// The name of its database.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// The database's address, past every proxy.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The store, past every proxy.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Puts a body into an agent's queue that can never be handled: it must become a dead letter.
    pub fn stranger(&self, agent: &str, body: &str) {
        let put = self.queues.get(agent).is_some_and(|names| self.broker.put(&names.queue, body, BTreeMap::new()));
        if put {
            let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
            strangers.insert((agent.to_owned(), body.to_owned()));
        }
    }

    /// A task that ends with the world.
    pub fn beside(&mut self, task: JoinHandle<()>) {
        self.tasks.push(task);
    }

    /// Waits until nothing is to be published any more and every delivery is settled or parked, and then until every queue is empty, so that
    /// every copy has had its chance to do harm. `false` where that is not so at the deadline, or nothing has moved for too long.
    pub async fn comes_to_rest(&self, deadline: Instant) -> bool {
        let (mut last, mut since) = (None, Instant::now());
        loop {
            let began = Instant::now();
            // A database that is away just now has come to no rest.
            let unsettled = unsettled(&self.url).await.unwrap_or(i64::MAX);
            if unsettled == 0 && self.is_idle() {
                return true;
            }
            let now = Some((unsettled, self.delivered()));
            if now != last {
                (last, since) = (now, Instant::now());
            }
            if Instant::now() > deadline || since.elapsed() > self.settings.standstill {
                return false;
            }
            tokio::time::sleep((began.elapsed() * 4).clamp(Duration::from_millis(20), Duration::from_secs(5))).await;
        }
    }

    /// Whether the agents' queues hold nothing at all.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.broker.are_empty(&self.queues.values().map(|names| names.queue.clone()).collect::<Vec<_>>())
    }

    /// How many messages the agents were given, copies included.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.mappings.values().map(Mapping::delivered).sum()
    }

    /// Waits for rest, wakes whatever still stands still and waits for what it does, and counts what became of every event.
    ///
    /// # Errors
    /// [`Error`] where the database does not tell.
    pub async fn check(&self, deadline: Instant) -> Result<Verdict, Error> {
        let mut rested = self.comes_to_rest(deadline).await;
        // Once: the steward's next pass would always begin when it is over.
        if rested && self.all_functions_end(deadline).await && self.has_stalled("shim") {
            tokio::time::sleep(AFTERMATH).await;
        }
        while rested {
            rested = self.all_functions_end(deadline).await && self.comes_to_rest(deadline).await;
            if self.is_idle() && self.no_function_runs() {
                break;
            }
        }
        let client = connect(&self.url).await?;
        let facts = gather(&client, &self.store).await?;
        let seqs: Vec<i64> = facts.events.iter().map(|event| event.seq).collect();
        let mut verdict = judge(&facts, &self.intents.list(), &self.witnessed(&seqs));
        if !rested {
            let held: Vec<String> = self
                .queues
                .values()
                .map(|names| format!("{} holds {:?}", names.queue, self.broker.depth(&names.queue)))
                .collect();
            let at_work: Vec<&str> = self.at_work().collect();
            let unsettled = unsettled(&self.url).await?;
            let line = format!("no rest at the end: {unsettled} unsettled; at work: {at_work:?}; {}", held.join(", "));
            verdict.find(Check::Unsettled, line);
        }
        Ok(verdict)
    }

    /// Which agents, whether steward and redrive are in the middle of anything.
    fn at_work(&self) -> impl Iterator<Item = &'static str> {
        AT_WORK.into_iter().filter(|name| self.functions.get(name).is_some_and(|function| !function.is_idle()))
    }

    fn no_function_runs(&self) -> bool {
        self.at_work().next().is_none()
    }

    /// Whether there is nothing left to do: no message, nothing to publish, every delivery settled or parked.
    pub async fn is_done(&self) -> bool {
        self.is_idle() && unsettled(&self.url).await.is_ok_and(|left| left == 0)
    }

    /// Continues what was stopped, until all that was under way has ended: a process that stood still while others did its work, and one whose
    /// poller is dead, could do it once more. `false` where that is not so at the deadline.
    async fn all_functions_end(&self, deadline: Instant) -> bool {
        loop {
            self.functions.values().for_each(Function::wake);
            if self.no_function_runs() {
                break;
            }
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        true
    }

    fn has_stalled(&self, name: &str) -> bool {
        self.functions.get(name).is_some_and(|function| function.counts().stalled > 0)
    }

    /// What was seen outside of the database.
    fn witnessed(&self, seqs: &[i64]) -> Witnessed {
        let of_agents = ["echo", "tally"].iter().filter_map(|agent| self.functions.get(agent)).map(Function::counts);
        let dead_letters = self.queues.iter().flat_map(|(agent, names)| {
            self.broker.held(&names.dead_letters).into_iter().map(|sent| DeadLetter {
                agent: (*agent).to_owned(),
                event: Event::id_of(&sent.body),
                body: sent.body.to_string(),
            })
        });
        Witnessed {
            sighting: self.broker.sighting(),
            unseen: self.broker.never_seen(seqs).into_iter().collect(),
            dead_letters: dead_letters.collect(),
            strangers: self.strangers.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            deaths: of_agents.map(|counts| counts.died + counts.timed_out + counts.stalled).sum(),
        }
    }

    /// What has really happened so far, by kind: to the functions' processes, and by the broker.
    #[must_use]
    pub fn happened(&self) -> BTreeMap<String, u64> {
        let mut happened = of_functions(&self.counts());
        for (name, function) in &self.functions {
            happened.extend(function.struck().into_iter().map(|(place, count)| (format!("{name} {place}"), count)));
        }
        let committed = self.broker.committed();
        happened.extend(committed.into_iter().map(|(name, count)| (format!("messages or calls {name}"), count)));
        happened
    }

    /// What became of each function's invocations.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, Counts> {
        self.functions.iter().map(|(name, function)| (*name, function.counts())).collect()
    }

    /// Ends every process and drops the database.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn strike(self) -> Result<(), Error> {
        let (server, name) = (Arc::clone(&self.server), self.settings.name.clone());
        drop(self);
        server.drop_database(&name).await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.mappings.clear();
        self.functions.values().for_each(Function::close);
    }
}

/// How much is neither settled nor parked, in the outbox or in the ledger.
async fn unsettled(url: &str) -> Result<i64, tokio_postgres::Error> {
    let client = connect(url).await?;
    let row = client
        .query_one(
            "select (select count(*) from switchyard.outbox where parked_at is null)
                  + (select count(*) from switchyard.event_log e
                       join switchyard.subscription s on s.type = e.type
                       left join switchyard.delivery d on d.agent = s.agent and d.run = 0 and d.seq = e.seq
                      where d.state is null or d.state in ('a', 'f'))",
            &[],
        )
        .await?;
    Ok(row.get(0))
}

/// Starts a shim again and again, as its schedule does.
async fn keep_shim(shim: Function, store: Store, ends_leases: bool) {
    loop {
        let ended = shim.invoke(Bytes::from_static(b"{}")).await;
        if ends_leases && matches!(ended, Ok(Ended::Died | Ended::TimedOut)) {
            // Where the database is away just now, the leases end by themselves.
            let _ = store.end_leases().await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
