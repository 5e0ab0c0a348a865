//! The fault suite's command line. See the package's page.

mod arguments;

use arguments::{Arguments, Command, Transport};
use clap::Parser as _;
use faults::{
    Error, absent, fuzz,
    programs::Programs,
    report::{Report, cpu_seconds},
    server::Server,
    short::{self, Plan},
    tier::{bugs, localstack, scenarios, short_runs, storm},
};
use std::{
    fmt,
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&Error::Other(format!("cannot start: {error}"))),
    };
    match runtime.block_on(run(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failed(&error),
    }
}

fn failed(error: &Error) -> ExitCode {
    say(&format!("the suite cannot go on: {error}"));
    ExitCode::from(2)
}

/// Whether nothing was found.
async fn run(arguments: &Arguments) -> Result<bool, Error> {
    let json = arguments.json;
    match &arguments.command {
        Command::Small => small(json).await,
        Command::ShortRuns { runs, from, concurrency } => {
            let (server, programs) = ready().await?;
            let report = short_runs::run(&server, &programs, *from..from + runs, *concurrency, &tell).await?;
            Ok(print(&[report], json))
        }
        Command::One { seed, bug } => {
            let (server, programs) = ready().await?;
            let (began, cpu) = (Instant::now(), cpu_seconds());
            let plan = Plan::of(*seed);
            let went = short::run(Arc::clone(&server), &programs, &plan, bug.as_deref()).await?;
            let mut report = Report::of("one short run", "the stand-in broker", seed.to_string());
            report.add(*seed, &went.verdict, &went.faults);
            report.figure("plan", format_args!("{plan:?}"));
            report.took(began.elapsed(), cpu);
            Ok(print(&[report], json))
        }
        Command::Large { transport: Transport::Broker, events, kills, seed } => {
            let (server, programs) = ready().await?;
            let patience = Duration::from_secs(2 * 60 * 60);
            // Half of the events are the writers', the other half is what `echo` says of them.
            let events = events / 2;
            let force = storm::Force { seed: *seed, events, kills: *kills, crashes: 3, wipes: 2, pollers: 3, patience };
            let report = storm::run(&server, &programs, force, &tell).await?;
            Ok(print(&[report], json))
        }
        Command::Large { transport: Transport::Localstack, events, kills, seed } => {
            let patience = Duration::from_secs(2 * 60 * 60);
            let report = localstack::run(*seed, *events, *kills, patience, &tell).await?;
            Ok(print(&[report], json))
        }
        Command::Scenario { name, seed } => {
            let (server, programs) = ready().await?;
            let report = match name.as_str() {
                "storm" => storm::run(&server, &programs, small_storm(*seed), &tell).await?,
                "outage" => scenarios::outage(&server, &programs, 500, Duration::from_secs(20)).await?,
                "wipe" => scenarios::wipe(&server, &programs, 1_000).await?,
                "stopped-shim" => scenarios::stopped_shim(&server, &programs, 1_000).await?,
                "crashes" => scenarios::crashes(&server, &programs, 1_000, 3).await?,
                "cold-starts" => scenarios::cold_starts(&server, &programs, 500).await?,
                other => {
                    return Err(Error::Other(format!(
                        "there is no scenario {other}: storm, outage, wipe, stopped-shim, crashes, cold-starts"
                    )));
                }
            };
            Ok(print(&[report], json))
        }
        Command::Fuzz { seconds, seed } => Ok(fuzzed(*seed, Duration::from_secs(*seconds), json)),
        Command::Absent => {
            let searched = tokio::task::block_in_place(|| absent::search(&programs()?))?;
            match json {
                true => out(&serde_json::to_string_pretty(&searched).unwrap_or_default()),
                false => out(&format!("{searched:#?}")),
            }
            Ok(searched.holds())
        }
        Command::Bugs { only, runs, from, concurrency } => {
            hunt(only.as_deref(), *from, *runs, *concurrency, json).await
        }
    }
}

/// A storm of a minute. It crashes no Postgres, since other scenarios use it at the same time.
const fn small_storm(seed: u64) -> storm::Force {
    let patience = Duration::from_secs(300);
    storm::Force { seed, events: 2_000, kills: 12, crashes: 0, wipes: 1, pollers: 2, patience }
}

/// Everything that a machine of two cores does in a few minutes.
async fn small(json: bool) -> Result<bool, Error> {
    let (server, programs) = ready().await?;
    let runs = short_runs::run(&server, &programs, 0..60, 3, &tell).await?;
    // Mostly waits of their own, so all at the same time.
    let (storm, outage, wipe, stopped) = tokio::try_join!(
        storm::run(&server, &programs, small_storm(1), &tell),
        scenarios::outage(&server, &programs, 200, Duration::from_secs(5)),
        scenarios::wipe(&server, &programs, 400),
        scenarios::stopped_shim(&server, &programs, 400),
    )?;
    tell(format_args!("Postgres and its connections"));
    let crashes = scenarios::crashes(&server, &programs, 400, 2).await?;
    tell(format_args!("cold starts"));
    let cold = scenarios::cold_starts(&server, &programs, 100).await?;
    Ok(print(&[runs, storm, outage, wipe, stopped, crashes, cold], json))
}

async fn hunt(only: Option<&str>, from: u64, runs: u64, concurrency: usize, json: bool) -> Result<bool, Error> {
    let wanted: Vec<bugs::Bug> =
        bugs::BUGS.into_iter().filter(|bug| only.is_none_or(|only| only == bug.name)).collect();
    if wanted.is_empty() {
        let known: Vec<&str> = bugs::BUGS.iter().map(|bug| bug.name).collect();
        return Err(Error::Other(format!("there is no such mistake: {}", known.join(", "))));
    }
    let (server, programs) = ready().await?;
    let mut all = Vec::new();
    for bug in wanted {
        let found = bugs::hunt(&server, &programs, bug, from, runs, concurrency, &tell).await?;
        if !json {
            let line = match found.after {
                Some((runs, seed)) => {
                    format!("{}: found after {runs} runs (seed {seed}) by {:?}: {}", found.bug, found.by, found.example)
                }
                None => format!("{}: NOT FOUND in {runs} runs", found.bug),
            };
            out(&line);
            if !found.beside.is_empty() {
                out(&format!("  seeds that found something else, or the same without it: {:?}", found.beside));
            }
        }
        all.push(found);
    }
    if json {
        out(&serde_json::to_string_pretty(&all).unwrap_or_default());
    }
    Ok(all.iter().all(|found| found.after.is_some()))
}

fn fuzzed(seed: u64, time: Duration, json: bool) -> bool {
    let all = fuzz::fuzz(seed, time);
    if json {
        out(&serde_json::to_string_pretty(&all).unwrap_or_default());
    } else {
        for fuzzed in &all {
            out(&format!(
                "{}: {} inputs, {} accepted, {} findings",
                fuzzed.target,
                fuzzed.inputs,
                fuzzed.accepted,
                fuzzed.findings.len()
            ));
            fuzzed.findings.iter().for_each(|finding| out(&format!("  {finding}")));
        }
    }
    all.iter().all(|fuzzed| fuzzed.findings.is_empty())
}

fn programs() -> Result<Programs, Error> {
    Programs::build(&mut |name| tell(format_args!("building the functions with their faults: {name}")))
}

async fn ready() -> Result<(Arc<Server>, Programs), Error> {
    let programs = tokio::task::block_in_place(programs)?;
    tell(format_args!("starting Postgres"));
    Ok((Arc::new(Server::start().await?), programs))
}

fn print(reports: &[Report], json: bool) -> bool {
    if std::io::stderr().is_terminal() {
        tell(format_args!(""));
    }
    if json {
        out(&serde_json::to_string_pretty(reports).unwrap_or_default());
    } else {
        for report in reports {
            out(&format!("{report}\n"));
        }
    }
    reports.iter().all(Report::is_clean)
}

/// How far it is: a line that is overwritten in a terminal, and nothing without a terminal.
fn tell(text: fmt::Arguments<'_>) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let _ = write!(stderr, "\r\x1b[K{text}");
        let _ = stderr.flush();
    }
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A reader that has gone away (`| head`) is no error.
fn out(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
