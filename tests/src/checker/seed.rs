//! One seed: chaos, calm, rest, judgement.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use switchyard_store::Mode;
use tokio::task::JoinSet;

use super::actors::{self, Actor, Phase, World};
use super::plants::Plant;
use super::random::Random;
use super::worker::Worker;
use super::{SeedReport, agent, invariants, old_system, operators};

/// How long a world may take to come to rest. Other databases of the cluster hold the stable point back too.
const DEADLINE: Duration = Duration::from_secs(180);
/// With a planted fault the world may never come to rest; then there is no point in waiting.
const DEADLINE_WITH_A_MISTAKE: Duration = Duration::from_secs(20);

/// How a seed ends: the routing that is to hold at the end, for each agent.
#[derive(Clone, Copy)]
pub(super) struct Ending {
    pub(super) mode: Mode,
    pub(super) drain: bool,
}

pub(super) async fn run(worker: &Worker, seed: u64, plant: Option<&'static Plant>, chaos: Duration) -> SeedReport {
    worker.judge.batch_execute("select checker.reset()").await.expect("a reset");
    let mut random = Random::new(seed, "seed");
    let mut ending = || Ending {
        mode: random.pick(&[Mode::Off, Mode::Shadow, Mode::Percent(30), Mode::Percent(70), Mode::Full]),
        drain: random.chance(0.7),
    };
    let endings = [("A", ending()), ("B", ending())];
    let old_lives = random.chance(0.7);
    let brisk = plant.is_some_and(|p| p.alone) || random.chance(0.25);
    let store = if seed % 2 == 1 { worker.pooled.clone() } else { worker.direct.clone() };
    let world = Arc::new(World::new(store, plant, old_lives, brisk));

    let mut crew = JoinSet::new();
    let hire = |role: String| Actor::new(Arc::clone(&world), seed, &role);
    for n in 0..2 {
        crew.spawn(actors::writer(hire(format!("writer {n}"))));
        crew.spawn(old_system::old_system(hire(format!("old system {n}"))));
        for name in ["A", "B"] {
            crew.spawn(agent::agent(hire(format!("agent {name} {n}")), name));
        }
    }
    crew.spawn(actors::publisher(hire("publisher".into())));
    crew.spawn(actors::killer(hire("killer".into())));
    crew.spawn(operators::router(hire("router".into()), endings));
    crew.spawn(operators::reconciler(hire("reconciler".into())));
    crew.spawn(operators::operator(hire("operator".into())));

    tokio::time::sleep(chaos).await;
    world.enter(Phase::Calm);
    let patience = if plant.is_some() { DEADLINE_WITH_A_MISTAKE } else { DEADLINE };
    let deadline = Instant::now() + patience;
    let mut quiet = 0;
    while quiet < 3 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        let open = invariants::what_is_open(&worker.judge, old_lives).await;
        quiet = if open.is_empty() && world.has_settled() { quiet + 1 } else { 0 };
        if Instant::now() > deadline {
            // A fault that is slow rather than wrong would be found for the wrong reason.
            if plant.is_none_or(|p| !p.alone && !open.is_empty()) {
                world.violation(format!("does not come to rest: {}", open.join(", ")));
            }
            break;
        }
    }
    world.enter(Phase::Over);
    while let Some(ended) = crew.join_next().await {
        if let Err(e) = ended {
            world.violation(format!("an actor broke: {e}"));
        }
    }
    let mut violations = world.violations();
    violations.extend(invariants::judge(&worker.judge).await);
    let mut counts: BTreeMap<String, u64> = world.counts();
    invariants::count(&worker.judge, &mut counts).await;
    SeedReport { seed, violations, counts }
}
