//! `switchyard dismiss`: settles parked deliveries that are not to be sent back.

use crate::selection::Only;
use crate::{
    confirm::confirmed,
    failure::Failure,
    functions::Stack,
    global::Global,
    selection,
    style::{BOLD, count, eprint_line, paint, print_line},
};
use clap::Args;
use jiff::Timestamp;
use switchyard_operations::redrive::{Dismiss, Dismissed, Request};

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  switchyard dismiss sentiment --reason no_text --dry-run        how many that would be
  switchyard dismiss sentiment --reason no_text --until 90d --because 'nobody will fill these in'")]
pub(crate) struct Options {
    /// The agent
    pub(crate) agent: String,
    /// Say how many that would be, and do nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Why, for the audit
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    pub(crate) because: Option<String>,
    #[command(flatten)]
    pub(crate) only: Only,
}

/// Asks, since it is final, and does it.
pub(crate) async fn run(stack: &Stack, options: Options, global: &Global) -> Result<(), Failure> {
    let order = Dismiss {
        agent: options.agent,
        selection: selection::of(&options.only, Timestamp::now()),
        dry_run: options.dry_run,
        operator: global.operator.clone(),
        reason: options.because.unwrap_or_default(),
    };
    if !order.dry_run && !options.yes && !agreed(stack, &order).await? {
        eprint_line("nothing was done");
        return Ok(());
    }
    let done: Dismissed = stack.ask(&Request::Dismiss(order), global.json).await?;
    if !global.json {
        print_line(report(&done));
    }
    done.trouble.map_or(Ok(()), |trouble| Err(Failure::new(trouble)))
}

async fn agreed(stack: &Stack, order: &Dismiss) -> Result<bool, Failure> {
    let dry = Dismiss { dry_run: true, ..order.clone() };
    confirmed(
        async || {
            let would: Dismissed = stack.ask(&Request::Dismiss(dry), false).await?;
            Ok(format!("{}: nothing brings them back\nGo on?", report(&would)))
        },
        "what is dismissed does not come back: say --yes, or see with --dry-run how much it is",
    )
    .await
}

fn report(done: &Dismissed) -> String {
    let deliveries = count(done.deliveries, "delivery");
    let agent = &done.agent;
    paint(
        BOLD,
        if done.dry_run {
            format!("would dismiss {deliveries} of {agent}")
        } else {
            format!("{deliveries} of {agent} dismissed")
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_was_given_up_or_would_be() {
        let done = |dry_run| Dismissed { agent: "sentiment".into(), dry_run, deliveries: 2, trouble: None };
        assert!(report(&done(true)).contains("would dismiss 2 deliveries of sentiment"));
        assert!(report(&done(false)).contains("2 deliveries of sentiment dismissed"));
    }
}
