//! Child processes that end when we end, also when we are killed with SIGKILL.
//!
//! Each child holds the reading end of a pipe as its standard input, and we hold the writing end, which no other process inherits. When
//! this process is gone, however it went, the kernel closes our end and the child reads end of file. (Linux's parent-death signal
//! would not do: it fires when the *thread* that spawned the child ends.) A program that does not watch its standard input is
//! wrapped in a few lines of shell that do.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// Runs `"$@"`, and passes the signal on when standard input ends. `read` is a builtin, so no helper process is left behind.
/// The program gets /dev/null as its input and not the pipe.
const WATCH: &str = r#"
signal=$1 whom=$2; shift 2
exec 3<&0 </dev/null
"$@" 3<&- & child=$!
if [ "$whom" = child ]; then whom=$child; fi
{ read -r _; kill -s "$signal" -- "$whom"; } <&3 2>/dev/null & watch=$!
exec 3<&-
wait "$child" 2>/dev/null; status=$?
kill "$watch" 2>/dev/null
exit "$status"
"#;

/// How long a child may take to end after its input ended, before it is killed.
const DEADLINE: Duration = Duration::from_secs(15);

/// Whom the shell signals when we are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// The program alone: it looks after its own children, as Postgres does.
    Child,
    /// The program and everything that it started, as cargo with its compilers.
    Group,
}

/// A command that runs `program` under the watching shell; give it arguments, environment and the like, then [`Guarded::spawn`] it.
/// SIGINT and SIGQUIT reach only programs that install a handler for them (Postgres does): a shell starts its jobs with both ignored.
pub fn watched(program: impl AsRef<std::ffi::OsStr>, signal: Signal, whom: Whom) -> Command {
    let name = signal.as_str().trim_start_matches("SIG");
    let whom = match whom {
        Whom::Child => "child",
        Whom::Group => "0",
    };
    let mut command = Command::new("/bin/sh");
    command.args(["-c", WATCH, "guard", name, whom]).arg(program);
    command
}

/// A running child. Dropping it stops it and waits until it is gone.
#[derive(Debug)]
pub struct Guarded {
    child: Child,
    hold: Option<ChildStdin>,
}

impl Guarded {
    /// Starts a command: either one made by [`watched`], or a program that ends by itself when its standard input ends. It gets a
    /// process group of its own, so that Ctrl-C in a terminal reaches us alone and we decide what stops first.
    ///
    /// # Errors
    /// What the system says when the program cannot be started.
    pub fn spawn(command: &mut Command) -> io::Result<Guarded> {
        let mut child = command.stdin(Stdio::piped()).process_group(0).spawn()?;
        let hold = child.stdin.take();
        Ok(Guarded { child, hold })
    }

    /// The process id of the child: of the shell, for a [`watched`] one.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child's standard output, once, if it was piped.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// The child's standard error, once, if it was piped.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// How the child ended, if it did.
    ///
    /// # Errors
    /// What the system says; not expected.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits until the child ends by itself.
    ///
    /// # Errors
    /// What the system says; not expected.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        // Child::wait would close the pipe only if it still held it; ours is kept open apart.
        self.child.wait()
    }

    /// Lets the child end, and kills it with its group when it has not done so after `patience`.
    ///
    /// # Errors
    /// What the system says; not expected.
    pub fn stop(&mut self, patience: Duration) -> io::Result<ExitStatus> {
        drop(self.hold.take());
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        self.child.wait()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.stop(DEADLINE);
    }
}

/// Whether a process with this id exists, of any user.
pub fn is_alive(pid: i32) -> bool {
    pid > 0 && kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    /// A shell that prints its own pid and then stays for long; as a child of the guard it is what has to go.
    fn lingering(whom: Whom) -> (Guarded, i32) {
        let mut command = watched("/bin/sh", Signal::SIGTERM, whom);
        command.args(["-c", "echo $$; exec sleep 600"]).stdout(Stdio::piped());
        let mut guarded = Guarded::spawn(&mut command).unwrap();
        let mut line = String::new();
        BufReader::new(guarded.take_stdout().unwrap()).read_line(&mut line).unwrap();
        (guarded, line.trim().parse().unwrap())
    }

    fn gone_soon(pid: i32) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if !is_alive(pid) {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }

    #[test]
    fn a_dropped_child_is_gone() {
        for whom in [Whom::Child, Whom::Group] {
            let (guarded, pid) = lingering(whom);
            assert!(is_alive(pid));
            drop(guarded);
            assert!(gone_soon(pid));
        }
    }

    #[test]
    fn a_child_ends_when_the_process_with_its_pipe_is_killed() {
        // `sleep` stands for us: it holds the writing end of a pipe whose reading end is the guard's standard input.
        let mut holder = Command::new("sleep").arg("600").stdout(Stdio::piped()).spawn().unwrap();
        let mut command = watched("/bin/sh", Signal::SIGTERM, Whom::Child);
        command.args(["-c", "echo $$; exec sleep 600"]);
        let mut guard = command.stdin(holder.stdout.take().unwrap()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(guard.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = line.trim().parse().unwrap();
        assert!(is_alive(pid));
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert!(gone_soon(pid));
        guard.wait().unwrap();
    }

    #[test]
    fn the_exit_status_is_the_programs_own() {
        let mut command = watched("/bin/sh", Signal::SIGTERM, Whom::Child);
        let mut guarded = Guarded::spawn(command.args(["-c", "exit 7"])).unwrap();
        assert_eq!(guarded.wait().unwrap().code(), Some(7));
    }

    #[test]
    fn the_program_does_not_hold_the_pipe_itself() {
        let mut command = watched("/bin/sh", Signal::SIGTERM, Whom::Child);
        let mut guarded = Guarded::spawn(command.args(["-c", "cat; exit 3"])).unwrap();
        assert_eq!(guarded.wait().unwrap().code(), Some(3));
    }
}
