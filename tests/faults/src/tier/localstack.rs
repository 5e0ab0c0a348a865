//! The same counting through LocalStack: the real template deployed, the bundle's own agents as its bootstraps, and kills at random.
//!
//! The agents are not the suite's, so nothing is drawn to fail: everything must be done, once.

use super::Tell;
use crate::{
    Error,
    checker::{Check, Tally},
    report::{Report, cpu_seconds},
    server::connect,
    workload::{Intents, Outcome},
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
use uuid::Uuid;

/// How many posts one transaction inserts: pairs that say the same, each pair in a project of its own.
const AT_ONCE: usize = 50;

/// How many transactions of a hundred are rolled back.
const ROLLED_BACK: u32 = 10;

/// Counts every write to both agents' tables. What is on `duplicate`'s would hide a second one, so it goes.
const COUNT_WRITES: &str = "
    create table written (agent text, post_id uuid);
    create function count_write() returns trigger language plpgsql as
        'begin insert into public.written values (tg_argv[0], new.post_id); return null; end';
    create trigger count_write after insert or update on sentiment_analysis for each row execute function count_write('sentiment');
    create trigger count_write after insert or update on feedback_duplicates for each row execute function count_write('duplicate');
    alter table feedback_duplicates drop constraint feedback_duplicates_pkey;";

/// Runs it: of five events two are posts', two are what `sentiment` says of them, and one is what `duplicate` says of each pair.
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
    let posts = events * 2 / 5 / AT_ONCE * AT_ONCE;
    if posts == 0 {
        return Err(Error::Other(format!("too few events: at least {}", AT_ONCE * 5 / 2)));
    }
    let (url, intents) = (world.database_url.clone(), Intents::default());
    let (noted, draws) = (intents.clone(), fastrand::Rng::with_seed(random.u64(..)));
    let writer = tokio::spawn(async move { write(&url, posts, draws, &noted).await });
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
    report.require(killed == kills, format!("{killed} of {kills} processes were killed"));
    judge(&world, &client, &intents, &mut report).await?;
    report.figure("intents ok", intents.count(Outcome::Ok));
    report.figure("intents rolled back", intents.count(Outcome::Fail));
    report.figure("intents unknown", intents.count(Outcome::Unknown));
    report.took(began.elapsed(), cpu);
    Ok(report)
}

/// The names of the functions that carry and handle: the shim and the agents.
async fn functions(world: &World) -> Result<Vec<String>, Error> {
    let directory = LambdaDirectory::new(&world.aws, "switchyard".into());
    let places = directory.places().await.map_err(|error| Error::Other(error.to_string()))?;
    let names = places.agents.into_iter().map(|place| place.function.rsplit(':').next().unwrap_or_default().to_owned());
    let shim = world.outputs.get("ShimFunctionName").cloned();
    Ok(names.chain(shim).collect())
}

/// Writes until so many are committed. Pairs that say the same, each in a project of its own: of a pair `duplicate` finds the later one, once.
async fn write(url: &str, posts: usize, mut random: fastrand::Rng, intents: &Intents) -> Result<(), Error> {
    let mut client = connect(url).await?;
    while intents.count(Outcome::Ok) < posts {
        let ids: Vec<Uuid> =
            (0..AT_ONCE).map(|_| uuid::Builder::from_random_bytes(random.u128(..).to_le_bytes()).into_uuid()).collect();
        let projects: Vec<Uuid> = ids.chunks(2).flat_map(|pair| pair.iter().map(|_| pair[0])).collect();
        let insert = "insert into posts (id, project_id, title, description)
                      select id, project, 'I love number ' || project, 'words' from unnest($1::uuid[], $2::uuid[]) u (id, project)";
        let outcome = match client.transaction().await {
            Err(_) => Outcome::Fail,
            Ok(work) => match work.execute(insert, &[&ids, &projects]).await {
                Err(_) => Outcome::Fail,
                Ok(_) if random.u32(..100) < ROLLED_BACK => {
                    let _ = work.rollback().await;
                    Outcome::Fail
                }
                Ok(_) => work.commit().await.map_or(Outcome::Unknown, |()| Outcome::Ok),
            },
        };
        intents.note(ids, outcome);
        if client.is_closed() {
            client = connect(url).await?;
        }
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

/// How many of these posts fulfil a condition; `p.id` is the post.
async fn among(client: &Client, posts: &[Uuid], condition: &str) -> Result<u64, Error> {
    let sql = format!("select count(*) from unnest($1::uuid[]) p (id) where {condition}");
    let count: i64 = client.query_one(&sql, &[&posts]).await?.get(0);
    Ok(u64::try_from(count).unwrap_or_default())
}

/// Every effect that there can be of a post, by the table and the event that say so.
const TRACES: [(&str, &str); 6] = [
    ("in the application's table", "exists (select 1 from posts x where x.id = p.id)"),
    ("said", "exists (select 1 from events e where e.type = 'feedback.created' and e.aggregate_id = p.id)"),
    ("analysed", "exists (select 1 from sentiment_analysis x where x.post_id = p.id)"),
    (
        "said to be analysed",
        "exists (select 1 from events e where e.type = 'sentiment.analyzed' and e.aggregate_id = p.id)",
    ),
    ("compared", "exists (select 1 from feedback_duplicates x where p.id in (x.post_id, x.duplicate_of))"),
    (
        "said to be compared",
        "exists (select 1 from events e join feedback_duplicates x on x.post_id = e.aggregate_id
                  where e.type = 'duplicate.found' and p.id in (x.post_id, x.duplicate_of))",
    ),
];

async fn judge(world: &World, client: &Client, intents: &Intents, report: &mut Report) -> Result<(), Error> {
    report.events = count(client, "select count(*) from events").await?;
    let mut find = |check: Check, count: u64, what: &str| {
        if count > 0 {
            *report.violations.entry(check).or_default() += count;
            report.examples.entry(check).or_default().push(format!("{count} {what}"));
        }
    };
    let told = |wanted: Outcome| {
        let all = intents.list().into_iter();
        all.filter(|(_, outcome)| *outcome == wanted).map(|(id, _)| id).collect::<Vec<_>>()
    };
    let (ok, failed, unknown) = (told(Outcome::Ok), told(Outcome::Fail), told(Outcome::Unknown));
    find(Check::Untested, u64::from(ok.is_empty()), "runs without a committed post");
    for (what, there) in TRACES {
        let missing = among(client, &ok, &format!("not {there}")).await?;
        find(Check::Lost, missing, &format!("posts were committed and are not {what}"));
        find(Check::Phantom, among(client, &failed, there).await?, &format!("posts were rolled back and are {what}"));
        // Where the writer had no answer, the table decides: all of it, or nothing.
        let halves = among(client, &unknown, &format!("({there}) <> ({})", TRACES[0].1)).await?;
        find(Check::Lost, halves, &format!("posts are in the table and not {what}, or the other way round"));
    }
    let sql = "select count(*) from events e where not exists (select 1 from posts p where p.id = e.aggregate_id)";
    find(Check::Phantom, count(client, sql).await?, "events about no post");
    let sql = "select count(*) from events e
                where e.type = 'duplicate.found' and not exists (select 1 from feedback_duplicates d where d.post_id = e.aggregate_id)";
    find(Check::Phantom, count(client, sql).await?, "posts were said to be compared and were not");
    for agent in ["sentiment", "duplicate"] {
        let sql = format!(
            "select coalesce(sum(n - 1), 0)::bigint from (select count(*) as n from public.written where agent = '{agent}' group by post_id) w"
        );
        find(Check::Doubled, count(client, &sql).await?, &format!("effects of {agent} were written again"));
    }
    for said in ["feedback.created", "sentiment.analyzed", "duplicate.found"] {
        let sql = format!("select count(*) - count(distinct aggregate_id) from events where type = '{said}'");
        find(Check::Doubled, count(client, &sql).await?, &format!("{said} was said again"));
    }
    // Both of a pair cannot be the later one.
    let sql =
        "select count(*) - count(distinct project_id) from feedback_duplicates d join posts p on p.id = d.post_id";
    find(Check::Doubled, count(client, sql).await?, "pairs were found twice");
    let registered = world.store.agents().await?;
    for agent in ["sentiment", "duplicate"].iter().filter(|agent| !registered.iter().any(|name| name == *agent)) {
        find(Check::Untested, 1, &format!("agents are not registered: {agent}"));
    }
    find(Check::Unsettled, unsettled(client).await?, "neither settled nor parked");
    let spent = count(client, "select count(*) from switchyard.failure where reason = 'failed'").await?;
    find(Check::Spent, spent, "attempts were counted, and nothing was drawn to fail");
    for agent in registered {
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
