//! The command line, as data. The help text is the manual.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum, builder::NonEmptyStringValueParser};
use switchyard_store::Mode;

/// Make a database ready for Switchyard while the application goes on. Safe to repeat.
///
/// Applies the tables that are missing, replaces the functions that have changed, and creates the triggers on the application's tables. Then it registers each agent whose
/// declaration arrives on standard input, one JSON object a line, as `cargo run -qp AGENT -- declare` prints it. Register an agent before
/// you deploy it: an event from before the registration is not the agent's.
///
/// Reads DATABASE_URL: a direct connection, not a transaction-mode pooler, with the right to create a schema. DATABASE_CA may hold a
/// certificate in PEM to trust as well.
#[derive(Debug, Parser)]
#[command(name = "switchyard-setup", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Read from FILE, as JSON, where the application keeps its events
    ///
    /// Needed once: the database remembers it. A column that the file does not name is looked for under our own name; `null` says that
    /// there is none. Without a file, events are in public.events, which is created where it does not exist.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,

    /// Read from FILE, as JSON, which changes of the application's tables are events
    ///
    /// Needed once, and again to change it: the database remembers it. Each such change gets a trigger, which appends the event. Without a
    /// file the domain is the sample, product feedback (shared/feedback/domain.json), or none if --events is given: the application then
    /// appends its events itself. A domain that was given stays.
    #[arg(long, value_name = "FILE")]
    domain: Option<PathBuf>,

    /// Who owns the events of an agent that is registered for the first time; later registrations change nothing
    #[arg(long, value_enum, value_name = "MODE", default_value_t = FirstMode::Full)]
    first_mode: FirstMode,

    /// Give this agent the events from before its registration, too; may be repeated
    ///
    /// As far back as the ledger remembers: 45 days or more. What was in the table before the first setup is history, and a backfill
    /// delivers it. It works for an agent that is registered already. The agent's declaration must be on standard input.
    #[arg(long, value_name = "AGENT", value_parser = NonEmptyStringValueParser::new())]
    from_beginning: Vec<String>,

    /// The longest wait for a table's lock, such as 500ms or 2s, at most 60s
    ///
    /// No statement of the application waits longer than this at a time. Between two tries the setup pauses for at least five times as
    /// long.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "2s")]
    lock_timeout: Duration,

    /// Create the index on time and id that the backfill of a large table needs; the application goes on
    #[arg(long, conflicts_with_all = ["events", "domain", "first_mode", "from_beginning", "lock_timeout", "drop_history_index", "remove", "yes"])]
    index_history: bool,

    /// Drop that index
    #[arg(long, conflicts_with_all = ["events", "domain", "first_mode", "from_beginning", "lock_timeout", "remove", "yes"])]
    drop_history_index: bool,

    /// List what a removal deletes; with --yes, delete it
    ///
    /// A removal deletes the triggers, the index, and the schema switchyard with the ledger. The application's tables and their events
    /// stay.
    #[arg(long, conflicts_with_all = ["events", "domain", "first_mode", "from_beginning"])]
    remove: bool,

    /// Confirm --remove
    #[arg(long, requires = "remove")]
    yes: bool,
}

const EXAMPLES: &str = "\
Examples:
  switchyard-setup                            make the schema
  cargo run -qp theme -- declare | switchyard-setup
                                              register the agent `theme`, or bring it up to date
  cargo run -qp theme -- declare | switchyard-setup --first-mode shadow
                                              let it decide without effect at first
  cargo run -qp theme -- declare | switchyard-setup --from-beginning theme
                                              let it catch up with earlier events
  switchyard-setup --events events.json       events in a table of another name; in events.json:
    {\"schema\": \"shop\", \"table\": \"order_events\", \"columns\": {\"id\": \"event_id\", \"version\": null}}
  switchyard-setup --domain domain.json       events from the application's tables; in domain.json:
    {\"name\": \"shop\", \"tables\": [{\"table\": \"orders\", \"aggregate_type\": \"order\", \"insert\": \"order.placed\"}]}
  switchyard-setup --index-history            before the backfill of a large table
  switchyard-setup --remove                   what a removal would delete

Exit codes: 0 done, 1 it could not be done (one line says why), 2 the command line is wrong";

/// The mode of an agent at its first registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FirstMode {
    /// Nothing changes: the old system, where there is one, does everything
    Off,
    /// The old system works; the agent decides, and its decisions are stored and not applied
    Shadow,
    /// The agent does the work
    Full,
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    SetUp(SetUp),
    IndexHistory,
    DropHistoryIndex,
    Remove { yes: bool, lock_timeout: Duration },
}

/// A setup.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SetUp {
    /// The file that describes the events table.
    pub(crate) events: Option<PathBuf>,
    /// The file that describes the domain.
    pub(crate) domain: Option<PathBuf>,
    /// Applies to agents that are registered for the first time.
    pub(crate) first_mode: Mode,
    /// The agents that get earlier events, too.
    pub(crate) from_beginning: Vec<String>,
    /// The longest wait for a lock.
    pub(crate) lock_timeout: Duration,
}

impl Arguments {
    pub(crate) fn task(self) -> Task {
        let Self { events, domain, from_beginning, lock_timeout, yes, .. } = self;
        if self.remove {
            return Task::Remove { yes, lock_timeout };
        }
        if self.index_history {
            return Task::IndexHistory;
        }
        if self.drop_history_index {
            return Task::DropHistoryIndex;
        }
        let first_mode = match self.first_mode {
            FirstMode::Off => Mode::Off,
            FirstMode::Shadow => Mode::Shadow,
            FirstMode::Full => Mode::Full,
        };
        Task::SetUp(SetUp { events, domain, first_mode, from_beginning, lock_timeout })
    }
}

/// Postgres takes zero for "no limit", and an hour is a mistake: neither is accepted.
fn duration(text: &str) -> Result<Duration, String> {
    let number = |unit: &str| text.strip_suffix(unit).and_then(|number| number.parse::<u32>().ok()).map(u64::from);
    let duration = number("ms").map(Duration::from_millis).or_else(|| number("s").map(Duration::from_secs));
    duration
        .filter(|duration| (Duration::from_millis(1)..=Duration::from_secs(60)).contains(duration))
        .ok_or_else(|| "expected a duration such as 500ms or 2s, at most 60s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, error::ErrorKind};

    fn parsed(line: &str) -> Result<Task, clap::Error> {
        let words = ["switchyard-setup"].into_iter().chain(line.split_whitespace());
        Arguments::try_parse_from(words).map(Arguments::task)
    }

    fn usual() -> SetUp {
        SetUp {
            events: None,
            domain: None,
            first_mode: Mode::Full,
            from_beginning: vec![],
            lock_timeout: Duration::from_secs(2),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn without_arguments_an_agent_is_registered_from_now_on_and_owns_its_events() {
        assert_eq!(parsed("").unwrap(), Task::SetUp(usual()));
    }

    #[test]
    fn arguments_come_in_any_order_and_agents_more_than_once() {
        let task = parsed(
            "--from-beginning theme --first-mode shadow --lock-timeout 500ms --events shop.json --domain trade.json --from-beginning sentiment",
        );
        let from_beginning = vec!["theme".to_owned(), "sentiment".to_owned()];
        let lock_timeout = Duration::from_millis(500);
        let [events, domain] = ["shop.json", "trade.json"].map(|file| Some(PathBuf::from(file)));
        let expected = SetUp { events, domain, first_mode: Mode::Shadow, from_beginning, lock_timeout };
        assert_eq!(task.unwrap(), Task::SetUp(expected));
    }

    #[test]
    fn help_is_shown_beside_other_arguments_and_exits_with_0() {
        let help = parsed("--first-mode off --help").unwrap_err();
        assert_eq!((help.kind(), help.exit_code()), (ErrorKind::DisplayHelp, 0));
        let text = help.to_string();
        for words in ["DATABASE_URL", "Examples:", "Exit codes:", "events.json", "domain.json"] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn a_removal_is_confirmed_on_the_command_line() {
        let lock_timeout = Duration::from_secs(2);
        assert_eq!(parsed("--remove").unwrap(), Task::Remove { yes: false, lock_timeout });
        assert_eq!(parsed("--yes --remove").unwrap(), Task::Remove { yes: true, lock_timeout });
        let lock_timeout = Duration::from_secs(60);
        assert_eq!(parsed("--remove --yes --lock-timeout 60s").unwrap(), Task::Remove { yes: true, lock_timeout });
    }

    #[test]
    fn the_index_of_history_is_created_or_dropped() {
        assert_eq!(parsed("--index-history").unwrap(), Task::IndexHistory);
        assert_eq!(parsed("--drop-history-index").unwrap(), Task::DropHistoryIndex);
    }

    #[test]
    fn an_error_names_what_is_wrong_and_exits_with_2() {
        for (line, named) in [
            ("--first-mode", "off, shadow, full"),
            ("--first-mode percent", "percent"),
            ("--from-beginning", "<AGENT>"),
            ("--from-beginning --first-mode off", "<AGENT>"),
            ("--events", "<FILE>"),
            ("--domain", "<FILE>"),
            ("--lock-timeout", "<DURATION>"),
            ("--lock-timeout 0s", "500ms or 2s"),
            ("--lock-timeout 2h", "'2h'"),
            ("--lock-timeout 61s", "at most 60s"),
            ("--yes", "--remove"),
            ("--remove --first-mode off", "--remove"),
            ("--remove --events shop.json", "--remove"),
            ("--index-history --domain trade.json", "--domain"),
            ("--remove --from-beginning theme", "--remove"),
            ("--remove --index-history", "--index-history"),
            ("--remove --drop-history-index", "--drop-history-index"),
            ("--index-history --drop-history-index", "--index-history"),
            ("--index-history --yes", "--yes"),
            ("--index-history --lock-timeout 1s", "--lock-timeout"),
            ("--drop-history-index --first-mode full", "--first-mode"),
            ("theme", "'theme'"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(named), "{line}: {error}");
        }
    }
}
