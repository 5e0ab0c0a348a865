//! One transaction for the batch: claim, effects, new events. Its commit is the settlement.

use crate::{
    Budget,
    batch::{Decided, Ending, Endings},
    database::Tx,
    decide::{self, Patience},
    look, mistakes,
    settle::{Settled, settle},
};
use futures_util::FutureExt;
use serde::Serialize;
use std::panic::AssertUnwindSafe;
use switchyard_agent::{Agent, Refusal};
use switchyard_event::{Appendable, Event};
use switchyard_store::{AppendEvent, Ask, Standing, Store, Verdict};
use tokio::time::timeout_at;

/// How often an event is gathered and decided anew when its facts were outdated at the commit.
const CONFLICTS: usize = 3;

/// What a commit goes by, whatever it commits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) budget: Budget,
    /// Until when a commit may take, and what is decided anew may gather.
    pub(crate) patience: Patience,
}

/// Commits all together; if any record refuses, each alone, so that one bad record never fails its batch. What is not committed at the deadline
/// is returned unstarted.
pub(crate) async fn layer<A: Agent<Tx = Tx>>(
    agent: &A,
    store: &Store,
    mut decided: Vec<Decided<A::Effect>>,
    terms: Terms,
    endings: &mut Endings<'_>,
) {
    if decided.is_empty() {
        return;
    }
    // In the order of the log: the newer of two events of one aggregate does not supersede the older one of the same batch.
    decided.sort_by_key(|record| record.admitted.standing.seq);
    let refusal = match in_time::<A>(store, &decided, terms).await {
        Ok(settled) => {
            for (at, ending, standing) in settled {
                endings.end(at, ending, Some(standing));
            }
            return;
        }
        Err(refusal) => refusal,
    };
    let mut first = (decided.len() == 1).then_some(refusal);
    let mut down: Option<String> = None;
    for record in decided {
        let (at, standing) = (record.admitted.parsed.at, record.admitted.standing.clone());
        let ended = match &down {
            Some(why) => Err(Refusal::DatabaseDown(why.clone())),
            None => alone(agent, store, record, terms, first.take()).await,
        };
        // A connection may have died of old age, so one more try is right; a database that is gone for this record is gone for all.
        if let Err(Refusal::DatabaseDown(why)) = &ended {
            down.get_or_insert_with(|| why.clone());
        }
        let (ending, standing) = ended.unwrap_or_else(|refusal| (decide::ending_of(refusal), standing));
        endings.end(at, ending, Some(standing));
    }
}

/// Commits one record. `refused` is what a first try has said already.
async fn alone<A: Agent<Tx = Tx>>(
    agent: &A,
    store: &Store,
    mut record: Decided<A::Effect>,
    terms: Terms,
    mut refused: Option<Refusal>,
) -> Result<(Ending, Standing), Refusal> {
    for _ in 0..CONFLICTS {
        let refusal = match refused.take() {
            Some(refusal) => refusal,
            None => match in_time::<A>(store, std::slice::from_ref(&record), terms).await {
                Err(refusal) => refusal,
                Ok(settled) => {
                    let ended = settled.into_iter().next().map(|(_, ending, standing)| (ending, standing));
                    return ended.ok_or_else(|| Refusal::retry("the claim was not answered"));
                }
            },
        };
        match refusal {
            Refusal::Conflict(_) => {
                record.decision = decide::one(agent, &record.admitted, terms.patience).await?;
            }
            Refusal::Superseded => {
                let (ask, until) = (&record.admitted.parsed.ask, terms.patience.until);
                return settle(store, A::NAME, ask, Settled::SUPERSEDED, until).await;
            }
            refusal => return Err(refusal),
        }
    }
    Err(Refusal::Conflict("at every commit".into()))
}

/// [`together`], given up at the deadline, here and by the server: dropping a transaction undoes it.
async fn in_time<A: Agent<Tx = Tx>>(
    store: &Store,
    records: &[Decided<A::Effect>],
    terms: Terms,
) -> Result<Vec<(usize, Ending, Standing)>, Refusal> {
    let ended = timeout_at(terms.patience.until, together::<A>(store, records, terms)).await;
    ended.unwrap_or_else(|_| Err(Refusal::DatabaseDown(decide::OUT_OF_TIME.into())))
}

/// Claims, applies and appends for all these records in one transaction. Any refusal undoes all of it.
async fn together<A: Agent<Tx = Tx>>(
    store: &Store,
    records: &[Decided<A::Effect>],
    terms: Terms,
) -> Result<Vec<(usize, Ending, Standing)>, Refusal> {
    let mut tx = Tx::begin(store, terms.patience.until).await?;
    let asks: Vec<Ask> = records.iter().map(|record| record.admitted.parsed.ask.clone()).collect();
    let standings = if switchyard_faults::bug("no_claim") {
        records.iter().map(|record| record.admitted.standing.clone()).collect()
    } else {
        tx.claim(A::NAME, &asks).await?
    };
    if switchyard_faults::bug("claim_outside_transaction") {
        tx.commit().await?;
        tx = Tx::begin(store, terms.patience.until).await?;
    }
    switchyard_faults::point("runtime.after_claim");
    let mut settled = Vec::with_capacity(records.len());
    let (mut append, mut shadows) = (Vec::new(), Vec::new());
    for (record, standing) in records.iter().zip(standings) {
        let ending = match mistakes::believed(standing.verdict, standing.event_id) {
            // Parked by a copy, edited and sent back while this one was gathering: what counts is the newest payload.
            Verdict::Take if standing.revision != record.admitted.standing.revision => {
                return Err(Refusal::Edited);
            }
            Verdict::Take => {
                append.extend(apply::<A>(record, &standing, terms.budget, &mut tx).await?);
                Ending::Finished("done")
            }
            Verdict::Shadow => {
                shadows.push((record.admitted.parsed.ask.clone(), shadow_of(record)?));
                let answered = !matches!(record.decision, Err(Refusal::Unanswered));
                Ending::Finished(if answered { "shadowed" } else { Ending::WITHOUT_ANSWER })
            }
            verdict => look::ending_of(verdict).unwrap_or(Ending::Finished("done")),
        };
        settled.push((record.admitted.parsed.at, ending, standing));
    }
    tx.shadow(A::NAME, &shadows).await?;
    tx.append(&append).await?;
    switchyard_faults::point("runtime.before_commit");
    tx.commit().await?;
    switchyard_faults::point("runtime.after_commit");
    asks.iter().for_each(|ask| mistakes::handled(ask.event_id));
    Ok(settled)
}

/// What shadow mode stores: the decision, or why there is none.
fn shadow_of<E: Serialize>(record: &Decided<E>) -> Result<String, Refusal> {
    let text = match &record.decision {
        Ok(decision) => serde_json::to_string(decision),
        Err(refusal) => serde_json::to_string(&serde_json::json!({ "refused": refusal.to_string() })),
    };
    text.map_err(|error| Refusal::retry(format!("the decision cannot be stored: {error}")))
}

/// Applies one decision and names the events that follow: the decision's first, then what only the commit could know.
async fn apply<A: Agent<Tx = Tx>>(
    record: &Decided<A::Effect>,
    standing: &Standing,
    budget: Budget,
    tx: &mut Tx,
) -> Result<Vec<AppendEvent>, Refusal> {
    // Decided for the shadow and refused, and meanwhile the event has become ours: the refusal counts now.
    let decision = record.decision.as_ref().map_err(Clone::clone)?;
    let mut events = decision.events.clone();
    for effect in &decision.effects {
        let applied = AssertUnwindSafe(A::apply(effect, tx)).catch_unwind().await;
        events.extend(applied.unwrap_or_else(|panic| Err(Refusal::retry(decide::said(&*panic))))?);
    }
    let (cause, run) = (&record.admitted.parsed.event, record.admitted.parsed.ask.run);
    if !standing.says {
        return Ok(Vec::new()); // a replay repeats effects; what follows from the event was said when it was live
    }
    let caused = events.into_iter().enumerate().map(|(ordinal, event)| event.caused_by(cause, A::NAME, run, ordinal));
    let afresh = begins_anew(cause, standing, budget);
    let budgeted = caused.map(|event| if afresh { event.afresh() } else { event });
    Ok(budgeted.map(append_event).collect())
}

/// Whether what follows from an event has a budget of its own: where the event was over its chain's, and somebody has let it pass. That it
/// was merely sent again is no reason, or a loop that fails now and then would be sent round for ever.
fn begins_anew(cause: &Event, standing: &Standing, budget: Budget) -> bool {
    standing.epoch > 0 && budget.overdrawn(&cause.metadata).is_some()
}

fn append_event(appendable: Appendable) -> AppendEvent {
    let Appendable { id, event, metadata } = appendable;
    AppendEvent {
        id,
        event_type: event.event_type.to_string(),
        aggregate_type: event.aggregate_type,
        aggregate_id: event.aggregate_id,
        payload: event.payload.to_string(),
        version: i32::try_from(event.version).unwrap_or(i32::MAX),
        metadata: serde_json::Value::Object(metadata).to_string(),
    }
}
