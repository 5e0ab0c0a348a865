//! One pass: the steps, in their order.

use crate::{
    Limits,
    backfill::{self, Reach},
    clients::Clients,
    clock, compare, cutover,
    lease::PassLease,
    reconcile::{Inspections, Reconciler, Target},
};
use futures_util::{StreamExt, stream};
use std::{collections::BTreeMap, time::Duration};
use switchyard_bus::{AgentQueues, Directory, Mappings, Queue};
use switchyard_operations::{
    backfill::Backfilled,
    compare::Advanced,
    cutover::Judged,
    outbox::{Outbox, Retried},
    pass::{Pass, Reconciled},
    status::{Standing, Status},
};
use switchyard_runtime::FIGURES;
use switchyard_store::{BreakerState, Store, StoreError};
use tokio::time::{Instant, timeout_at};

/// Ingest has a queue and a dead-letter queue as an agent has, and no deliveries.
const INGEST: &str = "ingest";
/// How many agents are reconciled at the same time: they share two connections.
const AT_ONCE: usize = 4;
/// How long one agent may take, so that one that does not answer leaves time for the others.
const LONGEST_RECONCILE: Duration = Duration::from_secs(20);
/// How long each step for all agents may take, so that time is left for the agents.
const LONGEST_STEP: Duration = Duration::from_secs(12);
/// How long comparisons may go on with the next window, so that the last one ends within the step's own time.
const LONGEST_COMPARISON: Duration = Duration::from_secs(6);
/// How long a roll-back may give deliveries to the old system, so that it is reported within the step's own time; the sweeps continue it.
const LONGEST_MOVE: Duration = Duration::from_secs(8);
/// How long after the first cutover plan another one may begin to be judged.
const LONGEST_JUDGEMENT: Duration = Duration::from_secs(15);
/// How many events that could not be published are shown.
const MOST_SHOWN: i64 = 1_000;
/// How long a pass waits for another one to end.
const WAIT_FOR_LEASE: Duration = Duration::from_secs(20);
/// What is kept of an invocation's time: calls under way have timeouts of five seconds.
const RESERVE: Duration = Duration::from_secs(8);

/// The steward.
pub struct Steward<D, M, Q> {
    store: Store,
    clients: Clients<D, M, Q>,
    limits: Limits,
    inspections: Inspections,
}

impl<D: Directory, M: Mappings, Q: Queue> Steward<D, M, Q> {
    /// A steward for the stack whose queues and mappings these are.
    pub fn new(store: Store, clients: Clients<D, M, Q>, limits: Limits) -> Self {
        Self { store, clients, limits, inspections: Inspections::default() }
    }

    /// One pass. Ends before `deadline`; the answer says what there was no time for, and the next pass does it.
    ///
    /// # Errors
    /// [`StoreError`] if the lease cannot be taken. Later errors are in the answer.
    pub async fn pass(&self, deadline: Instant) -> Result<Pass, StoreError> {
        let ends = leaving_a_reserve(deadline);
        let give_up = ends.min(Instant::now() + WAIT_FOR_LEASE);
        let Some(lease) = PassLease::take(&self.store, give_up, ends).await? else {
            return Ok(Pass { busy: true, ..Pass::default() });
        };
        let mut pass = Pass::default();
        let tick = within(ends, "the ledger's tick", clock::tick(&self.store), &mut pass.troubles);
        pass.ledger = tick.await;
        pass.cutovers = self.cutovers(ends, &mut pass.troubles).await;
        let targets = self.targets(ends, &mut pass.troubles).await;
        pass.agents = self
            .each(&targets, ends, Some(&lease), async |reconciler| reconciler.reconcile().await, without_time)
            .await;
        pass.compared = self.compare(ends, &mut pass.troubles).await;
        pass.unpublishable = self.unpublishable(ends, &mut pass.troubles).await;
        let oldest = self.store.oldest_unpublished_secs();
        pass.oldest_unpublished_secs = within(ends, "the age of the outbox", oldest, &mut pass.troubles).await;
        self.hourly(ends, &mut pass).await;
        let ended = lease.end().await;
        pass.backfills = self.backfill(&targets, &pass.agents, ends, &mut pass.troubles).await;
        report(&pass);
        ended.map(|()| pass)
    }

    /// The state of everything. Changes nothing.
    pub async fn status(&self, deadline: Instant) -> Status {
        let ends = leaving_a_reserve(deadline);
        let mut troubles = Vec::new();
        let targets = self.targets(ends, &mut troubles).await;
        let too_late = |name: &str| without_time(name).standing;
        let agents = self.each(&targets, ends, None, async |reconciler| reconciler.inspect().await, too_late).await;
        let unpublishable = self.unpublishable(ends, &mut troubles).await;
        let moving = async {
            let cutovers = self.store.cutovers_under_way().await?;
            Ok::<_, StoreError>((cutovers, self.store.backfills_running().await?))
        };
        let (cutovers, backfills) = within(ends, "what is under way", moving, &mut troubles).await.unwrap_or_default();
        let backfills = backfills.into_iter().map(|backfill| backfill.agent).collect();
        Status { agents, unpublishable, cutovers, backfills, troubles }
    }

    /// The events that could not be published. Changes nothing.
    ///
    /// # Errors
    /// As the store's.
    pub async fn outbox(&self) -> Result<Outbox, StoreError> {
        Ok(Outbox { unpublishable: self.store.unpublishable(MOST_SHOWN).await? })
    }

    /// Makes the shim try these events again, or all that could not be published if none is named.
    ///
    /// # Errors
    /// As the store's.
    pub async fn retry_publishing(&self, seqs: &[i64], operator: &str) -> Result<Retried, StoreError> {
        let retried = self.store.retry_publishing(seqs, operator).await?;
        tracing::info!(operator, retried, "the shim tries the events again");
        Ok(Retried { retried })
    }

    /// The ledger.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Before the agents are reconciled, so that what goes back to the old system is not sent to an agent first. In a random order, so that it is not
    /// always the same plans that there is no time for.
    async fn cutovers(&self, ends: Instant, troubles: &mut Vec<String>) -> Vec<Judged> {
        let under_way = within(ends, "which cutovers are under way", self.store.cutovers_under_way(), troubles).await;
        let mut under_way = under_way.unwrap_or_default();
        fastrand::shuffle(&mut under_way);
        let until = ends.min(Instant::now() + LONGEST_JUDGEMENT);
        let mut judged = Vec::new();
        for plan in under_way {
            let what = format!("the cutover of {}", plan.agent);
            if Instant::now() >= until {
                troubles.push(format!("{what}: there was no time for it; the next pass judges it"));
                continue;
            }
            let move_until = until.min(Instant::now() + LONGEST_MOVE);
            judged.extend(within(ends, &what, cutover::judge(&self.store, &plan, move_until), troubles).await);
        }
        judged.sort_by(|one, other| one.agent.cmp(&other.agent));
        troubles.extend(judged.iter().filter_map(cutover::trouble));
        judged
    }

    /// After the agents, since no other step waits for it. The next pass compares what there was no time for.
    async fn compare(&self, ends: Instant, troubles: &mut Vec<String>) -> Vec<Advanced> {
        let until = ends.min(Instant::now() + LONGEST_COMPARISON);
        let compared =
            within(ends, "what is compared with an old system", compare::advance(&self.store, until), troubles);
        let compared = compared.await.unwrap_or_default();
        troubles.extend(compared.iter().filter_map(|done| {
            done.trouble.as_ref().map(|trouble| format!("the comparison of {}: {trouble}", done.agent))
        }));
        compared
    }

    /// Last, and without the lease, which it does not need: it may take most of a minute.
    async fn backfill(
        &self,
        targets: &[Target],
        reconciled: &[Reconciled],
        ends: Instant,
        troubles: &mut Vec<String>,
    ) -> Vec<Backfilled> {
        let running = within(ends, "which backfills are running", self.store.backfills_running(), troubles).await;
        let reach = |agent: &str| {
            let places = targets.iter().find(|target| target.name == agent)?.places.as_ref()?;
            let flows = reconciled.iter().find(|done| done.standing.agent == agent)?.standing.flows;
            let open = |url: &str| (self.clients.queue)(url);
            Some(Reach { queue: open(&places.queue_url), queues: AgentQueues::of(places, open), flows })
        };
        let until = ends.min(Instant::now() + backfill::LONGEST);
        let done = backfill::advance(&self.store, running.unwrap_or_default(), reach, until).await;
        troubles.extend(done.iter().filter_map(|done| {
            done.trouble.as_ref().map(|trouble| format!("the backfill of {}: {trouble}", done.agent))
        }));
        done
    }

    async fn unpublishable(&self, ends: Instant, troubles: &mut Vec<String>) -> Option<i64> {
        within(ends, "how many events could not be published", self.store.unpublishable_count(), troubles).await
    }

    /// With the time that is left. The database keeps when it was done, and each step commits.
    async fn hourly(&self, ends: Instant, pass: &mut Pass) {
        let Pass { ledger: Some(clock), troubles, .. } = pass else { return };
        if Instant::now() >= ends {
            return;
        }
        if timeout_at(ends, clock::hourly(&self.store, clock, troubles)).await.is_err() {
            pass.troubles.push("the hourly step took too long; the next one continues".into());
        }
    }

    /// Forces an agent's breaker, or ends the force, and returns the agent's state. The next pass brings the mapping in step.
    ///
    /// # Errors
    /// [`StoreError::Config`] where there is no such agent, else as the store's.
    pub async fn set_breaker(
        &self,
        agent: &str,
        set: Option<BreakerState>,
        operator: &str,
        deadline: Instant,
    ) -> Result<Status, StoreError> {
        self.store.force_breaker(agent, set, operator).await?;
        tracing::info!(agent, operator, ?set, "an operator has set the breaker");
        let mut status = self.status(deadline).await;
        status.agents.retain(|standing| standing.agent == agent);
        Ok(status)
    }

    /// The targets by name: what the stack has, joined with what is registered.
    async fn targets(&self, ends: Instant, troubles: &mut Vec<String>) -> Vec<Target> {
        let mut targets: BTreeMap<String, Target> = BTreeMap::new();
        // Without the ledger it is not known which dead letters are needed, nor what is due.
        let registered = within(ends, "who is registered", self.store.breakers(), troubles).await;
        let Some(breakers) = registered else { return Vec::new() };
        for breaker in breakers {
            let target = Target { name: breaker.agent.clone(), places: None, breaker: Some(breaker) };
            targets.insert(target.name.clone(), target);
        }
        let places = Box::pin(self.clients.directory.places());
        if let Some(found) = within(ends, "which queues there are", places, troubles).await {
            troubles.extend(found.troubles);
            for places in found.agents {
                let name = places.agent.clone();
                let target = targets.entry(name.clone()).or_insert(Target { name, places: None, breaker: None });
                target.places = Some(places);
            }
        }
        troubles.extend(targets.values().filter_map(missing_half));
        // The ledger knows nothing of an agent that is deployed and not registered, so nothing can be decided.
        targets.into_values().filter(|target| target.breaker.is_some() || target.name == INGEST).collect()
    }

    /// Does `work` for every target, some at a time, each with its own timeout; the answers by name. In a random order, so that it is not always the same
    /// targets that there is no time for.
    async fn each<'a, T>(
        &'a self,
        targets: &'a [Target],
        ends: Instant,
        lease: Option<&'a PassLease<'a>>,
        work: impl AsyncFn(Reconciler<'a, D, M, Q>) -> T,
        too_late: impl Fn(&str) -> T,
    ) -> Vec<T> {
        let mut order: Vec<usize> = (0..targets.len()).collect();
        fastrand::shuffle(&mut order);
        let (work, too_late) = (&work, &too_late);
        let one = |at: usize| async move {
            let target = &targets[at];
            let (store, clients, inspections) = (&self.store, &self.clients, &self.inspections);
            let reconciler = Reconciler { store, clients, limits: self.limits, target, inspections, lease };
            let until = ends.min(Instant::now() + LONGEST_RECONCILE);
            let done = timeout_at(until, Box::pin(work(reconciler))).await;
            (at, done.unwrap_or_else(|_| too_late(&target.name)))
        };
        let mut all: Vec<(usize, T)> = stream::iter(order).map(one).buffer_unordered(AT_ONCE).collect().await;
        all.sort_by_key(|(at, _)| *at);
        all.into_iter().map(|(_, done)| done).collect()
    }
}

/// Until when to work in an invocation that ends at `deadline`.
pub(crate) fn leaving_a_reserve(deadline: Instant) -> Instant {
    deadline.checked_sub(RESERVE).unwrap_or_else(Instant::now)
}

/// What an agent lacks that is only deployed or only registered. A registered agent that is not deployed yet is no trouble, only a line of the log; one
/// whose queues could not be listed has its trouble already.
fn missing_half(target: &Target) -> Option<String> {
    match (&target.places, &target.breaker) {
        (Some(_), None) if target.name != INGEST => {
            Some(format!("{} is deployed and not registered: run switchyard-setup", target.name))
        }
        (None, Some(_)) => {
            tracing::info!(
                agent = target.name,
                "registered, and its queues were not found: its events wait in the ledger"
            );
            None
        }
        _ => None,
    }
}

/// The answer to a step that is for all agents. An error, and one that took too long, become a line for the operator.
async fn within<T, E: std::fmt::Display>(
    ends: Instant,
    what: &str,
    step: impl Future<Output = Result<T, E>>,
    troubles: &mut Vec<String>,
) -> Option<T> {
    let answer = timeout_at(ends.min(Instant::now() + LONGEST_STEP), step).await;
    let trouble = match answer {
        Ok(Ok(answer)) => return Some(answer),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    troubles.push(format!("{what}: {trouble}"));
    None
}

fn without_time(name: &str) -> Reconciled {
    let troubles = vec!["there was no time for it; the next pass goes on".to_owned()];
    Reconciled {
        standing: Standing { agent: name.to_owned(), troubles, ..Standing::default() },
        ..Reconciled::default()
    }
}

/// One line for each agent, and one with the figures that the template's metric filters read.
fn report(pass: &Pass) {
    for done in &pass.agents {
        let standing = &done.standing;
        let deliveries = standing.deliveries.unwrap_or_default();
        tracing::info!(
            agent = standing.agent,
            settled = deliveries.settled,
            pending = deliveries.pending,
            parked = deliveries.parked,
            old = deliveries.old,
            in_queue = standing.queue.unwrap_or_default().total(),
            dead_letters = standing.dead_letters.unwrap_or_default(),
            breaker = standing.breaker.as_ref().map_or("none", |breaker| breaker.state.name()),
            flows = standing.flows.unwrap_or_default(),
            found = done.found,
            sent = done.sent,
            redriven = done.redriven,
            died = done.died,
            stale = done.stale,
            delivered = done.delivered,
            "reconciled"
        );
        for trouble in &standing.troubles {
            tracing::error!(agent = standing.agent, error = trouble, "not all could be done");
        }
    }
    for trouble in &pass.troubles {
        tracing::error!(error = trouble, "not all could be done");
    }
    let (troubles, breakers_open) = (pass.troubles(), pass.breakers_open());
    // The alarm is on its growth: a pass that could not count some agent says nothing, since the next one would seem to find new ones.
    let counted = |agent: &Reconciled| agent.standing.agent == INGEST || agent.standing.deliveries.is_some();
    let all_counted = !pass.agents.is_empty() && pass.agents.iter().all(counted);
    let parked_in_all = all_counted.then(|| pass.parked());
    let oldest_unpublished_secs = pass.oldest_unpublished_secs;
    // In a tracing target of their own, which is logged at every level: alarms depend on them.
    match &pass.ledger {
        Some(clock) => tracing::info!(
            target: FIGURES,
            held_back_secs = clock.held_back_secs,
            old_waits_secs = clock.old_waits_secs,
            room = clock.room,
            logged_late = clock.logged_late,
            unpublishable = pass.unpublishable,
            oldest_unpublished_secs,
            parked_in_all,
            troubles,
            breakers_open,
            "figures"
        ),
        None => tracing::info!(
            target: FIGURES,
            unpublishable = pass.unpublishable,
            oldest_unpublished_secs,
            parked_in_all,
            troubles,
            breakers_open,
            "figures"
        ),
    }
}
