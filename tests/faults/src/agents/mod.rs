//! The two agents of the suite: real ones, run by the real runtime as programs of their own.
//!
//! `echo` hears of what is written and says an event of its own about it, which `tally` hears. Both note what they did in a table without any
//! unique constraint, so that a second effect shows. `tally` also overwrites state, behind the gate that only lets newer sequences pass.

mod echo;
mod fate;
mod notes;
mod tally;

pub use echo::Echo;
pub use fate::{Fate, fate};
pub use notes::Note;
pub use tally::Tally;

/// Runs the one of them that the variable `AGENT` names, as a Lambda function.
pub fn serve() -> std::process::ExitCode {
    match std::env::var("AGENT").as_deref() {
        Ok("tally") => switchyard_runtime::run_agent(Tally::new),
        _ => switchyard_runtime::run_agent(Echo::new),
    }
}

/// What the agents and the workload write into beside the application's own table.
pub const TABLES: &str = include_str!("tables.sql");

/// What the workload says.
pub const WRITTEN: &str = "fault.written";
/// What `echo` says of it.
pub const ECHOED: &str = "fault.echoed";
