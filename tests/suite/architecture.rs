//! The boundaries between the crates, which `cargo metadata` knows: what may depend on what, and who alone knows which outside crate.

use std::{collections::BTreeMap, process::Command};

/// Each crate of ours with the crates of ours that it may use. Dependencies point one way.
const MAY_USE: &[(&str, &[&str])] = &[
    ("switchyard-event", &[]),
    ("switchyard-insight", &[]),
    ("switchyard-advice", &[]),
    ("switchyard-agent", &["switchyard-event"]),
    ("switchyard-template", &["switchyard-agent"]),
    ("switchyard-compare", &[]),
    ("switchyard-store", &["switchyard-event", "switchyard-compare"]),
    ("switchyard-setup", &["switchyard-store"]),
    ("switchyard-bus", &["switchyard-faults"]),
    (
        "switchyard-runtime",
        &["switchyard-event", "switchyard-agent", "switchyard-store", "switchyard-bus", "switchyard-faults"],
    ),
    (
        "ingest",
        &[
            "switchyard-event",
            "switchyard-agent", // the words by which a stopped chain is found in the logs
            "switchyard-store",
            "switchyard-bus",
            "switchyard-runtime",
            "switchyard-faults",
        ],
    ),
    (
        "steward",
        &[
            "switchyard-advice",
            "switchyard-event",
            "switchyard-compare",
            "switchyard-store",
            "switchyard-bus",
            "switchyard-runtime",
            "switchyard-faults",
        ],
    ),
    ("shim", &["switchyard-event", "switchyard-store", "switchyard-bus", "switchyard-runtime", "switchyard-faults"]),
    ("switchyard-localstack", &["switchyard-store", "switchyard-template", "switchyard-terminal"]),
    ("redrive", &["switchyard-event", "switchyard-store", "switchyard-bus", "switchyard-runtime", "switchyard-faults"]),
    (
        "console",
        &[
            "redrive",
            "steward",
            "switchyard-advice",
            "switchyard-compare",
            "switchyard-store",
            "switchyard-bus",
            "switchyard-terminal",
        ],
    ),
];

/// What an agent may use: never the store or the bus themselves.
const AGENT_MAY_USE: &[&str] = &["switchyard-event", "switchyard-agent", "switchyard-insight", "switchyard-runtime"];

/// Outside crates that only some of ours may know.
const ONLY: &[(&str, &[&str])] = &[
    ("tokio-postgres", &["switchyard-store", "switchyard-localstack"]),
    ("deadpool-postgres", &["switchyard-store"]),
    ("refinery", &["switchyard-store"]),
    ("aws-sdk-lambda", &["switchyard-bus"]),
    ("aws-sdk-sns", &["switchyard-bus"]),
    ("aws-sdk-sqs", &["switchyard-bus"]),
    ("lambda_runtime", &["switchyard-runtime"]),
    ("aws_lambda_events", &["switchyard-runtime"]),
];

/// The tests look from the outside and may know all.
const FROM_OUTSIDE: &[&str] = &["switchyard-tests", "faults", "differences", "flips"];

/// The crates that stay free of I/O, so that they compile for anything.
const PURE: &[&str] = &[
    "switchyard-event",
    "switchyard-agent",
    "switchyard-template",
    "switchyard-insight",
    "switchyard-compare",
    "switchyard-advice",
];

struct Package {
    name: String,
    agent: bool,
    uses: Vec<String>,
}

fn packages() -> Vec<Package> {
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
            agent: text(&package["manifest_path"]).contains("/functions/agents/"),
            uses: package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .map(|dependency| text(&dependency["name"]))
                .collect(),
        })
        .filter(|package| !FROM_OUTSIDE.contains(&package.name.as_str()))
        .collect()
}

#[test]
fn dependencies_point_one_way() {
    let allowed: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    let packages = packages();
    let ours: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    for package in &packages {
        let may =
            if package.agent { AGENT_MAY_USE } else { allowed.get(package.name.as_str()).copied().unwrap_or_default() };
        for used in package.uses.iter().filter(|used| ours.contains(&used.as_str())) {
            assert!(may.contains(&used.as_str()), "{} must not use {used}", package.name);
        }
    }
    assert!(MAY_USE.iter().all(|(name, _)| ours.contains(name)), "a crate of the list is gone: {ours:?}");
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
