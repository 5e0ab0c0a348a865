//! What a pass does for one agent, step by step. A step that fails is told, and the next ones are tried.

use crate::{
    Limits, answer,
    dead_letters::{self, Owner, Swept},
    decide::{Flow, Order, Seen, decide},
    looks::{Look, is_due},
    outside::Outside,
    turn::Turn,
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
use switchyard_store::{Breaker, Overdue, Store};
use tokio::time::{Instant, timeout};

/// How long one agent's sweep goes on with the next window: the rest of its time is for what else there is to do.
const SWEEP: Duration = Duration::from_secs(6);
/// How long counting an agent's ledger may take: 3 s for each million of what is superseded or expired.
const COUNT: Duration = Duration::from_secs(8);

/// How many undelivered messages are held at a time: a message may have a mebibyte.
const AT_MOST_DELIVERED: usize = 100;

/// The last look at each dead-letter queue, by its URL. Of this process: a new one looks once more.
pub(crate) type Looks = Mutex<HashMap<String, (Look, Instant)>>;

/// Somebody to look after: an agent that is deployed and registered, one that is only one of the two, or ingest.
#[derive(Debug, Clone)]
pub(crate) struct Ward {
    pub(crate) name: String,
    /// Where its messages are; none for an agent that is not deployed.
    pub(crate) places: Option<AgentPlaces>,
    /// Its breaker; none for what is not registered.
    pub(crate) breaker: Option<Breaker>,
}

/// A ward, and what it takes to look after it.
pub(crate) struct Tending<'a, D, M, Q> {
    pub(crate) store: &'a Store,
    pub(crate) outside: &'a Outside<D, M, Q>,
    pub(crate) limits: Limits,
    pub(crate) ward: &'a Ward,
    /// The last looks at dead-letter queues.
    pub(crate) looks: &'a Looks,
    /// The right to change something; none for who only looks.
    pub(crate) turn: Option<&'a Turn<'a>>,
}

impl<D, M: Mappings, Q: Queue> Tending<'_, D, M, Q> {
    /// How it stands. Changes nothing.
    pub(crate) async fn look(&self) -> Standing {
        let (mut standing, _) = self.see_queues().await;
        self.count(&mut standing).await;
        standing
    }

    /// The ledger in numbers. Comes last and within a time of its own, since it is the one thing that takes longer the more there is.
    async fn count(&self, standing: &mut Standing) {
        if self.ward.breaker.is_none() {
            return;
        }
        match timeout(COUNT, self.store.ledger(&self.ward.name)).await {
            Ok(Ok(ledger)) => standing.deliveries = Some(answer::deliveries(&ledger)),
            Ok(Err(error)) => standing.troubles.push(format!("its ledger: {error}")),
            Err(_) => standing.troubles.push(format!("its ledger was not counted within {} s", COUNT.as_secs())),
        }
    }

    /// How it stands, but for its ledger; and its mappings, in the order of its places, where they could be seen.
    async fn see_queues(&self) -> (Standing, Option<Vec<Flow>>) {
        let Ward { name, places, breaker } = self.ward;
        let mut standing = Standing { agent: name.clone(), ..Standing::default() };
        standing.breaker = breaker.as_ref().map(answer::breaker);
        let Some(places) = places else { return (standing, None) };
        let troubles = &mut standing.troubles;
        standing.queue = told("its queue", self.lanes(places).depth().await, troubles).map(answer::queue);
        let depth = self.queue(&places.dead_letter_url).depth().await;
        standing.dead_letters = told("its dead-letter queue", depth, troubles).map(|depth| depth.total());
        if let Some(url) = &places.subscription_dead_letter_url {
            let depth = self.queue(url).depth().await;
            standing.undelivered =
                told("its subscription's dead-letter queue", depth, troubles).map(|depth| depth.visible);
        }
        let flows = told("its mapping", self.flows(places).await, troubles);
        if let Some(flows) = &flows {
            show(&mut standing, flows);
        }
        (standing, flows)
    }

    /// One pass. The standing that it answers with is what was found, and what was done to breaker and mapping since.
    pub(crate) async fn tend(&self) -> Reconciled {
        let (standing, flows) = self.see_queues().await;
        let mut done = Reconciled { standing, ..Reconciled::default() };
        if let Some(places) = &self.ward.places {
            self.letters(places, &mut done).await;
            self.audit(&mut done).await;
        }
        if let Some(breaker) = &self.ward.breaker {
            self.sweep(&mut done).await;
            if let Some(places) = &self.ward.places {
                self.follow(places, breaker, flows, &mut done).await;
            }
        }
        self.count(&mut done.standing).await;
        done
    }

    /// Window after window, while there is time: what each has written stays written.
    async fn sweep(&self, done: &mut Reconciled) {
        let until = Instant::now() + SWEEP;
        loop {
            let swept = self.store.sweep(&self.ward.name).await;
            let Some(swept) = told("the sweep", swept, &mut done.standing.troubles) else { return };
            done.found += swept.written;
            if !swept.more || Instant::now() >= until {
                return;
            }
        }
    }

    /// Dead letters, and what SNS could not deliver. A queue that is known to be empty is not asked, and one of dead letters only where there may be
    /// something new to see.
    async fn letters(&self, places: &AgentPlaces, done: &mut Reconciled) {
        let (store, name, at_most) = (self.store, self.ward.name.as_str(), self.limits.letters);
        let (url, depth) = (&places.dead_letter_url, done.standing.dead_letters);
        if is_due(depth, self.last_look(url)) {
            let owner = Owner { store, name, has_deliveries: self.ward.breaker.is_some() };
            let mut swept = Swept::default();
            let result = dead_letters::sweep(owner, &self.queue(url), at_most, &mut swept).await;
            (done.died, done.stale) = (swept.died, swept.stale);
            let ended = told("its dead letters", result, &mut done.standing.troubles).is_some();
            if let Some(depth) = depth {
                let left = depth.saturating_sub(u64::try_from(swept.stale).unwrap_or(u64::MAX));
                self.remember(url, Look { left, whole: swept.whole && ended });
            }
        }
        if let Some(url) = &places.subscription_dead_letter_url
            && done.standing.undelivered != Some(0)
        {
            let (undelivered, queue) = (self.queue(url), self.lanes(places));
            let at_most = bound(at_most.min(AT_MOST_DELIVERED), done.standing.undelivered);
            let delivered = dead_letters::deliver(&undelivered, &queue, at_most, &mut done.delivered).await;
            told("what SNS could not deliver", delivered, &mut done.standing.troubles);
        }
    }

    /// What was removed or put somewhere else is somebody's to find later: one row for the pass.
    async fn audit(&self, done: &mut Reconciled) {
        let Reconciled { died, stale, delivered, .. } = *done;
        if died + stale + delivered > 0 {
            let detail = format!(r#"{{"died":{died},"stale":{stale},"delivered":{delivered}}}"#);
            let noted = self.store.note("steward", "letters", Some(&self.ward.name), &detail).await;
            told("its audit", noted, &mut done.standing.troubles);
        }
    }

    fn last_look(&self, url: &str) -> Option<(Look, Duration)> {
        let looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks.get(url).map(|(look, at)| (*look, at.elapsed()))
    }

    fn remember(&self, url: &str, look: Look) {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner).insert(url.to_owned(), (look, Instant::now()));
    }

    /// The mapping follows the breaker, and what is due goes out where messages flow.
    async fn follow(&self, places: &AgentPlaces, breaker: &Breaker, flows: Option<Vec<Flow>>, done: &mut Reconciled) {
        // What could not be seen has been told, and nothing is decided on half a view.
        let Some(mut seen) = self.see(breaker, flows, done) else { return };
        let mut orders = decide(&seen);
        if orders == [Order::HalfOpen] {
            let half_open = self.store.half_open(&self.ward.name).await;
            let Some(state) = told("its breaker", half_open, &mut done.standing.troubles) else { return };
            done.standing.breaker.iter_mut().for_each(|breaker| breaker.state = state);
            seen = Seen { breaker: state, wait_over: false, since: Duration::ZERO, ..seen };
            orders = decide(&seen);
        }
        for order in orders {
            if let Err(trouble) = self.carry_out(order, places, &mut seen.flows, done).await {
                // What comes after would rest on what has not happened.
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

    /// Carries out one order; `flows` and the standing are afterwards as they are then.
    async fn carry_out(
        &self,
        order: Order,
        places: &AgentPlaces,
        flows: &mut [Flow],
        done: &mut Reconciled,
    ) -> Result<(), String> {
        let (store, name) = (self.store, &self.ward.name);
        let memory = |error: switchyard_store::StoreError| format!("its breaker: {error}");
        let mappings = places.mappings().zip(flows.iter());
        let mappings: Vec<&str> =
            mappings.filter(|(_, flow)| flow.after(order) != **flow).map(|(mapping, _)| mapping).collect();
        match order {
            // Decided anew by `follow` as soon as it is done.
            Order::HalfOpen => {}
            Order::Pause => {
                // Written down first: a mapping that is off with nobody's name to it stays off for ever.
                store.set_paused(name, &mappings, true).await.map_err(memory)?;
                self.still_my_turn().await?;
                self.set_enabled(&mappings, false).await?;
                tracing::warn!(agent = name, "its mapping is paused: its breaker is open");
            }
            Order::Resume => {
                self.still_my_turn().await?;
                self.set_enabled(&mappings, true).await?;
                self.still_my_turn().await?;
                store.set_paused(name, &mappings, false).await.map_err(memory)?;
                tracing::info!(agent = name, "its mapping is on again");
            }
            Order::Forget => {
                self.still_my_turn().await?;
                store.set_paused(name, &mappings, false).await.map_err(memory)?;
            }
            Order::PausedByHand => tracing::warn!(agent = name, "a mapping of it is paused by hand, and stays so"),
            Order::Send(overdue, at_most) => self.send(overdue, at_most, places, done).await?,
        }
        flows.iter_mut().for_each(|flow| *flow = flow.after(order));
        show(&mut done.standing, flows);
        Ok(())
    }

    /// Whoever stood still beyond its turn leaves mappings alone: the next steward has decided anew meanwhile.
    async fn still_my_turn(&self) -> Result<(), String> {
        let lasts = match self.turn {
            Some(turn) => turn.lasts().await.map_err(|error| format!("whose turn it is: {error}"))?,
            None => false,
        };
        if lasts {
            Ok(())
        } else {
            Err("the turn was over before its mapping could be set; the next pass does it".into())
        }
    }

    /// What may heal by itself is the agent's turn again; then what is due goes to its queue, from the table.
    async fn send(
        &self,
        overdue: Overdue,
        at_most: usize,
        places: &AgentPlaces,
        done: &mut Reconciled,
    ) -> Result<(), String> {
        let name = &self.ward.name;
        let redriven =
            self.store.auto_redrive(name).await.map_err(|error| format!("its automatic redrive: {error}"))?;
        done.redriven = redriven.len();
        let limit = i32::try_from(at_most).unwrap_or(i32::MAX);
        let queue = self.lanes(places);
        let sent = resend::send_due(self.store, &queue, name, limit, overdue).await;
        let sent = sent.map_err(|error| format!("sending what is due: {error}"))?;
        done.sent = sent.sent;
        if sent.failed > 0 {
            Err(format!("{} of what is due could not be sent; it is due again", sent.failed))
        } else {
            Ok(())
        }
    }

    fn queue(&self, url: &str) -> Q {
        (self.outside.queue)(url)
    }

    /// Its queue, and its express queue where it has one.
    fn lanes(&self, places: &AgentPlaces) -> AgentQueues<Q> {
        AgentQueues::of(places, |url| self.queue(url))
    }

    /// What its mappings are, in the order of its places.
    async fn flows(&self, places: &AgentPlaces) -> Result<Vec<Flow>, BusError> {
        let paused = self.ward.breaker.as_ref().map_or(&[][..], |breaker| breaker.paused.as_slice());
        let mut flows = Vec::new();
        for mapping in places.mappings() {
            let wanted = self.outside.mappings.enabled(mapping).await?.wanted;
            flows.push(Flow::of(wanted, paused.iter().any(|paused| paused == mapping)));
        }
        Ok(flows)
    }

    /// Turns mappings on or off. Where one fails, those before it are turned already, and the next pass turns the others.
    async fn set_enabled(&self, mappings: &[&str], enabled: bool) -> Result<(), String> {
        for mapping in mappings {
            let told = self.outside.mappings.set_enabled(mapping, enabled).await;
            told.map_err(|error| format!("its mapping: {error}"))?;
        }
        Ok(())
    }
}

/// Whether messages flow, from all of its queues, and who has stopped them where they do not. What a person has stopped only a person lets go on,
/// so that is told first.
fn show(standing: &mut Standing, flows: &[Flow]) {
    standing.flows = Some(flows.iter().all(|flow| flow.is_on()));
    let stopped = |by: Flow| flows.contains(&by);
    standing.paused_by = match () {
        () if stopped(Flow::PausedByHand) => Some(PausedBy::Hand),
        () if stopped(Flow::Paused) => Some(PausedBy::Steward),
        () => None,
    };
}

/// For how long a breaker has been in its state. One whose time cannot be read counts as changed just now.
fn since(breaker: &Breaker) -> Duration {
    let since: Option<Timestamp> = breaker.since.parse().ok();
    since.and_then(|since| Timestamp::now().duration_since(since).try_into().ok()).unwrap_or_default()
}

/// No more than there are, as far as that is known: looking for more waits for what does not come.
fn bound(at_most: usize, there_are: Option<u64>) -> usize {
    there_are.map_or(at_most, |there_are| usize::try_from(there_are).unwrap_or(usize::MAX).min(at_most))
}

/// What an answer says; an error becomes a line for the operator.
fn told<T, E: std::fmt::Display>(what: &str, answer: Result<T, E>, troubles: &mut Vec<String>) -> Option<T> {
    answer.map_err(|error| troubles.push(format!("{what}: {error}"))).ok()
}
