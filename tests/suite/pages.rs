//! The commands in the pages exist: each command and option of `switchyard`, `switchyard-setup` and `cargo dev` in a code span or a console
//! block, by the programs' own help. And each reason that a page gives to a command is one that something is parked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use switchyard_event::Reason;
use switchyard_tests::program::program;

/// How a page calls each program, and its binary.
const PROGRAMS: [(&str, &str); 3] =
    [("switchyard", "switchyard"), ("switchyard-setup", "switchyard-setup"), ("cargo dev", "dev")];

/// What a program takes: its own options, and each command's, with those of the commands below it.
struct Help {
    options: BTreeSet<String>,
    commands: BTreeMap<String, BTreeSet<String>>,
}

impl Help {
    fn of(binary: &str) -> Self {
        let text = help(binary, &[]);
        let named = commands(&text).into_iter().map(|command| (command.clone(), below(binary, &[&command])));
        Self { options: options(&text), commands: named.collect() }
    }
}

fn help(binary: &str, path: &[&str]) -> String {
    let output = Command::new(program(binary)).env_clear().args(path).arg("--help").output().unwrap();
    assert!(output.status.success(), "{binary} {path:?} --help");
    String::from_utf8(output.stdout).unwrap()
}

/// The names below the title `Commands:` of a help text.
fn commands(help: &str) -> Vec<String> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = list.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

/// The options that a command lists, and those of the commands below it.
fn below(binary: &str, path: &[&str]) -> BTreeSet<String> {
    let text = help(binary, path);
    let deeper = commands(&text);
    deeper.iter().flat_map(|command| below(binary, &[path, &[command]].concat())).chain(options(&text)).collect()
}

/// The options that begin a line of a help text.
fn options(help: &str) -> BTreeSet<String> {
    let lines = help.lines().map(str::trim).filter(|line| line.starts_with('-'));
    let words = lines.flat_map(|line| line.split(['=', ',', ' ', '[', '<']).take_while(|word| !word.contains('>')));
    words.filter(|word| word.starts_with('-')).map(str::to_owned).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The README, the pages of `docs`, and the READMEs of folders: each with its text.
fn pages() -> Vec<(PathBuf, String)> {
    fn markdown(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            let name = entry.file_name().unwrap().to_str().unwrap();
            if entry.is_dir() && name != "target" && !name.starts_with('.') {
                markdown(&entry, found);
            } else if name.ends_with(".md") && name != "CHANGELOG.md" {
                found.push(entry);
            }
        }
    }
    let mut found = vec![root().join("README.md")];
    ["docs", "shared", "functions", "localstack", "tests"]
        .iter()
        .for_each(|dir| markdown(&root().join(dir), &mut found));
    found.into_iter().map(|page| (page.clone(), fs::read_to_string(page).unwrap())).collect()
}

/// The code spans and the console lines of a page, that is what a reader may type.
fn typed(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_block = false;
    for line in text.replace("\\\n", " ").lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            found.extend(line.trim_start().strip_prefix("$ ").map(str::to_owned));
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// The words after a program's name, in each part of what is typed that calls it; up to a comment.
fn calls<'a>(typed: &'a str, name: &str) -> Vec<Vec<&'a str>> {
    let parts = typed.split(['|', ';']).map(|part| part.split(" #").next().unwrap_or_default().trim());
    let after =
        parts.filter_map(|part| part.strip_prefix(name)).filter(|rest| rest.is_empty() || rest.starts_with(' '));
    after.map(|rest| rest.split_whitespace().collect()).collect()
}

#[test]
fn every_command_and_option_in_the_pages_exists_and_every_command_is_in_a_page() {
    let pages = pages();
    for (name, binary) in PROGRAMS {
        let help = Help::of(binary);
        let mut shown = BTreeSet::new();
        for (page, text) in &pages {
            for typed in typed(text) {
                for words in calls(&typed, name) {
                    let command =
                        words.first().filter(|word| word.starts_with(|first: char| first.is_ascii_lowercase()));
                    let known = match command.filter(|_| !help.commands.is_empty()) {
                        None => &help.options,
                        Some(command) => {
                            shown.insert((*command).to_owned());
                            let page = page.display();
                            help.commands
                                .get(*command)
                                .unwrap_or_else(|| panic!("{page}: {name} has no {command}: {typed}"))
                        }
                    };
                    let options = words.iter().filter(|word| word.starts_with('-') && word.len() > 1);
                    for option in options.map(|option| option.split('=').next().unwrap_or(option)) {
                        let page = page.display();
                        assert!(known.contains(option), "{page}: {name} has no {option} here: {typed}");
                    }
                }
            }
        }
        let all: BTreeSet<String> = help.commands.into_keys().collect();
        assert_eq!(all.difference(&shown).collect::<Vec<_>>(), Vec::<&String>::new(), "{name}: in no page");
    }
}

#[test]
fn every_reason_that_a_page_gives_to_a_command_is_one_that_something_is_parked_for() {
    let agents = fs::read_dir(root().join("functions/agents")).unwrap();
    let decisions: String =
        agents.map(|agent| fs::read_to_string(agent.unwrap().path().join("src/decide.rs")).unwrap()).collect();
    let mut checked = 0;
    for (page, text) in pages() {
        for typed in typed(&text) {
            for words in calls(&typed, "switchyard") {
                for pair in words.windows(2).filter(|pair| pair[0] == "--reason" && !pair[1].starts_with('\'')) {
                    let own = decisions.contains(&format!("\"{}\"", pair[1]));
                    let page = page.display();
                    assert!(own || Reason::of(pair[1]).is_some(), "{page}: nothing is parked for {}: {typed}", pair[1]);
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 0, "the pages have examples with a reason");
}
