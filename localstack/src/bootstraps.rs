//! The Lambda functions of this workspace, compiled for this machine.
//!
//! A function is a package below `functions/` with a binary of its own name. It is built as the tests are (a relink takes seconds, and
//! nothing is compiled twice) and laid out as Lambda wants it: `<name>/bootstrap`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, de::DeserializeOwned};

use crate::cargo::{self, Target};
use crate::progress::Progress;
use crate::{Error, Places};

/// Compiled functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstraps {
    /// The folder that holds `<name>/bootstrap` for each.
    pub dir: PathBuf,
    /// Their names, sorted.
    pub names: Vec<String>,
    /// Which of them are agents: those below `functions/agents/`.
    pub agents: Vec<String>,
}

impl Bootstraps {
    /// The program of one function.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name).join("bootstrap")
    }

    /// What an agent's program prints when its only argument is `declare`.
    ///
    /// # Errors
    /// [`Error::Declaration`] when the program fails, or prints something else.
    pub fn declaration<T: DeserializeOwned>(&self, agent: &str) -> Result<T, Error> {
        let wrong = |reason: String| Error::Declaration { agent: agent.to_owned(), reason };
        let mut command = Command::new(self.program(agent));
        let output = command.arg("declare").stdin(Stdio::null()).output().map_err(|error| wrong(error.to_string()))?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(wrong(errors.lines().next_back().unwrap_or("it failed and printed nothing").to_owned()));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| wrong(error.to_string()))
    }
}

/// Builds every function and puts it into place. Its ticks count compiled targets; where all is fresh it takes about a second.
///
/// # Errors
/// [`Error::Metadata`] when cargo cannot describe the workspace, [`Error::Build`] with the first error when something does not compile,
/// [`Error::File`], [`Error::Program`] when cargo itself is missing.
pub fn build(places: &Places, progress: Progress<'_>) -> Result<Bootstraps, Error> {
    let workspace = Workspace::read(places)?;
    let names: Vec<String> = workspace.functions.iter().map(|function| function.name.clone()).collect();
    let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    let build = cargo::Build { programs: &wanted, features: &[], log: "build.log", targets: workspace.targets };
    let programs = if wanted.is_empty() { BTreeMap::new() } else { build.run(places, progress)? };
    let dir = workspace.target.join("lambda");
    for name in &names {
        let program =
            programs.get(name).ok_or_else(|| Error::Metadata { reason: format!("cargo built no program {name}") })?;
        place(program, &dir.join(name))?;
    }
    let agents =
        workspace.functions.into_iter().filter(|function| function.is_agent).map(|function| function.name).collect();
    Ok(Bootstraps { dir, names, agents })
}

#[derive(Debug, PartialEq, Eq)]
struct Function {
    name: String,
    is_agent: bool,
}

struct Workspace {
    functions: Vec<Function>,
    target: PathBuf,
    /// How many targets cargo will report when it builds the functions.
    targets: u64,
}

impl Workspace {
    fn read(places: &Places) -> Result<Workspace, Error> {
        let wrong = |reason: String| Error::Metadata { reason };
        let mut command = cargo::command(places);
        command.args(["metadata", "--format-version", "1"]);
        if let Some(host) = cargo::host() {
            command.args(["--filter-platform", &host]);
        }
        let output = command.stdin(Stdio::null()).output().map_err(cargo::missing)?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(wrong(cargo::first_error(&errors)));
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout).map_err(|error| wrong(error.to_string()))?;
        let functions = metadata.functions(&places.root().join("functions"));
        let targets = metadata.targets_behind(&functions);
        Ok(Workspace { functions, targets, target: metadata.target_directory })
    }
}

/// The parts of `cargo metadata` that are needed here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
    resolve: Option<Resolve>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

impl Metadata {
    fn functions(&self, below: &Path) -> Vec<Function> {
        let has_own_binary = |package: &Package| {
            package
                .targets
                .iter()
                .any(|target| target.name == package.name && target.kind.iter().any(|kind| kind == "bin"))
        };
        let mut functions: Vec<Function> = self
            .packages
            .iter()
            .filter(|package| package.manifest_path.starts_with(below) && has_own_binary(package))
            .map(|package| Function {
                name: package.name.clone(),
                is_agent: package.manifest_path.starts_with(below.join("agents")),
            })
            .collect();
        functions.sort_by(|one, other| one.name.cmp(&other.name));
        functions
    }

    /// Libraries, build scripts and binaries of the functions and of everything that they need, tests apart.
    fn targets_behind(&self, functions: &[Function]) -> u64 {
        let packages: BTreeMap<&str, &Package> =
            self.packages.iter().map(|package| (package.id.as_str(), package)).collect();
        let nodes: BTreeMap<&str, &Node> =
            self.resolve.iter().flat_map(|resolve| &resolve.nodes).map(|node| (node.id.as_str(), node)).collect();
        let is_function = |package: &Package| functions.iter().any(|function| function.name == package.name);
        let mut waiting: Vec<&str> =
            self.packages.iter().filter(|package| is_function(package)).map(|package| package.id.as_str()).collect();
        let mut seen = BTreeSet::new();
        while let Some(id) = waiting.pop() {
            if !seen.insert(id) {
                continue;
            }
            let needed =
                |dependency: &&Dependency| dependency.dep_kinds.iter().any(|kind| kind.kind.as_deref() != Some("dev"));
            let dependencies = nodes.get(id).into_iter().flat_map(|node| &node.deps).filter(needed);
            waiting.extend(dependencies.map(|dependency| dependency.pkg.as_str()));
        }
        let counts = |package: &Package, target: &Target| {
            let is = |wanted: &str| target.kind.iter().any(|kind| kind == wanted);
            !(is("test") || is("bench") || is("example")) && (!is("bin") || is_function(package))
        };
        let found = seen.iter().filter_map(|id| packages.get(id));
        found.map(|package| package.targets.iter().filter(|target| counts(package, target)).count() as u64).sum()
    }
}

/// Puts a copy where Lambda's layout wants it. A copy, since cargo may rewrite its own file while somebody packs this one; in one
/// step, for the same reason; and only where the content changed.
fn place(program: &Path, dir: &Path) -> Result<(), Error> {
    let bootstrap = dir.join("bootstrap");
    let built = fs::metadata(program).map_err(Error::file("read", program))?;
    let modified = built.modified().map_err(Error::file("read", program))?;
    if let Ok(placed) = fs::metadata(&bootstrap)
        && placed.len() == built.len()
        && placed.modified().is_ok_and(|at| at == modified)
    {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
    let aside = dir.join(format!("bootstrap.{}", std::process::id()));
    fs::copy(program, &aside).map_err(Error::file("write", &aside))?;
    File::options()
        .write(true)
        .open(&aside)
        .and_then(|file| file.set_modified(modified))
        .map_err(Error::file("write", &aside))?;
    fs::rename(&aside, &bootstrap).map_err(Error::file("write", &bootstrap))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Metadata {
        let text = r#"{
          "target_directory": "/w/target",
          "packages": [
            {"id": "a", "name": "sentiment", "manifest_path": "/w/functions/agents/sentiment/Cargo.toml",
             "targets": [{"name": "sentiment", "kind": ["lib"]}, {"name": "sentiment", "kind": ["bin"]}, {"name": "all", "kind": ["test"]}]},
            {"id": "b", "name": "shim", "manifest_path": "/w/functions/shim/Cargo.toml", "targets": [{"name": "shim", "kind": ["bin"]}]},
            {"id": "c", "name": "half-written", "manifest_path": "/w/functions/half/Cargo.toml", "targets": [{"name": "half", "kind": ["lib"]}]},
            {"id": "d", "name": "serde", "manifest_path": "/r/serde/Cargo.toml",
             "targets": [{"name": "serde", "kind": ["lib"]}, {"name": "build-script-build", "kind": ["custom-build"]}]},
            {"id": "e", "name": "proptest", "manifest_path": "/r/proptest/Cargo.toml", "targets": [{"name": "proptest", "kind": ["lib"]}]}
          ],
          "resolve": {"nodes": [
            {"id": "a", "deps": [{"pkg": "d", "dep_kinds": [{"kind": null}]}, {"pkg": "e", "dep_kinds": [{"kind": "dev"}]}]},
            {"id": "b", "deps": [{"pkg": "d", "dep_kinds": [{"kind": null}]}]},
            {"id": "c", "deps": []}, {"id": "d", "deps": []}, {"id": "e", "deps": []}
          ]}
        }"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn functions_are_the_packages_below_functions_with_a_binary() {
        let found = metadata().functions(Path::new("/w/functions"));
        let named = |name: &str, is_agent| Function { name: name.to_owned(), is_agent };
        assert_eq!(found, [named("sentiment", true), named("shim", false)]);
    }

    #[test]
    fn the_targets_to_build_leave_out_tests_and_what_only_tests_need() {
        let metadata = metadata();
        let functions = metadata.functions(Path::new("/w/functions"));
        // sentiment's library and binary, shim's binary, serde and its build script.
        assert_eq!(metadata.targets_behind(&functions), 5);
    }

    #[test]
    fn a_program_is_placed_once_and_again_when_it_changed() {
        let dir = std::env::temp_dir().join(format!("switchyard-place-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let program = dir.join("shim");
        fs::write(&program, "one").unwrap();
        place(&program, &dir.join("out")).unwrap();
        fs::write(&program, "other").unwrap();
        place(&program, &dir.join("out")).unwrap();
        assert_eq!(fs::read_to_string(dir.join("out/bootstrap")).unwrap(), "other");
        assert_eq!(fs::read_dir(dir.join("out")).unwrap().count(), 1);
        fs::remove_dir_all(&dir).unwrap();
    }
}
