//! What a pass does: compares what has become comparable, as far as there is time.

use super::weigh::{Compares, weigh};
use std::time::Duration;
use switchyard_compare::{COMMITS_US, Mapping, Outcome};
use switchyard_operations::compare::Advanced;
use switchyard_store::{CompareMapping, Judged, OldTable, Store, StoreError};
use tokio::time::{Instant, timeout_at};

/// How many decisions are compared at a time.
const AT_ONCE: i64 = 1_000;
/// Over how long a time the old system's rows are looked through at once for those that answer no event.
const UNMATCHED_WINDOW_US: i64 = 3_600_000_000;
/// How long a look that has begun may go on after its agent's time is over.
const LAST_QUERY: Duration = Duration::from_secs(4);

/// What the operator can do about a query that takes too long.
const TOO_LONG: &str = "reading the old system's rows took too long: give its table an index on the key's columns and on the time, or shorten the mapping's wait";

/// Compares every agent that has a mapping, one after the other, until `ends` and four seconds more at most; the next pass goes on. Each has an
/// equal share of the time that is left, in another order each time, so that one that takes long or cannot be compared holds up no other for
/// good. Returns what was compared, sorted by the agents' names.
///
/// # Errors
/// The store's, if the mappings cannot be read.
pub async fn advance(store: &Store, ends: Instant) -> Result<Vec<Advanced>, StoreError> {
    let mut compare_mappings = store.compare_mappings().await?;
    fastrand::shuffle(&mut compare_mappings);
    let mut all = Vec::with_capacity(compare_mappings.len());
    for (place, compare_mapping) in compare_mappings.iter().enumerate() {
        let share =
            u32::try_from(compare_mappings.len() - place).map_or(Duration::ZERO, |waiting| left(ends) / waiting);
        all.push(agent(store, compare_mapping, Instant::now() + share).await);
    }
    all.sort_by(|one, other| one.agent.cmp(&other.agent));
    store.prune_compared().await?;
    Ok(all)
}

fn left(ends: Instant) -> Duration {
    ends.saturating_duration_since(Instant::now())
}

/// The same for one agent.
pub(super) async fn agent(store: &Store, compare_mapping: &CompareMapping, ends: Instant) -> Advanced {
    let mut done = Advanced { agent: compare_mapping.agent.clone(), ..Advanced::default() };
    let compared = match Mapping::read(&compare_mapping.mapping) {
        Err(wrong) => Err(format!("its mapping: {wrong}")),
        Ok(mapping) => {
            let comparing = compare(store, compare_mapping, &mapping, ends, &mut done);
            match timeout_at(ends + LAST_QUERY, comparing).await {
                Ok(compared) => compared.map_err(|error| error.to_string()),
                Err(_) => Err(TOO_LONG.to_owned()),
            }
        }
    };
    done.trouble = compared.err();
    if done.trouble != compare_mapping.trouble
        && let Err(error) = store.set_compare_mapping_error(&compare_mapping.agent, done.trouble.as_deref()).await
    {
        done.trouble.get_or_insert_with(|| error.to_string());
    }
    tracing::info!(
        agent = done.agent,
        compared = done.compared,
        mismatched = done.mismatched,
        unmatched = done.unmatched,
        "compared"
    );
    done
}

async fn compare(
    store: &Store,
    compare_mapping: &CompareMapping,
    mapping: &Mapping,
    ends: Instant,
    done: &mut Advanced,
) -> Result<(), StoreError> {
    let tables = store.old_tables(mapping).await?;
    let compares = Compares { agent: &compare_mapping.agent, mapping, tables: &tables };
    while Instant::now() < ends {
        let decided = store.uncompared(&compare_mapping.agent, mapping, AT_ONCE).await?;
        if decided.is_empty() {
            break;
        }
        let judged: Vec<Judged> = weigh(store, compares, decided)
            .await?
            .into_iter()
            .map(|(decided, finding)| Judged {
                event_id: decided.event_id,
                outcome: finding.outcome,
                differs: finding.differences.into_iter().map(|difference| difference.field).collect(),
            })
            .collect();
        let counted = store.note_compared(&compare_mapping.agent, compare_mapping.version, &judged).await?;
        if counted == 0 {
            break; // the mapping is another one by now
        }
        done.compared += counted;
        let agreed = |judged: &&Judged| matches!(judged.outcome, Outcome::Agreed | Outcome::Overtaken);
        done.mismatched += (judged.len() - judged.iter().filter(agreed).count()) as u64;
    }
    unmatched(store, compare_mapping, mapping, &tables, ends, done).await
}

/// Looks through the old system's rows whose time is over. While the agent has a share of the events, rows may be its own: then nothing is
/// looked at.
async fn unmatched(
    store: &Store,
    compare_mapping: &CompareMapping,
    mapping: &Mapping,
    tables: &[OldTable],
    ends: Instant,
    done: &mut Advanced,
) -> Result<(), StoreError> {
    let CompareMapping { agent, version, .. } = compare_mapping;
    let over = compare_mapping.now_us - mapping.wait.micros() - COMMITS_US;
    if !compare_mapping.shadow {
        store.note_unmatched(agent, *version, &[], over.max(compare_mapping.unmatched_to_us)).await?;
        return Ok(());
    }
    let mut from = compare_mapping.unmatched_to_us;
    while from < over && Instant::now() < ends {
        let until = over.min(from + UNMATCHED_WINDOW_US);
        let mut looked_to = until;
        for (answer, table) in mapping.answers.iter().zip(tables).filter(|(answer, _)| answer.unmatched) {
            let mut after = None;
            loop {
                let (found, next) = store.unmatched(agent, mapping, answer, table, from, until, after.as_ref()).await?;
                if !found.is_empty() {
                    // Up to where everything was looked through has not moved yet: what is found again is not counted again.
                    done.unmatched += store.note_unmatched(agent, *version, &found, from).await?;
                }
                after = next;
                let Some(after) = &after else { break };
                if Instant::now() >= ends {
                    looked_to = looked_to.min(after.at_us);
                    break;
                }
            }
        }
        store.note_unmatched(agent, *version, &[], looked_to).await?;
        from = looked_to;
    }
    Ok(())
}
