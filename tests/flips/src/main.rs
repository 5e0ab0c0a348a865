//! The command line of `flips`; the old system is this program, too.
#![allow(clippy::print_stdout, reason = "a command line")]

use clap::{Parser, Subcommand};
use flips::{Options, old_system};
use std::process::ExitCode;

/// Moves the lever of a migration again and again under load, with an old system that is late and is killed, and counts who did what.
///
/// Starts a Postgres of its own; SWITCHYARD_TEST_DATABASE_URL names another one.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// How often the lever is moved
    #[arg(long, default_value_t = 500)]
    flips: u32,
    /// What every choice is drawn from; with an odd one the old system finishes, else the agent [default: drawn]
    #[arg(long)]
    seed: Option<u64>,
    /// Events in a second
    #[arg(long, default_value_t = 60)]
    per_second: u32,
    /// A mistake of the old system, which must be found
    #[arg(long, value_enum)]
    bug: Option<old_system::Bug>,
}

#[derive(Subcommand)]
enum Role {
    /// The old system's process
    #[command(hide = true)]
    OldSystem {
        #[arg(long)]
        url: String,
        #[arg(long)]
        agent: String,
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        fails: bool,
        #[arg(long, value_enum)]
        bug: Option<old_system::Bug>,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Arguments { role, flips, seed, per_second, bug } = Arguments::parse();
    if let Some(Role::OldSystem { url, agent, seed, fails, bug }) = role {
        return match old_system::run(old_system::Settings { url, agent, seed, fails, bug }).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("the old system cannot start: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let Ok(program) = std::env::current_exe() else {
        println!("this program cannot find itself");
        return ExitCode::FAILURE;
    };
    let seed = seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let report = flips::run(&Options { flips, seed, per_second, program, bug }).await;
    println!("{report}");
    if report.is_as_it_should() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
