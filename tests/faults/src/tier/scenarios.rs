//! Scenarios: one fault each, so large that a short run has no room for it.

use crate::{
    Error,
    chaos::{Proxy, Weather},
    programs::Programs,
    report::{Report, cpu_seconds},
    server::{Server, connect},
    workload::{Workload, write},
    world::{Settings, World},
};
use nix::sys::signal::Signal;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use switchyard_tests::pooler::Pooler;
use tokio::time::Instant;
use tokio_postgres::SimpleQueryMessage;

/// How long a scenario may take: breakers and leases have waits of their own.
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

/// The scenario's end: waits for rest, checks, and reports.
async fn report(
    name: &str,
    world: World,
    faults: BTreeMap<String, u64>,
    began: Instant,
    cpu: f64,
) -> Result<Report, Error> {
    let verdict = world.check(began + PATIENCE).await?;
    let mut report = Report::of(name, "the stand-in broker", "1");
    let mut all = world.happened();
    all.extend(faults);
    report.add(1, &verdict, &all);
    world.strike().await?;
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
    let mut world = World::set(Arc::clone(server), programs, settings, None).await?;
    let client = connect(world.url()).await?;
    client.execute("update dependency set up = false", &[]).await?;
    world.open();
    write(world.url(), &Workload::of(1, events), &world.intents, began + PATIENCE).await;
    tokio::time::sleep(how_long).await;
    let dead: Vec<String> = ["echo", "tally"]
        .iter()
        .filter_map(|agent| world.queues.get(agent))
        .flat_map(|names| world.broker.attribute_of_all(&names.dead_letters, "reason"))
        .collect();
    // What no agent can read is parked before the dependency is asked.
    let wrong = dead.iter().filter(|reason| *reason != "unknown_version").count();
    let spent: i64 =
        client.query_one("select count(*) from switchyard.failure where reason = 'failed'", &[]).await?.get(0);
    let opened: i64 = client.query_one("select count(*) from switchyard.breaker where opens > 0", &[]).await?.get(0);
    client.execute("update dependency set up = true", &[]).await?;
    let up = Instant::now();
    let drained = world.comes_to_rest(began + PATIENCE).await;
    let drain = up.elapsed();
    let mut report = report("outage", world, BTreeMap::from([("outages".into(), 1)]), began, cpu).await?;
    report.figure("seconds down", how_long.as_secs());
    report.require(opened > 0, "no breaker opened while the dependency was down");
    report.require(drained, "not everything was done in time after the dependency was up again");
    report.require(wrong == 0, format!("the outage has made {wrong} dead letters: {dead:?}"));
    report.require(spent == 0, format!("the outage has cost {spent} attempts"));
    report.figure("dead letters during the outage (unreadable versions only)", dead.len());
    report.figure("dead letters for the outage", wrong);
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
    let mut world = World::set(Arc::clone(server), programs, settings, None).await?;
    world.open();
    let workload = Workload { pause: Duration::from_millis(10), ..Workload::of(2, events) };
    let (url, intents) = (world.url().to_owned(), world.intents.clone());
    let writing = tokio::spawn(async move { write(&url, &workload, &intents, began + PATIENCE).await });
    let mut gone = 0;
    for n in 0..50 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if writing.is_finished() && n > 5 {
            break;
        }
        gone += world.broker.wipe();
    }
    let _ = writing.await;
    let faults = BTreeMap::from([("messages wiped".to_owned(), gone as u64)]);
    let mut report = report("wipe", world, faults, began, cpu).await?;
    report.require(gone > 0, "there was nothing to wipe");
    Ok(report)
}

/// One of two shims is stopped past its lease and goes on afterwards; the other one has taken over by then.
///
/// # Errors
/// [`Error`] where the suite itself could not go on.
pub async fn stopped_shim(server: &Arc<Server>, programs: &Programs, events: usize) -> Result<Report, Error> {
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let mut world =
        World::set(Arc::clone(server), programs, Settings { shims: 2, ..settings("stopped") }, None).await?;
    world.open();
    let workload =
        Workload { pause: Duration::from_millis(30_000 * 4 * 5 / (events as u64).max(1)), ..Workload::of(3, events) };
    let (url, intents) = (world.url().to_owned(), world.intents.clone());
    let writing = tokio::spawn(async move { write(&url, &workload, &intents, began + PATIENCE).await });
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut stopped = 0;
    if let Some(shim) = world.functions.get("shim") {
        stopped += u64::from(shim.signal(Signal::SIGSTOP, |_| 0));
        tokio::time::sleep(Duration::from_secs(16)).await;
        shim.wake();
    }
    let woken = world.counts().get("shim").map_or(0, |counts| counts.stalled);
    let at_work = !writing.is_finished();
    let _ = writing.await;
    let faults = BTreeMap::from([("shims stopped".into(), stopped)]);
    let mut report = report("shim stopped past its lease", world, faults, began, cpu).await?;
    report.require(stopped > 0 && woken > 0, format!("{stopped} shims were stopped, and {woken} were found so"));
    report.require(at_work, "the writers had ended before the shim was continued");
    Ok(report)
}

/// Postgres is stopped at once, again and again, and connections are lost in the middle of commits.
///
/// # Errors
/// [`Error`] where the suite itself could not go on.
pub async fn crashes(server: &Arc<Server>, programs: &Programs, events: usize, crashes: u64) -> Result<Report, Error> {
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let proxy = Proxy::start(server.port(), 4).await.map_err(Error::doing("start the proxy"))?;
    let mut world =
        World::set(Arc::clone(server), programs, Settings { shims: 2, ..settings("crashes") }, Some(proxy.port))
            .await?;
    world.open();
    proxy.weather(Weather { lost_commit: 0.1, ..Weather::ROUGH });
    let workload = Workload { pause: Duration::from_millis(10), ..Workload::of(4, events) };
    let (url, intents) = (switchyard_localstack::postgres::url(proxy.port, "crashes"), world.intents.clone());
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
    let lost = faults.get("connections lost during a commit").copied().unwrap_or_default();
    let mut report = report("Postgres and its connections", world, faults, began, cpu).await?;
    report.require(lost > 0, "no connection was lost during a commit");
    Ok(report)
}

/// So many processes of one agent start at the same moment, in front of a pooler with a handful of connections. None is given work before all of
/// them have been started: their first invocations, and with these their first connections, are at the same time.
///
/// # Errors
/// [`Error`] where the suite itself could not go on.
pub async fn cold_starts(server: &Arc<Server>, programs: &Programs, processes: usize) -> Result<Report, Error> {
    const CONNECTIONS: u16 = 20;
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let pooler = Pooler::sized(&server.url("postgres"), CONNECTIONS).await;
    // No message may come again while the crowd gathers.
    let visibility = Duration::from_secs(180);
    let settings = Settings { pollers: processes, pace: 1.0, visibility, ..settings("cold") };
    let mut world = World::set(Arc::clone(server), programs, settings, Some(pooler.port())).await?;
    // A batch for each, after those that are rolled back.
    write(world.url(), &Workload::of(5, processes * 12), &world.intents, began + PATIENCE).await;
    if let Some(echo) = world.functions.get("echo") {
        echo.begin_together(processes);
    }
    let held = Arc::new(AtomicU64::new(0));
    let console = format!("postgres://postgres@127.0.0.1:{}/pgbouncer", pooler.port());
    world.beside(tokio::spawn(watch_pool(console, Arc::clone(&held))));
    let opened = Instant::now();
    world.open();
    let most = loop {
        let most = world.counts().get("echo").map_or(0, |counts| counts.most_at_once);
        if most >= processes as u64 || began.elapsed() > PATIENCE {
            break most;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let gathered = opened.elapsed();
    let rested = world.comes_to_rest(began + PATIENCE).await;
    let settled = opened.elapsed();
    let counts = world.counts().get("echo").copied().unwrap_or_default();
    // Before the checker connects by itself.
    let connections = held.load(Ordering::Relaxed);
    let mut report = report("cold starts", world, BTreeMap::new(), began, cpu).await?;
    report.require(most >= processes as u64, format!("{most} of {processes} processes were at work at the same time"));
    report.require(counts.timed_out == 0, format!("{} processes were killed at their deadline", counts.timed_out));
    let within = (1..=u64::from(CONNECTIONS)).contains(&connections);
    report.require(within, format!("{connections} connections to the database at once"));
    report.figure("processes at the same time", most);
    report.figure("processes started", counts.started);
    report.figure("connections of the pooler", CONNECTIONS);
    report.figure("connections to the database at the same time, at most", connections);
    report.figure("seconds until all processes had begun", format_args!("{:.1}", gathered.as_secs_f64()));
    report.figure("seconds until all was settled", format_args!("{:.1} ({rested})", settled.as_secs_f64()));
    drop(pooler);
    Ok(report)
}

/// Notes the most connections that the pooler holds to the database of the cold starts. What Postgres counts may be a few more for a moment: the
/// pooler closes one whose client has gone in the middle of a transaction, and opens another before the server has noticed.
async fn watch_pool(pooler: String, most: Arc<AtomicU64>) {
    let Ok(client) = connect(&pooler).await else { return };
    while let Ok(answer) = client.simple_query("show pools").await {
        let held: u64 = answer.iter().filter_map(held).sum();
        most.fetch_max(held, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How many connections to the database of the cold starts a row of `show pools` (pgbouncer.org, "Usage") tells of: all of the server's side but
/// those that carry nothing but a cancellation.
fn held(message: &SimpleQueryMessage) -> Option<u64> {
    let SimpleQueryMessage::Row(row) = message else { return None };
    let of_server = |name: &str| name.starts_with("sv_") && name != "sv_active_cancel";
    let held = row.columns().iter().enumerate().filter(|(_, column)| of_server(column.name()));
    (row.get("database") == Some("cold")).then(|| held.filter_map(|(at, _)| row.get(at)?.parse::<u64>().ok()).sum())
}
