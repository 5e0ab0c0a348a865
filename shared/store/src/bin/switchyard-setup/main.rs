//! `switchyard-setup`: makes a database ready for Switchyard, beside a running application, and takes everything away again.
//!
//! One file for each thing that it does (`set_up`, `index`, `remove`); `arguments` is the command line.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks to a person")]

mod arguments;
mod index;
mod remove;
mod set_up;

use std::{process::ExitCode, time::Duration};

use arguments::{HELP, Wanted};
use switchyard_store::{DatabaseUrl, Patience, Progress, StoreError};

fn main() -> ExitCode {
    let wanted = match Wanted::of(std::env::args().skip(1)) {
        Ok(wanted) => wanted,
        Err(problem) => return fail(&format!("{problem}; `switchyard-setup --help` tells more"), 2),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}"), 1),
    };
    match runtime.block_on(run(wanted)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => fail(&problem, 1),
    }
}

async fn run(wanted: Wanted) -> Result<(), String> {
    match wanted {
        Wanted::Help => {
            print!("{HELP}");
            Ok(())
        }
        Wanted::SetUp(options) => set_up::run(&database()?, options).await,
        Wanted::Index => index::make(&database()?).await,
        Wanted::DropIndex => index::remove(&database()?).await,
        Wanted::Remove { yes, lock_timeout } => remove::run(&database()?, yes, lock_timeout).await,
    }
}

fn database() -> Result<DatabaseUrl, String> {
    let url =
        std::env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set: the address of the database".to_owned())?;
    let url: DatabaseUrl = url.parse().map_err(said)?;
    Ok(match std::env::var("DATABASE_CA") {
        Ok(pem) => url.trusting(pem),
        Err(_) => url,
    })
}

/// As patient as the command line says, and telling how it goes.
fn telling(lock_timeout: Duration, tell: &(dyn Fn(Progress<'_>) + Sync)) -> Patience<'_> {
    Patience { lock_timeout, tell, ..Patience::default() }
}

/// Tells what the application holds up.
fn held_up(progress: Progress<'_>) {
    if let Progress::Busy { what, tries, pause } = progress {
        let (secs, times) = (pause.as_secs_f64(), if tries == 1 { "once" } else { "again" });
        eprintln!("{what}: tried {times}, and the application's transactions hold the table; next try in {secs:.1} s");
    }
}

/// What an error tells a person: a conflict here is a table that was never free.
fn said(error: StoreError) -> String {
    match error {
        StoreError::Conflict { .. } => {
            "the application's transactions held a table all the time; what was done stays done: run this again when it is quieter".to_owned()
        }
        other => other.to_string(),
    }
}

fn fail(problem: &str, code: u8) -> ExitCode {
    eprintln!("switchyard-setup: {problem}");
    ExitCode::from(code)
}
