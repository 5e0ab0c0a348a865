//! The tests tested: each mistake that the functions can make on purpose is switched on, and the same short runs must find it.

use super::Tell;
use crate::{
    Error,
    checker::{Check, Verdict},
    programs::Programs,
    server::Server,
    short::{self, Plan},
};
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};
use tokio::task::JoinSet;

/// A mistake that the functions can make on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bug {
    /// Its name, as `SWITCHYARD_FAULTS` knows it.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// The checks that must find it, one of them at least. What others find besides may be chance.
    pub found_by: &'static [Check],
}

const fn bug(name: &'static str, what: &'static str, found_by: &'static [Check]) -> Bug {
    Bug { name, what, found_by }
}

/// The mistakes.
pub const BUGS: [Bug; 12] = [
    bug("mark_before_publish", "a row leaves the outbox before the topic has it", &[Check::Unpublished]),
    bug(
        "sequence_cursor",
        "the shim reads only what is above the highest sequence that it has seen",
        &[Check::Unsettled],
    ),
    bug("no_claim", "effects are applied without asking whose they are, and whether they were", &[Check::Doubled]),
    bug("claim_outside_transaction", "the claim commits before the effects do", &[Check::Lost]),
    bug("dedup_by_message_id", "what was done is remembered by the message's id, in the process", &[Check::Doubled]),
    bug("ignored_batch_failures", "the answer to a batch names nobody", &[Check::Unsettled]),
    bug("null_response", "the answer to a batch is null", &[Check::Unsettled]),
    bug(
        "lease_shorter_than_publish",
        "a lease may end while a publish is on its way",
        &[Check::Overlapping, Check::Disordered],
    ),
    bug("no_sequence_gate", "an older event may overwrite what a newer one wrote", &[Check::Inverted]),
    bug("no_savepoint", "one bad row takes its whole batch with it", &[Check::Unsettled, Check::Lost, Check::Unburied]),
    bug("batch_sum_ignored", "only single messages are measured, not their sum", &[Check::TooLarge]),
    bug("routing_cached", "who is in charge is asked once, and never again", &[Check::Doubled]),
];

/// How a mistake was found.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    /// The mistake.
    pub bug: &'static str,
    /// In which run, counted from 1, and with which seed; `None` if it was not.
    pub after: Option<(u64, u64)>,
    /// By which checks; one that it should be found by is among them.
    pub by: BTreeMap<Check, u64>,
    /// The first of its traces, in words.
    pub example: String,
    /// Runs of the mistake in which something else was found, or the same without it: chance, or a mistake that is not on purpose.
    pub beside: Vec<u64>,
}

/// Switches one mistake on and runs seeds from `from` on until it is found, at most `runs`, `concurrency` at the same time. Found it is where one of
/// its own checks finds something, and the same seed without it finds nothing. The one with the lowest seed counts of those that find it together.
///
/// # Errors
/// [`Error`] where the suite itself could not go on.
pub async fn hunt(
    server: &Arc<Server>,
    programs: &Programs,
    bug: Bug,
    from: u64,
    runs: u64,
    concurrency: usize,
    tell: Tell<'_>,
) -> Result<Found, Error> {
    let mut seeds = from..from + runs;
    let mut beside = Vec::new();
    while !seeds.is_empty() {
        let mut running = JoinSet::new();
        for seed in seeds.by_ref().take(concurrency) {
            let (server, programs) = (Arc::clone(server), programs.clone());
            running.spawn(async move { short::run(server, &programs, &Plan::of(seed), Some(bug.name)).await });
        }
        let mut finds = Vec::new();
        while let Some(ended) = running.join_next().await {
            let went = ended.map_err(|error| Error::Other(format!("a run ended early: {error}")))??;
            match of_its_own(bug, &went.verdict) {
                Some(example) => finds.push((went, example)),
                None if !went.verdict.is_clean() => beside.push(went.seed),
                None => {}
            }
        }
        tell(format_args!("{}: {} of {runs} runs", bug.name, seeds.start - from));
        finds.sort_by_key(|(went, _)| went.seed);
        for (first, example) in finds {
            let without = short::run(Arc::clone(server), programs, &Plan::of(first.seed), None).await?;
            if without.verdict.is_clean() {
                let after = Some((first.seed - from + 1, first.seed));
                return Ok(Found { bug: bug.name, after, by: first.verdict.violations, example, beside });
            }
            beside.push(first.seed);
        }
    }
    Ok(Found { bug: bug.name, after: None, by: BTreeMap::new(), example: String::new(), beside })
}

/// The first trace that a mistake's own checks have found.
fn of_its_own(bug: Bug, verdict: &Verdict) -> Option<String> {
    let check = bug.found_by.iter().find(|check| verdict.violations.contains_key(check))?;
    Some(verdict.examples.get(check).and_then(|lines| lines.first()).cloned().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_found_by_its_own_checks_and_not_by_chance() {
        let mut verdict = Verdict::default();
        verdict.find(Check::Unsettled, "something came to no rest");
        let by = |name: &str| of_its_own(*BUGS.iter().find(|bug| bug.name == name).unwrap(), &verdict);
        assert_eq!(by("no_claim"), None);
        assert_eq!(by("null_response").as_deref(), Some("something came to no rest"));
    }

    #[test]
    fn each_mistake_has_a_name_of_its_own_and_a_check() {
        let names: std::collections::BTreeSet<_> = BUGS.iter().map(|bug| bug.name).collect();
        assert!(names.len() == BUGS.len() && BUGS.iter().all(|bug| !bug.found_by.is_empty()));
    }
}
