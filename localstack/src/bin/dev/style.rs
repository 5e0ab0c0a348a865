//! Colours and marks. `anstream` drops the colours where the output is no terminal or `NO_COLOR` is set.

use std::fmt::Display;
use std::io::Write;

use anstyle::{AnsiColor, Style};
use switchyard_localstack::Error;

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const GREEN: Style = AnsiColor::Green.on_default();
pub(crate) const RED: Style = AnsiColor::Red.on_default();
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(crate) const CYAN: Style = AnsiColor::Cyan.on_default();

/// Says a line on standard output. Whoever reads it may stop reading (`cargo dev status | head`): that is no failure, only the end.
pub(crate) fn say(line: impl Display) {
    if writeln!(anstream::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}

/// Says a line on standard error: how far something is, or why it failed. Nobody may be there to hear it.
pub(crate) fn tell(line: impl Display) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// Text in a style.
pub(crate) fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// The one line of a command that failed.
pub(crate) fn error(error: &Error) {
    tell(format!("{} {error}", paint(RED.bold(), "error:")));
}

/// `1 event`, `2 events`.
pub(crate) fn count(n: impl Into<u64>, word: &str) -> String {
    let n = n.into();
    match word.strip_suffix('y') {
        _ if n == 1 => format!("{n} {word}"),
        Some(stem) => format!("{n} {stem}ies"),
        None => format!("{n} {word}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_everything_else_is_not() {
        assert_eq!(count(1_u64, "event"), "1 event");
        assert_eq!(count(0_u64, "row"), "0 rows");
        assert_eq!(count(2_u64, "delivery"), "2 deliveries");
    }
}
