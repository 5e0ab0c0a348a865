//! Short runs: a few dozen events, everything broken once or twice, a fresh database each. What a run does follows from its seed.

use crate::{
    Error, backends,
    broker::Odds,
    checker::Verdict,
    host::Function,
    old_system, outside,
    programs::Programs,
    server::Server,
    workload::{Workload, write},
    world::{Settings, World},
};
use nix::sys::signal::Signal;
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use switchyard_store::Mode;
use tokio::time::Instant;

/// Where the agents' runtime may break, in the order in which a batch passes.
pub const RUNTIME_POINTS: [&str; 9] = [
    "runtime.after_parse",
    "runtime.after_preview",
    "runtime.after_gather",
    "runtime.after_claim",
    "runtime.before_commit",
    "runtime.after_commit",
    "runtime.after_dead_letter",
    "runtime.after_park",
    "runtime.after_fail",
];

/// Where the shim may break.
pub const SHIM_POINTS: [&str; 5] =
    ["shim.after_lease", "shim.after_read", "shim.before_publish", "shim.after_publish", "shim.after_delete"];

/// How long a run may take: far longer than any does that comes to rest.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a run is about, beside what all of them are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Theme {
    /// Nothing else.
    Plain,
    /// Half of the aggregates belong to the old system, which works beside the agent.
    Cutover,
    /// Publishers without a database send events, good ones, copies and bad ones, to the ingress queue.
    Ingress,
    /// Payloads so large that few fit into one call.
    Bulky,
    /// Two shims share the work, and the topic answers after seconds.
    SlowTopic,
}

/// What a run does.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What everything is drawn from.
    pub seed: u64,
    /// What it is about.
    pub theme: Theme,
    workload: Workload,
    odds: Odds,
    arms: Vec<(&'static str, String)>,
    /// Kills at random: after how long, and whom.
    kills: Vec<(Duration, &'static str)>,
    /// How many backends are ended in a COMMIT or before one.
    backends: u8,
    /// A cutover goes on while it is under way: after how long, and to how many percent.
    routing: Vec<(Duration, u8)>,
    pollers: usize,
    strangers: usize,
}

/// How long backends are looked for that are in a COMMIT.
const LOOKED_FOR: Duration = Duration::from_millis(600);

/// How a run went.
#[derive(Debug, Clone, Serialize)]
pub struct Went {
    /// Its seed.
    pub seed: u64,
    /// What it was about.
    pub theme: Theme,
    /// What the checker found.
    pub verdict: Verdict,
    /// How many faults of each kind there were.
    pub faults: BTreeMap<String, u64>,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

impl Plan {
    /// Draws what a run does.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let theme = match random.u8(..32) {
            0..6 => Theme::Cutover,
            6..12 => Theme::Ingress,
            12..16 => Theme::Bulky,
            16 => Theme::SlowTopic,
            _ => Theme::Plain,
        };
        let mut workload = Workload::of(random.u64(..), random.usize(20..60));
        workload.solo = random.usize(1..4);
        workload.shared = random.usize(1..6);
        workload.of_tomorrow = 20;
        let scale = *random.choice(&[0.0, 1.0, 1.0, 5.0]).unwrap_or(&1.0);
        let mut odds = Odds { hang: 0.0, ..Odds::BAD_DAY.times(scale) };
        let mut arms = Vec::new();
        for function in ["echo", "tally"] {
            for _ in 0..random.usize(..3) {
                let point = RUNTIME_POINTS[random.usize(..RUNTIME_POINTS.len())];
                let action = if random.u8(..4) == 0 { "stop" } else { "kill" };
                arms.push((function, format!("{point}={action}@{}", random.u32(1..4))));
            }
        }
        for _ in 0..random.usize(..3) {
            let point = SHIM_POINTS[random.usize(..SHIM_POINTS.len())];
            arms.push(("shim", format!("{point}=kill@{}", random.u32(1..4))));
        }
        let kills = (0..random.usize(..3)).map(|_| {
            let whom = ["shim", "echo", "tally", "poller"][random.usize(..4)];
            (Duration::from_millis(random.u64(10..400)), whom)
        });
        let mut kills: Vec<_> = kills.collect();
        match theme {
            Theme::Plain | Theme::Cutover => {}
            Theme::Ingress => {
                arms.push(("ingest", format!("ingest.after_append=kill@{}", random.u32(1..3))));
                kills.push((Duration::from_millis(random.u64(10..200)), "ingest"));
            }
            // Half of them end as dead letters, which travel together, too.
            Theme::Bulky => (workload.bulky, workload.of_tomorrow) = ((200_000, 700), 500),
            Theme::SlowTopic => {
                // Leases end by the clock here, so that a shim that dies would keep the run waiting.
                arms.retain(|(function, _)| *function != "shim");
                kills.retain(|(_, whom)| *whom != "shim");
                odds = Odds { late_answer: 0.5, late_up_to: Duration::from_secs(3), ..Odds::default() };
                workload.pause = Duration::from_millis(200);
            }
        }
        let (pollers, strangers) = (random.usize(1..3), random.usize(..3));
        let mut routing = Vec::new();
        if theme == Theme::Cutover {
            for _ in 0..random.usize(1..4) {
                routing.push((Duration::from_millis(random.u64(20..200)), random.u8(0..=100)));
            }
        }
        let backends = if theme != Theme::SlowTopic && random.bool() { random.u8(1..4) } else { 0 };
        if backends > 0 {
            // One waits at the door of its commit, or with its claim in its hand, until its backend is gone.
            let agent = if random.bool() { "echo" } else { "tally" };
            let point = if random.bool() { "runtime.before_commit" } else { "runtime.after_claim" };
            arms.insert(0, (agent, format!("{point}=delay=400@{}", random.u32(1..3))));
        }
        Self { seed, theme, workload, odds, arms, kills, backends, routing, pollers, strangers }
    }
}

/// Runs it.
///
/// # Errors
/// [`Error`] where the suite itself could not go on.
pub async fn run(server: Arc<Server>, programs: &Programs, plan: &Plan, bug: Option<&str>) -> Result<Went, Error> {
    let began = Instant::now();
    let (name, elsewhere) = (format!("short_{}", plan.seed), server.url("postgres"));
    let settings = Settings {
        name: name.clone(),
        seed: plan.seed,
        pace: 20.0,
        visibility: Duration::from_secs(10),
        pollers: plan.pollers,
        shims: if plan.theme == Theme::SlowTopic { 2 } else { 1 },
        bug: bug.map(str::to_owned),
        dependency: false,
        // Whom the agent has told that an event is not its own may find that it is by now: the ledger knows, and a steward sends it again.
        steward: (!plan.routing.is_empty()).then_some(Duration::from_millis(500)),
        standstill: Duration::from_secs(15),
        leases_end_with_their_holders: plan.theme != Theme::SlowTopic,
    };
    let mut world = World::set(server, programs, settings, None).await?;
    world.broker.misbehave(plan.odds);
    for (function, arm) in &plan.arms {
        if let Some(function) = world.functions.get(function) {
            function.arm(arm.clone());
        }
    }
    if plan.theme == Theme::Cutover {
        world.store().set_routing("echo", Mode::Percent(50), "the faults").await?;
        world.beside(tokio::spawn(old_system::work(world.url().to_owned(), "echo")));
    }
    world.open();
    world.beside(continue_the_stopped(&world));
    let deadline = began + PATIENCE;
    let killing = kill_at_random(&world, plan);
    for n in 0..plan.strangers {
        for agent in world.queues.keys() {
            world.stranger(agent, &format!("{{ no event {n}"));
        }
    }
    if plan.theme == Theme::Ingress {
        outside::publish(&world, plan.seed);
    }
    let ending = async {
        if plan.backends > 0 {
            backends::end(&elsewhere, &name, plan.backends, LOOKED_FOR).await
        } else {
            BTreeMap::new()
        }
    };
    let writing = write(world.url(), &plan.workload, &world.intents, deadline);
    let ((), (), ended, moved) = tokio::join!(writing, killing, ending, cut_over(&world, plan));
    // Faults end, so that what is left can come to rest.
    let verdict = world.check(Instant::now() + PATIENCE).await?;
    let mut faults = world.happened();
    faults.extend(ended);
    faults.insert("routings moved in mid-run".to_owned(), moved?);
    world.strike().await?;
    Ok(Went {
        seed: plan.seed,
        theme: plan.theme,
        verdict,
        faults,
        millis: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

async fn kill_at_random(world: &World, plan: &Plan) {
    let mut random = fastrand::Rng::with_seed(plan.seed ^ 1);
    for (after, whom) in &plan.kills {
        tokio::time::sleep(*after).await;
        if *whom == "poller" {
            world.mappings.values().for_each(|mapping| mapping.kill_poller(|of| random.usize(..of)));
        } else if let Some(function) = world.functions.get(whom) {
            function.signal(Signal::SIGKILL, |of| random.usize(..of));
        }
    }
}

/// Moves the lever of the cutover while both sides work, and says how often.
async fn cut_over(world: &World, plan: &Plan) -> Result<u64, Error> {
    for (after, percent) in &plan.routing {
        tokio::time::sleep(*after).await;
        world.store().set_routing("echo", Mode::Percent(*percent), "the faults").await?;
    }
    Ok(plan.routing.len() as u64)
}

/// Continues what has stopped itself, now and then: by then another process has its messages.
fn continue_the_stopped(world: &World) -> tokio::task::JoinHandle<()> {
    let functions: Vec<_> = world.functions.values().cloned().collect();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(800)).await;
            functions.iter().for_each(Function::wake);
        }
    })
}
