//! One pass: the steps, in their order.

use crate::{
    Limits,
    backfill::{self, Reach},
    clock, compare, cutover,
    outside::Outside,
    tend::{Looks, Tending, Ward},
    turn::Turn,
};
use futures_util::{StreamExt, stream};
use std::{collections::BTreeMap, time::Duration};
use switchyard_bus::{AgentQueues, Directory, Mappings, Queue};
use switchyard_operations::{
    backfill::Backfilled,
    compare::Advanced,
    cutover::Judged,
    outbox::{Carried, Outbox},
    pass::{Pass, Reconciled},
    status::{Standing, Status},
};
use switchyard_runtime::FIGURES;
use switchyard_store::{BreakerState, Store, StoreError};
use tokio::time::{Instant, timeout_at};

/// Ingest has a queue and letters as an agent has, and no deliveries.
const INGEST: &str = "ingest";
/// How many agents are looked after at the same time: they share two connections.
const AT_ONCE: usize = 4;
/// How long one agent may take, so that one that hangs leaves time for the others.
const LONGEST_TEND: Duration = Duration::from_secs(20);
/// How long each of the steps may take that are for all agents: what hangs there leaves time for the agents.
const LONGEST_STEP: Duration = Duration::from_secs(12);
/// How long comparisons may go on with the next window, so that the last one ends within the step's own time.
const LONGEST_COMPARISON: Duration = Duration::from_secs(6);
/// How long a roll-back may give deliveries to the old system, so that it is told within the step's own time; the sweeps go on with it.
const LONGEST_MOVE: Duration = Duration::from_secs(8);
/// How long after the first cutover plan another one may begin to be judged.
const LONGEST_JUDGEMENT: Duration = Duration::from_secs(15);
/// How many events that were set aside are shown.
const MOST_SHOWN: i64 = 1_000;
/// How long a pass waits for another one to end.
const WAIT_FOR_TURN: Duration = Duration::from_secs(20);
/// What is kept of an invocation's time: calls under way have timeouts of five seconds.
const RESERVE: Duration = Duration::from_secs(8);

/// The steward.
pub struct Steward<D, M, Q> {
    store: Store,
    outside: Outside<D, M, Q>,
    limits: Limits,
    looks: Looks,
}

impl<D: Directory, M: Mappings, Q: Queue> Steward<D, M, Q> {
    /// A steward for the stack whose queues and mappings these are.
    pub fn new(store: Store, outside: Outside<D, M, Q>, limits: Limits) -> Self {
        Self { store, outside, limits, looks: Looks::default() }
    }

    /// One pass. Ends before `deadline`; what there was no time for is told, and the next pass does it.
    ///
    /// # Errors
    /// [`StoreError`] where the database cannot be asked whose turn it is. All that goes wrong later stands in the answer.
    pub async fn pass(&self, deadline: Instant) -> Result<Pass, StoreError> {
        let ends = leaving_a_reserve(deadline);
        let give_up = ends.min(Instant::now() + WAIT_FOR_TURN);
        let Some(turn) = Turn::take(&self.store, give_up, ends).await? else {
            return Ok(Pass { busy: true, ..Pass::default() });
        };
        let mut pass = Pass::default();
        let tick = within(ends, "the ledger's tick", clock::tick(&self.store), &mut pass.troubles);
        pass.ledger = tick.await;
        pass.cutovers = self.cutovers(ends, &mut pass.troubles).await;
        let wards = self.wards(ends, &mut pass.troubles).await;
        pass.agents = self.each(&wards, ends, Some(&turn), async |tending| tending.tend().await, without_time).await;
        pass.compared = self.compare(ends, &mut pass.troubles).await;
        pass.set_aside = self.unpublishable(ends, &mut pass.troubles).await;
        self.look_deeper(ends, &mut pass).await;
        let ended = turn.end().await;
        pass.backfills = self.backfill(&wards, &pass.agents, ends, &mut pass.troubles).await;
        report(&pass);
        ended.map(|()| pass)
    }

    /// How everything stands. Changes nothing.
    pub async fn status(&self, deadline: Instant) -> Status {
        let ends = leaving_a_reserve(deadline);
        let mut troubles = Vec::new();
        let wards = self.wards(ends, &mut troubles).await;
        let too_late = |name: &str| without_time(name).standing;
        let agents = self.each(&wards, ends, None, async |tending| tending.look().await, too_late).await;
        let set_aside = self.unpublishable(ends, &mut troubles).await;
        let moving = async {
            let cutovers = self.store.cutovers_under_way().await?;
            Ok::<_, StoreError>((cutovers, self.store.backfills_running().await?))
        };
        let (cutovers, backfills) = within(ends, "what is under way", moving, &mut troubles).await.unwrap_or_default();
        let backfills = backfills.into_iter().map(|backfill| backfill.agent).collect();
        Status { agents, set_aside, cutovers, backfills, troubles }
    }

    /// What is set aside in the outbox. Changes nothing.
    ///
    /// # Errors
    /// As the store's.
    pub async fn outbox(&self) -> Result<Outbox, StoreError> {
        Ok(Outbox { set_aside: self.store.unpublishable(MOST_SHOWN).await? })
    }

    /// Lets the shim try again what was set aside: these events, or all where none is named. What cannot be published still is set aside again.
    ///
    /// # Errors
    /// As the store's.
    pub async fn retry_publishing(&self, seqs: &[i64], operator: &str) -> Result<Carried, StoreError> {
        let carried = self.store.retry_publishing(seqs, operator).await?;
        tracing::info!(operator, carried, "what was set aside is carried again");
        Ok(Carried { carried })
    }

    /// The ledger.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Before the agents are looked after: what goes back to the old system is not sent to an agent first. In another order each time, so that it is
    /// not always the same plans that there is no time for.
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

    /// After the agents have been looked after: nobody waits for it, and what there is no time for the next pass compares.
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

    /// Last, and without the turn, which nothing of it needs: it goes on for most of a minute.
    async fn backfill(
        &self,
        wards: &[Ward],
        tended: &[Reconciled],
        ends: Instant,
        troubles: &mut Vec<String>,
    ) -> Vec<Backfilled> {
        let running = within(ends, "which backfills are running", self.store.backfills_running(), troubles).await;
        let reach = |agent: &str| {
            let places = wards.iter().find(|ward| ward.name == agent)?.places.as_ref()?;
            let flows = tended.iter().find(|done| done.standing.agent == agent)?.standing.flows;
            let open = |url: &str| (self.outside.queue)(url);
            Some(Reach { queue: open(&places.queue_url), lanes: AgentQueues::of(places, open), flows })
        };
        let until = ends.min(Instant::now() + backfill::LONGEST);
        let done = backfill::advance(&self.store, running.unwrap_or_default(), reach, until).await;
        troubles.extend(done.iter().filter_map(|done| {
            done.trouble.as_ref().map(|trouble| format!("the backfill of {}: {trouble}", done.agent))
        }));
        done
    }

    async fn unpublishable(&self, ends: Instant, troubles: &mut Vec<String>) -> Option<i64> {
        within(ends, "what is set aside in the outbox", self.store.unpublishable_count(), troubles).await
    }

    /// Last, with the time that is left: the database remembers that it was done, and each step of it stays done.
    async fn look_deeper(&self, ends: Instant, pass: &mut Pass) {
        let Pass { ledger: Some(clock), troubles, .. } = pass else { return };
        if Instant::now() >= ends {
            return;
        }
        if timeout_at(ends, clock::look_deeper(&self.store, clock, troubles)).await.is_err() {
            pass.troubles.push("the hourly look deeper took too long; the next one goes on".into());
        }
    }

    /// Sets an agent's breaker by hand, or sets it free, and tells how the agent stands. The next pass brings the mapping in step.
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
        tracing::info!(agent, operator, ?set, "its breaker was set by hand");
        let mut status = self.status(deadline).await;
        status.agents.retain(|standing| standing.agent == agent);
        Ok(status)
    }

    /// Who is to be looked after, by name: what the stack has, joined with what is registered.
    async fn wards(&self, ends: Instant, troubles: &mut Vec<String>) -> Vec<Ward> {
        let mut wards: BTreeMap<String, Ward> = BTreeMap::new();
        // Without the ledger nobody can tell which letters are needed, nor what is due.
        let registered = within(ends, "who is registered", self.store.breakers(), troubles).await;
        let Some(breakers) = registered else { return Vec::new() };
        for breaker in breakers {
            let ward = Ward { name: breaker.agent.clone(), places: None, breaker: Some(breaker) };
            wards.insert(ward.name.clone(), ward);
        }
        let places = Box::pin(self.outside.directory.places());
        if let Some(found) = within(ends, "which queues there are", places, troubles).await {
            troubles.extend(found.troubles);
            for places in found.agents {
                let name = places.agent.clone();
                let ward = wards.entry(name.clone()).or_insert(Ward { name, places: None, breaker: None });
                ward.places = Some(places);
            }
        }
        troubles.extend(wards.values().filter_map(missing_half));
        // Of what is deployed and not registered nothing is known, so nothing can be decided.
        wards.into_values().filter(|ward| ward.breaker.is_some() || ward.name == INGEST).collect()
    }

    /// The same for every ward, some at a time, each within its own time, the answers by name. In another order each time, so that it is not
    /// always the same ones that there is no time for.
    async fn each<'a, T>(
        &'a self,
        wards: &'a [Ward],
        ends: Instant,
        turn: Option<&'a Turn<'a>>,
        work: impl AsyncFn(Tending<'a, D, M, Q>) -> T,
        too_late: impl Fn(&str) -> T,
    ) -> Vec<T> {
        let mut order: Vec<usize> = (0..wards.len()).collect();
        fastrand::shuffle(&mut order);
        let (work, too_late) = (&work, &too_late);
        let one = |at: usize| async move {
            let ward = &wards[at];
            let (store, outside, looks) = (&self.store, &self.outside, &self.looks);
            let tending = Tending { store, outside, limits: self.limits, ward, looks, turn };
            let until = ends.min(Instant::now() + LONGEST_TEND);
            let done = timeout_at(until, Box::pin(work(tending))).await;
            (at, done.unwrap_or_else(|_| too_late(&ward.name)))
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

/// What an agent lacks that is only half there. An agent of the ledger that is not deployed yet is no trouble, and no more than a line of the log;
/// one whose queues could not be seen has its trouble already.
fn missing_half(ward: &Ward) -> Option<String> {
    match (&ward.places, &ward.breaker) {
        (Some(_), None) if ward.name != INGEST => {
            Some(format!("{} is deployed and not registered: run switchyard-setup", ward.name))
        }
        (None, Some(_)) => {
            tracing::info!(
                agent = ward.name,
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
            "tended"
        );
        for trouble in &standing.troubles {
            tracing::error!(agent = standing.agent, error = trouble, "not all could be done");
        }
    }
    for trouble in &pass.troubles {
        tracing::error!(error = trouble, "not all could be done");
    }
    let (troubles, breakers_open, parked_in_all) = (pass.troubles(), pass.breakers_open(), pass.parked());
    // Of a target of their own, which is logged at every level: alarms hang on them.
    match &pass.ledger {
        Some(clock) => tracing::info!(
            target: FIGURES,
            held_back_secs = clock.held_back_secs,
            old_waits_secs = clock.old_waits_secs,
            room = clock.room,
            logged_late = clock.logged_late,
            set_aside = pass.set_aside,
            parked_in_all,
            troubles,
            breakers_open,
            "figures"
        ),
        None => tracing::info!(
            target: FIGURES,
            set_aside = pass.set_aside,
            parked_in_all,
            troubles,
            breakers_open,
            "figures"
        ),
    }
}
