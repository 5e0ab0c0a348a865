//! The Python environment: LocalStack, its plugin's needs and the Postgres programs, exactly as the lock file pins them.
//!
//! It is made once per lock file and Python version, in the cache that all checkouts share. A marker file is written last: without it
//! the folder is taken for a half-made one and made again. A lock file beside it keeps two processes from making it at once.

use std::env;
use std::fs::{self, File, TryLockError};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::guard::{Guarded, Whom, watched};
use crate::places::short_hash;
use crate::progress::{Progress, Tick};
use crate::{Error, Places};

/// The versions that LocalStack and the lock file are known to work with.
const VERSIONS: std::ops::RangeInclusive<u32> = 11..=13;

/// Written into an environment when everything is installed.
const COMPLETE: &str = "complete";

/// An interpreter of the right version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Python {
    /// Its real path: not a launcher's that may choose another version tomorrow.
    pub executable: PathBuf,
    /// `3.12`.
    pub version: String,
}

impl Python {
    /// The first that fits of `SWITCHYARD_PYTHON`, or else of python3.11, python3.12, python3.13 and python3 on the PATH.
    ///
    /// # Errors
    /// [`Error::NoPython`] when none is of a version that works, with what was found; [`Error::NoVenv`] when it lacks `venv`.
    pub fn find() -> Result<Python, Error> {
        let chosen = env::var("SWITCHYARD_PYTHON").ok().filter(|chosen| !chosen.is_empty());
        let candidates = match &chosen {
            Some(chosen) => vec![chosen.as_str()],
            None => vec!["python3.11", "python3.12", "python3.13", "python3"],
        };
        let mut found = String::new();
        for candidate in candidates {
            let Some(answer) = ask(candidate) else { continue };
            if !answer.fits() {
                found = format!(" ({candidate} is {})", answer.version);
            } else if !answer.has_venv {
                return Err(Error::NoVenv { python: candidate.to_owned() });
            } else {
                return Ok(Python { executable: answer.executable, version: answer.version });
            }
        }
        if let (Some(chosen), true) = (&chosen, found.is_empty()) {
            found = format!(" (SWITCHYARD_PYTHON={chosen} does not run)");
        }
        Err(Error::NoPython { found })
    }
}

/// What an interpreter says of itself.
struct Answer {
    version: String,
    has_venv: bool,
    executable: PathBuf,
}

impl Answer {
    fn fits(&self) -> bool {
        self.version
            .strip_prefix("3.")
            .and_then(|minor| minor.parse().ok())
            .is_some_and(|minor| VERSIONS.contains(&minor))
    }
}

fn ask(program: &str) -> Option<Answer> {
    const QUESTION: &str = "import sys, importlib.util as u; print('%d.%d' % sys.version_info[:2]); \
                            print(all(u.find_spec(m) for m in ('venv', 'ensurepip'))); print(sys.executable)";
    let output = Command::new(program).args(["-I", "-c", QUESTION]).stdin(Stdio::null()).output().ok()?;
    if !output.status.success() {
        return None; // such as a version manager's launcher for a version that is not installed
    }
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(answer: &str) -> Option<Answer> {
    let mut lines = answer.lines();
    let version = lines.next()?.to_owned();
    let has_venv = lines.next()? == "True";
    Some(Answer { version, has_venv, executable: lines.next()?.into() })
}

/// The installed environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Venv {
    dir: PathBuf,
    package: PathBuf,
    version: String,
}

impl Venv {
    /// The environment for this checkout's lock file: the one in the cache, or a newly made one, which takes a minute or two and
    /// about 600 MB. Its ticks count packages.
    ///
    /// # Errors
    /// What [`Python::find`] says, [`Error::File`], and [`Error::Install`] when pip fails.
    pub fn ensure(places: &Places, progress: Progress<'_>) -> Result<Venv, Error> {
        let python = Python::find()?;
        let venv = Venv::locate(places, &python)?;
        if venv.is_complete() {
            return Ok(venv);
        }
        let folder = venv.dir.parent().unwrap_or(places.cache());
        fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
        let lock = append(&venv.dir, ".lock");
        let _held = hold(&lock, progress)?;
        if !venv.is_complete() {
            venv.make(&python, places, progress)?;
        }
        Ok(venv)
    }

    /// Where the environment is or would be. The first hash tells lock files apart, so that two branches do not fight over one.
    ///
    /// # Errors
    /// [`Error::File`] when the lock file cannot be read.
    pub fn locate(places: &Places, python: &Python) -> Result<Venv, Error> {
        let requirements = places.localstack().join("requirements.txt");
        let pinned = fs::read(&requirements).map_err(Error::file("read", &requirements))?;
        let name = format!("venv-{}-{}", python.version, short_hash(&pinned));
        Ok(Venv { dir: places.cache().join(name), package: places.localstack(), version: python.version.clone() })
    }

    /// Whether everything is installed.
    pub fn is_complete(&self) -> bool {
        self.dir.join(COMPLETE).is_file()
    }

    /// The environment's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The version of its Python, such as `3.12`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Its interpreter.
    pub fn python(&self) -> PathBuf {
        self.dir.join("bin/python")
    }

    /// Where its packages are.
    pub fn site_packages(&self) -> PathBuf {
        self.dir.join(format!("lib/python{}/site-packages", self.version))
    }

    /// `python -m <module>` with this checkout's Python package importable, and with an environment in which no AWS SDK can reach
    /// anything but what it is told to: dummy keys, no profile, no instance metadata.
    pub fn module(&self, module: &str) -> Command {
        let mut command = Command::new(self.python());
        command.args(["-m", module]);
        self.prepare(&mut command);
        command
    }

    /// The environment of [`Venv::module`] for another command that runs this interpreter.
    pub fn prepare(&self, command: &mut Command) {
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("AWS_") || name.starts_with("PYTHON") || name == "LOCALSTACK_API_KEY" {
                command.env_remove(&*name);
            }
        }
        command
            .env("PYTHONPATH", &self.package)
            .env("PYTHONUNBUFFERED", "1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true");
    }

    fn make(&self, python: &Python, places: &Places, progress: Progress<'_>) -> Result<(), Error> {
        progress(Tick { done: 0, of: 0, what: "virtual environment" });
        if self.dir.exists() {
            fs::remove_dir_all(&self.dir).map_err(Error::file("remove", &self.dir))?;
        }
        let logs = places.logs();
        fs::create_dir_all(&logs).map_err(Error::file("create", &logs))?;
        let log = logs.join("pip.log");
        let mut make = watched(&python.executable, Signal::SIGTERM, Whom::Group);
        make.args(["-I", "-m", "venv"]).arg(&self.dir);
        run(&mut make, &log, &mut |_| {})?;

        let requirements = places.localstack().join("requirements.txt");
        let pinned = fs::read_to_string(&requirements).map_err(Error::file("read", &requirements))?;
        // Each package is counted twice: when pip has it and when it is installed. pip prints a line for the first only, so the second
        // is looked up on disk. Packages that are not for this machine make the estimate a little high.
        let of = 2 * count_packages(&pinned);
        let mut pip = watched(self.python(), Signal::SIGTERM, Whom::Group);
        pip.args([
            "-m",
            "pip",
            "install",
            "--no-input",
            "--disable-pip-version-check",
            "--progress-bar",
            "off",
            "--no-deps",
        ]);
        pip.arg("--requirement").arg(&requirements).env_remove("PYTHONPATH").env_remove("PYTHONHOME");
        let packages = self.site_packages();
        let mut collected = 0;
        run(&mut pip, &log, &mut |line| {
            let Some(line) = line else {
                let installed = count_installed(&packages);
                // pip and setuptools are there from the start.
                if installed > 2 {
                    progress(Tick { done: collected.max(of / 2) + installed, of, what: "installing" });
                }
                return;
            };
            if let Some(rest) = line.trim_start().strip_prefix("Collecting ") {
                collected += 1;
                progress(Tick { done: collected, of, what: rest.split(['=', ' ']).next().unwrap_or_default() });
            }
        })?;
        progress(Tick { done: of, of, what: "installed" });
        let marker = self.dir.join(COMPLETE);
        fs::write(&marker, "").map_err(Error::file("write", &marker))
    }
}

/// `with_extension` would cut the name at the dot of `3.11`.
fn append(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Packages named in a lock file: the lines that start one.
fn count_packages(pinned: &str) -> u64 {
    pinned.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_alphanumeric())).count() as u64
}

fn count_installed(packages: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(packages) else { return 0 };
    entries.flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == "dist-info")).count() as u64
}

/// Waits for a lock on a file, telling so when another process holds it.
fn hold(lock: &Path, progress: Progress<'_>) -> Result<File, Error> {
    let file = File::create(lock).map_err(Error::file("create", lock))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {
            progress(Tick { done: 0, of: 0, what: "another process installs it; waiting" })
        }
        Err(TryLockError::Error(error)) => return Err(Error::file("lock", lock)(error)),
    }
    file.lock().map_err(Error::file("lock", lock))?;
    Ok(file)
}

/// Runs to the end, with both outputs in the log. `heard` gets every line of standard output, and `None` now and then.
fn run(command: &mut Command, log: &Path, heard: &mut dyn FnMut(Option<&str>)) -> Result<(), Error> {
    use std::io::Write as _;
    use std::sync::mpsc::{RecvTimeoutError, channel};

    let mut file = File::create(log).map_err(Error::file("create", log))?;
    let errors = file.try_clone().map_err(Error::file("write", log))?;
    let mut child = Guarded::spawn(command.stdout(Stdio::piped()).stderr(errors)).map_err(|source| Error::Program {
        program: "/bin/sh".to_owned(),
        source,
        way_out: "Switchyard needs a Unix shell",
    })?;
    let (sender, lines) = channel();
    let output = child.take_stdout();
    let reader = std::thread::spawn(move || {
        let lines = output.into_iter().flat_map(|output| BufReader::new(output).lines().map_while(Result::ok));
        lines.for_each(|line| drop(sender.send(line)));
    });
    loop {
        match lines.recv_timeout(std::time::Duration::from_millis(200)) {
            Ok(line) => {
                heard(Some(&line));
                writeln!(file, "{line}").map_err(Error::file("write", log))?;
            }
            Err(RecvTimeoutError::Timeout) => heard(None),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let _ = reader.join();
    let status = child.wait().map_err(Error::file("run", log))?;
    if status.success() {
        return Ok(());
    }
    let text = fs::read_to_string(log).unwrap_or_default();
    let telling = text.lines().rev().find(|line| line.starts_with("ERROR")).or_else(|| text.lines().next_back());
    Err(Error::Install { reason: telling.unwrap_or("it printed nothing").trim().to_owned(), log: log.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_from_3_11_to_3_13_fit_and_no_others() {
        let fits = |version: &str| parse(&format!("{version}\nTrue\n/usr/bin/python3\n")).unwrap().fits();
        assert!(fits("3.11") && fits("3.12") && fits("3.13"));
        assert!(!fits("3.10") && !fits("3.14") && !fits("2.7") && !fits("4.11"));
    }

    #[test]
    fn no_interpreter_means_no_version() {
        assert!(parse("3.11\nTrue\n").is_none());
        assert!(parse("Python 3.11.7").is_none());
    }

    #[test]
    fn packages_are_counted_and_hashes_are_not() {
        let pinned = "# a comment\nboto3==1.40 \\\n    --hash=sha256:00\n    # via localstack\ncffi==2.0 ; python_version < '3.13'\n";
        assert_eq!(count_packages(pinned), 2);
    }
}
