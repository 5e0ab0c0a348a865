//! Where things live on disk.
//!
//! Three kinds of place, by how long and for whom they are kept: the *cache* (the Python environment: big, the same for every
//! checkout), the *state* of one checkout (`.switchyard/` in it: logs, what runs, LocalStack's files) and the *database* of one
//! checkout. The last is apart only for root: Postgres then runs as `nobody`, who cannot look into root's home.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::Error;

/// The places of one checkout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    root: PathBuf,
    cache: PathBuf,
    state: PathBuf,
    data: PathBuf,
}

impl Places {
    /// The places of the checkout that this crate was compiled in, by `SWITCHYARD_CACHE`, `SWITCHYARD_STATE`,
    /// `XDG_CACHE_HOME`, `HOME` and the user.
    pub fn of_this_checkout() -> Places {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        Places::of(manifest.parent().unwrap_or(manifest), &|name| env::var(name).ok(), nix::unistd::geteuid().is_root())
    }

    fn of(root: &Path, variable: &dyn Fn(&str) -> Option<String>, is_root: bool) -> Places {
        // Absolute, since not every program is started where we are.
        let absolute = |path: String| std::path::absolute(&path).unwrap_or_else(|_| PathBuf::from(path));
        let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(absolute);
        let cache = set("SWITCHYARD_CACHE").unwrap_or_else(|| {
            if is_root {
                PathBuf::from("/var/cache/switchyard")
            } else if let Some(shared) = set("XDG_CACHE_HOME") {
                shared.join("switchyard")
            } else {
                set("HOME").unwrap_or_else(env::temp_dir).join(".cache/switchyard")
            }
        });
        let state = set("SWITCHYARD_STATE").unwrap_or_else(|| root.join(".switchyard"));
        let data = if is_root {
            Path::new("/var/lib/switchyard").join(short_hash(state.as_os_str().as_encoded_bytes()))
        } else {
            state.join("data")
        };
        Places { root: root.to_owned(), cache, state, data }
    }

    /// The checkout itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What all checkouts of this user share and what can be made again at any time.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// This checkout's `.switchyard/`, or `SWITCHYARD_STATE`.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Logs of this checkout, one file per program.
    pub fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    /// Where this checkout's databases live. Reachable for the user that Postgres runs as.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The Python package with its locks, samples and the sample application's schema.
    pub fn localstack(&self) -> PathBuf {
        self.root.join("localstack")
    }

    /// A fresh folder for one process's throw-away databases and LocalStack files, `what` being its purpose (`tests`). It is
    /// removed when the value is dropped; what a killed process left behind is removed by the next call.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be made.
    pub fn scratch(&self, what: &str) -> Result<Scratch, Error> {
        // Below a folder of its own, so that no purpose can have the name of something that is kept.
        let parent = self.data.join("scratch").join(what);
        fs::create_dir_all(&parent).map_err(Error::file("create", &parent))?;
        remove_left_behind(&parent);
        for n in 0_u32.. {
            let dir = parent.join(format!("{}-{n}", std::process::id()));
            match fs::create_dir(&dir) {
                Ok(()) => return Ok(Scratch { dir }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::file("create", &dir)(error)),
            }
        }
        unreachable!("four thousand million scratch folders")
    }
}

/// A folder that is removed with its value. Keep it until after the servers that write into it are dropped: declare it last in a struct.
#[derive(Debug)]
pub struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing to do about a failure here; the next scratch() tries again.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn remove_left_behind(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.split('-').next()).and_then(|pid| pid.parse::<i32>().ok());
        if pid.is_some_and(|pid| !crate::guard::is_alive(pid)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Sixteen hexadecimal digits for a key: the same on every day and with every compiler, since a database is found again by it.
pub(crate) fn short_hash(key: &[u8]) -> String {
    let digest = Uuid::new_v5(&Uuid::NAMESPACE_URL, key);
    digest.simple().to_string().chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(root: &str, variables: &'static [(&str, &str)], is_root: bool) -> Places {
        let variable =
            move |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        Places::of(Path::new(root), &variable, is_root)
    }

    #[test]
    fn the_cache_is_where_the_variable_says() {
        let places = places("/a", &[("SWITCHYARD_CACHE", "/c"), ("XDG_CACHE_HOME", "/x")], false);
        assert_eq!(places.cache(), Path::new("/c"));
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let places = places("/a", &[("SWITCHYARD_CACHE", ""), ("HOME", "/home/ada")], false);
        assert_eq!(places.cache(), Path::new("/home/ada/.cache/switchyard"));
    }

    #[test]
    fn a_normal_user_keeps_the_database_in_the_checkout() {
        assert_eq!(places("/a", &[], false).data(), Path::new("/a/.switchyard/data"));
    }

    #[test]
    fn a_relative_folder_becomes_an_absolute_one() {
        assert!(places("/a", &[("SWITCHYARD_STATE", "here")], false).state().is_absolute());
    }

    #[test]
    fn another_state_has_another_database() {
        let places = places("/root/one", &[("SWITCHYARD_STATE", "/tmp/state")], true);
        assert_eq!(places.state(), Path::new("/tmp/state"));
        assert_ne!(places.data(), self::places("/root/one", &[], true).data());
    }

    #[test]
    fn two_checkouts_of_root_have_two_databases_and_one_cache() {
        let (one, other) = (places("/root/one", &[], true), places("/root/two", &[], true));
        assert_ne!(one.data(), other.data());
        assert_eq!(one.cache(), other.cache());
        assert!(one.data().starts_with("/var/lib/switchyard"));
    }
}
