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
mod steward;
mod switch;
mod transport;
mod world;
mod writer;

pub use report::Report;

use ending::Ending;
use keeper::Keeper;
use std::path::PathBuf;
use world::World;

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
    let world = World::set(options.seed).await;
    let keeper = Keeper::of(&world, options);
    let ending = Ending::of(options.seed);
    let story = async {
        switch::flip(&world, options.flips).await;
        let measured = ending.play(&world, &keeper).await;
        world.over();
        measured
    };
    let (measured, ..) = tokio::join!(
        story,
        writer::write(&world, options.per_second),
        transport::publish(&world),
        transport::let_time_pass(&world),
        agent::work(&world),
        steward::pass(&world),
        judge::watch(&world),
        keeper.keep(&world),
    );
    let verdict = judge::judge(&world).await;
    Report::of(&world, options, ending, measured, verdict, began.elapsed()).await
}
