//! One long run in which everything breaks again and again, while writers write.

use super::Tell;
use crate::{
    Error, backends,
    broker::Odds,
    chaos::{Proxy, Weather},
    host::{Ended, Function},
    programs::Programs,
    report::{Report, cpu_seconds},
    server::{Server, connect},
    short::{RUNTIME_POINTS, SHIM_POINTS},
    workload::{Outcome, Workload, write},
    world::{Settings, World},
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use uuid::Uuid;

/// How long a fault waits for a process to hit.
const AIMED: Duration = Duration::from_secs(5);

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
    KillSteward,
    ArmSteward,
    Redrive,
    StopAgent,
    StopShim,
    EndBackends,
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
            Self::ArmShim => "shims killed for one with a plan",
            Self::ArmAgent => "agents killed for one with a plan",
            Self::KillPoller => "pollers killed",
            Self::KillSteward => "stewards killed at work",
            Self::ArmSteward => "stewards killed for one with a plan",
            Self::Redrive => "redrives and edits",
            Self::EndBackends => "rounds of ended backends",
            Self::StopAgent => "agents stopped past the visibility timeout",
            Self::StopShim => "shims stopped past the lease",
            Self::Crash => "Postgres stopped at once",
            Self::Wipe => "queues wiped",
            Self::BadDay => "bad days of the broker",
            Self::RoughWeather => "rough weather before the database",
        }
    }

    /// Whether it is one of the kills that a storm is asked for.
    const fn is_kill(self) -> bool {
        matches!(
            self,
            Self::KillShim | Self::KillAgent | Self::ArmShim | Self::ArmAgent | Self::KillSteward | Self::ArmSteward
        )
    }
}

/// The blows in the order in which they fall.
fn drawn(force: &Force, random: &mut fastrand::Rng) -> Vec<Blow> {
    let mut blows = Vec::new();
    let mut put = |blow, count: usize| blows.extend(std::iter::repeat_n(blow, count));
    let (shims, points, stewards) = (force.kills / 5, force.kills / 4, force.kills.div_ceil(12).min(force.kills / 2));
    put(Blow::KillShim, shims);
    put(Blow::ArmShim, shims);
    put(Blow::ArmAgent, points);
    put(Blow::KillSteward, stewards / 2);
    put(Blow::ArmSteward, stewards - stewards / 2);
    put(Blow::KillAgent, force.kills.saturating_sub(2 * shims + points + stewards));
    put(Blow::Redrive, force.kills.div_ceil(10));
    put(Blow::EndBackends, force.kills.div_ceil(10));
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
    let name = format!("storm_{}", force.seed);
    let settings = Settings {
        name: name.clone(),
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
    let mut world = World::set(Arc::clone(server), programs, settings, Some(proxy.port)).await?;
    world.open();
    let deadline = began + force.patience;
    let url = switchyard_localstack::postgres::url(proxy.port, &name);
    let (intents, writing) = (world.intents.clone(), Instant::now());
    let mut blows: BTreeMap<String, u64> = BTreeMap::new();
    let all = drawn(&force, &mut random);
    // The writers write a share for each blow and one for afterwards, so that none falls where nothing is to be done. It falls when half of what
    // is written by then is delivered: what is rolled back, and what `echo` parks and does not say, are far less than the other half.
    let (of, expected) = (all.len(), force.events as u64);
    let seed = random.u64(..);
    let share =
        |n: usize| share(seed.wrapping_add(n as u64), force.events * (n + 1) / (of + 1) - force.events * n / (of + 1));
    let written = |workload: Workload| {
        let (url, intents) = (url.clone(), intents.clone());
        tokio::spawn(async move { write(&url, &workload, &intents, deadline).await })
    };
    let mut fallen = 0;
    for (n, blow) in all.iter().copied().enumerate() {
        let writer = written(share(n));
        let due = expected * (n as u64 + 1) / (of as u64 + 1);
        while world.delivered() < due && Instant::now() < deadline && !(writer.is_finished() && world.is_done().await) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        fallen += usize::from(!(writer.is_finished() && world.is_done().await));
        blows.entry(blow.name().to_owned()).or_default();
        let aimed = Instant::now();
        while aimed.elapsed() < AIMED {
            if strike(blow, server, &world, &proxy, &mut random, &mut blows).await? {
                *blows.entry(blow.name().to_owned()).or_default() += 1;
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let _ = writer.await;
        tell(format_args!("{} of {of} blows, {} messages delivered", n + 1, world.delivered()));
    }
    let _ = written(share(of)).await;
    let wrote = writing.elapsed();
    proxy.weather(Weather::default());
    world.broker.misbehave(Odds::default());
    tell(format_args!("coming to rest"));
    let verdict = world.check(deadline).await?;
    let settled = began.elapsed();
    let hits = |kind: &str| blows.get(kind).copied().unwrap_or_default();
    let kinds: BTreeSet<&str> = all.iter().map(|blow| blow.name()).collect();
    let missed: Vec<&str> = kinds.into_iter().filter(|kind| hits(kind) == 0).collect();
    let killing: BTreeSet<&str> = all.iter().filter(|blow| blow.is_kill()).map(|blow| blow.name()).collect();
    let kills: u64 = killing.into_iter().map(hits).sum();
    blows.extend(world.happened());
    blows.extend(proxy.happened().into_iter().map(|(name, count)| (name.to_owned(), count)));
    let mut report = Report::of("storm", "the stand-in broker", force.seed.to_string());
    report.add(force.seed, &verdict, &blows);
    // Some wait for whom they hit, and what is written meanwhile may be done by then.
    report.require(fallen * 10 >= of * 9, format!("{fallen} of {of} blows fell while there was work"));
    report.figure("blows while there was work", format_args!("{fallen} of {of}"));
    report.require(kills == force.kills as u64, format!("{kills} of {} processes were killed", force.kills));
    missed.iter().for_each(|kind| report.require(false, format!("{kind}: not once")));
    report.figure("processes killed by blows", kills);
    report.figure("intents ok", world.intents.count(Outcome::Ok));
    report.figure("intents rolled back or refused", world.intents.count(Outcome::Fail));
    report.figure("intents unknown, and committed", verdict.unknown_committed);
    report.figure("intents unknown", world.intents.count(Outcome::Unknown));
    report.figure("messages delivered, copies included", world.delivered());
    report.figure("seconds of writing", wrote.as_secs());
    report.figure("seconds until all was settled", settled.as_secs());
    world.strike().await?;
    report.took(began.elapsed(), cpu);
    Ok(report)
}

/// What the writers write for one blow, for a second or more.
fn share(seed: u64, events: usize) -> Workload {
    let mut workload = Workload::of(seed, events);
    // Large transactions where there is much to write, so that the writers do not take the database's time from those that are tested.
    (workload.batch, workload.solo, workload.shared) = ((events / 20).clamp(2, 100), 200, 2_000);
    (workload.linger, workload.publish) = (Duration::from_millis(20), 5);
    let transactions = events.div_ceil(workload.writers * workload.batch.div_ceil(2)).max(1);
    workload.pause = Duration::from_secs(1) / u32::try_from(transactions).unwrap_or(u32::MAX);
    workload
}

async fn strike(
    blow: Blow,
    server: &Arc<Server>,
    world: &World,
    proxy: &Proxy,
    random: &mut fastrand::Rng,
    blows: &mut BTreeMap<String, u64>,
) -> Result<bool, Error> {
    let agent = if random.bool() { "echo" } else { "tally" };
    let whom = |name: &str| world.functions.get(name).cloned();
    let (Some(shim), Some(agent), mapping) = (whom("shim"), whom(agent), world.mappings.get(agent)) else {
        return Ok(false);
    };
    Ok(match blow {
        Blow::KillShim => shim.signal(Signal::SIGKILL, |of| random.usize(..of)),
        Blow::KillAgent => agent.signal(Signal::SIGKILL, |of| random.usize(..of)),
        // One that is running makes room for one that is armed.
        Blow::ArmShim => {
            let point = SHIM_POINTS[random.usize(..SHIM_POINTS.len())];
            let hit = shim.signal(Signal::SIGKILL, |of| random.usize(..of));
            if hit {
                shim.arm(format!("{point}=kill@{}", random.u32(1..20)));
            }
            hit
        }
        Blow::ArmAgent => {
            let point = RUNTIME_POINTS[random.usize(..RUNTIME_POINTS.len())];
            let hit = agent.signal(Signal::SIGKILL, |of| random.usize(..of));
            if hit {
                agent.arm(format!("{point}=kill@{}", random.u32(1..20)));
            }
            hit
        }
        Blow::KillPoller => {
            if let Some(mapping) = mapping {
                mapping.kill_poller(|of| random.usize(..of));
            }
            mapping.is_some()
        }
        Blow::KillSteward | Blow::ArmSteward => {
            let Some(steward) = whom("steward") else { return Ok(false) };
            // At rest it holds nothing that it could lose.
            let until = Instant::now() + AIMED;
            while steward.is_idle() && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let hit = !steward.is_idle() && steward.signal(Signal::SIGKILL, |of| random.usize(..of));
            if hit && blow == Blow::ArmSteward {
                let point = if random.bool() { "steward.after_due" } else { "steward.after_send" };
                steward.arm(format!("{point}=kill@1"));
            }
            hit
        }
        Blow::Redrive => redrive(world, random).await?,
        Blow::EndBackends => {
            let ended = backends::end(&server.url("postgres"), world.name(), 3, Duration::from_secs(2)).await;
            let hit = !ended.is_empty();
            for (kind, count) in ended {
                *blows.entry(kind).or_default() += count;
            }
            hit
        }
        Blow::StopAgent => pause(agent, Duration::from_secs(8), random.usize(..)),
        Blow::StopShim => pause(shim, Duration::from_secs(16), random.usize(..)),
        Blow::Crash => {
            let server = Arc::clone(server);
            let crashed = tokio::task::spawn_blocking(move || server.crash()).await;
            crashed.map_err(|error| Error::Other(format!("the crash went wrong: {error}")))??;
            true
        }
        Blow::Wipe => world.broker.wipe() > 0,
        Blow::BadDay => {
            let broker = world.broker.clone();
            broker.misbehave(Odds::BAD_DAY);
            let how_long = Duration::from_secs(random.u64(1..4));
            tokio::spawn(async move {
                tokio::time::sleep(how_long).await;
                broker.misbehave(Odds::default());
            });
            true
        }
        Blow::RoughWeather => {
            proxy.weather(Weather::ROUGH);
            tokio::time::sleep(Duration::from_millis(random.u64(300..1_500))).await;
            proxy.weather(Weather::default());
            true
        }
    })
}

/// Stops a process and continues it later, if it is still there.
fn pause(function: Function, how_long: Duration, which: usize) -> bool {
    let hit = function.signal(Signal::SIGSTOP, |of| which % of);
    if hit {
        tokio::spawn(async move {
            tokio::time::sleep(how_long).await;
            function.wake();
        });
    }
    hit
}

/// What is asked of the redrive.
#[derive(Debug, Clone, Copy)]
enum Ask {
    /// Everything, by a move task.
    All,
    /// Only this reason, from the table.
    Reason(&'static str),
    /// One event, with another payload.
    Edit(Uuid),
}

impl Ask {
    fn request(self, agent: &str) -> Value {
        let (operator, reason) = ("storm", "to see what becomes of it");
        match self {
            Self::All => json!({ "action": "redrive", "agent": agent, "operator": operator, "reason": reason }),
            Self::Reason(parked) => {
                json!({ "action": "redrive", "agent": agent, "operator": operator, "reason": reason,
                "selection": { "reasons": [parked] } })
            }
            Self::Edit(event) => json!({ "action": "edit", "agent": agent, "operator": operator, "reason": reason,
                "event_id": event, "payload": r#"{"n": 0, "filling": "edited"}"# }),
        }
    }
}

/// Sends something back; every other time in a process that dies in the middle of it. What is parked again afterwards is parked as it was drawn.
/// `false` where nothing is parked yet, or it was refused.
async fn redrive(world: &World, random: &mut fastrand::Rng) -> Result<bool, Error> {
    let agent = if random.u8(..4) > 0 { "echo" } else { "tally" };
    let Some(function) = world.functions.get("redrive") else { return Ok(false) };
    let Ok(client) = connect(world.url()).await else { return Ok(false) };
    let sql = "select e.event_id from switchyard.delivery d join switchyard.agent a on a.id = d.agent join switchyard.event_log e on e.seq = d.seq
                where a.name = $1 and d.state = 'p' and d.run = 0 order by d.seq desc limit 1";
    let Some(parked) = client.query_opt(sql, &[&agent]).await? else { return Ok(false) };
    let ask = match random.u8(..3) {
        0 => Ask::All,
        1 => Ask::Reason(if random.bool() { "attempts_used_up" } else { "unknown_version" }),
        _ => Ask::Edit(parked.get(0)),
    };
    if random.bool() {
        let point = if random.bool() { "redrive.after_redrive" } else { "redrive.after_send" };
        function.signal(Signal::SIGKILL, |_| 0);
        function.arm(format!("{point}=kill@1"));
    }
    let ended = function.invoke(ask.request(agent).to_string().into()).await;
    Ok(matches!(ended, Ok(Ended::Answered(_) | Ended::Died)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_one_that_the_redrive_understands() {
        for ask in [Ask::All, Ask::Reason("attempts_used_up"), Ask::Edit(Uuid::from_u128(7))] {
            let request = switchyard_operations::redrive::Request::parse(ask.request("echo"));
            assert!(request.is_ok(), "{request:?}");
        }
    }

    #[test]
    fn as_many_blows_kill_as_were_asked_for() {
        for kills in [1, 2, 12, 200] {
            let force =
                Force { seed: 1, events: 1, kills, crashes: 1, wipes: 1, pollers: 1, patience: Duration::from_secs(1) };
            let blows = drawn(&force, &mut fastrand::Rng::with_seed(1));
            assert_eq!(blows.iter().filter(|blow| blow.is_kill()).count(), kills);
        }
    }
}
