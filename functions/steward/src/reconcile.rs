//! What a pass does for one agent, step by step. A step that fails adds a line to the answer, and the next steps are tried.

use crate::{
    Limits, answer,
    clients::Clients,
    dead_letters::{self, Owner, Swept},
    decide::{Flow, Order, Seen, decide},
    inspection::{Inspection, is_due},
    lease::PassLease,
};
use jiff::Timestamp;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use switchyard_bus::{AgentPlaces, AgentQueues, BusError, Mappings, Queue};
use switchyard_operations::{
    pass::Reconciled,
    status::{PausedBy, Standing},
};
use switchyard_runtime::resend;
use switchyard_store::{AgentBreaker, Breaker, Overdue, Store};
use tokio::time::{Instant, timeout};

/// How long the sweep of one agent may start new windows: the rest of its time is for the other steps.
const SWEEP: Duration = Duration::from_secs(6);
/// How long counting an agent's ledger may take: 3 s for each million of superseded or expired deliveries.
const COUNT: Duration = Duration::from_secs(8);

/// How many undelivered messages are held at a time: a message may have a mebibyte.
const AT_MOST_DELIVERED: usize = 100;

/// The last inspection of each dead-letter queue, by its URL. Kept by this process; a new process inspects each queue once.
pub(crate) type Inspections = Mutex<HashMap<String, (Inspection, Instant)>>;

/// What the steward reconciles: an agent that is deployed, registered or both, or ingest.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// Its queues and mappings; `None` for an agent that is not deployed.
    pub(crate) places: Option<AgentPlaces>,
    /// Its breaker; `None` for an agent that is not registered.
    pub(crate) breaker: Option<AgentBreaker>,
}

/// One target, and what reconciling it needs.
pub(crate) struct Reconciler<'a, D, M, Q> {
    pub(crate) store: &'a Store,
    pub(crate) clients: &'a Clients<D, M, Q>,
    pub(crate) limits: Limits,
    pub(crate) target: &'a Target,
    /// The last inspections of dead-letter queues.
    pub(crate) inspections: &'a Inspections,
    /// The lease on the pass; `None` for `status`, which changes nothing.
    pub(crate) lease: Option<&'a PassLease<'a>>,
}

impl<D, M: Mappings, Q: Queue> Reconciler<'_, D, M, Q> {
    /// The target's present state. Changes nothing.
    pub(crate) async fn inspect(&self) -> Standing {
        let (mut standing, _) = self.see_queues().await;
        self.count(&mut standing).await;
        standing
    }

    /// Counts the ledger. Comes last and has its own timeout, since its time grows with the ledger.
    async fn count(&self, standing: &mut Standing) {
        if self.target.breaker.is_none() {
            return;
        }
        match timeout(COUNT, self.store.ledger(&self.target.name)).await {
            Ok(Ok(ledger)) => standing.deliveries = Some(answer::deliveries(&ledger)),
            Ok(Err(error)) => standing.troubles.push(format!("its ledger: {error}")),
            Err(_) => standing.troubles.push(format!("its ledger was not counted within {} s", COUNT.as_secs())),
        }
    }

    /// The target's state without its ledger, and the state of each mapping, in the order of its places, where Lambda answered.
    async fn see_queues(&self) -> (Standing, Option<Vec<Flow>>) {
        let Target { name, places, breaker } = self.target;
        let mut standing = Standing { agent: name.clone(), ..Standing::default() };
        standing.breaker = breaker.as_ref().map(|registered| registered.breaker.clone());
        let Some(places) = places else { return (standing, None) };
        let troubles = &mut standing.troubles;
        standing.queue = or_report("its queue", self.queues(places).depth().await, troubles).map(answer::queue);
        let depth = self.queue(&places.dead_letter_url).depth().await;
        standing.dead_letters = or_report("its dead-letter queue", depth, troubles).map(|depth| depth.total());
        if let Some(url) = &places.subscription_dead_letter_url {
            let depth = self.queue(url).depth().await;
            standing.undelivered =
                or_report("its subscription's dead-letter queue", depth, troubles).map(|depth| depth.visible);
        }
        let flows = or_report("its mapping", self.flows(places).await, troubles);
        if let Some(flows) = &flows {
            show(&mut standing, flows);
        }
        (standing, flows)
    }

    /// One pass. The answer has the state that it found, with the changes that it made to breaker and mappings.
    pub(crate) async fn reconcile(&self) -> Reconciled {
        let (standing, flows) = self.see_queues().await;
        let mut done = Reconciled { standing, ..Reconciled::default() };
        if let Some(places) = &self.target.places {
            self.dead_letters(places, &mut done).await;
            self.audit(&mut done).await;
        }
        if let Some(AgentBreaker { breaker, .. }) = &self.target.breaker {
            self.sweep(&mut done).await;
            if let Some(places) = &self.target.places {
                self.follow(places, breaker, flows, &mut done).await;
            }
        }
        self.count(&mut done.standing).await;
        done
    }

    /// Sweeps window after window, while there is time. Each window commits.
    async fn sweep(&self, done: &mut Reconciled) {
        let until = Instant::now() + SWEEP;
        loop {
            let swept = self.store.sweep(&self.target.name).await;
            let Some(swept) = or_report("the sweep", swept, &mut done.standing.troubles) else { return };
            done.found += swept.written;
            if !swept.more || Instant::now() >= until {
                return;
            }
        }
    }

    /// Dead letters, and messages that SNS could not deliver. Does not read an empty queue, and reads a dead-letter queue only if an inspection is due.
    async fn dead_letters(&self, places: &AgentPlaces, done: &mut Reconciled) {
        let (store, name, at_most) = (self.store, self.target.name.as_str(), self.limits.dead_letters);
        let (url, depth) = (&places.dead_letter_url, done.standing.dead_letters);
        if is_due(depth, self.last_inspection(url)) {
            let owner = Owner { store, name, has_deliveries: self.target.breaker.is_some() };
            let mut swept = Swept::default();
            let result = dead_letters::sweep(owner, &self.queue(url), at_most, &mut swept).await;
            (done.died, done.stale) = (swept.died, swept.stale);
            let ended = or_report("its dead letters", result, &mut done.standing.troubles).is_some();
            if let Some(depth) = depth {
                let left = depth.saturating_sub(u64::try_from(swept.stale).unwrap_or(u64::MAX));
                self.remember(url, Inspection { left, whole: swept.whole && ended });
            }
        }
        if let Some(url) = &places.subscription_dead_letter_url
            && done.standing.undelivered != Some(0)
        {
            let (undelivered, queue) = (self.queue(url), self.queues(places));
            let at_most = bound(at_most.min(AT_MOST_DELIVERED), done.standing.undelivered);
            let delivered = dead_letters::deliver(&undelivered, &queue, at_most, &mut done.delivered).await;
            or_report("what SNS could not deliver", delivered, &mut done.standing.troubles);
        }
    }

    /// One audit row for each pass that removed or moved messages, so that an operator finds them later.
    async fn audit(&self, done: &mut Reconciled) {
        let Reconciled { died, stale, delivered, .. } = *done;
        if died + stale + delivered > 0 {
            let detail = format!(r#"{{"died":{died},"stale":{stale},"delivered":{delivered}}}"#);
            let noted = self.store.note("steward", "dead_letters", Some(&self.target.name), &detail).await;
            or_report("its audit", noted, &mut done.standing.troubles);
        }
    }

    fn last_inspection(&self, url: &str) -> Option<(Inspection, Duration)> {
        let inspections = self.inspections.lock().unwrap_or_else(PoisonError::into_inner);
        inspections.get(url).map(|(inspection, at)| (*inspection, at.elapsed()))
    }

    fn remember(&self, url: &str, inspection: Inspection) {
        self.inspections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(url.to_owned(), (inspection, Instant::now()));
    }

    /// Brings the mappings in step with the breaker, and sends what is due if the mappings are on.
    async fn follow(&self, places: &AgentPlaces, breaker: &Breaker, flows: Option<Vec<Flow>>, done: &mut Reconciled) {
        // The troubles say already what is missing. Without it there is no decision.
        let Some(mut seen) = self.see(breaker, flows, done) else { return };
        let mut orders = decide(&seen);
        if orders == [Order::HalfOpen] {
            let half_open = self.store.half_open(&self.target.name).await;
            let Some(state) = or_report("its breaker", half_open, &mut done.standing.troubles) else { return };
            done.standing.breaker.iter_mut().for_each(|breaker| breaker.state = state);
            seen = Seen { breaker: state, wait_over: false, since: Duration::ZERO, ..seen };
            orders = decide(&seen);
        }
        for order in orders {
            if let Err(trouble) = self.carry_out(order, places, &mut seen.flows, done).await {
                // The next orders depend on this one.
                return done.standing.troubles.push(trouble);
            }
        }
    }

    fn see(&self, breaker: &Breaker, flows: Option<Vec<Flow>>, done: &Reconciled) -> Option<Seen> {
        let delivered = u64::try_from(done.delivered).unwrap_or(u64::MAX);
        Some(Seen {
            breaker: breaker.state,
            forced: breaker.forced,
            wait_over: breaker.retry_in_secs <= 0.0,
            since: since(breaker),
            flows: flows?,
            in_queue: done.standing.queue?.total().saturating_add(delivered),
            at_most: self.limits.resends,
        })
    }

    /// Carries out one order, and brings `flows` and the standing up to date.
    async fn carry_out(
        &self,
        order: Order,
        places: &AgentPlaces,
        flows: &mut [Flow],
        done: &mut Reconciled,
    ) -> Result<(), String> {
        let (store, name) = (self.store, &self.target.name);
        let memory = |error: switchyard_store::StoreError| format!("its breaker: {error}");
        let mappings = places.mappings().zip(flows.iter());
        let mappings: Vec<&str> =
            mappings.filter(|(_, flow)| flow.after(order) != **flow).map(|(mapping, _)| mapping).collect();
        match order {
            // `follow` carries it out and decides again.
            Order::HalfOpen => {}
            Order::Pause => {
                // The row comes first: the steward never turns on a mapping that it does not remember turning off.
                store.set_paused(name, &mappings, true).await.map_err(memory)?;
                self.still_leased().await?;
                self.set_enabled(&mappings, false).await?;
                tracing::warn!(agent = name, "mapping paused: the breaker is open");
            }
            Order::Resume => {
                self.still_leased().await?;
                self.set_enabled(&mappings, true).await?;
                self.still_leased().await?;
                store.set_paused(name, &mappings, false).await.map_err(memory)?;
                tracing::info!(agent = name, "mapping resumed");
            }
            Order::Forget => {
                self.still_leased().await?;
                store.set_paused(name, &mappings, false).await.map_err(memory)?;
            }
            Order::PausedByOperator => {
                tracing::warn!(agent = name, "an operator has turned off a mapping; the steward leaves it off")
            }
            Order::Send(overdue, at_most) => self.send(overdue, at_most, places, done).await?,
        }
        flows.iter_mut().for_each(|flow| *flow = flow.after(order));
        show(&mut done.standing, flows);
        Ok(())
    }

    /// A process that was suspended until its lease ended changes no mapping: the next steward may have decided otherwise since.
    async fn still_leased(&self) -> Result<(), String> {
        let lasts = match self.lease {
            Some(lease) => lease.lasts().await.map_err(|error| format!("the lease on the pass: {error}"))?,
            None => false,
        };
        if lasts {
            Ok(())
        } else {
            Err("the lease on the pass ended before the mapping was set; the next pass sets it".into())
        }
    }

    /// Requeues what the automatic redrive selects, then sends what is due from the table to the agent's queue.
    async fn send(
        &self,
        overdue: Overdue,
        at_most: usize,
        places: &AgentPlaces,
        done: &mut Reconciled,
    ) -> Result<(), String> {
        let name = &self.target.name;
        let redriven =
            self.store.auto_redrive(name).await.map_err(|error| format!("its automatic redrive: {error}"))?;
        done.redriven = redriven.len();
        let limit = i32::try_from(at_most).unwrap_or(i32::MAX);
        let queue = self.queues(places);
        let sent = resend::send_due(self.store, &queue, name, limit, overdue).await;
        let sent = sent.map_err(|error| format!("sending what is due: {error}"))?;
        done.sent = sent.sent;
        if sent.failed > 0 {
            Err(format!("{} due deliveries could not be sent; they are due again", sent.failed))
        } else {
            Ok(())
        }
    }

    fn queue(&self, url: &str) -> Q {
        (self.clients.queue)(url)
    }

    /// Its queue, and its express queue if it has one.
    fn queues(&self, places: &AgentPlaces) -> AgentQueues<Q> {
        AgentQueues::of(places, |url| self.queue(url))
    }

    /// The state of its mappings, in the order of its places.
    async fn flows(&self, places: &AgentPlaces) -> Result<Vec<Flow>, BusError> {
        let paused = self.target.breaker.as_ref().map_or(&[][..], |breaker| breaker.paused.as_slice());
        let mut flows = Vec::new();
        for mapping in places.mappings() {
            let wanted = self.clients.mappings.enabled(mapping).await?.wanted;
            flows.push(Flow::of(wanted, paused.iter().any(|paused| paused == mapping)));
        }
        Ok(flows)
    }

    /// Turns mappings on or off. If one fails, those before it are changed already, and the next pass changes the others.
    async fn set_enabled(&self, mappings: &[&str], enabled: bool) -> Result<(), String> {
        for mapping in mappings {
            let answer = self.clients.mappings.set_enabled(mapping, enabled).await;
            answer.map_err(|error| format!("its mapping: {error}"))?;
        }
        Ok(())
    }
}

/// Whether messages flow from all of its queues, and who paused a mapping if not. An operator's pause comes first, since only an operator ends it.
fn show(standing: &mut Standing, flows: &[Flow]) {
    standing.flows = Some(flows.iter().all(|flow| flow.is_on()));
    let stopped = |by: Flow| flows.contains(&by);
    standing.paused_by = match () {
        () if stopped(Flow::PausedByOperator) => Some(PausedBy::Operator),
        () if stopped(Flow::Paused) => Some(PausedBy::Steward),
        () => None,
    };
}

/// For how long a breaker has been in its state. If its time cannot be read, it counts as changed just now.
fn since(breaker: &Breaker) -> Duration {
    let since: Option<Timestamp> = breaker.since.parse().ok();
    since.and_then(|since| Timestamp::now().duration_since(since).try_into().ok()).unwrap_or_default()
}

/// At most the known depth: receiving from an empty queue waits.
fn bound(at_most: usize, there_are: Option<u64>) -> usize {
    there_are.map_or(at_most, |there_are| usize::try_from(there_are).unwrap_or(usize::MAX).min(at_most))
}

/// The value of an answer; an error becomes a line for the operator.
fn or_report<T, E: std::fmt::Display>(what: &str, answer: Result<T, E>, troubles: &mut Vec<String>) -> Option<T> {
    answer.map_err(|error| troubles.push(format!("{what}: {error}"))).ok()
}
