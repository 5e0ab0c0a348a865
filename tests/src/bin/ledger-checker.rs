//! The ledger's randomised concurrent checker on the command line.
#![allow(clippy::print_stdout, reason = "a command line")]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use switchyard_tests::checker::{self, Options, plants};

/// Runs randomised concurrent worlds against the delivery ledger on a real Postgres, and judges them.
///
/// Needs SWITCHYARD_TEST_DATABASE_URL, the address of a Postgres in which databases may be created, and pgbouncer.
#[derive(Parser)]
struct Arguments {
    /// Seeds, such as 0-199.
    #[arg(long, default_value = "0-39")]
    seeds: String,
    /// Worlds at the same time, each in a database of its own; most of their time is waiting.
    #[arg(long, default_value_t = 8)]
    jobs: usize,
    /// Plant a fault, which must be found; `all` plants one after the other, `list` names them.
    #[arg(long)]
    plant: Option<String>,
    /// Chaos of a seed, in milliseconds.
    #[arg(long, default_value_t = 1_800)]
    chaos_ms: u64,
    /// The report as JSON.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(seeds) = range(&arguments.seeds) else {
        println!("--seeds wants a range such as 0-199");
        return ExitCode::FAILURE;
    };
    let mut options = Options::new(seeds, arguments.jobs);
    options.chaos = Duration::from_millis(arguments.chaos_ms);
    options.progress = !arguments.json && arguments.plant.is_none();
    let chosen: Vec<_> = match arguments.plant.as_deref() {
        None => vec![None],
        Some("list") => {
            for plant in plants::PLANTS {
                println!("{:20} \"{}\"", plant.name, plant.why);
            }
            return ExitCode::SUCCESS;
        }
        Some("all") => plants::PLANTS.iter().map(Some).collect(),
        Some(name) => match plants::Plant::named(name) {
            Some(plant) => vec![Some(plant)],
            None => {
                println!("there is no plant `{name}`; --plant list names them");
                return ExitCode::FAILURE;
            }
        },
    };
    let mut good = true;
    for plant in chosen {
        let report = checker::run(Options { plant, ..options.clone() }).await;
        good &= report.is_as_it_should();
        match serde_json::to_string(&report) {
            Ok(json) if arguments.json => println!("{json}"),
            _ => println!("{report}"),
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn range(text: &str) -> Option<std::ops::RangeInclusive<u64>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}
