//! The proof that a build without the feature has no faults in it: their names are searched for in its programs, and in those that have them.

use crate::{
    Error,
    programs::Programs,
    short::{RUNTIME_POINTS, SHIM_POINTS},
    tier::bugs::BUGS,
};
use serde::Serialize;
use std::{collections::BTreeSet, path::Path, process::Command};
use switchyard_localstack::{Places, bootstraps, progress::quiet};

/// Places to break outside of shim and runtime.
const OTHER_POINTS: [&str; 5] =
    ["steward.after_due", "steward.after_send", "redrive.after_redrive", "redrive.after_send", "ingest.after_append"];

/// What was searched for, and found.
#[derive(Debug, Clone, Serialize)]
pub struct Searched {
    /// How many names were searched for: the variable's, every point's and every mistake's.
    pub names: usize,
    /// Programs without the feature that were searched.
    pub without: Vec<String>,
    /// Names that are in one of these, with the program: there must be none.
    pub left_in: Vec<(String, String)>,
    /// Names that no program with the feature holds: then the search would prove nothing for them.
    pub not_found_in_any: Vec<String>,
}

impl Searched {
    /// Whether the proof holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.left_in.is_empty() && self.not_found_in_any.is_empty() && !self.without.is_empty()
    }
}

/// Builds the functions as they are deployed, but for the profile, and searches them.
///
/// # Errors
/// [`Error`] where something does not build or cannot be read.
pub fn search(with: &Programs) -> Result<Searched, Error> {
    let built = bootstraps::build(&Places::of_this_checkout(), &mut quiet)?;
    let bugs = BUGS.iter().map(|bug| bug.name);
    let names: Vec<&str> = ["SWITCHYARD_FAULTS"]
        .into_iter()
        .chain(RUNTIME_POINTS)
        .chain(SHIM_POINTS)
        .chain(OTHER_POINTS)
        .chain(bugs)
        .collect();
    let mut left_in = Vec::new();
    for function in &built.names {
        let found = found(&built.program(function), &names)?;
        left_in.extend(found.into_iter().map(|name| (name, function.clone())));
    }
    let mut broken = BTreeSet::new();
    for program in with.all().values() {
        broken.extend(found(program, &names)?);
    }
    let nowhere = names.iter().filter(|name| !broken.contains(**name));
    let not_found_in_any = nowhere.map(ToString::to_string).collect();
    Ok(Searched { names: names.len(), without: built.names, left_in, not_found_in_any })
}

/// Which of these names are in a program, as they stand. `grep` searches a gigabyte of programs for all of them in a moment.
fn found(program: &Path, names: &[&str]) -> Result<BTreeSet<String>, Error> {
    let mut grep = Command::new("grep");
    grep.args(["--text", "--only-matching", "--fixed-strings"]).arg("--").arg(names.join("\n")).arg(program);
    let output = grep.env("LC_ALL", "C").output().map_err(Error::doing("run grep"))?;
    // 1 says that there is none.
    if !matches!(output.status.code(), Some(0 | 1)) {
        return Err(Error::Other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_wherever_it_stands_and_only_where_it_stands() {
        let program = std::env::temp_dir().join(format!("switchyard-absent-{}", std::process::id()));
        let found = |content: &[u8]| {
            std::fs::write(&program, content).unwrap();
            found(&program, &["no_claim", "after_park"]).unwrap().into_iter().collect::<Vec<_>>()
        };
        for content in [&b"no_claim"[..], b"\0\xffno_claim\0", b"no_clano_claimx"] {
            assert_eq!(found(content), ["no_claim"]);
        }
        assert_eq!(found(b"xafter_parkno_claim\n"), ["after_park", "no_claim"]);
        assert_eq!((found(b"no_clai"), found(b"")), (vec![], vec![]));
        std::fs::remove_file(program).unwrap();
    }
}
