//! Colours and marks. `anstream` drops the colours where the output is no terminal or `NO_COLOR` is set.

use anstyle::{AnsiColor, Style};
use switchyard_localstack::Error;

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const GREEN: Style = AnsiColor::Green.on_default();
pub(crate) const RED: Style = AnsiColor::Red.on_default();
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(crate) const CYAN: Style = AnsiColor::Cyan.on_default();

/// Text in a style, for `println!`.
pub(crate) fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// The one line of a command that failed.
pub(crate) fn error(error: &Error) {
    anstream::eprintln!("{} {error}", paint(RED.bold(), "error:"));
}

/// `1 event`, `2 events`.
pub(crate) fn count(n: impl Into<u64>, word: &str) -> String {
    let n = n.into();
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_everything_else_is_not() {
        assert_eq!(count(1_u64, "event"), "1 event");
        assert_eq!(count(0_u64, "row"), "0 rows");
    }
}
