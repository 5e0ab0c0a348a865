//! The programs that people run, as the tests run them.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Command, Stdio},
    sync::OnceLock,
};

const PROGRAMS: [&str; 2] = ["switchyard", "switchyard-setup"];

/// Where a program is (`switchyard`, `switchyard-setup`); all of them are built by the first who asks.
///
/// # Panics
/// Where they do not build, and for a name that is none of them.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    BUILT.get_or_init(build).get(name).expect("cargo names the program").clone()
}

fn build() -> BTreeMap<String, PathBuf> {
    // The whole workspace's features, so that what the tests were built with is built already.
    let output = Command::new(env!("CARGO"))
        .args(["build", "--workspace", "--message-format", "json-render-diagnostics"])
        .args(PROGRAMS.iter().flat_map(|name| ["--bin", name]))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "the programs do not build");
    let lines = String::from_utf8(output.stdout).unwrap();
    let messages = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let executables = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    executables.filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), path.clone()))).collect()
}
