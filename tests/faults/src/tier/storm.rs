//! One long run in which everything breaks again and again, while writers write.

use super::Tell;
use crate::{
    Error,
    broker::Odds,
    chaos::{Proxy, Weather},
    programs::Programs,
    report::{Report, cpu_seconds, of_functions},
    server::Server,
    short::{RUNTIME_POINTS, SHIM_POINTS},
    stage::{Settings, Stage},
    workload::{Outcome, Workload, write},
};
use nix::sys::signal::Signal;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::Instant;

/// How rough it is.
#[derive(Debug, Clone, Copy)]
pub struct Force {
    /// What everything is drawn from.
    pub seed: u64,
    /// How many events the writers try to write; `echo` says as many again.
    pub events: usize,
    /// How many processes are killed.
    pub kills: usize,
    /// How often Postgres is stopped without a word.
    pub crashes: usize,
    /// How often all queues are emptied.
    pub wipes: usize,
    /// How many batches each agent handles at the same time.
    pub pollers: usize,
    /// How long it may take.
    pub patience: Duration,
}

/// What is done to it, one after the other, spread over the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    KillShim,
    KillAgent,
    ArmShim,
    ArmAgent,
    KillPoller,
    StopAgent,
    StopShim,
    Crash,
    Wipe,
    BadDay,
    RoughWeather,
}

impl Blow {
    const fn name(self) -> &'static str {
        match self {
            Self::KillShim => "shims killed at random",
            Self::KillAgent => "agents killed at random",
            Self::ArmShim => "shims killed at a point",
            Self::ArmAgent => "agents killed at a point",
            Self::KillPoller => "pollers killed",
            Self::StopAgent => "agents stopped past the visibility timeout",
            Self::StopShim => "shims stopped past the lease",
            Self::Crash => "Postgres stopped at once",
            Self::Wipe => "queues wiped",
            Self::BadDay => "bad days of the broker",
            Self::RoughWeather => "rough weather before the database",
        }
    }
}

/// The blows in the order in which they fall.
fn drawn(force: &Force, random: &mut fastrand::Rng) -> Vec<Blow> {
    let mut blows = Vec::new();
    let mut put = |blow, count: usize| blows.extend(std::iter::repeat_n(blow, count));
    let (shims, points) = (force.kills / 5, force.kills / 4);
    put(Blow::KillShim, shims);
    put(Blow::ArmShim, shims);
    put(Blow::ArmAgent, points);
    put(Blow::KillAgent, force.kills - 2 * shims - points);
    put(Blow::KillPoller, force.kills.div_ceil(10));
    put(Blow::StopAgent, force.kills.div_ceil(20));
    put(Blow::StopShim, force.kills.div_ceil(60));
    put(Blow::BadDay, force.kills.div_ceil(10));
    put(Blow::RoughWeather, force.kills.div_ceil(10));
    put(Blow::Crash, force.crashes);
    put(Blow::Wipe, force.wipes);
    random.shuffle(&mut blows);
    blows
}

/// Runs it.
///
/// # Errors
/// [`Error`] where the suite itself could not go on.
pub async fn run(server: &Arc<Server>, programs: &Programs, force: Force, tell: Tell<'_>) -> Result<Report, Error> {
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let mut random = fastrand::Rng::with_seed(force.seed);
    let proxy = Proxy::start(server.port(), random.u64(..)).await.map_err(Error::doing("start the proxy"))?;
    let settings = Settings {
        name: format!("storm_{}", force.seed),
        seed: random.u64(..),
        pace: 5.0,
        visibility: Duration::from_secs(30),
        pollers: force.pollers,
        shims: 2,
        bug: None,
        dependency: false,
        steward: Some(Duration::from_secs(2)),
        standstill: force.patience,
        leases_end_with_their_holders: false,
    };
    let mut stage = Stage::set(Arc::clone(server), programs, settings, Some(proxy.port)).await?;
    stage.open();
    let deadline = began + force.patience;
    let mut workload = Workload::of(random.u64(..), force.events);
    // Large transactions, so that the writers do not take the database's time from those that are tested.
    (workload.batch, workload.writers, workload.solo, workload.shared) = (100, 4, 200, 2_000);
    (workload.linger, workload.publish) = (Duration::from_millis(20), 5);
    let url = switchyard_localstack::postgres::url(proxy.port, &format!("storm_{}", force.seed));
    let (intents, writing) = (stage.intents.clone(), Instant::now());
    let writer = tokio::spawn(async move { write(&url, &workload, &intents, deadline).await });
    let mut blows: BTreeMap<String, u64> = BTreeMap::new();
    let all = drawn(&force, &mut random);
    let (of, expected) = (all.len(), 2 * force.events as u64);
    for (n, blow) in all.into_iter().enumerate() {
        let due = expected * (n as u64 + 1) / (of as u64 + 1);
        while stage.delivered() < due && Instant::now() < deadline && !(writer.is_finished() && stage.is_idle()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        strike(blow, server, &stage, &proxy, &mut random).await?;
        *blows.entry(blow.name().to_owned()).or_default() += 1;
        tell(format_args!("{} of {of} blows, {} of {expected} delivered", n + 1, stage.delivered()));
    }
    let _ = writer.await;
    let wrote = writing.elapsed();
    proxy.weather(Weather::default());
    stage.broker.misbehave(Odds::default());
    tell(format_args!("coming to rest"));
    let verdict = stage.check(deadline).await?;
    let settled = began.elapsed();
    blows.extend(of_functions(&stage.counts()));
    blows
        .extend(stage.broker.committed().into_iter().map(|(name, count)| (format!("messages or calls {name}"), count)));
    blows.extend(proxy.happened().into_iter().map(|(name, count)| (name.to_owned(), count)));
    let mut report = Report::of("storm", "the stand-in broker", force.seed.to_string());
    report.add(force.seed, &verdict, &blows);
    report.figure("intents ok", stage.intents.count(Outcome::Ok));
    report.figure("intents rolled back or refused", stage.intents.count(Outcome::Fail));
    report.figure("intents unknown, and committed", verdict.unknown_committed);
    report.figure("intents unknown", stage.intents.count(Outcome::Unknown));
    report.figure("messages delivered, copies included", stage.delivered());
    report.figure("seconds of writing", wrote.as_secs());
    report.figure("seconds until all was settled", settled.as_secs());
    stage.strike().await?;
    report.took(began.elapsed(), cpu);
    Ok(report)
}

async fn strike(
    blow: Blow,
    server: &Arc<Server>,
    stage: &Stage,
    proxy: &Proxy,
    random: &mut fastrand::Rng,
) -> Result<(), Error> {
    let agent = if random.bool() { "echo" } else { "tally" };
    let whom = |name: &str| stage.functions.get(name).cloned();
    let (Some(shim), Some(agent), mapping) = (whom("shim"), whom(agent), stage.mappings.get(agent)) else {
        return Ok(());
    };
    match blow {
        Blow::KillShim => drop(shim.signal(Signal::SIGKILL, |of| random.usize(..of))),
        Blow::KillAgent => drop(agent.signal(Signal::SIGKILL, |of| random.usize(..of))),
        // One that is running makes room for one that is armed.
        Blow::ArmShim => {
            let point = SHIM_POINTS[random.usize(..SHIM_POINTS.len())];
            shim.arm(format!("{point}=kill@{}", random.u32(1..20)));
            shim.signal(Signal::SIGKILL, |of| random.usize(..of));
        }
        Blow::ArmAgent => {
            let point = RUNTIME_POINTS[random.usize(..RUNTIME_POINTS.len())];
            agent.arm(format!("{point}=kill@{}", random.u32(1..20)));
            agent.signal(Signal::SIGKILL, |of| random.usize(..of));
        }
        Blow::KillPoller => {
            if let Some(mapping) = mapping {
                mapping.kill_poller(|of| random.usize(..of));
            }
        }
        Blow::StopAgent => pause(agent, Duration::from_secs(8), random.usize(..)),
        Blow::StopShim => pause(shim, Duration::from_secs(16), random.usize(..)),
        Blow::Crash => {
            let server = Arc::clone(server);
            let crashed = tokio::task::spawn_blocking(move || server.crash()).await;
            crashed.map_err(|error| Error::Other(format!("the crash went wrong: {error}")))??;
        }
        Blow::Wipe => drop(stage.broker.wipe()),
        Blow::BadDay => {
            let broker = stage.broker.clone();
            broker.misbehave(Odds::BAD_DAY);
            let how_long = Duration::from_secs(random.u64(1..4));
            tokio::spawn(async move {
                tokio::time::sleep(how_long).await;
                broker.misbehave(Odds::default());
            });
        }
        Blow::RoughWeather => {
            proxy.weather(Weather::ROUGH);
            tokio::time::sleep(Duration::from_millis(random.u64(300..1_500))).await;
            proxy.weather(Weather::default());
        }
    }
    Ok(())
}

/// Stops a process and continues it later, if it is still there.
fn pause(function: crate::host::Function, how_long: Duration, which: usize) {
    if function.signal(Signal::SIGSTOP, |of| which % of) {
        tokio::spawn(async move {
            tokio::time::sleep(how_long).await;
            function.signal_all(Signal::SIGCONT);
        });
    }
}
