//! The functions, built so that they can break, into a directory of their own: no other build ever sees these programs.

use crate::Error;
use nix::sys::signal::Signal;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
};
use switchyard_localstack::{
    Places,
    guard::{Guarded, Whom, watched},
};

/// The packages whose programs take part; each has a feature `faults`.
const PACKAGES: [&str; 5] = ["shim", "steward", "ingest", "redrive", "faults"];

/// Programs that are built with their faults.
#[derive(Debug, Clone)]
pub struct Programs {
    paths: BTreeMap<String, PathBuf>,
}

impl Programs {
    /// Builds them. `tell` is called with each crate that was compiled or found fresh.
    ///
    /// # Errors
    /// [`Error::Build`], with where the compiler's words are.
    pub fn build(tell: &mut dyn FnMut(&str)) -> Result<Self, Error> {
        let places = Places::of_this_checkout();
        let logs = places.logs();
        fs::create_dir_all(&logs).map_err(Error::doing(format!("create {}", logs.display())))?;
        let log = logs.join("faults-build.log");
        let errors = File::create(&log).map_err(Error::doing(format!("write {}", log.display())))?;
        let target = target_directory(places.root()).join("faults");
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let mut command = watched(cargo, Signal::SIGTERM, Whom::Group);
        command.current_dir(places.root()).args([
            "build",
            "--profile",
            "local",
            "--message-format",
            "json-render-diagnostics",
        ]);
        command.arg("--target-dir").arg(&target);
        for package in PACKAGES {
            command.args(["--package", package]);
            command.args(["--features", &format!("{package}/faults")]);
        }
        for program in ["shim", "steward", "ingest", "redrive", "fault-agents"] {
            command.args(["--bin", program]);
        }
        for (name, _) in std::env::vars_os() {
            // What an outer cargo set for us would make build scripts run anew.
            if name.to_string_lossy().starts_with("CARGO_") && name != "CARGO_HOME" && name != "CARGO_TARGET_DIR" {
                command.env_remove(name);
            }
        }
        let mut child =
            Guarded::spawn(command.stdout(Stdio::piped()).stderr(errors)).map_err(Error::doing("run cargo"))?;
        let mut paths = BTreeMap::new();
        let lines =
            child.take_stdout().into_iter().flat_map(|output| BufReader::new(output).lines().map_while(Result::ok));
        for line in lines {
            let Ok(message) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
            let Some(name) = message["target"]["name"].as_str() else { continue };
            tell(name);
            if let Some(path) = message["executable"].as_str() {
                paths.insert(name.to_owned(), PathBuf::from(path));
            }
        }
        match child.wait() {
            Ok(status) if status.success() => Ok(Self { paths }),
            _ => Err(Error::Build { log }),
        }
    }

    /// The path of a program.
    ///
    /// # Errors
    /// [`Error::Other`] where cargo built none of that name.
    pub fn path(&self, name: &str) -> Result<PathBuf, Error> {
        self.paths.get(name).cloned().ok_or_else(|| Error::Other(format!("cargo built no program {name}")))
    }

    /// Every program by name.
    #[must_use]
    pub const fn all(&self) -> &BTreeMap<String, PathBuf> {
        &self.paths
    }
}

/// Where cargo builds: `CARGO_TARGET_DIR`, or `target` in the checkout.
fn target_directory(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |dir| std::path::absolute(&dir).unwrap_or_else(|_| dir.into()))
}
