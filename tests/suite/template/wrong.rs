//! Templates that are wrong, each by one change to the real one. A check rejects each of them for its own fault.

use super::{judge, root, template, yaml};
use serde_json::Value;
use std::{collections::BTreeSet, fs};

/// One file of `tests/bad_templates`.
struct Wrong {
    name: String,
    template: Value,
    /// The check that must find it, and at which resource.
    finds: (String, String),
}

fn all() -> Vec<Wrong> {
    let real = yaml::parse(&template()).unwrap();
    let mut files: Vec<_> =
        fs::read_dir(root().join("tests/bad_templates")).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "yaml"));
    files.sort();
    let read = |file: &std::path::PathBuf| {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let page = yaml::parse(&fs::read_to_string(file).unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut template = real.clone();
        for (path, value) in page["change"].as_object().into_iter().flatten() {
            let place = place(&mut template, path).unwrap_or_else(|| panic!("{name}: nothing is at {path}"));
            assert_ne!(place, value, "{name}: {path} is so already");
            *place = value.clone();
        }
        for path in page["remove"].as_array().into_iter().flatten() {
            let path = path.as_str().unwrap();
            let (above, last) = path.rsplit_once('.').unwrap();
            let removed = match place(&mut template, above) {
                Some(Value::Object(all)) => all.remove(last).is_some(),
                Some(Value::Array(all)) => {
                    last.parse().is_ok_and(|at: usize| at < all.len() && !all.remove(at).is_null())
                }
                _ => false,
            };
            assert!(removed, "{name}: nothing is at {path}");
        }
        let (check, resource) = page["finds"].as_object().unwrap().iter().next().unwrap();
        assert!(page["because"].is_string(), "{name} does not say what goes wrong");
        Wrong { name, template, finds: (check.clone(), resource.as_str().unwrap().to_owned()) }
    };
    files.iter().map(read).collect()
}

/// The place at a path. The last part may be new: a key of a mapping, or the next item of a list.
fn place<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    let mut place = value;
    let mut parts = path.split('.').peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        place = match place {
            Value::Object(all) => {
                if is_last && !all.contains_key(part) {
                    let _ = all.insert(part.to_owned(), Value::Null);
                }
                all.get_mut(part)?
            }
            Value::Array(all) => {
                let at: usize = part.parse().ok()?;
                if is_last && at == all.len() {
                    all.push(Value::Null);
                }
                all.get_mut(at)?
            }
            _ => return None,
        };
    }
    Some(place)
}

#[test]
fn every_wrong_template_is_rejected_for_its_own_fault() {
    let wrong = all();
    assert!(wrong.len() >= 25, "{} files in tests/bad_templates", wrong.len());
    let mut missed = Vec::new();
    for Wrong { name, template, finds: (check, resource) } in &wrong {
        let found = judge::findings(template);
        if !found.iter().any(|finding| finding.check == check && finding.resource == *resource) {
            let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
            missed.push(format!("{name}: {check} finds nothing wrong with {resource}; what is found: {lines:?}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn every_check_rejects_a_template() {
    let source = ["alarms", "functions", "judge", "policies", "queues", "roles", "stack", "subscriptions"]
        .map(|name| fs::read_to_string(root().join(format!("tests/suite/template/{name}.rs"))).unwrap())
        .concat();
    let after = |words: &'static str| source.split(words).skip(1).filter_map(|rest| rest.split('"').next());
    let checks: BTreeSet<&str> =
        after("Finding::new(\"").chain(after("say(\"")).filter(|name| !name.contains(' ')).collect();
    let wrong = all();
    let proven: BTreeSet<&str> = wrong.iter().map(|one| one.finds.0.as_str()).collect();
    let unproven: Vec<_> = checks.difference(&proven).collect();
    assert!(unproven.is_empty(), "no wrong template shows that these checks find anything: {unproven:?}");
}
