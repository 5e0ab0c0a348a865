//! The programs that people run, as the tests run them.

use std::{collections::BTreeMap, path::PathBuf, sync::OnceLock};
use switchyard_localstack::{Places, cargo::Build, progress::quiet};

const PROGRAMS: [&str; 3] = ["switchyard", "switchyard-setup", "dev"];

/// Where a program is (`switchyard`, `switchyard-setup`, `dev`); all of them are built by the first who asks.
///
/// # Panics
/// Where they do not build, and for a name that is none of them.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    BUILT.get_or_init(build).get(name).expect("cargo names the program").clone()
}

fn build() -> BTreeMap<String, PathBuf> {
    let build = Build { programs: &PROGRAMS, features: &[], log: "programs.log", targets: 0 };
    build.run(&Places::of_this_checkout(), &mut quiet).unwrap_or_else(|error| panic!("{error}"))
}
