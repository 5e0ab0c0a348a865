//! What the command line takes.

use clap::{Parser, Subcommand, ValueEnum};

/// Breaks the bundle in every way that one machine can, and counts what became of every event.
///
/// Ends with 0 where nothing was found, with 1 where something was, and with 2 where the suite itself could not go on.
#[derive(Debug, Parser)]
#[command(name = "faults")]
pub(crate) struct Arguments {
    /// Print the report as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What there is to run.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A few minutes of everything.
    Small,
    /// Many short runs, each with a database of its own.
    ShortRuns {
        /// How many.
        #[arg(long, default_value_t = 3_000)]
        runs: u64,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// How many at the same time.
        #[arg(long, default_value_t = 4)]
        concurrency: usize,
    },
    /// One short run again, by its seed.
    One {
        /// The seed, as the report names it.
        #[arg(long)]
        seed: u64,
        /// A mistake to switch on.
        #[arg(long)]
        bug: Option<String>,
    },
    /// One long run in which everything breaks again and again.
    Large {
        /// What carries the messages.
        #[arg(long, value_enum, default_value_t = Transport::Broker)]
        transport: Transport,
        /// How many events, those that the agents say included.
        #[arg(long, default_value_t = 1_000_000)]
        events: usize,
        /// How many processes are killed.
        #[arg(long, default_value_t = 200)]
        kills: usize,
        /// What everything is drawn from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// One scenario: storm, outage, wipe, stopped-shim, crashes, cold-starts.
    Scenario {
        /// Which.
        name: String,
        /// What the storm is drawn from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Every parser that meets the outside, with whatever can be made of what it knows.
    Fuzz {
        /// For how long, all of them together.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// What the inputs are drawn from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// That no fault is in a build without the feature.
    Absent,
    /// The tests tested: each known mistake switched on, and found by the same short runs.
    Bugs {
        /// Only this one.
        #[arg(long)]
        only: Option<String>,
        /// In how many runs at most.
        #[arg(long, default_value_t = 120)]
        runs: u64,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// How many at the same time.
        #[arg(long, default_value_t = 4)]
        concurrency: usize,
    },
}

/// What carries the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// The stand-in broker.
    Broker,
    /// LocalStack, with the real template deployed and the bundle's own agents.
    Localstack,
}
