//! A stand-in for SNS, SQS and the part of Lambda that the steward talks to, in this process: enough of their HTTP interfaces that the clients
//! of `switchyard-bus` work against it unchanged, and at a speed at which a million events are a matter of minutes. It can misbehave in every way
//! that the services document: duplicates, disorder, throttling, refused entries, late answers, and connections that end before or after the deed.
//!
//! Of standard queues and topics only: there is no FIFO, and a tenant is taken and forgotten. What is said of either has to be tried on LocalStack.

mod lambda;
mod moves;
mod odds;
mod queue;
mod sns;
mod sqs;
mod wire;
mod witness;

pub use odds::Odds;
pub use queue::{Attributes, Depth, Received, Sent};
pub use witness::{SOLO, Sighting};

use crate::http::{self, Answer, Call, Cut};
use hyper::StatusCode;
use lambda::Mapping;
use moves::Move;
use queue::Queue;
use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::Notify;
use witness::Witness;

const REGION: &str = "us-east-1";
const ACCOUNT: &str = "000000000000";

/// A running broker. It ends with its last clone.
#[derive(Clone)]
pub struct Broker {
    shared: Arc<Shared>,
    server: Arc<http::Server>,
}

/// How many faults of each kind the broker has committed.
pub type Committed = BTreeMap<&'static str, u64>;

struct Shared {
    state: Mutex<State>,
    /// How many times faster its clock runs than ours: what hides a message for a second is over after `1 / pace` of it.
    pace: f64,
    ids: AtomicU64,
    arrived: Notify,
    /// Known once the server listens.
    endpoint: OnceLock<String>,
}

struct State {
    queues: HashMap<String, Queue>,
    topics: HashMap<String, Vec<Subscription>>,
    moves: Vec<Move>,
    mappings: Vec<Mapping>,
    witness: Witness,
    odds: Odds,
    committed: Committed,
    random: fastrand::Rng,
}

struct Subscription {
    queue: String,
    raw: bool,
    /// The values that each attribute may have.
    filter: HashMap<String, Vec<String>>,
    dead_letters: Option<String>,
}

/// An agent's queues, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// What it is fed from.
    pub queue: String,
    /// What it has parked.
    pub dead_letters: String,
    /// What the topic could not deliver.
    pub subscription_dead_letters: String,
}

impl Broker {
    /// Starts a broker that keeps its word until it is told otherwise. What it breaks follows from the seed and from the order in which calls come.
    ///
    /// # Errors
    /// What the system says when it gives no port.
    pub async fn start(seed: u64, pace: f64) -> io::Result<Self> {
        let state = State {
            queues: HashMap::new(),
            topics: HashMap::new(),
            moves: Vec::new(),
            mappings: Vec::new(),
            witness: Witness::default(),
            odds: Odds::default(),
            committed: Committed::new(),
            random: fastrand::Rng::with_seed(seed),
        };
        let (ids, arrived, endpoint) = (AtomicU64::new(seed << 40), Notify::new(), OnceLock::new());
        let shared = Arc::new(Shared { state: Mutex::new(state), pace, ids, arrived, endpoint });
        let own = Arc::clone(&shared);
        let server = http::serve(move |call| answer(Arc::clone(&own), call)).await?;
        let _ = shared.endpoint.set(format!("http://{}", server.address));
        Ok(Self { shared, server: Arc::new(server) })
    }

    /// Where its clients find it: the value of `AWS_ENDPOINT_URL`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// The URL of a queue.
    #[must_use]
    pub fn queue_url(&self, name: &str) -> String {
        self.shared.queue_url(name)
    }

    /// Makes a topic and returns its ARN.
    pub fn create_topic(&self, name: &str) -> String {
        self.shared.lock().topics.entry(name.to_owned()).or_default();
        topic_arn(name)
    }

    /// Makes what the template makes for an agent: its queue with its dead-letter queue, a subscription for these event types (for all where
    /// none is named) and the subscription's dead-letter queue, tagged so that the steward finds them, and the mapping to its function.
    pub fn create_agent(&self, stack: &str, topic: &str, agent: &str, types: &[&str], visibility: Duration) -> Names {
        let names = Names {
            queue: format!("{stack}-{agent}Queue"),
            dead_letters: format!("{stack}-{agent}DeadLetterQueue"),
            subscription_dead_letters: format!("{stack}-{agent}SubscriptionDeadLetterQueue"),
        };
        let mut queue = Queue::new(visibility);
        // As the template has it: only for processes that die.
        queue.redrive = Some((names.dead_letters.clone(), 1_000));
        queue.tags.insert("switchyard:agent".into(), agent.to_owned());
        let url = self.queue_url(&names.subscription_dead_letters);
        queue.tags.insert("switchyard:subscription-dead-letters".into(), url);
        let mut state = self.shared.lock();
        state.queues.insert(names.queue.clone(), queue);
        for name in [&names.dead_letters, &names.subscription_dead_letters] {
            state.queues.insert(name.clone(), Queue::new(Duration::from_secs(30)));
        }
        let types: Vec<String> = types.iter().map(ToString::to_string).collect();
        let filter = if types.is_empty() { HashMap::new() } else { HashMap::from([("event_type".to_owned(), types)]) };
        let dead_letters = Some(names.subscription_dead_letters.clone());
        let subscription = Subscription { queue: names.queue.clone(), raw: true, filter, dead_letters };
        state.topics.entry(topic.to_owned()).or_default().push(subscription);
        state.mappings.push(Mapping::new(&names.queue, &format!("{stack}-{agent}")));
        names
    }

    /// How it misbehaves from now on.
    pub fn misbehave(&self, odds: Odds) {
        self.shared.lock().odds = odds;
    }

    /// What it has broken so far.
    #[must_use]
    pub fn committed(&self) -> Committed {
        self.shared.lock().committed.clone()
    }

    /// What it saw on its topics.
    #[must_use]
    pub fn sighting(&self) -> Sighting {
        self.shared.lock().witness.sighting.clone()
    }

    /// Those of these sequences that no topic has ever accepted.
    #[must_use]
    pub fn never_seen(&self, seqs: &[i64]) -> Vec<i64> {
        let state = self.shared.lock();
        seqs.iter().copied().filter(|seq| !state.witness.saw(*seq)).collect()
    }

    /// Puts a body into a queue, past every topic. `false` where there is no such queue.
    pub fn put(&self, queue: &str, body: &str, attributes: Attributes) -> bool {
        let sent = self.shared.sent(body.into(), Arc::new(attributes));
        let mut state = self.shared.lock();
        let Some(queue) = state.queues.get_mut(queue) else { return false };
        queue.send(sent, Duration::ZERO, false, Instant::now());
        drop(state);
        self.shared.arrived.notify_waiters();
        true
    }

    /// Receives a batch as an event source mapping does, where its mapping is enabled. Waits a moment for the first message.
    pub async fn receive(&self, queue: &str, max: usize) -> Vec<Received> {
        let arrived = self.shared.arrived.notified();
        let received = self.shared.receive(queue, max, None, true);
        if received.is_empty() {
            // Also without a word: a message that was hidden comes back by itself.
            let _ = tokio::time::timeout(Duration::from_millis(20), arrived).await;
            return self.shared.receive(queue, max, None, true);
        }
        received
    }

    /// Acknowledges what these handles received.
    pub fn delete(&self, queue: &str, handles: &[String]) {
        if let Some(queue) = self.shared.lock().queues.get_mut(queue) {
            handles.iter().for_each(|handle| {
                queue.delete(handle);
            });
        }
    }

    /// How many messages a queue holds.
    #[must_use]
    pub fn depth(&self, queue: &str) -> Depth {
        self.shared.lock().queues.get_mut(queue).map(|queue| queue.depth(Instant::now())).unwrap_or_default()
    }

    /// Whether these queues hold nothing at all.
    #[must_use]
    pub fn are_empty(&self, queues: &[String]) -> bool {
        let state = self.shared.lock();
        queues.iter().all(|name| state.queues.get(name).is_none_or(Queue::is_empty))
    }

    /// Empties every queue but the dead-letter queues, and says how many messages are gone.
    pub fn wipe(&self) -> usize {
        let mut state = self.shared.lock();
        state.queues.iter_mut().filter(|(name, _)| !name.contains("DeadLetter")).map(|(_, queue)| queue.purge()).sum()
    }

    /// Every message in a queue as it was sent, received or not.
    #[must_use]
    pub fn held(&self, queue: &str) -> Vec<Sent> {
        let state = self.shared.lock();
        state.queues.get(queue).into_iter().flat_map(Queue::bodies).cloned().collect()
    }

    /// The value of an attribute of every message in a queue.
    #[must_use]
    pub fn attribute_of_all(&self, queue: &str, attribute: &str) -> Vec<String> {
        let state = self.shared.lock();
        let bodies = state.queues.get(queue).into_iter().flat_map(Queue::bodies);
        bodies.map(|sent| sent.attributes.get(attribute).map(|(_, value)| value.clone()).unwrap_or_default()).collect()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue_url(&self, name: &str) -> String {
        format!("{}/{ACCOUNT}/{name}", self.endpoint.get().map_or("http://127.0.0.1", String::as_str))
    }

    /// A duration of the broker's clock by ours.
    fn paced(&self, duration: Duration) -> Duration {
        duration.div_f64(self.pace)
    }

    fn sent(&self, body: Arc<str>, attributes: Arc<Attributes>) -> Sent {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let n = self.ids.fetch_add(1, Ordering::Relaxed);
        let id = uuid::Uuid::from_u64_pair(now.as_secs(), n).to_string();
        Sent { id, body, attributes, sent_ms: u64::try_from(now.as_millis()).unwrap_or_default() }
    }

    fn receive(&self, name: &str, max: usize, visibility: Option<Duration>, mapped: bool) -> Vec<Received> {
        let now = Instant::now();
        let mut state = self.lock();
        if mapped && !state.mappings.iter().all(|mapping| mapping.queue != name || mapping.enabled) {
            return Vec::new();
        }
        let twice = state.draw("redelivered", |odds| odds.redeliver);
        let Some(queue) = state.queues.get_mut(name) else { return Vec::new() };
        // Seen by another receiver before this one's time is over.
        let visibility =
            if twice { Duration::from_millis(1) } else { self.paced(visibility.unwrap_or(queue.visibility)) };
        let (received, dead) = queue.receive(max.min(10), visibility, now);
        let target = queue.redrive.clone();
        if let Some((dead_letters, _)) = target
            && let Some(queue) = state.queues.get_mut(&dead_letters)
        {
            dead.into_iter().for_each(|sent| queue.send(sent, Duration::ZERO, false, now));
        }
        received
    }
}

impl State {
    /// Draws whether a fault happens, and counts it where it does.
    fn draw(&mut self, fault: &'static str, odds: impl Fn(&Odds) -> f64) -> bool {
        let probability = odds(&self.odds);
        let happens = probability > 0.0 && self.random.f64() < probability;
        if happens {
            *self.committed.entry(fault).or_default() += 1;
        }
        happens
    }

    /// Puts a published message into a queue, or into its copy's, now or late.
    fn deliver(&mut self, queue: &str, sent: Sent, pace: f64) -> bool {
        let late = self.draw("arrived late", |odds| odds.late_arrival);
        let delay = if late { Duration::from_secs_f64(self.random.f64() * 2.0 / pace) } else { Duration::ZERO };
        let Some(queue) = self.queues.get_mut(queue) else { return false };
        queue.send(sent, delay, false, Instant::now());
        true
    }
}

/// What happens to a call apart from being answered.
struct Misfortune {
    throttle: bool,
    cut_before: bool,
    cut_after: bool,
    hang: bool,
    late_before: Duration,
    late_after: Duration,
}

impl State {
    fn misfortune(&mut self) -> Misfortune {
        let late = self.draw("answered late", |odds| odds.late_answer);
        let how_late = if late { self.odds.late_up_to.mul_f64(self.random.f64()) } else { Duration::ZERO };
        let (late_before, late_after) =
            if self.random.bool() { (how_late, Duration::ZERO) } else { (Duration::ZERO, how_late) };
        Misfortune {
            throttle: self.draw("throttled", |odds| odds.throttle),
            cut_before: self.draw("cut before", |odds| odds.cut_before),
            cut_after: self.draw("cut after", |odds| odds.cut_after),
            hang: self.draw("never answered", |odds| odds.hang),
            late_before,
            late_after,
        }
    }
}

/// Longer than any client waits; a client that goes away ends the wait.
const NEVER: Duration = Duration::from_secs(60);

async fn answer(shared: Arc<Shared>, call: Call) -> Result<Answer, Cut> {
    let path = call.uri().path();
    if path.starts_with("/2015-03-31/") {
        return Ok(lambda::answer(&shared, &call));
    }
    let target = call.headers().get("x-amz-target").and_then(|value| value.to_str().ok());
    let Some(operation) = target.and_then(|target| target.strip_prefix("AmazonSQS.")) else {
        return sns::answer(&shared, &wire::form(call.body())).await;
    };
    let Ok(body) = serde_json::from_slice(call.body()) else {
        return Ok(http::answer(StatusCode::BAD_REQUEST, "application/json", "{}"));
    };
    sqs::answer(&shared, operation, &body).await
}

fn queue_arn(name: &str) -> String {
    format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}")
}

fn topic_arn(name: &str) -> String {
    format!("arn:aws:sns:{REGION}:{ACCOUNT}:{name}")
}

/// The last part of an ARN or of a queue's URL: its name.
fn name_of(arn_or_url: &str) -> &str {
    arn_or_url.rsplit([':', '/']).next().unwrap_or_default()
}
