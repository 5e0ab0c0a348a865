//! `cargo dev up --detach`: the same program again, in a session of its own, and a wait until it is ready.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use switchyard_localstack::{Error, Places};

use crate::arguments::Up;
use crate::style::{GREEN, RED, eprint_line, paint};
use crate::{Outcome, signals, state, up};

pub(crate) fn run(places: &Places, options: &Up) -> Outcome {
    let logs = places.logs();
    fs::create_dir_all(&logs).map_err(Error::file("create", &logs))?;
    // A name of its own until it is clear that this start is the one that counts: two at once must not write over each other.
    let path = logs.join(format!("up.{}.log", std::process::id()));
    let log = File::create(&path).map_err(Error::file("create", &path))?;
    let mut heard = File::open(&path).map_err(Error::file("read", &path))?;
    let (interrupt, interrupted) = channel();
    signals::catch(move || {
        let _ = interrupt.send(());
    })?;

    let mut child = spawn(options, log)?;
    loop {
        let ended = child.try_wait().map_err(Error::file("run", &path))?;
        echo(&mut heard);
        if ended.is_some() {
            let _ = fs::remove_file(&path);
            return Ok(ExitCode::FAILURE); // why was its last line
        }
        if let Some(state) = state::running(places)?.filter(|state| state.ready && is_child(state.pid, &child)) {
            echo(&mut heard);
            let last = logs.join("up.log");
            fs::rename(&path, &last).map_err(Error::file("write", &last))?;
            up::greet(&state);
            return Ok(ExitCode::SUCCESS);
        }
        match interrupted.recv_timeout(Duration::from_millis(50)) {
            Ok(()) => {
                if let Ok(pid) = i32::try_from(child.id()) {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
                }
                let _ = child.wait();
                echo(&mut heard);
                let _ = fs::remove_file(&path);
                return Ok(ExitCode::from(signals::INTERRUPTED));
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
}

fn is_child(pid: i32, child: &Child) -> bool {
    u32::try_from(pid).is_ok_and(|pid| pid == child.id())
}

/// Makes this process, started by [`run`], independent of the terminal that it was started from.
pub(crate) fn leave_the_terminal() {
    // It fails only for one that leads a session already, and so has left.
    let _ = nix::unistd::setsid();
}

fn spawn(options: &Up, log: File) -> Result<Child, Error> {
    let failed = |source| Error::Program {
        program: "this program again".to_owned(),
        source,
        way_out: "run `cargo dev` without --detach",
    };
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(["up", "--background"]);
    for (name, port) in [("--port", options.port), ("--postgres-port", options.postgres_port)] {
        if let Some(port) = port {
            command.args([name, &port.to_string()]);
        }
    }
    for (name, chosen) in [("--samples", options.samples), ("--no-samples", options.no_samples)] {
        if chosen {
            command.arg(name);
        }
    }
    let errors = log.try_clone().map_err(failed)?;
    command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().map_err(failed)
}

/// Shows what it has written since the last time. Its log has no colours, so the marks get theirs here.
fn echo(log: &mut File) {
    let mut text = String::new();
    let Ok(from) = log.stream_position() else { return };
    if log.read_to_string(&mut text).is_err() {
        return;
    }
    // An unfinished line is left for the next time.
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    let _ = log.seek(SeekFrom::Start(from + whole as u64));
    for line in text[..whole].lines() {
        match line.split_at_checked('✓'.len_utf8()) {
            Some(("✓", rest)) => eprint_line(format!("{}{rest}", paint(GREEN, "✓"))),
            Some(("✗", rest)) => eprint_line(format!("{}{rest}", paint(RED, "✗"))),
            _ => match line.strip_prefix("error:") {
                Some(rest) => eprint_line(format!("{}{rest}", paint(RED.bold(), "error:"))),
                None => eprint_line(line),
            },
        }
    }
}
