//! One pass: the steps, in their order.

use crate::{
    Limits,
    answer::{Pass, Standing, Status, Tended},
    clock::Ticking,
    outside::Outside,
    tend::{Tending, Ward},
    turn::Turn,
};
use futures_util::{StreamExt, stream};
use std::{collections::BTreeMap, time::Duration};
use switchyard_bus::{Directory, Mappings, Queue};
use switchyard_store::{BreakerState, Store, StoreError};
use tokio::time::{Instant, timeout_at};

/// Ingest has a queue and letters as an agent has, and no deliveries.
const INGEST: &str = "ingest";
/// How many agents are looked after at the same time: they share two connections.
const AT_ONCE: usize = 4;
/// How long one agent may take, so that one that hangs leaves time for the others.
const LONGEST_TEND: Duration = Duration::from_secs(20);
/// How long a pass waits for another one to end.
const WAIT_FOR_TURN: Duration = Duration::from_secs(20);
/// What is kept of an invocation's time: calls under way have timeouts of five seconds.
const RESERVE: Duration = Duration::from_secs(8);

/// The steward.
pub struct Steward<D, M, Q> {
    store: Store,
    outside: Outside<D, M, Q>,
    limits: Limits,
    ticking: Ticking,
}

impl<D: Directory, M: Mappings, Q: Queue> Steward<D, M, Q> {
    /// A steward for the stack whose queues and mappings these are.
    pub fn new(store: Store, outside: Outside<D, M, Q>, limits: Limits) -> Self {
        Self { store, outside, limits, ticking: Ticking::default() }
    }

    /// One pass. Ends before `deadline`; what there was no time for is told, and the next pass does it.
    ///
    /// # Errors
    /// [`StoreError`] where the database cannot be asked whose turn it is. All that goes wrong later stands in the answer.
    pub async fn pass(&self, deadline: Instant) -> Result<Pass, StoreError> {
        let ends = deadline.checked_sub(RESERVE).unwrap_or_else(Instant::now);
        let give_up = ends.min(Instant::now() + WAIT_FOR_TURN);
        let Some(turn) = Turn::take(&self.store, give_up, ends).await? else {
            return Ok(Pass { busy: true, ..Pass::default() });
        };
        let mut pass = Pass::default();
        pass.ledger = self.ticking.advance(&self.store, &mut pass.troubles).await;
        let wards = self.wards(&mut pass.troubles).await;
        pass.agents = self.each(&wards, ends, async |tending| tending.tend().await, without_time).await;
        report(&pass);
        turn.end().await?;
        Ok(pass)
    }

    /// How everything stands. Changes nothing.
    pub async fn status(&self, deadline: Instant) -> Status {
        let ends = deadline.checked_sub(RESERVE).unwrap_or_else(Instant::now);
        let mut troubles = Vec::new();
        let wards = self.wards(&mut troubles).await;
        let agents = self.each(&wards, ends, async |tending| tending.look().await, |name| without_time(name).standing);
        Status { agents: agents.await, troubles }
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
    async fn wards(&self, troubles: &mut Vec<String>) -> Vec<Ward> {
        let mut wards: BTreeMap<String, Ward> = BTreeMap::new();
        match self.store.breakers().await {
            Ok(breakers) => {
                for breaker in breakers {
                    let ward = Ward { name: breaker.agent.clone(), places: None, breaker: Some(breaker) };
                    wards.insert(ward.name.clone(), ward);
                }
            }
            Err(error) => {
                // Without the ledger nobody can tell which letters are needed, nor what is due.
                troubles.push(format!("who is registered: {error}"));
                return Vec::new();
            }
        }
        match self.outside.directory.places().await {
            Ok(all) => {
                for places in all {
                    let name = places.agent.clone();
                    let ward = wards.entry(name.clone()).or_insert(Ward { name, places: None, breaker: None });
                    ward.places = Some(places);
                }
            }
            Err(error) => troubles.push(format!("which queues there are: {error}")),
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
        work: impl AsyncFn(Tending<'a, D, M, Q>) -> T,
        too_late: impl Fn(&str) -> T,
    ) -> Vec<T> {
        let mut order: Vec<usize> = (0..wards.len()).collect();
        fastrand::shuffle(&mut order);
        let (work, too_late) = (&work, &too_late);
        let one = |at: usize| async move {
            let ward = &wards[at];
            let tending = Tending { store: &self.store, outside: &self.outside, limits: self.limits, ward };
            let until = ends.min(Instant::now() + LONGEST_TEND);
            let done = timeout_at(until, Box::pin(work(tending))).await;
            (at, done.unwrap_or_else(|_| too_late(&ward.name)))
        };
        let mut all: Vec<(usize, T)> = stream::iter(order).map(one).buffer_unordered(AT_ONCE).collect().await;
        all.sort_by_key(|(at, _)| *at);
        all.into_iter().map(|(_, done)| done).collect()
    }
}

/// What an agent lacks that is only half there. An agent of the ledger that is not deployed yet is no trouble, and no more than a line of the log.
fn missing_half(ward: &Ward) -> Option<String> {
    match (&ward.places, &ward.breaker) {
        (Some(_), None) if ward.name != INGEST => {
            Some(format!("{} is deployed and not registered: run switchyard-setup", ward.name))
        }
        (None, Some(_)) => {
            tracing::info!(agent = ward.name, "registered and not deployed: its events wait in the ledger");
            None
        }
        _ => None,
    }
}

fn without_time(name: &str) -> Tended {
    let troubles = vec!["there was no time for it; the next pass goes on".to_owned()];
    Tended { standing: Standing { agent: name.to_owned(), troubles, ..Standing::default() }, ..Tended::default() }
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
            breaker = standing.breaker.as_ref().map_or("none", |breaker| breaker.state.as_str()),
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
    let (troubles, breakers_open) = (pass.troubles(), pass.breakers_open());
    match &pass.ledger {
        Some(clock) => tracing::info!(
            held_back_secs = clock.held_back_secs,
            old_waits_secs = clock.old_waits_secs,
            room = clock.room,
            logged_late = clock.logged_late,
            troubles,
            breakers_open,
            "figures"
        ),
        None => tracing::info!(troubles, breakers_open, "figures"),
    }
}
