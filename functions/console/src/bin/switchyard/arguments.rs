//! The command line, as data. The help texts are the manual.

use crate::{
    advise::Advise,
    backfill::Backfill,
    compare::Compare,
    cutover::CutoverOptions,
    delays::DelaysOptions,
    route::Route,
    when::{Ago, Duration},
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use uuid::Uuid;

/// Look into the dead-letter queues of a deployed stack, and send back what is parked.
///
/// It asks the stack's own functions, so it needs the right to invoke them (lambda:InvokeFunction) and nothing else: no queue, no
/// database. Region and credentials come from the environment, as for every AWS tool.
#[derive(Debug, Parser)]
#[command(name = "switchyard", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  switchyard dlq                                       every dead-letter queue, its depth and age
  switchyard dlq sentiment                             what is parked for one agent, and why
  switchyard redrive sentiment --dry-run               what a redrive would do
  switchyard redrive sentiment --watch                 all of it, and follow until it is done
  switchyard redrive sentiment --reason no_text        only what was parked for this reason
  switchyard edit sentiment EVENT_ID --payload fix.json
                                                       one event with a mended payload
  switchyard dismiss sentiment --reason no_text --because TEXT
                                                       give up for good what nobody will send back
  switchyard outbox --again                            let events go that the topic has refused
  switchyard breaker sentiment open                    stop an agent
  switchyard route sentiment percent 25                give the agent a quarter of the aggregates
  switchyard compare sentiment --since 2h              what it would do otherwise than the old system
  switchyard cutover sentiment start --steps 25:1h,50:1h,100
                                                       or let its share grow by itself
  switchyard backfill sentiment --since 30d            what happened before it listened, at a rate

Exit codes: 0 done, 1 it could not be done (one line says why), 2 the command line is wrong";

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The stack [default: stack_name of samconfig.toml in this folder, or else `switchyard`]
    #[arg(long, global = true, env = "SWITCHYARD_STACK", value_name = "NAME")]
    pub(crate) stack: Option<String>,
    /// Where AWS is, for LocalStack [default: AWS_ENDPOINT_URL, or else AWS itself]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) endpoint_url: Option<String>,
    /// The name that the audit keeps
    #[arg(long, global = true, env = "USER", default_value = "unknown", hide_env_values = true, value_name = "NAME")]
    pub(crate) operator: String,
    /// The answer as JSON, for scripts
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show every dead-letter queue, or what is parked for one agent and why
    ///
    /// Looking removes nothing. Groups come from the ledger, which remembers what the queue has forgotten; dead letters that only the queue
    /// knows are listed below them.
    Dlq(Dlq),
    /// Send back to an agent what is parked for it
    ///
    /// Everything goes by a move task of SQS, at a speed that you may set. A selection goes from the table, to this one agent only. Doing
    /// it twice, or both at once, does nothing twice: an effect happens once for each event.
    Redrive(Box<Redrive>),
    /// Send one parked event back with another payload
    ///
    /// The new payload is a new version beside the original, which stays as it is. Both are kept, with your name.
    Edit(Edit),
    /// Give up for good what is parked for an agent and will not go back
    ///
    /// Final: a dismissed delivery is settled, and nothing brings it back. The event itself stays in its table. A delivery that stays parked
    /// is kept for ever, and with it the ledger of its time.
    Dismiss(Dismiss),
    /// Show the latest failed and parked attempts of an agent
    Failures(Failures),
    /// Show who did what: redrives, edits, breakers, reconciliation
    Audit(Audit),
    /// Show the breakers, or force one open or closed
    ///
    /// An open breaker stops its agent: records wait in the queue and no attempt is spent. `auto` hands it back to the steward.
    Breaker(Breaker),
    /// Show the events that could not be published, or publish them again
    Outbox(Outbox),
    /// Show the events that wait for their time (`deliver_at`), or cancel some of them
    ///
    /// A cancelled event stays in its table, which is the record, and no agent gets it. What is published cannot be cancelled any more.
    Delays(DelaysOptions),
    /// Show how each agent stands: settled, pending, parked, queue, breaker
    Status,
    /// Show whether it is time to move at all: stay with Postgres, Redis Streams, or SNS and SQS
    ///
    /// By what was measured over the last day, and by what is wanted: the threshold that was reached, and what each way costs a month.
    Advise(Advise),
    /// Show whose turn it is, the agent's or the old system's, or set it
    ///
    /// Acts on the next ask: an event that somebody has asked for keeps its owner, unless what is unfinished follows (--drain). Pinned
    /// projects are beyond the percentage. A change stops a cutover plan that is under way.
    Route(Route),
    /// Show how an agent in shadow mode compares with the old system, or say with what it is compared
    ///
    /// By a mapping that the team writes: what of the old system answers which decision, and which fields count. The steward compares once a
    /// minute what has had its time; a report costs nothing.
    Compare(Box<Compare>),
    /// Let an agent's share grow step by step while the figures stay inside their limits
    ///
    /// The steward goes on with the plan once a minute. Past a limit it is held, past one of --roll-back-at the old system gets everything
    /// back at once. What was not measured never counts as good.
    Cutover(Box<CutoverOptions>),
    /// Let what happened before an agent listened come to it: events from before the first setup, too
    ///
    /// The steward takes them at a rate, the oldest first, and never while live events wait: it stands still then and goes on by itself. Its
    /// effects are applied and its events appended, once for each event, however often it is started.
    Backfill(Box<Backfill>),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Dlq {
    /// The agent; all dead-letter queues when left out
    pub(crate) agent: Option<String>,
    /// How many dead letters of the queue to inspect
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) at_most: u16,
    #[command(flatten)]
    pub(crate) only: Only,
}

/// A selection among what is parked. Kinds of filters narrow each other; values of one kind widen it.
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Selection (repeat a filter to select more)")]
#[group(requires = "agent")]
pub(crate) struct Only {
    /// Only this event
    #[arg(long, value_name = "EVENT_ID")]
    pub(crate) id: Vec<Uuid>,
    /// Only events of this type
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) types: Vec<String>,
    /// Only what was parked for this reason
    #[arg(long = "reason", value_name = "REASON")]
    pub(crate) reasons: Vec<String>,
    /// Only events of this project
    #[arg(long = "project", value_name = "PROJECT_ID")]
    pub(crate) projects: Vec<String>,
    /// Only what was parked since then: a time (2026-01-05T09:30:00Z) or how long ago (90m, 2h, 3d)
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<Ago>,
    /// Only what was parked before then
    #[arg(long, value_name = "WHEN")]
    pub(crate) until: Option<Ago>,
    /// At most so many, the oldest events first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) first: Option<i64>,
}

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
pub(crate) struct Redrive {
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

#[derive(Debug, Clone, Args)]
pub(crate) struct Edit {
    /// The agent that the event is parked for
    pub(crate) agent: String,
    /// The event
    pub(crate) event_id: Uuid,
    /// A file with the new payload, JSON; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) payload: PathBuf,
    /// Why, for the audit
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) because: String,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  switchyard dismiss sentiment --reason no_text --dry-run        how many that would be
  switchyard dismiss sentiment --reason no_text --until 90d --because 'nobody will fill these in'")]
pub(crate) struct Dismiss {
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

#[derive(Debug, Clone, Args)]
pub(crate) struct Outbox {
    /// Publish them again
    #[arg(long)]
    pub(crate) again: bool,
    /// Only the event with this number in the outbox (repeat for more)
    #[arg(long, requires = "again", value_name = "SEQ", value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) seq: Vec<i64>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Failures {
    /// The agent
    pub(crate) agent: String,
    /// How many
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) at_most: u16,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Audit {
    /// How many
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) at_most: u16,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Breaker {
    /// The agent; all breakers when left out
    #[arg(requires = "set")]
    pub(crate) agent: Option<String>,
    /// What to set it to
    #[arg(value_enum)]
    pub(crate) set: Option<Set>,
}

/// What a breaker is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Set {
    /// The agent stops, until somebody says otherwise
    Open,
    /// The agent works, whatever fails
    Close,
    /// The runtime and the steward decide again
    Auto,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_redrive_is_of_everything_or_of_a_selection() {
        let Command::Redrive(all) = parse("switchyard redrive sentiment").unwrap().command else { panic!() };
        assert_eq!((all.only, all.dry_run, all.after.secs), (Only::default(), false, 900));
        let line = "switchyard redrive sentiment --reason nul --reason malformed --since 2h --first 3";
        let Command::Redrive(some) = parse(line).unwrap().command else { panic!() };
        assert_eq!(some.only.reasons, ["nul", "malformed"]);
        assert_eq!((some.only.since.is_some(), some.only.first), (true, Some(3)));
    }

    #[test]
    fn one_thing_is_done_at_a_time() {
        for wrong in [
            "switchyard redrive",
            "switchyard redrive sentiment --cancel --progress",
            "switchyard redrive sentiment --cancel --dry-run",
            "switchyard redrive sentiment --auto 3 --no-auto",
            "switchyard redrive sentiment --auto 3 --type a.b",
            "switchyard redrive sentiment --subscription --id 00000000-0000-0000-0000-000000000001",
            "switchyard redrive sentiment --after 5m",
            "switchyard redrive sentiment --rate 501",
            "switchyard redrive sentiment --id no-id",
            "switchyard breaker sentiment",
            "switchyard breaker sentiment half",
            "switchyard dlq --type a.b",
            "switchyard dismiss sentiment --reason no_text",
            "switchyard dismiss --because gone",
            "switchyard outbox --seq 7",
            "switchyard delays --cancel 00000000-0000-0000-0000-000000000001",
            "switchyard delays --because gone",
            "switchyard delays --cancel 00000000-0000-0000-0000-000000000001 --because gone --type a.b",
            "switchyard edit sentiment 00000000-0000-0000-0000-000000000001",
        ] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
        for right in [
            "switchyard redrive sentiment --auto 3 --after 5m",
            "switchyard redrive sentiment --progress --watch",
            "switchyard redrive sentiment --subscription --dry-run",
            "switchyard breaker",
            "switchyard breaker sentiment close --json",
            "switchyard dlq sentiment --type a.b --stack other",
            "switchyard dismiss sentiment --reason no_text --because gone --yes",
            "switchyard dismiss sentiment -n",
            "switchyard outbox --again --seq 7 --seq 9",
            "switchyard delays --type a.b --first 10",
            "switchyard delays --cancel 00000000-0000-0000-0000-000000000001 --because gone",
        ] {
            assert!(parse(right).is_ok(), "{right}");
        }
    }
}
