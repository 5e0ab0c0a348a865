//! The template says what the agents declare, and keeps what AWS does not enforce locally.

mod alarms;
mod flow;
mod functions;
mod judge;
mod policies;
mod queues;
mod roles;
mod stack;
mod subscriptions;
mod wrong;
mod yaml;

use judge::Finding;
use std::{fs, path::PathBuf};
use switchyard_agent::Declaration;
use switchyard_tests::Servers;

fn template() -> String {
    fs::read_to_string(root().join("template.yaml")).unwrap()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[tokio::test]
async fn every_agent_s_block_is_what_the_agent_declares() {
    let template = template();
    let declarations = Servers::get().await.declarations();
    assert!(!declarations.is_empty());
    for declaration in declarations {
        let name = &declaration.name;
        assert!(
            template.contains(&switchyard_template::block(&declaration)),
            "the block of {name} in template.yaml is not what it declares: replace it by what `cargo dev template {name}` prints"
        );
    }
}

#[tokio::test]
async fn no_block_belongs_to_an_agent_that_is_not_there() {
    let declared: Vec<String> =
        Servers::get().await.declarations().into_iter().map(|agent: Declaration| agent.name).collect();
    let template = template();
    let blocks: Vec<&str> =
        template.lines().filter_map(|line| line.strip_prefix("  # agent ")?.split(':').next()).collect();
    assert_eq!(blocks, declared, "blocks of template.yaml against folders of functions/agents");
}

#[tokio::test]
async fn every_agent_declares_limits_that_aws_takes() {
    for agent in Servers::get().await.declarations() {
        assert!(agent.limits.are_sound() && agent.express_queue.is_sound(), "{}: {:?}", agent.name, agent.limits);
        assert!((1..=100).contains(&agent.max_attempts) && !agent.subscribes.is_empty(), "{}", agent.name);
    }
}

/// The longest name of a stack that the directory of agents is sure to find in the names of its queues.
const LONGEST_STACK: usize = 28;

#[test]
fn fifo_names_fit_the_limits_of_sqs() {
    let template = template();
    let names: Vec<&str> = template
        .lines()
        .filter_map(|line| {
            line.trim().strip_prefix("QueueName: !If [IsFifo, !Sub '${AWS::StackName}")?.split('\'').next()
        })
        .collect();
    assert_eq!(names.len(), template.matches("FifoQueue: !If [IsFifo, true,").count(), "each has a name");
    assert!(names.iter().all(|name| name.ends_with(".fifo")), "{names:?}");
    let added = names.iter().map(|name| name.len()).max().unwrap();
    let left = 80 - added;
    assert!(left >= LONGEST_STACK, "{names:?}");
    let topology = fs::read_to_string(root().join("docs/topology.md")).unwrap();
    for (page, text) in [("template.yaml", &template), ("docs/topology.md", &topology)] {
        let says = format!("has at most {left} characters");
        let text: Vec<&str> = text.split_whitespace().collect();
        assert!(text.join(" ").contains(&says), "{page} does not say that with fifo the stack's name {says}");
    }
    assert!(topology.contains(&format!("adds {added}")));
}

#[test]
fn no_secret_is_resolved_into_the_environment_of_a_function() {
    // Whoever may read a function's configuration would read it, and a rotated one would stay as it was at the deployment.
    assert!(!template().contains("{{resolve:"));
}

#[test]
fn no_check_finds_anything_wrong_with_the_template() {
    let found = judge::findings(&yaml::parse(&template()).unwrap());
    let lines: Vec<String> = found.iter().map(Finding::to_string).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

#[test]
fn every_agent_s_folder_bears_its_name() {
    for folder in fs::read_dir(root().join("functions/agents")).unwrap() {
        let folder = folder.unwrap().path();
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{}", folder.display());
        let main = fs::read_to_string(folder.join("src/main.rs")).unwrap();
        assert!(main.lines().count() < 15, "the main.rs of {name} does more than start");
        let samples = fs::read_dir(folder.join("events")).unwrap().count();
        assert!(samples > 0, "{name} has no sample event");
    }
}
