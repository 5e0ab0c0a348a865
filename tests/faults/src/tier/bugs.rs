//! The tests tested: each mistake that the functions can make on purpose is switched on, and the same short runs must find it.

use super::Tell;
use crate::{
    Error,
    checker::Check,
    programs::Programs,
    server::Server,
    short::{self, Plan},
};
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};
use tokio::task::JoinSet;

/// The mistakes, and what each of them is.
pub const BUGS: [(&str, &str); 12] = [
    ("mark_before_publish", "a row leaves the outbox before the topic has it"),
    ("sequence_cursor", "the shim reads only what is above the highest sequence that it has seen"),
    ("no_claim", "effects are applied without asking whose they are, and whether they were"),
    ("claim_outside_transaction", "the claim commits before the effects do"),
    ("dedup_by_message_id", "what was done is remembered by the message's id, in the process"),
    ("ignored_batch_failures", "the answer to a batch names nobody"),
    ("null_response", "the answer to a batch is null"),
    ("lease_shorter_than_publish", "a lease may end while a publish is on its way"),
    ("no_sequence_gate", "an older event may overwrite what a newer one wrote"),
    ("no_savepoint", "one bad row takes its whole batch with it"),
    ("batch_sum_ignored", "only single messages are measured, not their sum"),
    ("routing_cached", "who is in charge is asked once, and never again"),
];

/// How a mistake was found.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    /// The mistake.
    pub bug: &'static str,
    /// In which run, counted from 1, and with which seed; `None` if it was not.
    pub after: Option<(u64, u64)>,
    /// By which checks.
    pub by: BTreeMap<Check, u64>,
    /// The first of its traces, in words.
    pub example: String,
}

/// Switches one mistake on and runs seeds from `from` on until it is found, at most `runs`, `lanes` at the same time. The one with the lowest seed
/// counts of those that find it together.
///
/// # Errors
/// [`Error`] where the suite itself could not go on.
pub async fn hunt(
    server: &Arc<Server>,
    programs: &Programs,
    bug: &'static str,
    from: u64,
    runs: u64,
    lanes: usize,
    tell: Tell<'_>,
) -> Result<Found, Error> {
    let mut seeds = from..from + runs;
    while !seeds.is_empty() {
        let mut running = JoinSet::new();
        for seed in seeds.by_ref().take(lanes) {
            let (server, programs) = (Arc::clone(server), programs.clone());
            running.spawn(async move { short::run(server, &programs, &Plan::of(seed), Some(bug)).await });
        }
        let mut finds = Vec::new();
        while let Some(ended) = running.join_next().await {
            let went = ended.map_err(|error| Error::Other(format!("a run ended early: {error}")))??;
            if !went.verdict.is_clean() {
                finds.push(went);
            }
        }
        tell(format_args!("{bug}: {} of {runs} runs", seeds.start - from));
        if let Some(first) = finds.into_iter().min_by_key(|went| went.seed) {
            let example = first.verdict.examples.values().flatten().next().cloned().unwrap_or_default();
            return Ok(Found {
                bug,
                after: Some((first.seed - from + 1, first.seed)),
                by: first.verdict.violations,
                example,
            });
        }
    }
    Ok(Found { bug, after: None, by: BTreeMap::new(), example: String::new() })
}
