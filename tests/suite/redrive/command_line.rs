//! The program `switchyard`, run as a person or a script runs it.

use serde_json::Value;
use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::OnceLock,
};
use switchyard_tests::World;

/// What a run of the program came to.
pub(super) struct Said {
    pub(super) code: i32,
    pub(super) out: String,
    pub(super) err: String,
}

impl Said {
    /// The answer in JSON, of a run that did its work.
    pub(super) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.err);
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    /// The one line that says why it failed.
    pub(super) fn error(&self) -> &str {
        assert_eq!((self.code, self.out.as_str()), (1, ""), "{}", self.err);
        assert_eq!(self.err.lines().count(), 1, "{}", self.err);
        self.err.trim_end()
    }
}

/// Runs it against a world, with nobody at a terminal.
pub(super) fn switchyard(world: &World, arguments: &[&str]) -> Said {
    switchyard_reading(world, arguments, "")
}

/// The same with something on its standard input.
pub(super) fn switchyard_reading(world: &World, arguments: &[&str], input: &str) -> Said {
    finish(command(world).args(arguments).spawn().unwrap(), input)
}

/// Starts it and does not wait.
pub(super) fn start(world: &World, arguments: &[&str]) -> std::process::Child {
    command(world).args(arguments).spawn().unwrap()
}

/// Waits for its end.
pub(super) fn finish(mut child: std::process::Child, input: &str) -> Said {
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
}

/// An environment that leads to this world and to no other.
pub(super) fn command(world: &World) -> Command {
    let mut command = Command::new(program());
    command
        .env_clear()
        .env("AWS_ENDPOINT_URL", world.lab.localstack.endpoint())
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", &world.account)
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("USER", "ada")
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The program, built by the first who asks.
fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        // The whole workspace's features, so that what the tests were built with is built already.
        let build = ["build", "--workspace", "--bin", "switchyard", "--message-format", "json-render-diagnostics"];
        let output = Command::new(env!("CARGO"))
            .args(build)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "switchyard does not build");
        let lines = String::from_utf8(output.stdout).unwrap();
        let messages = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut programs = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
        programs.next().expect("cargo names the program")
    })
}
