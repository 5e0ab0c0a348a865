//! How long an event takes from its commit to an agent's handler, on LocalStack at a steady rate.
//!
//! `latency [--rate EVENTS_PER_SECOND] [--seconds N]`. The start is the event log's clock inside the application's transaction, the end
//! the clock of the transaction that claims the event, which begins after the handler has started and gathered: the figure is an upper
//! bound, taken from one clock, the database's.
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a measurement prints its figures, and a failure ends it")]

use std::time::Duration;
use switchyard_tests::World;
use tokio::time::{Instant, MissedTickBehavior, interval};

#[tokio::main]
async fn main() {
    let number = |name: &str, default: u32| {
        let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
        arguments.next().map_or(default, |value| value.parse().expect("a whole number"))
    };
    let (rate, seconds) = (number("--rate", 10), number("--seconds", 60));
    let world = World::new().await;
    // The first event pays for cold starts and is left out.
    world.post("Warm up", "please").await;
    world.settled().await;
    let first: i64 = world.count("select max(seq) from switchyard.event_log").await;

    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let start = Instant::now();
    for n in 0..rate * seconds {
        ticks.tick().await;
        world.post(&format!("Feedback {n}"), "The export is slow").await;
    }
    let offered = f64::from(rate * seconds) / start.elapsed().as_secs_f64();
    world.settled().await;

    println!("{rate} events a second for {seconds} s (offered: {offered:.1}/s), commit to claim:");
    for agent in &world.servers.agents {
        let sql = "select count(*), percentile_cont(array[0.5, 0.95, 0.99]) within group (order by ms) from (
                     select extract(epoch from d.at - e.logged_at)::float8 * 1000 ms
                       from switchyard.delivery d join switchyard.event_log e on e.seq = d.seq
                       join switchyard.agent a on a.id = d.agent where a.name = $1 and e.seq > $2 and e.type = 'feedback.created') t";
        let row = world.database.query_one(sql, &[&agent.name, &first]).await.expect("the figures");
        let (events, quantiles): (i64, Vec<f64>) = (row.get(0), row.get(1));
        let [median, p95, p99] = quantiles[..] else { continue };
        println!(
            "  {:<12} {events:>6} events   median {median:>6.0} ms   p95 {p95:>6.0} ms   p99 {p99:>6.0} ms",
            agent.name
        );
    }
}
