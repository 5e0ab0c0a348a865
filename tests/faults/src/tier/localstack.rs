//! The same counting through LocalStack: the real template deployed, the bundle's own agents as its bootstraps, and kills at random.
//!
//! The agents are not the suite's, so nothing is drawn to fail: everything must be done, once.

use super::Tell;
use crate::{
    Error,
    checker::{Check, Tally},
    report::{Report, cpu_seconds},
    server::connect,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::time::Duration;
use switchyard_bus::{Directory as _, LambdaDirectory};
use switchyard_tests::World;
use tokio::time::Instant;
use tokio_postgres::Client;

/// How many posts one statement inserts.
const AT_ONCE: usize = 50;

/// Counts every write to an agent's table, where no constraint could hide a second one.
const COUNT_WRITES: &str = "
    create table written (post_id uuid);
    create function count_write() returns trigger language plpgsql as
        'begin insert into public.written values (new.post_id); return null; end';
    create trigger count_write after insert or update on sentiment_analysis for each row execute function count_write();";

/// Runs it: half of the events are the posts', the other half is what `sentiment` says of them.
///
/// # Errors
/// [`Error`] where the suite itself could not go on.
pub async fn run(seed: u64, events: usize, kills: usize, patience: Duration, tell: Tell<'_>) -> Result<Report, Error> {
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let deadline = began + patience;
    let mut random = fastrand::Rng::with_seed(seed);
    let world = World::new().await;
    let client = connect(&world.database_url).await?;
    client.batch_execute(COUNT_WRITES).await?;
    let functions = functions(&world).await?;
    let posts = events / 2;
    let url = world.database_url.clone();
    let writer = tokio::spawn(async move { write(&url, posts).await });
    let mut killed = 0;
    while Instant::now() < deadline {
        let done = done(&client).await?;
        tell(format_args!("{done} of {posts} posts analysed, {killed} of {kills} kills"));
        if killed < kills && done >= posts * (killed + 1) / (kills + 1) {
            // One of each turn; a function that has no process just now is passed over.
            let function = &functions[random.usize(..functions.len())];
            if let Some(pid) = random.choice(world.pids(function)) {
                killed += usize::from(kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok());
            }
        }
        if done >= posts && unsettled(&client).await? == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(if killed < kills { 100 } else { 1_000 })).await;
    }
    writer.await.map_err(|error| Error::Other(format!("the writer ended early: {error}")))??;
    let mut report = Report::of("storm", "LocalStack, the deployed template", seed.to_string());
    report.runs = 1;
    report.faults.insert("bootstraps killed".into(), killed as u64);
    judge(&world, &client, posts, &mut report).await?;
    report.took(began.elapsed(), cpu);
    Ok(report)
}

/// The names of the functions that carry and handle: the shim and the agents.
async fn functions(world: &World) -> Result<Vec<String>, Error> {
    let directory = LambdaDirectory::new(&world.aws, "switchyard".into());
    let places = directory.places().await.map_err(|error| Error::Other(error.to_string()))?;
    let names = places.into_iter().map(|place| place.function.rsplit(':').next().unwrap_or_default().to_owned());
    let shim = world.outputs.get("ShimFunctionName").cloned();
    Ok(names.chain(shim).collect())
}

/// Each post in a project of its own, since what an agent reads of a project is not what is tested.
async fn write(url: &str, posts: usize) -> Result<(), Error> {
    let client = connect(url).await?;
    let mut left = posts;
    while left > 0 {
        let count = i64::try_from(left.min(AT_ONCE)).unwrap_or_default();
        let insert = "insert into posts (project_id, title, description)
                      select gen_random_uuid(), 'I love number ' || n, 'words' from generate_series(1, $1::bigint) n";
        client.execute(insert, &[&count]).await?;
        left -= left.min(AT_ONCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn count(client: &Client, sql: &str) -> Result<u64, Error> {
    let count: i64 = client.query_one(sql, &[]).await?.get(0);
    Ok(u64::try_from(count).unwrap_or_default())
}

async fn done(client: &Client) -> Result<usize, Error> {
    let done = count(client, "select count(*) from events where type = 'sentiment.analyzed'").await?;
    Ok(usize::try_from(done).unwrap_or(usize::MAX))
}

async fn unsettled(client: &Client) -> Result<u64, Error> {
    let sql = "select (select count(*) from switchyard.outbox)
                    + (select count(*) from switchyard.event_log e
                         join switchyard.subscription s on s.type = e.type
                         left join switchyard.delivery d on d.agent = s.agent and d.run = 0 and d.seq = e.seq
                        where d.state is null or d.state in ('a', 'f'))";
    count(client, sql).await
}

async fn judge(world: &World, client: &Client, posts: usize, report: &mut Report) -> Result<(), Error> {
    report.events = count(client, "select count(*) from events").await?;
    let mut find = |check: Check, count: u64, what: &str| {
        if count > 0 {
            *report.violations.entry(check).or_default() += count;
            report.examples.entry(check).or_default().push(format!("{count} {what}"));
        }
    };
    let created = count(client, "select count(*) from events where type = 'feedback.created'").await?;
    find(Check::Lost, (posts as u64).saturating_sub(created), "posts without an event");
    let sql = "select count(*) from posts p where not exists (select 1 from events e where e.type = 'sentiment.analyzed' and e.aggregate_id = p.id)";
    find(Check::Lost, count(client, sql).await?, "posts that were not analysed");
    let sql =
        "select coalesce(sum(n - 1), 0)::bigint from (select count(*) as n from public.written group by post_id) w";
    find(Check::Doubled, count(client, sql).await?, "analyses written again");
    let sql = "select count(*) - count(distinct aggregate_id) from events where type = 'sentiment.analyzed'";
    find(Check::Doubled, count(client, sql).await?, "analyses said again");
    find(Check::Unsettled, unsettled(client).await?, "neither settled nor parked");
    let spent = count(client, "select count(*) from switchyard.failure where reason = 'failed'").await?;
    find(Check::Spent, spent, "attempts were counted, and nothing was drawn to fail");
    for agent in world.store.agents().await? {
        let ledger = world.store.ledger(&agent).await?;
        let as_count = |n: i64| u64::try_from(n).unwrap_or_default();
        let mut tally = Tally {
            subscribed: as_count(ledger.subscribed),
            done: as_count(ledger.done),
            superseded: as_count(ledger.superseded + ledger.expired),
            pending: as_count(ledger.pending + ledger.assigned + ledger.failing),
            ..Tally::default()
        };
        let sql = "select coalesce(d.reason, ''), count(*) from switchyard.delivery d join switchyard.agent a on a.id = d.agent
                    where a.name = $1 and d.state = 'p' group by 1";
        for row in client.query(sql, &[&agent]).await? {
            tally.parked.insert(row.get(0), as_count(row.get(1)));
        }
        let parked: u64 =
            tally.parked.iter().filter(|(reason, _)| *reason != "process_died").map(|(_, count)| count).sum();
        find(Check::Misparked, parked, "were parked, and nothing was drawn to be");
        report.agents.insert(agent, tally);
    }
    Ok(())
}
