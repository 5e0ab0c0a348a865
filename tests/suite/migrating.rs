//! `docs/migrating.md` from top to bottom, as it is written, on a database that plays the old system: years of events, an application that
//! appends them, and a job that analyses feedback.
//!
//! Three things are not as a reader has them: `sam` is the suite's own deployment of the template and its end, what `cargo install` would
//! install is built already, and time passes faster.

mod old_system;
mod page;

use crate::redrive::command_line;
use old_system::OldSystem;
use page::{Block, sections};
use serde_json::{Value, json};
use std::{os::unix::fs::PermissionsExt, path::PathBuf};
use switchyard_tests::{Servers, World, eventually, program::program};

/// Where the page and what it names are.
const CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// How long a comparison waits for the old system, here.
const WAIT: &str = "wait = \"1s\"";

/// Posts from before the installation.
const HISTORY: i32 = 40;

/// `cargo run -qp AGENT -- declare` without a build: the agent as it is deployed. The two programs that the page installs are on the path.
fn cargo(servers: &Servers) -> String {
    let mut script = "#!/bin/sh\ncase \"$*\" in\n".to_owned();
    for name in &servers.bootstraps.agents {
        let program = servers.bootstraps.program(name);
        script.push_str(&format!("  'run -qp {name} -- declare') exec '{}' declare ;;\n", program.display()));
    }
    for installed in ["--path shared/setup", "--path functions/console"] {
        script.push_str(&format!("  'install --locked {installed}') ;;\n"));
    }
    script + "  *) exit 2 ;;\nesac\n"
}

/// The team that follows the page.
struct Team {
    old: OldSystem,
    /// Where it works: a copy of what it edits.
    desk: PathBuf,
    world: Option<World>,
}

impl Team {
    async fn new() -> Self {
        let desk = std::env::temp_dir().join(format!("switchyard-guide-{}", std::process::id()));
        let mapping = "functions/agents/sentiment/compare.toml";
        std::fs::create_dir_all(desk.join(mapping).parent().unwrap()).unwrap();
        let written = std::fs::read_to_string(PathBuf::from(CHECKOUT).join(mapping)).unwrap();
        std::fs::write(desk.join(mapping), written.replace("wait = \"5m\"", WAIT)).unwrap();
        std::fs::create_dir_all(desk.join("bin")).unwrap();
        std::fs::write(desk.join("bin/cargo"), cargo(Servers::get().await)).unwrap();
        std::fs::set_permissions(desk.join("bin/cargo"), PermissionsExt::from_mode(0o755)).unwrap();
        Self { old: OldSystem::new(HISTORY).await, desk, world: None }
    }

    fn world(&self) -> &World {
        self.world.as_ref().expect("it is deployed by now")
    }

    async fn follow(&mut self, block: &Block) {
        match block {
            Block::Sql(statements) => {
                for statement in statements {
                    let answer = self.old.ask(statement).await;
                    assert!(answer.is_none_or(|left| left == 0), "{statement}: {answer:?}");
                }
            }
            Block::Console(commands) => {
                for command in commands {
                    let said = self.run(&command.line).await;
                    command.check(&said);
                    self.goes_on(&command.line).await;
                }
            }
        }
    }

    async fn run(&mut self, line: &str) -> String {
        if line.starts_with("sam build") {
            return String::new();
        }
        if line.starts_with("sam deploy") {
            self.world = Some(World::onto(&self.old.url).await);
            return String::new();
        }
        if line.starts_with("sam delete") {
            self.world = None;
            return String::new();
        }
        self.shell(line)
    }

    /// What a command says, all of it; it ends well, but for a removal that only shows what it would do.
    fn shell(&self, line: &str) -> String {
        let mut shell = std::process::Command::new("bash");
        let path = std::env::var("PATH").unwrap_or_default();
        let ours = program("switchyard");
        let path = format!("{}:{}:{path}", self.desk.join("bin").display(), ours.parent().unwrap().display());
        shell.args(["-o", "pipefail", "-c", line]).env("DATABASE_URL", &self.old.url).current_dir(&self.desk);
        if let Some(world) = &self.world {
            let leads_there = command_line::command(world);
            shell.envs(leads_there.get_envs().filter_map(|(name, value)| Some((name, value?))));
        }
        shell.env("PATH", path);
        let output = shell.output().unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        let only_shown = line == "switchyard-setup --remove";
        assert_eq!(output.status.success(), !only_shown, "{line}\n{said}");
        said
    }
}

/// What happens around the page's commands: users, the old system, the days between.
impl Team {
    /// Before a chapter, what its first words say that the team has done.
    async fn begins(&mut self, title: &str) {
        match title.split(':').next().unwrap() {
            "Week 1" | "Week 3" | "Week 4" | "Week 5" | "Taking all of it away" => {}
            "Week 2" => {
                // A week of posts without a claim, and the release of the code that claims.
                self.days_pass().await;
                self.old.asks = true;
            }
            "Week 6" => self.all_of_it().await,
            other => panic!("nobody plays {other:?}"),
        }
    }

    /// After a command, what it was for is seen to hold.
    async fn goes_on(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["sam", "deploy"] => {
                self.old.users_write(6).await;
                self.carried().await;
            }
            ["switchyard", "compare", _, "--mapping", _] => self.compared(12).await,
            ["switchyard", "cutover", _, "start", ..] => {
                self.old.users_write(24).await;
                self.finished().await;
            }
            ["switchyard", "backfill", _, .., "--rate", _] => self.backfilled().await,
            ["switchyard", "route", "sentiment", _, "--drain"] => {
                self.old.users_write(6).await;
                self.finished().await;
            }
            _ => {}
        }
    }

    /// Everything that was said is published.
    async fn carried(&self) {
        self.world().wake_shim();
        eventually("everything published", async || {
            (self.old.count("select count(*) from switchyard.outbox").await == 0).then_some(())
        })
        .await;
    }

    /// More than the grace passes: the steward has written the missing deliveries, and they are in the old system's list.
    async fn days_pass(&self) {
        let store = &self.world().store;
        store.set_grace("sentiment", 0).await.unwrap();
        eventually("everything has a row", async || {
            store.tick().await.unwrap();
            store.sweep("sentiment").await.unwrap();
            let without = "select count(*) from switchyard.event_log e join switchyard.subscription s on s.type = e.type
                             join switchyard.agent a on a.id = s.agent and a.name = 'sentiment'
                            where not exists (select from switchyard.delivery d where d.agent = a.id and d.run = 0 and d.seq = e.seq)";
            (self.old.count(without).await == 0).then_some(())
        })
        .await;
        store.set_grace("sentiment", 120).await.unwrap();
        self.old
            .run(
                "update switchyard.delivery set next_attempt_at = next_attempt_at - interval '1 day' where owner = 'o'",
            )
            .await;
    }

    /// Nothing is unfinished on either side, and each post is analysed once.
    async fn finished(&self) {
        self.world().settled().await;
        assert_eq!(self.old.count("select count(*) from posts where not exists (select from sentiment_analysis a where a.post_id = posts.id)").await, 0);
        assert_eq!(
            self.old.count("select count(*) from (select from written group by post_id having count(*) > 1) x").await,
            0
        );
    }

    async fn pass(&self) -> Value {
        self.world().call("steward", &json!({ "action": "pass" }))
    }

    /// Users go on, and both sides' answers are compared.
    async fn compared(&self, posts: u32) {
        self.old.users_write(posts).await;
        eventually("both sides compared", async || {
            self.pass().await;
            (self.old.count("select coalesce(sum(agreed), 0)::bigint from switchyard.comparison").await
                >= i64::from(posts))
            .then_some(())
        })
        .await;
    }

    /// Day after day, until the plan is done.
    async fn all_of_it(&self) {
        eventually("the cutover is done", async || {
            self.old.users_write(30).await;
            self.finished().await;
            self.old.run("update switchyard.cutover set step_at = step_at - interval '25 hours'").await;
            self.pass().await;
            (self.old.count("select count(*) from switchyard.cutover where state::text = 'done'").await == 1)
                .then_some(())
        })
        .await;
    }

    /// The history has gone through the agent, and nothing else.
    async fn backfilled(&self) {
        eventually("the backfill is done", async || {
            self.pass().await;
            (self.old.count("select count(*) from switchyard.backfill where state::text = 'done'").await == 1)
                .then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn the_guide_is_followed_as_it_is_written() {
    let page = std::fs::read_to_string(PathBuf::from(CHECKOUT).join("docs/migrating.md")).unwrap();
    let mut team = Team::new().await;
    for section in sections(page.leak()) {
        team.begins(section.title).await;
        for block in &section.blocks {
            team.follow(block).await;
        }
    }
    assert_eq!(team.old.count("select count(*) from pg_namespace where nspname = 'switchyard'").await, 0);
    assert_eq!(team.old.count("select count(*) from pg_trigger where tgrelid = 'events'::regclass").await, 0);
    let old = team.old.count("select count(*) from written").await;
    team.old.asks = false;
    team.old.users_write(3).await;
    assert_eq!(team.old.count("select count(*) from written").await, old + 3, "the old system works as it did before");
}
