//! The proof that a build without the feature has no faults in it: their names are searched for in its programs, and in those that have them.

use crate::{
    Error,
    programs::Programs,
    short::{RUNTIME_POINTS, SHIM_POINTS},
    tier::bugs::BUGS,
};
use serde::Serialize;
use std::{fs, path::Path};
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
        let program = read(&built.program(function))?;
        let left = names.iter().filter(|name| holds(&program, name));
        left_in.extend(left.map(|name| ((*name).to_owned(), function.clone())));
    }
    let broken = with.all().values().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let nowhere = names.iter().filter(|name| !broken.iter().any(|program| holds(program, name)));
    let not_found_in_any = nowhere.map(ToString::to_string).collect();
    Ok(Searched { names: names.len(), without: built.names, left_in, not_found_in_any })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(Error::doing(format!("read {}", path.display())))
}

/// Whether a program holds a name, as it stands.
fn holds(program: &[u8], name: &str) -> bool {
    let (name, first) = (name.as_bytes(), name.as_bytes().first().copied().unwrap_or_default());
    let starts = program.iter().enumerate().filter(|(_, byte)| **byte == first);
    starts.map(|(at, _)| at).any(|at| program.get(at..at + name.len()) == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_wherever_it_stands_and_only_where_it_stands() {
        for program in ["no_claim", "xxno_claim", "no_clano_claimx"] {
            assert!(holds(program.as_bytes(), "no_claim"), "{program}");
        }
        assert!(!holds(b"no_clai", "no_claim") && !holds(b"", "no_claim"));
    }
}
