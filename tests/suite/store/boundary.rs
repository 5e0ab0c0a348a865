//! Rust calls functions of the schema and reads none of its tables: a table may change with its functions, in one commit and without a program.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What Rust names of the schema without a call: file, name, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "shared/store/src/moving_over/compare/statement.rs",
        "event",
        "a comparison joins the team's tables with the events",
    ),
    (
        "shared/store/src/setup/schema/once.rs",
        "setup",
        "the setup remembers what it has applied before there is a function",
    ),
    ("shared/store/src/setup/schema/functions.rs", "setup", "the same, in the transaction that replaces the functions"),
    ("shared/store/src/setup/catalogue.rs", "mapping", "a setup that ended early has left the table and no function"),
    ("shared/store/src/setup/remove.rs", "mapping", "what ended early can be removed, too"),
    ("shared/store/src/setup/remove.rs", "agent", "likewise"),
    ("shared/store/src/setup/remove.rs", "event_log", "likewise"),
    ("shared/store/src/setup/remove.rs", "outbox", "likewise"),
    ("shared/store/src/setup/remove.rs", "delivery", "likewise"),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The names after `switchyard.` in a line of code that are not called. Between single quotes stands a setting.
fn not_called(line: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for (at, _) in line.match_indices("switchyard.") {
        let rest = &line[at + "switchyard.".len()..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if !name.is_empty() && !after.starts_with('(') && !line[..at].ends_with('\'') {
            names.push(name);
        }
    }
    names
}

#[test]
fn rust_names_a_table_of_the_schema_only_where_there_is_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for folder in ["shared", "functions", "localstack"] {
        sources(&root.join(folder), &mut files);
    }
    let mut used = BTreeSet::new();
    let mut offences = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let path = file.strip_prefix(root).unwrap().to_str().unwrap();
        let code = text.lines().enumerate().take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
        for (number, line) in code.filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for name in not_called(line) {
                match EXCEPTIONS.iter().find(|(file, allowed, _)| *file == path && *allowed == name) {
                    Some(exception) => _ = used.insert(exception),
                    None => offences.push(format!("{path}:{}: switchyard.{name}", number + 1)),
                }
            }
        }
    }
    assert!(offences.is_empty(), "call a function of shared/store/sql/functions instead:\n{}", offences.join("\n"));
    assert_eq!(used, EXCEPTIONS.iter().collect(), "an exception that nothing needs");
}
