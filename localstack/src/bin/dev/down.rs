//! `cargo dev down`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use switchyard_localstack::{Error, Places};

use crate::Outcome;
use crate::state::{self, State};
use crate::steps::Steps;
use crate::style::print_line;

/// Longer than its own patience with Postgres and LocalStack together.
const PATIENCE: Duration = Duration::from_secs(45);

pub(crate) fn run(places: &Places) -> Outcome {
    match state::running(places)? {
        Some(state) => {
            Steps::new()
                .run("Stopping", |_| stop(places, &state).map(|()| ((), "nothing is left running".to_owned())))?;
        }
        None => print_line("nothing runs in this checkout"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the process that runs everything to end, and waits until it is gone.
pub(crate) fn stop(places: &Places, state: &State) -> Result<(), Error> {
    // If it is gone by now, that is what was wanted.
    let _ = kill(Pid::from_raw(state.pid), Signal::SIGTERM);
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if !state::is_claimed(places)? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(Error::NotStopping { pid: state.pid, seconds: PATIENCE.as_secs() })
}
