//! The functions, built so that they can break. Each has a name of its own, `fault-shim` and so on: no other build ever makes such a program.

use crate::Error;
use std::{collections::BTreeMap, path::PathBuf};
use switchyard_localstack::{Places, cargo::Build};

/// The programs that take part, see the package's manifest.
const PROGRAMS: [&str; 5] = ["fault-shim", "fault-steward", "fault-ingest", "fault-redrive", "fault-agents"];

/// Programs that are built with their faults.
#[derive(Debug, Clone)]
pub struct Programs {
    paths: BTreeMap<String, PathBuf>,
}

impl Programs {
    /// Builds them. `tell` is called with each crate that was compiled or found fresh.
    ///
    /// # Errors
    /// [`Error::Local`], with where the compiler's words are.
    pub fn build(tell: &mut dyn FnMut(&str)) -> Result<Self, Error> {
        let build = Build { programs: &PROGRAMS, features: &["faults/faults"], log: "faults-build.log", targets: 0 };
        let paths = build.run(&Places::of_this_checkout(), &mut |tick| tell(tick.what))?;
        Ok(Self { paths })
    }

    /// The path of a function's program: `shim`, `agents`.
    ///
    /// # Errors
    /// [`Error::Other`] where there is none of that name.
    pub fn path(&self, function: &str) -> Result<PathBuf, Error> {
        let program = format!("fault-{function}");
        self.paths.get(&program).cloned().ok_or_else(|| Error::Other(format!("cargo built no program {program}")))
    }

    /// Every program by name.
    #[must_use]
    pub const fn all(&self) -> &BTreeMap<String, PathBuf> {
        &self.paths
    }
}
