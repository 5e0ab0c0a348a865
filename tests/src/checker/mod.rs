//! The ledger's randomised concurrent checker.
//!
//! A seed is a small world: writers that commit late or not at all, a publisher over a queue that loses, doubles, delays
//! and reorders, agents that fail, park, settle and die, an old system that asks late, someone who moves the routing,
//! operators who redrive, replay, cancel, unsubscribe and drop partitions, and a killer of backends. After some seconds
//! of chaos the world calms down, must come to rest, and is judged by [`invariants`] over the memory of every change of
//! every row. Odd seeds go through a transaction-mode pooler.
//!
//! A checker that finds nothing proves nothing: [`plants`] are faults that it must find.

mod actors;
mod agent;
pub mod invariants;
mod old_system;
mod operators;
pub mod plants;
mod random;
mod report;
mod seed;
mod worker;

pub use report::{Report, SeedReport};

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use plants::Plant;
use worker::Worker;

/// What to check.
#[derive(Clone, Debug)]
pub struct Options {
    /// The seeds.
    pub seeds: RangeInclusive<u64>,
    /// How many worlds at the same time, each in a database of its own.
    pub jobs: usize,
    /// A fault to plant.
    pub plant: Option<&'static Plant>,
    /// With a plant: stop after so many seeds have caught it.
    pub enough: usize,
    /// How long the chaos of a seed lasts.
    pub chaos: Duration,
    /// Whether each seed's outcome is printed as it comes.
    pub progress: bool,
}

impl Options {
    /// The given seeds as the checker usually runs them.
    pub fn new(seeds: RangeInclusive<u64>, jobs: usize) -> Self {
        Self { seeds, jobs, plant: None, enough: 1, chaos: Duration::from_millis(1_800), progress: false }
    }
}

/// Runs the seeds and reports.
pub async fn run(options: Options) -> Report {
    let began = Instant::now();
    let next = Arc::new(AtomicU64::new(*options.seeds.start()));
    let caught = Arc::new(AtomicUsize::new(0));
    let mut jobs = Vec::new();
    let number = if options.plant.is_some_and(|p| p.alone) { 1 } else { options.jobs.max(1) };
    for _ in 0..number {
        let (options, next, caught) = (options.clone(), Arc::clone(&next), Arc::clone(&caught));
        jobs.push(tokio::spawn(async move {
            let worker = Worker::open(options.plant).await;
            let mut reports = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                let enough = options.plant.is_some() && caught.load(Ordering::Relaxed) >= options.enough;
                if seed > *options.seeds.end() || enough {
                    return reports;
                }
                let report = seed::run(&worker, seed, options.plant, options.chaos).await;
                if !report.violations.is_empty() {
                    caught.fetch_add(1, Ordering::Relaxed);
                }
                if options.progress {
                    report.print();
                }
                reports.push(report);
            }
        }));
    }
    let mut report = Report::new(options.plant.map(|p| p.name));
    for worker in jobs {
        match worker.await {
            Ok(seeds) => report.add(seeds),
            Err(e) => report.broke(e.to_string()),
        }
    }
    report.took = began.elapsed();
    report
}
