//! The command line, as data.

use std::{path::PathBuf, time::Duration};

use switchyard_store::Mode;

pub(crate) const HELP: &str = "\
Makes a database ready for Switchyard, beside a running application. Safe to repeat.

  switchyard-setup [--events FILE] [--first-mode off|shadow|full] [--from-beginning AGENT]... [--lock-timeout 2s]
  switchyard-setup --index-history | --drop-history-index
  switchyard-setup --remove [--yes] [--lock-timeout 2s]

Reads DATABASE_URL: a direct connection, not a transaction-mode pooler, with the right to create a schema.
DATABASE_CA may hold a certificate in PEM to trust as well.

Applies what is missing of the migrations and installs the triggers on the application's tables. Then registers each agent whose
declaration arrives on standard input, one JSON object a line, as `cargo run -p AGENT -- declare` prints it: from now on events of its
types are accounted for. Do this before the agent is deployed, since an event from before its registration is not the agent's.

  --events FILE
                the first time: where the application keeps its events, as JSON, such as
                {\"schema\": \"shop\", \"table\": \"domain_events\", \"columns\": {\"id\": \"event_id\", \"type\": \"name\", \"version\": null}}
                Without it, public.events with our own names for the columns, made where there is none. It is remembered.

  --first-mode  who owns events of an agent that is registered for the first time: nobody's new agent yet (off), the old system
                while decisions are stored (shadow), or the new agent (full, the default). A later registration changes nothing of it.

  --from-beginning AGENT
                this agent also gets the events of its types from before its registration, as far back as the ledger remembers (45 days
                or more; what was in the table before the first setup is history: a backfill's). Also for an agent that is
                registered already. Its declaration must be on standard input. May be given more than once.

  --lock-timeout DURATION
                the longest that one try waits for a table, and so holds up the application's statements (500ms, 2s; 2s by default).
                Between two tries it steps back for at least five times as long.

  --index-history, --drop-history-index
                makes the index on time and id that the backfill of a large table needs, or takes it away, while the application goes on.

  --remove      takes everything of Switchyard's out of the database: the triggers, the index, and the schema with the ledger. The
                application's tables stay as they are, with their events. Without --yes it only says what that would be.

For example, a new agent that is to catch up:
  cargo run -p theme -- declare | switchyard-setup --from-beginning theme
";

/// How long a try waits for a table unless it is said.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Help,
    SetUp(SetUp),
    Index,
    DropIndex,
    Remove { yes: bool, lock_timeout: Duration },
}

/// A set-up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SetUp {
    /// The file that describes the events table.
    pub(crate) events: Option<PathBuf>,
    pub(crate) first_mode: Mode,
    pub(crate) from_beginning: Vec<String>,
    pub(crate) lock_timeout: Duration,
}

impl Wanted {
    /// Reads the command line, or says in a line what is wrong with it.
    pub(crate) fn of(given: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut given = given.into_iter();
        let (mut events, mut first_mode, mut from_beginning, mut lock_timeout) = (None, None, Vec::new(), None);
        // What is done instead of a set-up, and whether it was confirmed.
        let (mut instead, mut yes) = (Vec::new(), false);
        while let Some(argument) = given.next() {
            match argument.as_str() {
                "--help" | "-h" => return Ok(Self::Help),
                "--events" => events = Some(PathBuf::from(value(&argument, "a file", given.next())?)),
                "--first-mode" => first_mode = Some(mode(given.next())?),
                "--from-beginning" => from_beginning.push(value(&argument, "the name of an agent", given.next())?),
                "--lock-timeout" => lock_timeout = Some(duration(given.next())?),
                "--index-history" | "--drop-history-index" | "--remove" => instead.push(argument),
                "--yes" => yes = true,
                other => return Err(format!("unknown argument {other:?}")),
            }
        }
        let sets_up = events.is_some() || first_mode.is_some() || !from_beginning.is_empty();
        let alone = !sets_up && lock_timeout.is_none() && !yes;
        let lock_timeout = lock_timeout.unwrap_or(LOCK_TIMEOUT);
        match instead.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] if yes => Err("--yes belongs to --remove".to_owned()),
            [] => {
                let first_mode = first_mode.unwrap_or(Mode::Full);
                Ok(Self::SetUp(SetUp { events, first_mode, from_beginning, lock_timeout }))
            }
            ["--remove"] if !sets_up => Ok(Self::Remove { yes, lock_timeout }),
            ["--remove"] => Err("--remove goes with no other argument but --yes and --lock-timeout".to_owned()),
            ["--index-history"] if alone => Ok(Self::Index),
            ["--drop-history-index"] if alone => Ok(Self::DropIndex),
            [one] => Err(format!("{one} goes with no other argument")),
            [..] => Err(format!("one thing at a time: {}", instead.join(" or "))),
        }
    }
}

fn value(name: &str, what: &str, given: Option<String>) -> Result<String, String> {
    given.filter(|given| !given.is_empty() && !given.starts_with('-')).ok_or_else(|| format!("{name} wants {what}"))
}

fn mode(given: Option<String>) -> Result<Mode, String> {
    match given.as_deref() {
        Some("off") => Ok(Mode::Off),
        Some("shadow") => Ok(Mode::Shadow),
        Some("full") => Ok(Mode::Full),
        other => Err(format!("--first-mode is off, shadow or full, not {:?}", other.unwrap_or_default())),
    }
}

/// Nought would mean no bound to Postgres, and an hour is a mistake.
fn duration(given: Option<String>) -> Result<Duration, String> {
    let text = given.unwrap_or_default();
    let number = |unit: &str| text.strip_suffix(unit).and_then(|number| number.parse::<u32>().ok()).map(u64::from);
    let duration = number("ms").map(Duration::from_millis).or_else(|| number("s").map(Duration::from_secs));
    duration
        .filter(|duration| (Duration::from_millis(1)..=Duration::from_secs(60)).contains(duration))
        .ok_or_else(|| format!("--lock-timeout is a duration such as 500ms or 2s, up to 60s, not {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Wanted, String> {
        Wanted::of(line.split_whitespace().map(str::to_owned))
    }

    fn usual() -> SetUp {
        SetUp { events: None, first_mode: Mode::Full, from_beginning: vec![], lock_timeout: Duration::from_secs(2) }
    }

    #[test]
    fn without_arguments_an_agent_is_registered_from_now_on_and_owns_its_events() {
        assert_eq!(parsed(""), Ok(Wanted::SetUp(usual())));
    }

    #[test]
    fn arguments_come_in_any_order_and_agents_more_than_once() {
        let wanted = parsed(
            "--from-beginning theme --first-mode shadow --lock-timeout 500ms --events shop.json --from-beginning sentiment",
        );
        let from_beginning = vec!["theme".to_owned(), "sentiment".to_owned()];
        let lock_timeout = Duration::from_millis(500);
        let events = Some(PathBuf::from("shop.json"));
        assert_eq!(wanted, Ok(Wanted::SetUp(SetUp { events, first_mode: Mode::Shadow, from_beginning, lock_timeout })));
        assert_eq!(parsed("--first-mode off --help"), Ok(Wanted::Help));
    }

    #[test]
    fn a_removal_is_confirmed_on_the_command_line() {
        let lock_timeout = Duration::from_secs(2);
        assert_eq!(parsed("--remove"), Ok(Wanted::Remove { yes: false, lock_timeout }));
        assert_eq!(parsed("--yes --remove"), Ok(Wanted::Remove { yes: true, lock_timeout }));
        let lock_timeout = Duration::from_secs(60);
        assert_eq!(parsed("--remove --yes --lock-timeout 60s"), Ok(Wanted::Remove { yes: true, lock_timeout }));
    }

    #[test]
    fn the_index_of_history_is_made_or_dropped() {
        assert_eq!(parsed("--index-history"), Ok(Wanted::Index));
        assert_eq!(parsed("--drop-history-index"), Ok(Wanted::DropIndex));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, named) in [
            ("--first-mode", "off, shadow or full"),
            ("--first-mode percent", "percent"),
            ("--from-beginning", "name of an agent"),
            ("--from-beginning --first-mode off", "name of an agent"),
            ("--events", "a file"),
            ("--lock-timeout", "500ms or 2s"),
            ("--lock-timeout 0s", "\"0s\""),
            ("--lock-timeout 2h", "\"2h\""),
            ("--lock-timeout 61s", "up to 60s"),
            ("--yes", "--remove"),
            ("--remove --first-mode off", "--remove goes with no other"),
            ("--remove --index-history", "--remove or --index-history"),
            ("--index-history --yes", "--index-history goes with no other"),
            ("theme", "\"theme\""),
        ] {
            assert!(parsed(line).is_err_and(|problem| problem.contains(named)), "{line}: {:?}", parsed(line));
        }
    }
}
