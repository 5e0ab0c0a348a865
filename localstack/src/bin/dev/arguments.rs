//! The command line, as data. The help texts are the manual.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Run Switchyard on this machine: a real Postgres, LocalStack, the real template and the real functions.
///
/// Without a command it does `up`. Nothing needs Docker, an AWS account or root. Everything listens on 127.0.0.1 only, each checkout
/// has its own database and ports, and two of them can run side by side.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo dev", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  cargo dev                                start everything and watch; Ctrl-C stops it all
  cargo dev up --detach                    start everything in the background
  cargo dev send \"Export to CSV fails\"     one piece of feedback, and what became of it
  cargo dev send --file feedback.csv       many (columns: title, description)
  cargo dev logs sentiment -f              what one agent says
  cargo dev down                           stop what runs in the background

Something wrong?  cargo dev doctor";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start everything, deploy the template, send sample feedback, and follow what happens
    ///
    /// The first time it installs LocalStack and Postgres (600 MB, into a cache that all checkouts share) and compiles the functions:
    /// some minutes. After that it takes seconds. The database is kept between runs. What runs already is used: then only the
    /// functions are built and deployed anew, and Ctrl-C ends the watching, not what runs.
    Up(Up),
    /// Stop what `up --detach` started in this checkout
    Down,
    /// Show what runs, where, and how each agent stands
    Status(Status),
    /// Send feedback and say what became of each row
    ///
    /// Rows are inserted into the table `posts`, as the application would. A row that cannot be sent is named with its line, and the
    /// others go on; the exit code then is 1.
    Send(Send),
    /// Show the logs of an agent or function, or of all
    Logs(Logs),
    /// Print an agent's block of template.yaml, from what the agent declares
    ///
    /// It compiles the functions and asks the agent's program. Paste the block under Resources, or replace the one that is there: a test
    /// fails when the two differ.
    Template(Template),
    /// Check this machine, one line for each thing, with the way out where something is missing
    Doctor,
    /// Stop everything and delete this checkout's database and state
    ///
    /// The installed packages stay: other checkouts share them.
    Reset(Reset),
}

impl Default for Command {
    fn default() -> Command {
        Command::Up(Up::default())
    }
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Up {
    /// Return when everything is ready and keep it running in the background
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// Port of LocalStack [default: 4566, or the next free one]
    #[arg(long, env = "SWITCHYARD_PORT", value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Port of Postgres [default: 5544, or the next free one]
    #[arg(long, env = "SWITCHYARD_POSTGRES_PORT", value_name = "PORT")]
    pub(crate) postgres_port: Option<u16>,
    /// Send the sample feedback again; otherwise it is sent into a database without feedback only
    #[arg(long, conflicts_with = "no_samples")]
    pub(crate) samples: bool,
    /// Send no sample feedback
    #[arg(long)]
    pub(crate) no_samples: bool,
    /// Be the process in the background: what --detach starts
    #[arg(long, hide = true)]
    pub(crate) background: bool,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Status {
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Send {
    /// The feedback itself, one piece for each argument; `-` reads standard input
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    pub(crate) text: Vec<String>,
    /// A file of feedback: .csv with a header, .jsonl with one object a line, anything else with one text a line.
    /// Known names are title, description, project_id and user_id; `-` reads standard input
    #[arg(long, short, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The project for rows that name none [default: the sample project]
    #[arg(long, value_name = "UUID")]
    pub(crate) project: Option<String>,
    /// How long to wait for the agents, in seconds
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub(crate) wait: u64,
    /// One JSON object for each row
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Logs {
    /// The agent or function; all of them when left out
    pub(crate) agent: Option<String>,
    /// Go on as new lines come, until Ctrl-C
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// How far back to begin, in minutes
    #[arg(long, default_value_t = 60, value_name = "MINUTES")]
    pub(crate) since: u64,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Template {
    /// The agent: a folder of functions/agents
    pub(crate) agent: String,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Reset {
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn up_is_the_default() {
        let arguments = Arguments::try_parse_from(["dev"]).unwrap();
        assert!(matches!(arguments.command.unwrap_or_default(), Command::Up(up) if !up.detach));
    }

    #[test]
    fn send_wants_text_or_a_file_and_not_both() {
        assert!(Arguments::try_parse_from(["dev", "send"]).is_err());
        assert!(Arguments::try_parse_from(["dev", "send", "a", "--file", "b"]).is_err());
        assert!(Arguments::try_parse_from(["dev", "send", "-"]).is_ok());
    }
}
