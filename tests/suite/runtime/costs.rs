//! What a batch costs the database: how many statements the runtime sends, how many the server executes and plans for them, those inside of
//! functions included, and how long its processor works. The counts have upper bounds; the time is printed, since no two machines agree on it.

use super::world::{PLENTY, again, delivered, published};
use sentiment::Sentiment;
use std::{fmt, fs, io::Write as _};
use switchyard_agent::Declaration;
use switchyard_bus::MemoryQueues;
use switchyard_runtime::{Budget, Worker};
use switchyard_store::{Mode, Since, Store};
use switchyard_tests::{
    database::connect,
    versions::{self, Server},
};
use tokio::time::Instant;
use tokio_postgres::Client;
use uuid::Uuid;

/// So many batches come before the one that is counted: a session keeps a plan of its own after five executions.
const WARM: usize = 12;
/// The time is the median of so many.
const TIMED: usize = 21;

const COUNTED: &[(&str, &str)] = &[
    ("shared_preload_libraries", "pg_stat_statements"),
    ("pg_stat_statements.track", "all"),
    ("pg_stat_statements.track_planning", "on"),
    // Nothing but the batch.
    ("autovacuum", "off"),
];

/// What a batch costs, once the session is warm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    sent: i64,
    executed: i64,
    planned: i64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, executed, planned } = self;
        write!(f, "{sent} statements sent, {executed} executed, {planned} planned")
    }
}

/// A database in which the agent is registered, and somebody who watches from another one.
struct Watched {
    name: String,
    store: Store,
    side: Client,
    watcher: Client,
    queues: MemoryQueues,
}

impl Watched {
    async fn new(server: &Server, name: &str) -> Self {
        let url = server.database(name).await;
        // One connection, so that it is the same session's plans every time.
        let store = Store::open(&url.parse().unwrap(), 1).unwrap();
        let declared = serde_json::to_value(Declaration::of::<Sentiment>()).unwrap();
        store.register(&serde_json::from_value(declared).unwrap(), Mode::Full, Since::Now).await.unwrap();
        let watcher = connect(&server.admin_url()).await;
        watcher.batch_execute("create extension if not exists pg_stat_statements").await.unwrap();
        Self { name: name.into(), store, side: connect(&url).await, watcher, queues: MemoryQueues::default() }
    }

    /// One batch of so many posts through the layers. Returns how many seconds the server's processor worked for it, where that can be told.
    async fn batch(&self, events: usize) -> Option<f64> {
        let insert =
            "insert into posts (project_id, title, description) values ($1, 'Slow', 'The export hangs, I hate it')";
        for _ in 0..events {
            self.side.execute(insert, &[&Uuid::from_u128(7)]).await.unwrap();
        }
        let messages: Vec<_> = published(&self.store).await;
        let created =
            |message: &&_| switchyard_bus::Message::attribute(message, "event_type") == Some("feedback.created");
        let messages: Vec<_> = messages.iter().filter(created).cloned().collect();
        assert_eq!(messages.len(), events);
        self.watcher.execute("select pg_stat_statements_reset()", &[]).await.unwrap();
        let before = self.worked().await;
        let worker = Worker::new(&Sentiment, &self.store, &self.queues, Budget::DEFAULT);
        assert!(again(worker.handle(delivered(&messages), Instant::now() + PLENTY).await).is_empty());
        Some(self.worked().await? - before?)
    }

    /// How many seconds the processes of this database have worked, by the kernel's own account.
    async fn worked(&self) -> Option<f64> {
        let pids = "select array(select pid from pg_stat_activity where datname = current_database())";
        let pids: Vec<i32> = self.side.query_one(pids, &[]).await.unwrap().get(0);
        let of = |pid: &i32| -> Option<f64> {
            let nanoseconds = fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
            Some(nanoseconds.split(' ').next()?.parse::<f64>().ok()? / 1e9)
        };
        pids.iter().map(of).sum()
    }

    async fn cost(&self) -> Cost {
        let sql = "select sum(calls) filter (where toplevel)::bigint, sum(calls)::bigint, sum(plans)::bigint
                     from pg_stat_statements s join pg_database d on d.oid = s.dbid
                    where d.datname = $1 and query not like '%pg_stat_activity%'";
        let row = self.watcher.query_one(sql, &[&self.name]).await.unwrap();
        Cost { sent: row.get(0), executed: row.get(1), planned: row.get(2) }
    }
}

async fn measured(server: &Server, events: usize) -> Cost {
    let watched = Watched::new(server, &format!("costs_{events}")).await;
    for _ in 0..WARM {
        watched.batch(events).await;
    }
    let mut times = Vec::new();
    for _ in 0..TIMED {
        times.extend(watched.batch(events).await);
    }
    times.sort_by(f64::total_cmp);
    let cost = watched.cost().await;
    let time = times.get(times.len() / 2).map_or("unknown".into(), |median| format!("{:.1} ms", median * 1e3));
    // Past the test harness, which keeps back what a passing test prints.
    let _ = writeln!(std::io::stderr(), "a batch of {events}: {cost}; {time} of Postgres' processor");
    cost
}

#[tokio::test]
async fn a_batch_costs_the_database_no_more_than_it_did() {
    let Some(binaries) = versions::all().into_iter().find(|binaries| binaries.have("pg_stat_statements")) else {
        assert!(std::env::var_os("CI").is_none(), "no Postgres here counts statements: apt-get install postgresql");
        let line = "\n!!! no Postgres here has pg_stat_statements: what a batch costs is PASSED OVER (apt-get install postgresql)\n";
        let _ = std::io::stderr().write_all(line.as_bytes());
        return;
    };
    let server = Server::start(&binaries, COUNTED);
    // Two of the executed: each of the two triggers on the agent's table reads the key of the mark by which it sees that an agent writes.
    for (events, bound) in
        [(1, Cost { sent: 10, executed: 31, planned: 5 }), (10, Cost { sent: 10, executed: 51, planned: 5 })]
    {
        let cost = measured(&server, events).await;
        assert!(
            cost.sent <= bound.sent && cost.executed <= bound.executed && cost.planned <= bound.planned,
            "a batch of {events} may cost {bound}, and costs {cost}"
        );
    }
}
