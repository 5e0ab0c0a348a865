//! Many short runs, some at the same time.

use super::Tell;
use crate::{
    Error,
    programs::Programs,
    report::{Report, cpu_seconds},
    server::Server,
    short::{self, Plan},
};
use std::{ops::Range, sync::Arc};
use tokio::{task::JoinSet, time::Instant};

/// Runs these seeds, `lanes` at the same time.
///
/// # Errors
/// [`Error`] where the suite itself could not go on.
pub async fn run(
    server: &Arc<Server>,
    programs: &Programs,
    seeds: Range<u64>,
    lanes: usize,
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
        while running.len() < lanes
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
    report.figure("longest run", format_args!("{} ms, seed {}", longest.0, longest.1));
    report.took(began.elapsed(), cpu);
    Ok(report)
}
