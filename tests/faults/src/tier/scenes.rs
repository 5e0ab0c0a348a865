//! Scenes: one fault each, so large that a short run has no room for it.

use crate::{
    Error,
    chaos::{Proxy, Weather},
    programs::Programs,
    report::{Report, cpu_seconds, of_functions},
    server::{Server, connect},
    stage::{Settings, Stage},
    workload::{Workload, write},
};
use nix::sys::signal::Signal;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use switchyard_tests::pooler::Pooler;
use tokio::time::Instant;

/// How long a scene may take: breakers and leases have waits of their own.
const PATIENCE: Duration = Duration::from_secs(300);

fn settings(name: &str) -> Settings {
    Settings {
        name: name.into(),
        seed: 1,
        pace: 10.0,
        visibility: Duration::from_secs(30),
        pollers: 2,
        shims: 1,
        bug: None,
        dependency: false,
        steward: None,
        standstill: PATIENCE,
        leases_end_with_their_holders: false,
    }
}

/// The scene's end: waits for rest, checks, and reports.
async fn report(
    name: &str,
    stage: Stage,
    faults: BTreeMap<String, u64>,
    began: Instant,
    cpu: f64,
) -> Result<Report, Error> {
    let verdict = stage.check(began + PATIENCE).await?;
    let mut report = Report::of(name, "the stand-in broker", "1");
    let mut all = of_functions(&stage.counts());
    all.extend(faults);
    report.add(1, &verdict, &all);
    stage.strike().await?;
    report.took(began.elapsed(), cpu);
    Ok(report)
}

/// The agents' dependency is down for a while: no attempt is spent, nothing is parked for it, and all of it is done afterwards.
///
/// # Errors
/// [`Error`] where the suite itself could not go on.
pub async fn outage(
    server: &Arc<Server>,
    programs: &Programs,
    events: usize,
    how_long: Duration,
) -> Result<Report, Error> {
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let steward = Some(Duration::from_secs(1));
    let settings = Settings { dependency: true, steward, leases_end_with_their_holders: true, ..settings("outage") };
    let mut stage = Stage::set(Arc::clone(server), programs, settings, None).await?;
    let client = connect(stage.url()).await?;
    client.execute("update dependency set up = false", &[]).await?;
    stage.open();
    write(stage.url(), &Workload::of(1, events), &stage.intents, began + PATIENCE).await;
    tokio::time::sleep(how_long).await;
    let dead: usize = ["echo", "tally"]
        .iter()
        .filter_map(|agent| stage.queues.get(agent))
        .map(|names| stage.broker.depth(&names.dead_letters).visible)
        .sum();
    let spent: i64 =
        client.query_one("select count(*) from switchyard.failure where reason = 'failed'", &[]).await?.get(0);
    let opened: i64 = client.query_one("select count(*) from switchyard.breaker where opens > 0", &[]).await?.get(0);
    client.execute("update dependency set up = true", &[]).await?;
    let up = Instant::now();
    let drained = stage.comes_to_rest(began + PATIENCE).await;
    let drain = up.elapsed();
    let mut report = report("outage", stage, BTreeMap::from([("outages".into(), 1)]), began, cpu).await?;
    report.figure("seconds down", how_long.as_secs());
    // What no agent can read is parked before anybody asks for the dependency.
    report.figure("dead letters during the outage (unreadable versions only)", dead);
    report.figure("attempts spent during the outage", spent);
    report.figure("breakers that opened", opened);
    report.figure(
        "seconds until drained, the breaker's wait included",
        format_args!("{:.1} ({drained})", drain.as_secs_f64()),
    );
    Ok(report)
}

/// All queues lose everything in the middle of a run, several times; the steward finds what is missing in the ledger and sends it again.
///
/// # Errors
/// [`Error`] where the suite itself could not go on.
pub async fn wipe(server: &Arc<Server>, programs: &Programs, events: usize) -> Result<Report, Error> {
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let settings = Settings { steward: Some(Duration::from_secs(1)), ..settings("wipe") };
    let mut stage = Stage::set(Arc::clone(server), programs, settings, None).await?;
    stage.open();
    let workload = Workload { pause: Duration::from_millis(10), ..Workload::of(2, events) };
    let (url, intents) = (stage.url().to_owned(), stage.intents.clone());
    let writing = tokio::spawn(async move { write(&url, &workload, &intents, began + PATIENCE).await });
    let mut gone = 0;
    for n in 0..50 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if writing.is_finished() && n > 5 {
            break;
        }
        gone += stage.broker.wipe();
    }
    let _ = writing.await;
    let faults = BTreeMap::from([("messages wiped".to_owned(), gone as u64)]);
    report("wipe", stage, faults, began, cpu).await
}

/// One of two shims is stopped past its lease and goes on afterwards; the other one has taken over by then.
///
/// # Errors
/// [`Error`] where the suite itself could not go on.
pub async fn stopped_shim(server: &Arc<Server>, programs: &Programs, events: usize) -> Result<Report, Error> {
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let mut stage =
        Stage::set(Arc::clone(server), programs, Settings { shims: 2, ..settings("stopped") }, None).await?;
    stage.open();
    let workload =
        Workload { pause: Duration::from_millis(20_000 * 4 * 5 / (events as u64).max(1)), ..Workload::of(3, events) };
    let (url, intents) = (stage.url().to_owned(), stage.intents.clone());
    let writing = tokio::spawn(async move { write(&url, &workload, &intents, began + PATIENCE).await });
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut stopped = 0;
    if let Some(shim) = stage.functions.get("shim") {
        stopped += u64::from(shim.signal(Signal::SIGSTOP, |_| 0));
        tokio::time::sleep(Duration::from_secs(16)).await;
        shim.signal_all(Signal::SIGCONT);
    }
    let _ = writing.await;
    report("shim stopped past its lease", stage, BTreeMap::from([("shims stopped".into(), stopped)]), began, cpu).await
}

/// Postgres is stopped at once, again and again, and connections are lost in the middle of commits.
///
/// # Errors
/// [`Error`] where the suite itself could not go on.
pub async fn crashes(server: &Arc<Server>, programs: &Programs, events: usize, crashes: u64) -> Result<Report, Error> {
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let proxy = Proxy::start(server.port(), 4).await.map_err(Error::doing("start the proxy"))?;
    let mut stage =
        Stage::set(Arc::clone(server), programs, Settings { shims: 2, ..settings("crashes") }, Some(proxy.port))
            .await?;
    stage.open();
    proxy.weather(Weather { lost_commit: 0.1, ..Weather::ROUGH });
    let workload = Workload { pause: Duration::from_millis(10), ..Workload::of(4, events) };
    let (url, intents) = (switchyard_localstack::postgres::url(proxy.port, "crashes"), stage.intents.clone());
    let writing = tokio::spawn(async move { write(&url, &workload, &intents, began + PATIENCE).await });
    for _ in 0..crashes {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let server = Arc::clone(server);
        let crashed = tokio::task::spawn_blocking(move || server.crash()).await;
        crashed.map_err(|error| Error::Other(format!("the crash went wrong: {error}")))??;
    }
    let _ = writing.await;
    proxy.weather(Weather::default());
    let mut faults: BTreeMap<String, u64> =
        proxy.happened().into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
    faults.insert("Postgres stopped at once".into(), crashes);
    report("Postgres and its connections", stage, faults, began, cpu).await
}

/// So many processes of one agent start at the same moment, in front of a pooler with a handful of connections.
///
/// # Errors
/// [`Error`] where the suite itself could not go on.
pub async fn cold_starts(server: &Arc<Server>, programs: &Programs, processes: usize) -> Result<Report, Error> {
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let pooler = Pooler::sized(&server.url("postgres"), 20).await;
    let settings = Settings { pollers: processes, pace: 1.0, ..settings("cold") };
    let mut stage = Stage::set(Arc::clone(server), programs, settings, Some(pooler.port())).await?;
    write(stage.url(), &Workload::of(5, processes * 8), &stage.intents, began + PATIENCE).await;
    stage.open();
    let mut report = report("cold starts", stage, BTreeMap::new(), began, cpu).await?;
    report.figure("processes at the same time", processes);
    report.figure("connections of the pooler", 20);
    drop(pooler);
    Ok(report)
}
