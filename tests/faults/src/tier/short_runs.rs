//! Many short runs, some at the same time.

use super::Tell;
use crate::{
    Error,
    programs::Programs,
    report::{Report, cpu_seconds},
    server::Server,
    short::{self, Plan, RUNTIME_POINTS, SHIM_POINTS},
};
use std::{ops::Range, sync::Arc};
use tokio::{task::JoinSet, time::Instant};

/// From how many runs on each kind of fault must have happened, and from how many at each of its places.
const ENOUGH_FOR_SOME: u64 = 50;
const ENOUGH_FOR_ALL: u64 = 1_000;

/// Runs these seeds, `concurrency` at the same time.
///
/// # Errors
/// [`Error`] where the suite itself could not go on.
pub async fn run(
    server: &Arc<Server>,
    programs: &Programs,
    seeds: Range<u64>,
    concurrency: usize,
    tell: Tell<'_>,
) -> Result<Report, Error> {
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let mut report =
        Report::of("short runs", "the stand-in broker", format!("{}-{}", seeds.start, seeds.end.saturating_sub(1)));
    let of = seeds.end - seeds.start;
    let mut waiting = seeds;
    let mut running = JoinSet::new();
    let mut longest = (0, 0);
    loop {
        while running.len() < concurrency
            && let Some(seed) = waiting.next()
        {
            let (server, programs) = (Arc::clone(server), programs.clone());
            running.spawn(async move { short::run(server, &programs, &Plan::of(seed), None).await });
        }
        let Some(ended) = running.join_next().await else { break };
        let went = ended.map_err(|error| Error::Other(format!("a run ended early: {error}")))??;
        report.add(went.seed, &went.verdict, &went.faults);
        longest = longest.max((went.millis, went.seed));
        tell(format_args!("{} of {of} short runs, {} with findings", report.runs, report.failed_seeds.len()));
    }
    if report.runs >= ENOUGH_FOR_SOME {
        let struck = |what: &str| report.faults.keys().any(|name| name.contains(what));
        let missing: Vec<&str> = [
            "killed at runtime.",
            "killed at shim.",
            "stopped at",
            "killed by a signal",
            "backends ended",
            "routings moved",
        ]
        .into_iter()
        .filter(|what| !struck(what))
        .collect();
        missing.iter().for_each(|what| report.require(false, format!("{what}: in none of the runs")));
    }
    if report.runs >= ENOUGH_FOR_ALL {
        for point in RUNTIME_POINTS.iter().chain(&SHIM_POINTS) {
            let struck = report.faults.keys().any(|name| name.ends_with(&format!("killed at {point}")));
            report.require(struck, format!("nothing was killed at {point} in any run"));
        }
        for kind in ["backends ended during a commit", "backends ended before a commit"] {
            report.require(report.faults.contains_key(kind), format!("no {kind} in any run"));
        }
    }
    report.figure("longest run", format_args!("{} ms, seed {}", longest.0, longest.1));
    report.took(began.elapsed(), cpu);
    Ok(report)
}
