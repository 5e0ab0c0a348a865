//! Colours, lines and tables: boxes in a terminal, plain columns in a pipe. `anstream` drops the colours outside a terminal and where `NO_COLOR` is set.

use anstyle::{AnsiColor, Style};
use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use std::{
    fmt::Display,
    io::{IsTerminal, Write},
};

/// A heading, or what counts.
pub const BOLD: Style = Style::new().bold();
/// What matters less.
pub const DIM: Style = Style::new().dimmed();
/// Well.
pub const GREEN: Style = AnsiColor::Green.on_default();
/// Failed.
pub const RED: Style = AnsiColor::Red.on_default();
/// Needs attention.
pub const YELLOW: Style = AnsiColor::Yellow.on_default();
/// A name among other text.
pub const CYAN: Style = AnsiColor::Cyan.on_default();

/// Prints a line on standard output. Ends the process with success if the reader has closed the pipe (`switchyard dlq | head`).
pub fn print_line(line: impl Display) {
    if writeln!(anstream::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}

/// Prints a line on standard error: progress, or why something failed. Does nothing where standard error is closed.
pub fn eprint_line(line: impl Display) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// Prints the one line of a command that failed, on standard error.
pub fn error(error: impl Display) {
    eprint_line(format!("{} {error}", paint(RED.bold(), "error:")));
}

/// Text in a style.
pub fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// A cell of a table.
pub fn cell(text: impl ToString) -> Cell {
    Cell::new(text)
}

/// A cell in a colour: the table measures its text without the colour.
pub fn alarming(text: impl ToString, color: Color) -> Cell {
    Cell::new(text).fg(color)
}

/// A table for standard output. A column whose title starts with `#` holds numbers and is aligned to the right; the mark itself is not printed.
pub fn table(titles: &[&str], rows: Vec<Vec<Cell>>) -> String {
    draw(titles, rows, std::io::stdout().is_terminal())
}

fn draw(titles: &[&str], rows: Vec<Vec<Cell>>, terminal: bool) -> String {
    let mut table = Table::new();
    if terminal {
        table.load_style(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.load_style(presets::NOTHING);
    }
    table.set_header(titles.iter().map(|title| title.trim_start_matches('#')));
    table.add_rows(rows);
    for (at, title) in titles.iter().enumerate() {
        if let (true, Some(column)) = (title.starts_with('#'), table.column_mut(at)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// `1 event`, `2 events`, `2 deliveries`; a number below 0 prints as 0.
pub fn count(n: impl TryInto<u64>, word: &str) -> String {
    let n = n.try_into().unwrap_or(0);
    match word.strip_suffix('y') {
        _ if n == 1 => format!("{n} {word}"),
        Some(stem) => format!("{n} {stem}ies"),
        None => format!("{n} {word}s"),
    }
}

/// A text on one line, of at most `longest` characters.
pub fn short(text: &str, longest: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= longest { line } else { line.chars().take(longest - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_everything_else_is_not() {
        assert_eq!(count(1_i64, "event"), "1 event");
        assert_eq!(count(0_u64, "row"), "0 rows");
        assert_eq!(count(2_i64, "delivery"), "2 deliveries");
        assert_eq!(count(-1_i64, "event"), "0 events");
    }

    #[test]
    fn a_table_in_a_pipe_is_plain_columns() {
        let table = draw(&["AGENT", "#WAITING"], vec![vec![cell("sentiment"), cell(3)]], false);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines, [["AGENT", "WAITING"], ["sentiment", "3"]]);
        assert!(!table.contains(['│', '┌']));
    }

    #[test]
    fn a_long_error_is_shortened_to_its_column() {
        assert_eq!(short("one\n  two", 20), "one two");
        assert_eq!(short("abcdef", 4), "abc…");
    }
}
