//! The suite's agents as a Lambda function: which of them, the variable `AGENT` says.

use faults::agents::{Echo, Tally};

fn main() -> std::process::ExitCode {
    match std::env::var("AGENT").as_deref() {
        Ok("tally") => switchyard_runtime::run_agent(Tally::new),
        _ => switchyard_runtime::run_agent(Echo::new),
    }
}
