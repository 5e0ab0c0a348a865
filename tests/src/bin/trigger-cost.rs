//! What the triggers cost the application: inserts a second with and without them, in one run.
//!
//! `trigger-cost [--rounds N] [--millis N]`. Each figure is the median of the rounds; the two tables take turns, so that whatever else the
//! machine does befalls both. Single-row transactions, as applications write, by 1, 8 and 32 clients; once with commits that wait for the disk
//! and once without, where nothing hides the cost. Clients and server share the machine. Takes about a minute.
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a measurement prints its figures, and a failure ends it")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use switchyard_localstack::{
    Places, Port,
    places::Scratch,
    postgres::{Binaries, Options, Postgres},
    progress::quiet,
    python::Venv,
};
use switchyard_store::Type;
use switchyard_tests::database::{connect, set_up};
use tokio::time::{Instant, sleep_until};
use tokio_postgres::Client;
use uuid::Uuid;

/// How many insert at the same time.
const CLIENTS: [usize; 3] = [1, 8, 32];

/// What is inserted: into a table with our triggers, and into one that is the same but for them.
struct Case {
    what: &'static str,
    with: &'static str,
    without: &'static str,
    columns: &'static str,
}

const CASES: [Case; 2] = [
    Case {
        what: "an event",
        with: "events",
        without: "plain_events",
        columns: "(id, type, aggregate_type, aggregate_id, payload, metadata, version)
          values (gen_random_uuid(), 'feedback.created', 'post', $1, $2::text::jsonb, '{\"project_id\": \"p1\"}', 1)",
    },
    Case {
        what: "a post, with the event that tells of it",
        with: "posts",
        without: "plain_posts",
        columns: "(id, project_id, title, description) values (gen_random_uuid(), $1, 'Checkout', $2)",
    },
];

#[tokio::main]
async fn main() {
    let number = |name: &str, default: u32| {
        let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
        arguments.next().map_or(default, |value| value.parse().expect("a whole number"))
    };
    let (rounds, millis) = (number("--rounds", 5), number("--millis", 450));
    for durable in [true, false] {
        let server = Server::start(durable);
        prepare(&server.postgres.admin_url()).await;
        println!("commits {} for the disk:", if durable { "wait" } else { "do not wait" });
        for case in &CASES {
            println!("  {:<42} clients  without/s     with/s   ratio", case.what);
            for clients in CLIENTS {
                let (without, with) =
                    compare(&server, case, clients, rounds, Duration::from_millis(millis.into())).await;
                println!("  {:<42} {clients:>7} {without:>10.0} {with:>10.0} {:>7.2}", "", with / without);
            }
        }
    }
}

/// A server of its own, on 127.0.0.1; it ends with this value.
struct Server {
    postgres: Postgres,
    _scratch: Scratch,
}

impl Server {
    fn start(durable: bool) -> Self {
        let places = Places::of_this_checkout();
        let venv = Venv::ensure(&places, &mut quiet).expect("the environment");
        let scratch = places.scratch("trigger-cost").expect("a folder");
        let (data, log) = (scratch.dir().join("data"), scratch.dir().join("log"));
        let options = Options { data, log, port: Port::Free, durable, max_connections: 50, settings: &[] };
        let binaries = Binaries::find(&venv).expect("Postgres");
        Self { postgres: Postgres::start(&binaries, &options).expect("a server"), _scratch: scratch }
    }
}

/// The application's tables with our triggers, and beside them the same without.
async fn prepare(url: &str) {
    let client = connect(url).await;
    client.batch_execute(switchyard_feedback::TABLES).await.expect("the application's tables");
    set_up(&url.parse().expect("an address")).await.expect("an installation");
    let plain =
        "create table plain_events (like events including all); create table plain_posts (like posts including all)";
    client.batch_execute(plain).await.expect("the same without triggers");
}

/// Inserts a second, without and with the triggers: medians of rounds that take turns.
async fn compare(server: &Server, case: &Case, clients: usize, rounds: u32, round: Duration) -> (f64, f64) {
    let url = server.postgres.admin_url();
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(connect(&url).await);
    }
    let [mut without, mut with] = [Vec::new(), Vec::new()];
    // The first round of each fills caches and is left out.
    for nth in 0..=rounds {
        for (table, rates) in [(case.without, &mut without), (case.with, &mut with)] {
            let rate = rate(&connections, &format!("insert into {table} {}", case.columns), round).await;
            if nth > 0 {
                rates.push(rate);
            }
        }
    }
    (median(without), median(with))
}

async fn rate(connections: &[Client], insert: &str, round: Duration) -> f64 {
    let (over, inserted) = (AtomicBool::new(false), AtomicU64::new(0));
    let begun = Instant::now();
    let client = async |connection: &Client| {
        while !over.load(Ordering::Relaxed) {
            let (id, text) =
                (Uuid::new_v4(), r#"{"title": "Checkout is slow", "description": "It takes a minute on my phone."}"#);
            connection.query_typed(insert, &[(&id, Type::UUID), (&text, Type::TEXT)]).await.expect("an insert");
            inserted.fetch_add(1, Ordering::Relaxed);
        }
    };
    let all = futures_util::future::join_all(connections.iter().map(client));
    let bell = async {
        sleep_until(begun + round).await;
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(all, bell);
    #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
    let inserted = inserted.into_inner() as f64;
    inserted / begun.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN)
}
