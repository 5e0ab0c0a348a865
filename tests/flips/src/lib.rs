#![doc = include_str!("../README.md")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "this crate is a test: a harness that cannot go on says so by a panic"
)]

mod agent;
mod clock;
mod ending;
mod judge;
mod keeper;
pub mod old_system;
mod report;
mod stage;
mod steward;
mod switch;
mod transport;
mod writer;

pub use report::Report;

use ending::Ending;
use keeper::Keeper;
use stage::Stage;
use std::path::PathBuf;

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// How often the lever is moved.
    pub flips: u32,
    /// What every choice is drawn from; with an odd one the run ends with the old system, else with the agent.
    pub seed: u64,
    /// How many events are written in a second.
    pub per_second: u32,
    /// This program, which is called again for the old system.
    pub program: PathBuf,
    /// A mistake of the old system.
    pub bug: Option<old_system::Bug>,
}

/// Runs it: flips under load, then an end, then the count.
pub async fn run(options: &Options) -> Report {
    let began = std::time::Instant::now();
    let stage = Stage::set(options.seed).await;
    let keeper = Keeper::of(&stage, options);
    let ending = Ending::of(options.seed);
    let story = async {
        switch::flip(&stage, options.flips).await;
        let measured = ending.play(&stage, &keeper).await;
        stage.over();
        measured
    };
    let (measured, ..) = tokio::join!(
        story,
        writer::write(&stage, options.per_second),
        transport::publish(&stage),
        transport::let_time_pass(&stage),
        agent::work(&stage),
        steward::pass(&stage),
        judge::watch(&stage),
        keeper.keep(&stage),
    );
    let verdict = judge::judge(&stage).await;
    Report::of(&stage, options, ending, measured, verdict, began.elapsed()).await
}
