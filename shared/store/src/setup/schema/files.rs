//! The files, in the order in which they are applied.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// SQL that is part of this program.
pub(super) struct File {
    /// Its path in `sql/`, without the suffix.
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
}

macro_rules! files {
    ($($name:literal)*) => { &[$(file!($name)),*] };
}

macro_rules! file {
    ($name:literal) => {
        File { name: $name, sql: include_str!(concat!("../../../sql/", $name, ".sql")) }
    };
}

/// Each is applied once. From the first release on a file never changes; a change of a table is a new file at the end.
pub(super) const TABLES: &[File] = files! {
    "tables/events"
    "tables/event_log"
    "tables/outbox"
    "tables/agents"
    "tables/delivery"
    "tables/operating"
    "tables/moving"
};

/// All of them are replaced when one has changed. A function with the body `return ...` is parsed when it is created, so it must follow what it
/// calls; for all others the order is free.
pub(super) const FUNCTIONS: &[File] = files! {
    "functions/event_log"
    "functions/binding"
    "functions/audit"
    "functions/publishing"
    "functions/outbox"
    "functions/leases"
    "functions/delays"
    "functions/agents"
    "functions/routing"
    "functions/deliveries"
    "functions/claim"
    "functions/report"
    "functions/old_system"
    "functions/breaker"
    "functions/reconcile"
    "functions/runs"
    "functions/retention"
    "functions/redrive"
    "functions/revise"
    "functions/figures"
    "functions/backfill"
    "functions/cutover"
    "functions/compare"
    "functions/domain_events"
    "functions/rights"
};

/// The name of all functions together in `switchyard.setup`.
pub(super) const FUNCTIONS_NAME: &str = "functions";

/// Starts the event log. Applied once, after the functions that the trigger calls.
pub(super) const LOG_TRIGGER: File = file!("log_trigger");

/// SHA-256 of these files, in hexadecimal.
pub(super) fn digest(files: &[File]) -> String {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(file.sql);
        // Text has no NUL: what moves from the end of one file to the beginning of the next is a change.
        hash.update([0]);
    }
    hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_is_in_the_list() {
        let listed: BTreeSet<String> =
            TABLES.iter().chain(FUNCTIONS).map(|file| format!("{}.sql", file.name)).collect();
        let sql = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
        let found: BTreeSet<String> = ["tables", "functions"]
            .into_iter()
            .flat_map(|folder| {
                std::fs::read_dir(sql.join(folder))
                    .unwrap()
                    .map(move |entry| format!("{folder}/{}", entry.unwrap().file_name().into_string().unwrap()))
            })
            .collect();
        assert_eq!(found, listed);
    }

    /// The rules of a transition are in one place: one statement creates deliveries and decides their owner and when they are due.
    #[test]
    fn one_statement_creates_a_delivery_and_one_hash_places_an_aggregate() {
        let all: String = FUNCTIONS.iter().map(|file| file.sql).collect();
        assert_eq!(all.matches("insert into switchyard.delivery ").count(), 1);
        assert_eq!(all.matches("md5(").count(), 0, "a policy on cryptography may forbid it");
    }

    /// A second `create function` would fail at the second setup. Files that are replaced may not drop or change tables.
    #[test]
    fn functions_are_replaced_and_defined_once() {
        let mut names = BTreeSet::new();
        for file in FUNCTIONS {
            for line in file.sql.lines() {
                let statement = ["create function", "create table", "create type", "create view", "alter ", "drop "]
                    .into_iter()
                    .find(|start| line.starts_with(start));
                assert_eq!(statement, None, "{}: {line}", file.name);
                if let Some(rest) = line.strip_prefix("create or replace function switchyard.") {
                    assert!(names.insert(rest), "{}: a second {rest}", file.name);
                }
            }
        }
        assert!(names.len() > 150, "{}", names.len());
    }
}
