//! `switchyard`: the command line of a deployed stack.
//!
//! One file per command (`dlq`, `redrive`, `edit`, `dismiss`, `failures`, `audit`, `breaker`, `outbox`, `delays`, `status`, `advise`, `route`, `compare`, `cutover`,
//! `backfill`); the rest is what they share. It knows no queue and no database: it asks the stack's functions.

mod advise;
mod arguments;
mod audit;
mod backfill;
mod breaker;
mod compare;
mod confirm;
mod cutover;
mod delays;
mod dismiss;
mod dlq;
mod edit;
mod failure;
mod failures;
mod functions;
mod global;
mod outbox;
mod redrive;
mod route;
mod selection;
mod stack;
mod status;
mod watch;

use crate::{
    arguments::{Arguments, Command},
    failure::Failure,
    functions::Stack,
};
use clap::Parser;
use std::process::ExitCode;
use switchyard_terminal::{style, when};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            style::error(error);
            ExitCode::FAILURE
        }
    }
}

async fn run(Arguments { global, command }: Arguments) -> Result<(), Failure> {
    let stack = Stack::of(&global).await;
    match command {
        Command::Dlq(options) => dlq::run(&stack, options, global.json).await,
        Command::Redrive(options) => redrive::run(&stack, *options, &global).await,
        Command::Edit(options) => edit::run(&stack, options, &global).await,
        Command::Dismiss(options) => dismiss::run(&stack, options, &global).await,
        Command::Failures(options) => failures::run(&stack, options, global.json).await,
        Command::Audit(options) => audit::run(&stack, &options, global.json).await,
        Command::Breaker(options) => breaker::run(&stack, options, &global).await,
        Command::Outbox(options) => outbox::run(&stack, options, &global).await,
        Command::Delays(options) => delays::run(&stack, options, &global).await,
        Command::Status => status::run(&stack, global.json).await,
        Command::Advise(options) => advise::run(&stack, options, &global).await,
        Command::Route(options) => route::run(&stack, options, &global).await,
        Command::Compare(options) => compare::run(&stack, *options, &global).await,
        Command::Cutover(options) => cutover::run(&stack, *options, &global).await,
        Command::Backfill(options) => backfill::run(&stack, *options, &global).await,
    }
}
