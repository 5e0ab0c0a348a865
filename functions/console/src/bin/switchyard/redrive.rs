//! `switchyard redrive`: back to the agent, or what else there is to say about redrives.

use crate::selection::Only;
use crate::when::Duration;
use crate::{
    confirm::confirmed,
    dlq::moving,
    failure::Failure,
    functions::Stack,
    global::Global,
    selection,
    style::{BOLD, DIM, GREEN, YELLOW, count, eprint_line, paint, print_line},
    watch,
    when::age,
};
use clap::Args;
use jiff::Timestamp;
use switchyard_operations::redrive::{Automatic, Progress, Redrive, Redriven, Request, Way};

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  switchyard redrive sentiment --dry-run               say what would be done
  switchyard redrive sentiment --rate 50 --watch       all of it, 50 a second, and follow
  switchyard redrive sentiment --type feedback.created --since 2h
                                                       a selection, from the table
  switchyard redrive sentiment --progress              how far the move task is
  switchyard redrive sentiment --cancel                end it; what has not moved is parked again
  switchyard redrive sentiment --subscription          what SNS could not deliver
  switchyard redrive sentiment --auto 3 --after 15m    let what may pass go back by itself")]
pub(crate) struct Options {
    /// The agent
    pub(crate) agent: String,
    /// Say what would be done, and do nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    /// Messages per second, 1 to 500; none with Topology=fifo, where --first N sends some at a time [default: as fast as SQS likes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=500))]
    pub(crate) rate: Option<u16>,
    /// Follow until it is done
    #[arg(long, short)]
    pub(crate) watch: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Why, for the audit
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) because: String,
    /// What SNS could not deliver to the agent's queue, instead of what the agent parked
    #[arg(long, conflicts_with_all = ["id", "types", "reasons", "projects", "since", "until", "first", "rate"])]
    pub(crate) subscription: bool,
    #[command(flatten)]
    pub(crate) only: Only,
    #[command(flatten)]
    pub(crate) instead: Instead,
    /// How long after parking --auto waits the first time; then twice as long each time
    #[arg(
        long,
        requires = "auto",
        default_value = "15m",
        value_name = "DURATION",
        help_heading = "Instead of a redrive"
    )]
    pub(crate) after: Duration,
}

/// What else there is to say about redrives.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Instead of a redrive")]
#[group(multiple = false, conflicts_with_all = ["dry_run", "rate", "yes", "subscription", "id", "types", "reasons", "projects", "since", "until", "first"])]
pub(crate) struct Instead {
    /// How far the running or the latest move task is
    #[arg(long)]
    pub(crate) progress: bool,
    /// End the running move task; what it has not moved is parked again
    #[arg(long)]
    pub(crate) cancel: bool,
    /// Redrive by itself what failed for a reason that may pass, so many times for each delivery
    #[arg(long, value_name = "TIMES", value_parser = clap::value_parser!(u16).range(1..=20))]
    pub(crate) auto: Option<u16>,
    /// Redrive nothing by itself any more
    #[arg(long)]
    pub(crate) no_auto: bool,
}

/// Carries out one redrive command.
pub(crate) async fn run(stack: &Stack, options: Options, global: &Global) -> Result<(), Failure> {
    let (agent, operator, json) = (options.agent.clone(), global.operator.clone(), global.json);
    let instead = &options.instead;
    if instead.progress {
        return progress(stack, agent, options.watch, json).await;
    }
    if instead.cancel {
        let ended: Progress = stack.ask(&Request::Cancel { agent, operator }, json).await?;
        if !json {
            print_line(status(&ended));
        }
        return ended.trouble.map_or(Ok(()), |trouble| Err(Failure::new(trouble)));
    }
    if instead.auto.is_some() || instead.no_auto {
        let (times, first_after_secs) = (instead.auto.unwrap_or(0), options.after.secs);
        let set: Automatic = stack.ask(&Request::Auto { agent, times, first_after_secs, operator }, json).await?;
        if !json {
            print_line(automatic(&set));
        }
        return Ok(());
    }
    back(stack, options, operator, json).await
}

/// The redrive itself.
async fn back(stack: &Stack, options: Options, operator: String, json: bool) -> Result<(), Failure> {
    let request = Redrive {
        agent: options.agent,
        selection: selection::of(&options.only, Timestamp::now()),
        dry_run: options.dry_run,
        subscription: options.subscription,
        per_second: options.rate,
        operator,
        reason: options.because,
    };
    if request.selection.is_everything() && !request.dry_run && !options.yes && !agreed(stack, &request).await? {
        eprint_line("nothing was done");
        return Ok(());
    }
    let agent = request.agent.clone();
    let dry_run = request.dry_run;
    let done: Redriven = stack.ask(&Request::Redrive(request), json).await?;
    if !json {
        print_line(report(&done));
    }
    if options.watch && !dry_run && done.way != Way::Nothing {
        progress(stack, agent, true, json).await?;
    }
    trouble(done)
}

/// Asks whether everything is meant, with what everything is.
async fn agreed(stack: &Stack, request: &Redrive) -> Result<bool, Failure> {
    let dry = Redrive { dry_run: true, ..request.clone() };
    confirmed(
        async || {
            let would: Redriven = stack.ask(&Request::Redrive(dry), false).await?;
            Ok(format!("{}\nGo on?", report(&would)))
        },
        "a redrive without a selection sends back everything: say --yes, or select (--type, --reason, --id ...)",
    )
    .await
}

async fn progress(stack: &Stack, agent: String, follow: bool, json: bool) -> Result<(), Failure> {
    let now: Progress = if follow {
        watch::until_done(stack, &agent).await?
    } else {
        stack.ask(&Request::Progress { agent }, false).await?
    };
    if json {
        stack.print(&now)?;
    } else {
        print_line(status(&now));
    }
    Ok(())
}

/// What was done, or would be.
pub(crate) fn report(done: &Redriven) -> String {
    let mut lines = vec![headline(done)];
    lines.extend(done.groups.iter().map(|group| {
        let of = group.event_type.as_deref().unwrap_or("no event");
        format!("  {} × {}  {of}", group.count, paint(YELLOW, &group.reason))
    }));
    if done.removed > 0 {
        lines.push(format!("  {} removed from the dead-letter queue", count(done.removed as u64, "copy")));
    }
    if let (Way::Move, true) = (done.way, done.deliveries > 0) {
        let after = age(u64::from(done.defer_secs));
        lines.push(paint(DIM, format!("  what the queue has lost comes from the table after {after}")));
    }
    lines.extend(done.moving.as_ref().map(|task| paint(DIM, format!("  move task: {}", moving(task)))));
    lines.join("\n")
}

fn headline(done: &Redriven) -> String {
    let (deliveries, dead_letters) = (count(done.deliveries, "delivery"), count(done.dead_letters, "dead letter"));
    let agent = &done.agent;
    let text = match (done.way, done.dry_run) {
        (Way::Nothing, _) => return format!("{} nothing of {agent} is parked", paint(GREEN, "ok:")),
        (Way::AlreadyMoving, _) => {
            format!("a move task of {agent} is running already: follow it with --progress --watch")
        }
        (Way::Move, true) => format!("would move {dead_letters} back to {agent} and requeue {deliveries}"),
        (Way::Move, false) => format!("moving {dead_letters} back to {agent}; requeued {deliveries}"),
        (Way::Table, true) => format!("would send {deliveries} to {agent} from the table"),
        (Way::Table, false) => {
            format!("{deliveries} of {agent} redriven from the table; {} sent", count(done.sent as u64, "message"))
        }
        (Way::Messages, true) => format!("would send {dead_letters} that SNS could not deliver to {agent}"),
        (Way::Messages, false) => {
            format!("{} that SNS could not deliver sent to {agent}", count(done.sent as u64, "dead letter"))
        }
    };
    let revision = done.revision.map(|revision| format!(" as version {revision} of its payload")).unwrap_or_default();
    paint(BOLD, format!("{text}{revision}"))
}

/// What did not work is an error, after everything else was said.
pub(crate) fn trouble(done: Redriven) -> Result<(), Failure> {
    done.trouble.map_or(Ok(()), |trouble| Err(Failure::new(trouble)))
}

/// How far it is.
fn status(now: &Progress) -> String {
    let task = now.moving.as_ref().map_or_else(|| "no move task".into(), |task| format!("move task {}", moving(task)));
    format!(
        "{task}; {} in the queue; {} under way, {} parked",
        count(now.dead_letters, "dead letter"),
        count(now.under_way, "delivery"),
        now.parked
    )
}

fn automatic(set: &Automatic) -> String {
    match set.times {
        0 => format!("{} is redriven by an operator only", set.agent),
        times => format!(
            "what fails for a reason that may pass goes back to {} by itself, up to {} for each delivery, the first after {}",
            set.agent,
            count(times, "time"),
            age(u64::from(set.first_after_secs))
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(way: Way) -> Redriven {
        Redriven {
            agent: "sentiment".into(),
            dry_run: false,
            way,
            deliveries: 2,
            groups: Vec::new(),
            dead_letters: 3,
            sent: 2,
            removed: 1,
            defer_secs: 90,
            moving: None,
            trouble: None,
            revision: None,
        }
    }

    #[test]
    fn each_way_says_what_was_done_or_would_be() {
        assert!(report(&done(Way::Move)).contains("moving 3 dead letters back to sentiment; requeued 2 deliveries"));
        assert!(report(&done(Way::Move)).contains("from the table after 1m 30s"));
        assert!(report(&Redriven { dry_run: true, ..done(Way::Table) }).contains("would send 2 deliveries"));
        assert!(report(&done(Way::Table)).contains("1 copy removed"));
        assert!(report(&done(Way::Nothing)).contains("nothing of sentiment is parked"));
        assert!(report(&done(Way::AlreadyMoving)).contains("running already"));
    }

    #[test]
    fn trouble_is_an_error() {
        assert!(trouble(done(Way::Move)).is_ok());
        assert!(trouble(Redriven { trouble: Some("no".into()), ..done(Way::Move) }).is_err());
    }
}
