//! `cargo dev` as a black box: what it says and with which code it ends when something is not as it should be.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use switchyard_localstack::places::{Places, Scratch};

/// A system of its own beside whatever runs in this checkout.
struct Checkout {
    dir: Scratch,
}

impl Checkout {
    fn new() -> Checkout {
        Checkout { dir: Places::of_this_checkout().scratch("tests").unwrap() }
    }

    fn state(&self) -> std::path::PathBuf {
        self.dir.dir().join("state")
    }

    fn dev(&self, arguments: &[&str]) -> Said {
        self.dev_with(arguments, &[])
    }

    fn dev_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dev"));
        for variable in ["SWITCHYARD_PYTHON", "SWITCHYARD_PORT", "SWITCHYARD_POSTGRES_PORT"] {
            command.env_remove(variable);
        }
        command.args(arguments).env("SWITCHYARD_STATE", self.state()).envs(variables.iter().copied());
        Said::from(command.stdin(Stdio::null()).output().unwrap())
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        // Root's databases are not below the state.
        self.dev(&["reset", "--yes"]);
    }
}

/// What it said, and how it ended.
#[derive(Debug)]
struct Said {
    out: String,
    err: String,
    code: Option<i32>,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { out: text(&output.stdout), err: text(&output.stderr), code: output.status.code() }
    }
}

impl Said {
    /// Failed, with one line of error that holds all of `words`.
    fn is_one_error_with(&self, words: &[&str]) {
        assert_eq!(self.code, Some(1), "{self:?}");
        let errors: Vec<&str> = self.err.lines().filter(|line| line.starts_with("error:")).collect();
        assert_eq!(errors.len(), 1, "{self:?}");
        assert!(words.iter().all(|word| errors[0].contains(word)), "{words:?} in {self:?}");
    }
}

#[test]
fn doctor_says_one_line_for_each_check_and_fails_when_one_of_them_does() {
    let said = Checkout::new().dev(&["doctor"]);
    let marks: Vec<char> = said.out.lines().filter_map(|line| line.chars().next()).collect();
    assert!(marks.len() >= 10 && marks.iter().all(|mark| "✓·✗".contains(*mark)), "{said:?}");
    assert_eq!(said.code, Some(i32::from(marks.contains(&'✗'))), "{said:?}");
}

#[test]
fn doctor_names_a_python_that_does_not_run() {
    let said = Checkout::new().dev_with(&["doctor"], &[("SWITCHYARD_PYTHON", "/nowhere/python")]);
    let line = said.out.lines().find(|line| line.contains("Python")).unwrap();
    assert!(line.starts_with('✗') && line.contains("SWITCHYARD_PYTHON"), "{said:?}");
    assert_eq!(said.code, Some(1));
}

#[test]
fn an_old_python_is_told_before_anything_is_started() {
    let checkout = Checkout::new();
    let old = checkout.dir.dir().join("python");
    fs::write(&old, "#!/bin/sh\nprintf '3.9\\nTrue\\n/usr/bin/python3.9\\n'\n").unwrap();
    fs::set_permissions(&old, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let said = checkout.dev_with(&["up"], &[("SWITCHYARD_PYTHON", old.to_str().unwrap())]);
    said.is_one_error_with(&["3.9", "3.11", "SWITCHYARD_PYTHON"]);
}

#[test]
fn where_nothing_runs_each_command_says_how_to_start() {
    let checkout = Checkout::new();
    for arguments in [&["send", "hello"][..], &["logs"]] {
        checkout.dev(arguments).is_one_error_with(&["cargo dev up --detach"]);
    }
    let said = checkout.dev(&["status"]);
    assert!(said.out.contains("nothing runs") && said.code == Some(1), "{said:?}");
    let said = checkout.dev(&["status", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(report["running"], false);
    assert_eq!(checkout.dev(&["down"]).code, Some(0));
}

#[test]
fn a_busy_port_is_named_with_the_way_out_and_nothing_is_left_running() {
    let checkout = Checkout::new();
    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = held.local_addr().unwrap().port().to_string();
    checkout.dev(&["up", "--port", &port]).is_one_error_with(&[&port, "LocalStack", "SWITCHYARD_PORT"]);
    checkout.dev(&["up", "--postgres-port", &port]).is_one_error_with(&[&port, "Postgres", "SWITCHYARD_POSTGRES_PORT"]);
    let said = checkout.dev(&["up", "--detach", "--port", &port]);
    said.is_one_error_with(&[&port]);
    assert!(checkout.dev(&["status"]).out.contains("nothing runs"));
}

#[test]
fn an_input_that_is_no_feedback_is_named_with_its_reason() {
    let checkout = Checkout::new();
    let file = checkout.dir.dir().join("wrong.csv");
    fs::write(&file, "name,text\na,b\n").unwrap();
    checkout.dev(&["send", "--file", file.to_str().unwrap()]).is_one_error_with(&["wrong.csv", "title"]);
    checkout.dev(&["send", "--file", "/nowhere/feedback.csv"]).is_one_error_with(&["/nowhere/feedback.csv"]);
    checkout.dev(&["send", "hello", "--project", "mine"]).is_one_error_with(&["--project", "mine"]);
    checkout.dev(&["send", "-"]).is_one_error_with(&["standard input", "empty"]);
}

#[test]
fn template_prints_an_agent_s_block_as_template_yaml_has_it_and_names_the_agents_that_there_are() {
    let checkout = Checkout::new();
    let said = checkout.dev(&["template", "sentiment"]);
    let template = fs::read_to_string(Places::of_this_checkout().root().join("template.yaml")).unwrap();
    assert!(said.code == Some(0) && said.out.starts_with("  # agent sentiment:"), "{said:?}");
    assert!(template.contains(&said.out), "{said:?}");
    checkout.dev(&["template", "sentimental"]).is_one_error_with(&["sentimental", "duplicate, sentiment"]);
}

#[test]
fn reset_asks_a_person_and_removes_the_state() {
    let checkout = Checkout::new();
    fs::create_dir_all(checkout.state().join("logs")).unwrap();
    checkout.dev(&["reset"]).is_one_error_with(&["--yes"]);
    assert!(checkout.state().join("logs").exists());
    assert_eq!(checkout.dev(&["reset", "--yes"]).code, Some(0));
    assert!(!Path::new(&checkout.state()).exists());
}
