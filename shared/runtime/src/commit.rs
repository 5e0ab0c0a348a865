//! One transaction for the batch: claim, effects, new events. Its commit is the settlement.

use crate::{
    Budget,
    batch::{Admitted, Conclusion, Decided},
    bugs,
    database::Tx,
    decide::{self, WaitPolicy},
    outcome::{Outcome, Outcomes},
    settle::{Settled, settle},
};
use futures_util::FutureExt;
use serde::Serialize;
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};
use switchyard_agent::{Agent, Applied, Change, Decision, Refusal, State};
use switchyard_event::{Appendable, Event, NewEvent};
use switchyard_store::{AppendEvent, Ask, ClaimAnswer, Overwrite, Store, Verdict};
use tokio::time::timeout_at;

/// How often an event is gathered and decided anew when its facts were outdated at the commit.
const CONFLICTS: usize = 3;

/// What a commit goes by, whatever it commits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) budget: Budget,
    /// Until when a commit may take, and what is decided anew may gather.
    pub(crate) policy: WaitPolicy,
}

/// Commits all together; if any record refuses, each alone, so that one bad record never fails its batch. What is not committed at the deadline
/// is returned without an attempt.
pub(crate) async fn layer<A: Agent<Tx = Tx>>(
    agent: &A,
    store: &Store,
    mut decided: Vec<Decided<A::Effect>>,
    terms: Terms,
    outcomes: &mut Outcomes<'_>,
) {
    if decided.is_empty() {
        return;
    }
    // In the order of the log: the newer of two events of one aggregate does not supersede the older one of the same batch.
    decided.sort_by_key(|record| record.admitted.standing.seq);
    let refusal = match in_time::<A>(store, &decided, terms).await {
        Ok(settled) => {
            for (at, outcome, standing) in settled {
                outcomes.end(at, outcome, Some(standing));
            }
            return;
        }
        Err(refusal) => refusal,
    };
    let mut first = (decided.len() == 1).then_some(refusal);
    let mut down: Option<Refusal> = None;
    for record in decided {
        let (at, standing) = (record.admitted.parsed.at, record.admitted.standing.clone());
        let ended = match &down {
            Some(down) => Err(down.clone()),
            None => alone(agent, store, record, terms, first.take()).await,
        };
        // A connection may have died of old age, so one more try is right; a database that is gone for this record is gone for all.
        if let Err(refusal @ (Refusal::DatabaseDown(_) | Refusal::OutOfTime)) = &ended {
            down.get_or_insert_with(|| refusal.clone());
        }
        let (outcome, standing) = ended.unwrap_or_else(|refusal| (Outcome::of_refusal(refusal), standing));
        outcomes.end(at, outcome, Some(standing));
    }
}

/// Commits one record. `refused` is what a first try has returned already.
async fn alone<A: Agent<Tx = Tx>>(
    agent: &A,
    store: &Store,
    mut record: Decided<A::Effect>,
    terms: Terms,
    mut refused: Option<Refusal>,
) -> Result<(Outcome, ClaimAnswer), Refusal> {
    for _ in 0..CONFLICTS {
        let refusal = match refused.take() {
            Some(refusal) => refusal,
            None => match in_time::<A>(store, std::slice::from_ref(&record), terms).await {
                Err(refusal) => refusal,
                Ok(settled) => {
                    let ended = settled.into_iter().next().map(|(_, outcome, standing)| (outcome, standing));
                    return ended.ok_or_else(|| Refusal::retry("the claim was not answered"));
                }
            },
        };
        match refusal {
            Refusal::Conflict(_) => {
                record.conclusion = decide::one(agent, &record.admitted, terms.policy).await?;
            }
            Refusal::Superseded => {
                let (ask, until) = (&record.admitted.parsed.ask, terms.policy.until);
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
) -> Result<Vec<(usize, Outcome, ClaimAnswer)>, Refusal> {
    let ended = timeout_at(terms.policy.until, together::<A>(store, records, terms)).await;
    ended.unwrap_or(Err(Refusal::OutOfTime))
}

/// A record that was claimed for this agent, with the decision to carry out.
struct Taken<'a, E> {
    record: &'a Admitted,
    standing: &'a ClaimAnswer,
    decision: &'a Decision<E>,
}

impl<'a, E> Taken<'a, E> {
    /// # Errors
    /// Where the event was decided for shadow mode, the agent refused it, and the event has become the agent's meanwhile: the refusal counts now.
    /// If it was parked, edited and redriven while the agent was gathering: the newest payload counts.
    fn of(record: &'a Decided<E>, standing: &'a ClaimAnswer) -> Result<Self, Refusal> {
        let admitted = &record.admitted;
        if standing.revision != admitted.standing.revision {
            return Err(Refusal::Edited);
        }
        match &record.conclusion {
            Conclusion::Decided(decision) => Ok(Self { record: admitted, standing, decision }),
            Conclusion::Refused(refusal) => Err(refusal.clone()),
        }
    }

    const fn sequence(&self) -> i64 {
        // The claim takes only what stands in the log, which gives each event a sequence.
        match self.standing.seq {
            Some(seq) => seq,
            None => i64::MIN,
        }
    }
}

/// Claims, applies and appends for all these records in one transaction. Any refusal undoes all of it.
async fn together<A: Agent<Tx = Tx>>(
    store: &Store,
    records: &[Decided<A::Effect>],
    terms: Terms,
) -> Result<Vec<(usize, Outcome, ClaimAnswer)>, Refusal> {
    let mut tx = Tx::begin(store, terms.policy.until).await?;
    let asks: Vec<Ask> = records.iter().map(|record| record.admitted.parsed.ask.clone()).collect();
    let answers = if switchyard_faults::bug("no_claim") {
        records.iter().map(|record| record.admitted.standing.clone()).collect()
    } else {
        tx.claim(A::NAME, &asks).await?
    };
    if switchyard_faults::bug("claim_outside_transaction") {
        tx.commit().await?;
        tx = Tx::begin(store, terms.policy.until).await?;
    }
    switchyard_faults::point("runtime.after_claim");
    let (mut taken, mut shadows, mut outcomes) = (Vec::new(), Vec::new(), Vec::with_capacity(records.len()));
    for (record, standing) in records.iter().zip(&answers) {
        outcomes.push(match bugs::believed(standing.verdict, standing.event_id) {
            Verdict::Take => {
                taken.push((outcomes.len(), Taken::of(record, standing)?));
                Outcome::Finished("done")
            }
            Verdict::Shadow => {
                shadows.push((record.admitted.parsed.ask.clone(), shadow_of(record)?));
                let answered = !matches!(record.conclusion, Conclusion::Refused(Refusal::Unanswered));
                Outcome::Finished(if answered { "shadowed" } else { Outcome::WITHOUT_ANSWER })
            }
            verdict => Outcome::of_verdict(verdict).unwrap_or(Outcome::Finished("done")),
        });
    }
    let (places, taken): (Vec<usize>, Vec<Taken<'_, A::Effect>>) = taken.into_iter().unzip();
    let applied = apply::<A>(&taken, &mut tx).await?;
    let (mut append, mut late) = (Vec::new(), Vec::new());
    for ((at, taken), applied) in places.into_iter().zip(&taken).zip(applied) {
        match applied {
            Some(events) => append.extend(appended::<A>(taken, events, terms.budget)),
            None => {
                outcomes[at] = Outcome::Finished(Settled::SUPERSEDED.word);
                late.push(taken.record.parsed.ask.clone());
            }
        }
    }
    tx.settle(A::NAME, &late, Settled::SUPERSEDED.settlement, Settled::SUPERSEDED.why).await?;
    tx.shadow(A::NAME, &shadows).await?;
    tx.append(&append).await?;
    switchyard_faults::point("runtime.before_commit");
    tx.commit().await?;
    switchyard_faults::point("runtime.after_commit");
    asks.iter().for_each(|ask| bugs::handled(ask.event_id));
    let places = records.iter().map(|record| record.admitted.parsed.at);
    Ok(places.zip(outcomes).zip(answers).map(|((at, outcome), standing)| (at, outcome, standing)).collect())
}

/// What shadow mode stores: the decision, or why there is none.
fn shadow_of<E: Serialize>(record: &Decided<E>) -> Result<String, Refusal> {
    let text = match &record.conclusion {
        Conclusion::Decided(decision) => serde_json::to_string(decision),
        Conclusion::Refused(refusal) => serde_json::to_string(&serde_json::json!({ "refused": refusal.to_string() })),
    };
    text.map_err(|error| Refusal::retry(format!("the decision cannot be stored: {error}")))
}

/// Applies the effects of all these records but those that are too late: one statement of ours, and the agent's own. For each record the events that
/// only the commit could know; `None` for one that is superseded.
async fn apply<A: Agent<Tx = Tx>>(
    taken: &[Taken<'_, A::Effect>],
    tx: &mut Tx,
) -> Result<Vec<Option<Vec<NewEvent>>>, Refusal> {
    let changes: Vec<(usize, Change<'_, A::Effect>)> = taken
        .iter()
        .enumerate()
        .flat_map(|(record, one)| {
            let (event, run) = (&one.record.parsed.event, one.record.parsed.ask.run);
            let change = move |effect| (record, Change::new(record, event, one.sequence(), run, effect));
            one.decision.effects.iter().map(change)
        })
        .collect();
    let states = || {
        changes.iter().filter_map(|(record, change)| Some((*record, change.sequence, A::overwrites(change.effect)?)))
    };
    let states: Vec<_> = catch_unwind(AssertUnwindSafe(|| states().collect())).map_err(panicked)?;
    let overwrites: Vec<Overwrite<'_>> = states
        .iter()
        .map(|(record, seq, State { kind, id })| Overwrite {
            record: *record,
            aggregate_type: kind,
            aggregate_id: id,
            seq: *seq,
        })
        .collect();
    let late = tx.superseded(A::NAME, &overwrites).await?;
    let changes: Vec<_> =
        changes.into_iter().filter(|(record, _)| !late.contains(record)).map(|(_, change)| change).collect();
    let applied = if changes.is_empty() {
        Applied::all()
    } else {
        AssertUnwindSafe(A::apply_batch(&changes, tx)).catch_unwind().await.map_err(panicked)??
    };
    let events = |record| {
        let is_superseded = late.contains(&record) || applied.is_superseded(record);
        (!is_superseded).then(|| applied.events(record).cloned().collect())
    };
    Ok((0..taken.len()).map(events).collect())
}

/// A panic is a retry.
fn panicked(panic: Box<dyn Any + Send>) -> Refusal {
    Refusal::retry(decide::panic_message(&*panic))
}

/// Names the events that follow from a record: the decision's first, then what only the commit could know.
fn appended<A: Agent>(taken: &Taken<'_, A::Effect>, applied: Vec<NewEvent>, budget: Budget) -> Vec<AppendEvent> {
    let Taken { record, standing, decision } = taken;
    if !standing.emits {
        return Vec::new(); // a replay repeats effects; what follows from the event was appended when it was live
    }
    let (cause, run) = (&record.parsed.event, record.parsed.ask.run);
    let events = decision.events.iter().cloned().chain(applied).enumerate();
    let caused = events.map(|(ordinal, event)| event.caused_by(cause, A::NAME, run, ordinal));
    let afresh = begins_anew(cause, standing, budget);
    caused.map(|event| append_event(if afresh { event.afresh() } else { event })).collect()
}

/// Whether what follows from an event has a new budget: where the event was over its chain's, and an operator has let it pass. That it was merely
/// sent again is no reason, or a loop that fails now and then would go on for ever.
fn begins_anew(cause: &Event, standing: &ClaimAnswer, budget: Budget) -> bool {
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
