//! The command line of `differences`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line")]

use clap::Parser;
use differences::{Counts, Plan, write};
use serde_json::json;
use std::process::ExitCode;
use tokio_postgres::NoTls;

/// Writes what an agent in shadow mode decided and what an old system did, with differences put in, and prints what is to be found
#[derive(Parser)]
struct Arguments {
    /// A migrated database
    #[arg(long)]
    url: String,
    /// An agent that is registered there for thing.made
    #[arg(long)]
    agent: String,
    /// What every choice is drawn from [default: drawn]
    #[arg(long)]
    seed: Option<u64>,
    /// How many differences
    #[arg(long, default_value_t = 1_000)]
    differences: usize,
    /// How many events whose values are as far apart as the mapping allows
    #[arg(long, default_value_t = 500)]
    nearly: usize,
    /// How many others that agree, or cannot be told
    #[arg(long, default_value_t = 3_500)]
    others: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Arguments { url, agent, seed, differences, nearly, others } = Arguments::parse();
    let seed = seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let plan = Plan::draw(seed, Counts { differences, nearly, others });
    let written = async {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(connection);
        write(&client, &agent, &plan).await
    };
    if let Err(error) = written.await {
        eprintln!("nothing, or not all of it, was written: {error}");
        return ExitCode::FAILURE;
    }
    let events = plan
        .stories
        .iter()
        .map(|story| json!({ "id": story.event_id, "kind": story.kind, "expected": story.expected }));
    let unmatched = plan.unmatched.iter().map(|unmatched| json!(unmatched.thing));
    println!(
        "{}",
        json!({ "seed": seed, "kinds": plan.kinds(), "events": events.collect::<Vec<_>>(), "unmatched": unmatched.collect::<Vec<_>>() })
    );
    ExitCode::SUCCESS
}
