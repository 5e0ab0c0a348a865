//! The command line, as data. The help texts are the manual.

use crate::{
    advise::Advise, audit, backfill::Backfill, breaker, compare::Compare, cutover::CutoverOptions,
    delays::DelaysOptions, dismiss, dlq, edit, failures, global::Global, outbox, redrive, route::Route,
};
use clap::{Parser, Subcommand};

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

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show every dead-letter queue, or what is parked for one agent and why
    ///
    /// Looking removes nothing. Groups come from the ledger, which remembers what the queue has forgotten; dead letters that only the queue
    /// knows are listed below them.
    Dlq(dlq::Options),
    /// Send back to an agent what is parked for it
    ///
    /// Everything goes by a move task of SQS, at a speed that you may set. A selection goes from the table, to this one agent only. Doing
    /// it twice, or both at once, does nothing twice: an effect happens once for each event.
    Redrive(Box<redrive::Options>),
    /// Send one parked event back with another payload
    ///
    /// The new payload is a new version beside the original, which stays as it is. Both are kept, with your name.
    Edit(edit::Options),
    /// Give up for good what is parked for an agent and will not go back
    ///
    /// Final: a dismissed delivery is settled, and nothing brings it back. The event itself stays in its table. A delivery that stays parked
    /// is kept for ever, and with it the ledger of its time.
    Dismiss(dismiss::Options),
    /// Show the latest failed and parked attempts of an agent
    Failures(failures::Options),
    /// Show who did what: redrives, edits, breakers, reconciliation
    Audit(audit::Options),
    /// Show the breakers, or force one open or closed
    ///
    /// An open breaker stops its agent: records wait in the queue and no attempt is spent. `auto` hands it back to the steward.
    Breaker(breaker::Options),
    /// Show the events that could not be published, or publish them again
    Outbox(outbox::Options),
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
    /// Acts on the next ask: an event that was asked for keeps its owner, unless what is unfinished follows (--drain). Pinned
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selection::Only;
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
