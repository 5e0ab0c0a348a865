//! `cargo dev`: the whole system on this machine.
//!
//! One file per command (`up`, `down`, `status`, `send`, `logs`, `template`, `doctor`, `reset`); the rest is what they share. The first Ctrl-C
//! or SIGTERM stops everything in order.

mod arguments;
mod ask;
mod deployment;
mod detach;
mod doctor;
mod down;
mod feedback;
mod follow;
mod logs;
mod reset;
mod schema;
mod send;
mod signals;
mod state;
mod status;
mod steps;
mod template;
mod tree;
mod up;
mod watch;

use std::process::ExitCode;

use clap::Parser;
use switchyard_localstack::{Error, Places};
use switchyard_terminal::{style, when};

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let places = Places::of_this_checkout();
    let result = match arguments.command.unwrap_or_default() {
        Command::Up(options) => up::run(&places, &options),
        Command::Down => down::run(&places),
        Command::Status(options) => status::run(&places, &options),
        Command::Send(options) => send::run(&places, &options),
        Command::Logs(options) => logs::run(&places, &options),
        Command::Template(options) => template::run(&places, &options),
        Command::Doctor => doctor::run(&places),
        Command::Reset(options) => reset::run(&places, &options),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            style::error(error);
            ExitCode::FAILURE
        }
    }
}

/// What a command comes to: its exit code, or the one line that says why it could not do its work.
type Outcome = Result<ExitCode, Error>;

/// A runtime for the database calls of one command.
fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|source| Error::Program {
        program: "the asynchronous runtime".to_owned(),
        source,
        way_out: "free some file descriptors (ulimit -n)",
    })
}
