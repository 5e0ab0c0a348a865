//! Tests wait for conditions: none sleeps, and none is ignored.

use std::{fs, path::Path};

/// Where a sleep is not a wait: what it simulates.
const SIMULATED: &[(&str, &str)] = &[("tests/suite/shim/stress.rs", "a process that is suspended")];

/// The text of each test by its file: whole files below a folder `tests` or `suite`, and the tests at the end of any other.
fn tests(folder: &Path, root: &Path, found: &mut Vec<(String, String)>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            tests(&path, root, found);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).unwrap();
            let is_test = ["suite", "tests"].iter().any(|folder| name.contains(&format!("/{folder}/")));
            let test =
                if is_test { Some(text.as_str()) } else { text.split_once("#[cfg(test)]").map(|(_, test)| test) };
            found.extend(test.map(|test| (name, test.to_owned())));
        }
    }
}

#[test]
fn no_test_sleeps_and_none_is_ignored() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut found = Vec::new();
    for folder in ["functions", "localstack/src", "localstack/tests", "shared", "tests"] {
        tests(&root.join(folder), root, &mut found);
    }
    assert!(found.len() > 100, "the tests are not found");
    let (thread, tokio) = (concat!("thread::", "sleep"), concat!("time::", "sleep"));
    for (name, text) in &found {
        let sleeps = text.contains(thread) || text.contains(tokio);
        assert!(!sleeps || SIMULATED.iter().any(|(file, _)| file == name), "{name} sleeps: wait for a condition");
        assert!(!text.contains(concat!("#[", "ignore")), "{name} ignores a test");
    }
}
