//! The boundaries between the crates, which `cargo metadata` knows: what may depend on what, and who alone knows which outside crate.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

/// Outside crates that only some of ours may know.
const ONLY: &[(&str, &[&str])] = &[
    ("tokio-postgres", &["switchyard-store", "switchyard-localstack"]),
    ("deadpool-postgres", &["switchyard-store"]),
    ("aws-sdk-lambda", &["switchyard-bus"]),
    ("aws-sdk-sns", &["switchyard-bus"]),
    ("aws-sdk-sqs", &["switchyard-bus"]),
    ("lambda_runtime", &["switchyard-runtime"]),
    ("aws_lambda_events", &["switchyard-runtime"]),
];

/// The tests look from the outside and may know all.
const TEST_CRATES: &[&str] = &["switchyard-tests", "faults", "differences", "flips"];

/// The crates that stay free of I/O, so that they compile for anything.
const PURE: &[&str] = &[
    "switchyard-event",
    "switchyard-agent",
    "switchyard-template",
    "switchyard-operations",
    "switchyard-feedback",
    "switchyard-compare",
    "switchyard-advice",
];

/// Crates that may never be linked together, whatever the map says.
const NEVER: &[(&str, &[&str])] = &[
    ("switchyard-console", &["redrive", "steward", "switchyard-store", "switchyard-runtime"]),
    ("switchyard-operations", &["switchyard-bus", "switchyard-store", "switchyard-runtime"]),
    ("switchyard-store", &["switchyard-bus", "switchyard-runtime"]),
    ("switchyard-bus", &["switchyard-store", "switchyard-runtime"]),
];

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

struct Package {
    name: String,
    /// From the root of the workspace.
    folder: String,
    uses: Vec<String>,
}

impl Package {
    /// How the map names it: agents all alike, shared crates without their folder.
    fn on_the_map(&self) -> &str {
        match self.folder.strip_prefix("shared/") {
            Some(shared) => shared,
            None if self.folder.starts_with("functions/agents/") => "functions/agents/*",
            None => &self.folder,
        }
    }
}

fn packages() -> Vec<Package> {
    let mut packages = workspace();
    packages.retain(|package| !TEST_CRATES.contains(&package.name.as_str()));
    packages
}

fn workspace() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    packages
        .iter()
        .map(|package| Package {
            name: text(&package["name"]),
            folder: folder(&text(&metadata["workspace_root"]), &text(&package["manifest_path"])),
            uses: package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .map(|dependency| text(&dependency["name"]))
                .collect(),
        })
        .collect()
}

fn folder(root: &str, manifest: &str) -> String {
    manifest.trim_start_matches(root).trim_start_matches('/').trim_end_matches("/Cargo.toml").to_owned()
}

fn map() -> String {
    std::fs::read_to_string(format!("{ROOT}/ARCHITECTURE.md")).unwrap()
}

/// The crates of ours that each one uses, as the map has them.
fn mapped_uses(map: &str) -> BTreeMap<String, BTreeSet<String>> {
    let block = map.split_once("Dependencies point one way.").unwrap().1.split_once("```text\n").unwrap().1;
    let block = block.split_once("```").unwrap().0;
    let mut uses = BTreeMap::new();
    for line in block.lines() {
        let (crates, used) = line.split_once("  ").unwrap();
        let used: BTreeSet<String> =
            used.split_whitespace().filter(|used| *used != "nothing").map(str::to_owned).collect();
        for name in crates.split_whitespace() {
            assert!(uses.insert(name.to_owned(), used.clone()).is_none(), "{name} is on two lines");
        }
    }
    uses
}

#[test]
fn dependencies_are_those_on_the_map() {
    let packages = packages();
    let ours: BTreeMap<&str, &Package> = packages.iter().map(|package| (package.name.as_str(), package)).collect();
    let mut real: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in &packages {
        let used = package.uses.iter().filter_map(|used| ours.get(used.as_str()));
        let used = used.map(|used| used.on_the_map().to_owned());
        real.entry(package.on_the_map().to_owned()).or_default().extend(used);
    }
    assert_eq!(mapped_uses(&map()), real);
}

#[test]
fn what_must_never_be_linked_is_not() {
    let packages = packages();
    let ours: BTreeMap<&str, &Package> = packages.iter().map(|package| (package.name.as_str(), package)).collect();
    for (name, never) in NEVER {
        let mut linked = BTreeSet::new();
        let mut open = vec![*name];
        while let Some(package) = open.pop().and_then(|name| ours.get(name)) {
            for used in &package.uses {
                if ours.contains_key(used.as_str()) && linked.insert(used.as_str()) {
                    open.push(used);
                }
            }
        }
        let forbidden: Vec<_> = never.iter().filter(|never| linked.contains(*never)).collect();
        assert!(forbidden.is_empty(), "{name} must not link {forbidden:?}");
        assert!(ours.contains_key(name) && never.iter().all(|never| ours.contains_key(never)), "{name}: {never:?}");
    }
}

/// The words in backticks of a cell.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn holds(folder: &Path, file: &str) -> bool {
    let mut folders = std::fs::read_dir(folder).unwrap().filter_map(Result::ok).map(|entry| entry.path());
    folder.join(file).exists() || folders.any(|path| path.is_dir() && !path.ends_with("target") && holds(&path, file))
}

#[test]
fn the_code_map_has_each_folder_and_names_files_that_there_are() {
    let map = map();
    let rows = map.split_once("| folder | what it is | read first |").unwrap().1.lines().skip(2);
    let rows: Vec<Vec<&str>> = rows
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let mapped: BTreeSet<&str> = rows.iter().flat_map(|row| quoted(row[0])).collect();
    let folders = workspace();
    let folders: BTreeSet<&str> = folders
        .iter()
        .map(|package| match package.folder.strip_prefix("functions/agents/") {
            Some(_) => "functions/agents/*",
            None => package.folder.as_str(),
        })
        .collect();
    let missing: Vec<_> = folders.difference(&mapped).collect();
    assert!(missing.is_empty(), "not on the code map: {missing:?}");
    for row in &rows {
        let folders: Vec<_> =
            quoted(row[0]).map(|folder| Path::new(ROOT).join(folder.trim_end_matches("/*"))).collect();
        assert!(folders.iter().all(|folder| folder.exists()), "{} is not there", row[0]);
        let read_first = row.get(2).into_iter().flat_map(|cell| quoted(cell));
        let described = quoted(row[1]).filter(|word| word.ends_with(".rs") && !word.contains('/'));
        for file in read_first.chain(described) {
            assert!(folders.iter().any(|folder| holds(folder, file)), "{} has no {file}", row[0]);
        }
    }
}

#[test]
fn each_outside_world_is_known_to_one_crate_alone() {
    for package in packages() {
        for (outside, insiders) in ONLY {
            let knows = package.uses.iter().any(|used| used == outside);
            assert!(!knows || insiders.contains(&package.name.as_str()), "{} must not know {outside}", package.name);
        }
    }
}

/// What `cargo deny` would say of `deny.toml`, without a tool to install: every crate that we build has a licence from its list.
#[test]
fn every_dependency_has_a_licence_that_we_accept() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let deny = std::fs::read_to_string(format!("{root}/deny.toml")).unwrap();
    let list = deny.split_once("allow = [").unwrap().1.split_once(']').unwrap().0;
    let accepted: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root)
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100);
    for package in packages {
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(is_accepted(licence, &accepted), "{} is under {licence:?}", package["name"]);
    }
}

/// An SPDX expression without nesting, as crates write them: all of the parts joined by AND, any of those joined by OR.
fn is_accepted(licence: &str, accepted: &[&str]) -> bool {
    let licence = licence.replace('/', " OR ");
    let any = |part: &str| part.split(" OR ").any(|name| accepted.contains(&name.trim_matches(['(', ')', ' '])));
    licence.split(" AND ").all(any) || licence.split(" OR ").any(|part| part.split(" AND ").all(any))
}

#[test]
fn the_pure_crates_do_no_io() {
    for package in packages().iter().filter(|package| PURE.contains(&package.name.as_str())) {
        for used in &package.uses {
            let pure = ["jiff", "serde", "serde_json", "thiserror", "toml", "uuid"].contains(&used.as_str());
            assert!(pure || used.starts_with("switchyard-"), "{} is pure and must not use {used}", package.name);
        }
    }
}

/// The modules of a crate by their paths, `ledger::claim`, with their text; the crate itself is `""`. Neither comments nor tests are in it.
fn modules(folder: &Path, path: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let module = if ["lib", "main"].contains(&name) { String::new() } else { joined(path, name) };
        if file.is_dir() {
            found.extend(modules(&file, &module));
        } else if name != "tests" {
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap().lines();
            let code: Vec<&str> = code.filter(|line| !line.trim_start().starts_with("//")).collect();
            found.insert(module, code.join("\n"));
        }
    }
    found
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}::{name}") }
}

/// The paths that a text starts with: several where it has braces.
fn paths(text: &str) -> Vec<String> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(text.len());
    let (head, rest) = text.split_at(end);
    let Some(list) = rest.strip_prefix('{').filter(|_| head.is_empty() || head.ends_with("::")) else {
        return vec![head.to_owned()];
    };
    let (mut depth, mut entries) = (0, vec![String::new()]);
    for c in list.chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        match c {
            _ if depth < 0 => break,
            ',' if depth == 0 => entries.push(String::new()),
            _ => entries.last_mut().unwrap().push(c),
        }
    }
    entries.iter().flat_map(|entry| paths(entry.trim())).map(|path| format!("{head}{path}")).collect()
}

/// The modules that each module of a source folder uses. What a module exports of another counts as a use of that other one.
fn uses_of_modules(folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let modules = modules(&Path::new(ROOT).join(folder), "");
    let exports = |module: &str, item: &str| {
        let list = modules[module].split(';').filter_map(|statement| Some(statement.rsplit_once("pub use ")?.1));
        let mut has =
            list.filter(|list| list.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == item));
        has.next().map(|list| joined(module, list.split("::").next().unwrap()))
    };
    let module_of = |from: &str, path: &str| {
        let mut module = from.to_owned();
        for part in path.split("::") {
            if modules.contains_key(&joined(&module, part)) {
                module = joined(&module, part);
                continue;
            }
            while let Some(inner) = exports(&module, part).filter(|inner| modules.contains_key(inner)) {
                module = inner;
            }
            break;
        }
        module
    };
    let uses = |(module, text): (&String, &String)| {
        let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
        let mut used = BTreeSet::new();
        for (word, from) in [("crate::", ""), ("super::", parent)] {
            let named = text.split(word).skip(1).flat_map(paths);
            used.extend(named.map(|path| module_of(from, &path)).filter(|used| !used.is_empty() && used != module));
        }
        (module.clone(), used)
    };
    modules.iter().map(uses).collect()
}

/// What uses nothing that is left is taken away until nothing is; what remains is a cycle.
fn assert_no_cycle(mut left: BTreeMap<String, BTreeSet<String>>) {
    while !left.is_empty() {
        let free: Vec<String> =
            left.iter().filter(|(_, uses)| uses.is_empty()).map(|(module, _)| module.clone()).collect();
        assert!(!free.is_empty(), "a cycle is among {left:?}");
        left.retain(|module, _| !free.contains(module));
        left.values_mut().for_each(|uses| uses.retain(|used| !free.contains(used)));
    }
}

#[test]
fn no_two_modules_of_the_store_use_each_other_and_no_two_of_its_folders() {
    let uses = uses_of_modules("shared/store/src");
    assert!(
        uses["tx"].contains("ledger::claim") && uses["ledger::claim"].contains("store"),
        "uses are not found: {uses:?}"
    );
    let folder = |module: &str| module.split("::").next().unwrap().to_owned();
    let mut folders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, used) in &uses {
        let of_folder = folders.entry(folder(module)).or_default();
        of_folder.extend(used.iter().map(|used| folder(used)).filter(|used| *used != folder(module)));
    }
    assert_no_cycle(uses);
    assert_no_cycle(folders);
}

#[test]
fn no_two_modules_of_the_runtime_use_each_other_and_one_knows_lambda() {
    let uses = uses_of_modules("shared/runtime/src");
    assert!(uses["worker"].contains("commit") && uses["run"].contains("lambda"), "uses are not found: {uses:?}");
    assert_no_cycle(uses);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/runtime/src");
    for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let text = std::fs::read_to_string(&file).unwrap();
        let knows = ["lambda_runtime::", "aws_lambda_events::"].iter().any(|name| text.contains(name));
        assert_eq!(knows, file.ends_with("lambda.rs"), "{}", file.display());
    }
}

#[test]
fn no_two_modules_of_the_command_line_use_each_other() {
    let uses = uses_of_modules("functions/console/src/bin/switchyard");
    assert!(
        uses["arguments"].contains("redrive") && uses["redrive"].contains("global"),
        "uses are not found: {uses:?}"
    );
    assert_no_cycle(uses);
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn the_store_names_no_table_of_the_sample_domain() {
    let sample = switchyard_feedback::TABLES;
    let creates = sample.split("create table if not exists ").skip(1);
    let tables: Vec<&str> = creates.map(|rest| rest.split_once(' ').unwrap().0).collect();
    assert!(tables.contains(&"posts") && tables.len() > 5, "{tables:?}");
    let mut files = Vec::new();
    ["sql", "src"]
        .iter()
        .for_each(|folder| files_below(&Path::new(ROOT).join("shared/store").join(folder), &mut files));
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        let named = words.find(|word| tables.contains(word));
        assert_eq!(named, None, "{}: a table of the sample belongs into shared/feedback", file.display());
    }
}
