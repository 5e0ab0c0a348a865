//! `switchyard-setup`: makes a database ready for Switchyard beside a running application, and removes Switchyard again.
//!
//! One file for each task (`set_up`, `index`, `remove`); `arguments` is the command line.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks to a person")]

mod arguments;
mod index;
mod remove;
mod set_up;

use std::{process::ExitCode, time::Duration};

use arguments::{Arguments, Task};
use clap::Parser;
use switchyard_store::{DatabaseUrl, Progress, StoreError, WaitPolicy};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse().task()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("switchyard-setup: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn run(task: Task) -> Result<(), String> {
    let url = database()?;
    match task {
        Task::SetUp(options) => set_up::run(&url, options).await,
        Task::IndexHistory => index::create(&url).await,
        Task::DropHistoryIndex => index::drop(&url).await,
        Task::Remove { yes, lock_timeout } => remove::run(&url, yes, lock_timeout).await,
    }
}

fn database() -> Result<DatabaseUrl, String> {
    let url =
        std::env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set: the address of the database".to_owned())?;
    let url: DatabaseUrl = url.parse().map_err(message)?;
    Ok(match std::env::var("DATABASE_CA") {
        Ok(pem) => url.trusting(pem),
        Err(_) => url,
    })
}

/// Waits for a lock as long as the command line says, and reports progress to `report`.
fn wait_policy(lock_timeout: Duration, report: &(dyn Fn(Progress<'_>) + Sync)) -> WaitPolicy<'_> {
    WaitPolicy { lock_timeout, report, ..WaitPolicy::default() }
}

/// Prints what is done as `VERB WHAT`, and what waits for the application's transactions.
fn report(verb: &str, progress: Progress<'_>) {
    match progress {
        Progress::Done(what) => println!("{verb} {what}"),
        Progress::Busy { what, tries, pause } => eprintln!(
            "{what}: the application's transactions hold the table; try {} follows in {:.1} s",
            tries + 1,
            pause.as_secs_f64()
        ),
    }
}

/// An error for the operator. A conflict here means that a table was never free.
fn message(error: StoreError) -> String {
    match error {
        StoreError::Conflict { .. } => {
            "the application's transactions held a table all the time; what is done stays done: run this again when there is less traffic".to_owned()
        }
        other => other.to_string(),
    }
}
