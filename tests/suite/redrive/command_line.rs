//! The program `switchyard`, run as a person or a script runs it.

use serde_json::Value;
use std::{
    io::Write,
    process::{Command, Stdio},
};
use switchyard_tests::{World, program::program};

/// What a run of the program came to.
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Output {
    /// The answer in JSON, of a run that did its work.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.err);
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    /// The one line that says why it failed.
    pub(crate) fn error(&self) -> &str {
        assert_eq!((self.code, self.out.as_str()), (1, ""), "{}", self.err);
        assert_eq!(self.err.lines().count(), 1, "{}", self.err);
        self.err.trim_end()
    }
}

/// Runs it against a world, without a terminal.
pub(crate) fn switchyard(world: &World, arguments: &[&str]) -> Output {
    switchyard_with_input(world, arguments, "")
}

/// The same with something on its standard input.
pub(crate) fn switchyard_with_input(world: &World, arguments: &[&str], input: &str) -> Output {
    finish(command(world).args(arguments).spawn().unwrap(), input)
}

/// Starts it and does not wait.
pub(crate) fn start(world: &World, arguments: &[&str]) -> std::process::Child {
    command(world).args(arguments).spawn().unwrap()
}

/// Waits for its end.
pub(crate) fn finish(mut child: std::process::Child, input: &str) -> Output {
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let std::process::Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Output { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
}

/// An environment that leads to this world and to no other.
pub(crate) fn command(world: &World) -> Command {
    let mut command = Command::new(program("switchyard"));
    command
        .env_clear()
        .env("AWS_ENDPOINT_URL", world.servers.localstack.endpoint())
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
