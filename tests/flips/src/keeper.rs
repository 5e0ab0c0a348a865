//! Who starts the old system, kills it, and starts it again.

use crate::{
    Options,
    old_system::Bug,
    world::{AGENT, Phase, World, nap},
};
use clap::ValueEnum;
use std::{cell::Cell, path::PathBuf, process::Stdio, time::Duration};
use tokio::{
    process::{Child, Command},
    time::Instant,
};

/// How long one of its processes lives while everything goes wrong.
const LIFE_MS: std::ops::Range<u64> = 800..6_000;

pub(crate) struct Keeper {
    program: PathBuf,
    url: String,
    bug: Option<Bug>,
    switched_off: Cell<bool>,
}

impl Keeper {
    pub(crate) fn of(world: &World, options: &Options) -> Self {
        let (program, url, bug) = (options.program.clone(), world.url(), options.bug);
        Self { program, url, bug, switched_off: Cell::new(false) }
    }

    /// For good: it is not needed any more.
    pub(crate) fn switch_off(&self) {
        self.switched_off.set(true);
    }

    /// Keeps one process of it running, and kills that with SIGKILL now and then.
    pub(crate) async fn keep(&self, world: &World) {
        let mut chance = world.chance(5);
        while !world.is_over() && !self.switched_off.get() {
            let chaos = world.phase() == Phase::Chaos;
            let mut process = self.start(chance.u64(..), chaos);
            let dies = Instant::now() + Duration::from_millis(chance.u64(LIFE_MS));
            let lives = |world: &World| {
                let calm_now = chaos && world.phase() != Phase::Chaos;
                !world.is_over() && !self.switched_off.get() && !calm_now && (!chaos || Instant::now() < dies)
            };
            while lives(world) {
                nap(Duration::from_millis(20)).await;
            }
            process.kill().await.expect("the old system can be killed");
            world.count("processes of the old system that were killed", 1);
            nap(Duration::from_millis(chance.u64(..300))).await;
        }
    }

    fn start(&self, seed: u64, fails: bool) -> Child {
        let mut command = Command::new(&self.program);
        command.arg("old-system").args(["--url", &self.url, "--agent", AGENT, "--seed", &seed.to_string()]);
        if fails {
            command.arg("--fails");
        }
        if let Some(bug) = self.bug.and_then(|bug| bug.to_possible_value()) {
            command.args(["--bug", bug.get_name()]);
        }
        command.stdin(Stdio::piped()).kill_on_drop(true).spawn().expect("the old system starts")
    }
}
