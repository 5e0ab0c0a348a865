//! When to move at all, asked of a deployed stack as a person and a page ask it.

use crate::redrive::command_line::switchyard;
use serde_json::Value;
use std::collections::BTreeSet;
use switchyard_tests::World;

/// The page that says what each field is.
const PAGE: &str = include_str!("../../docs/when-to-move.md");

const TEMPLATE: &str = include_str!("../../template.yaml");

#[tokio::test]
async fn a_stack_reports_figures_advice_and_costs() {
    let world = World::new().await;
    for number in 0..5 {
        world.post(&format!("I like number {number}"), "words").await;
    }
    world.settled().await;

    let metrics = switchyard(&world, &["advise", "--metrics"]).json();
    // Counted for a whole day, as if the first hour were over.
    let logged = world.count("select count(*) from switchyard.event_log").await;
    assert_eq!(metrics["events_per_day"], Value::from(logged as f64 * 24.0), "{metrics}");
    assert_eq!((metrics["events_estimated"].as_bool(), metrics["error_rate"].as_f64()), (Some(false), Some(0.0)));
    assert!(metrics["avg_latency_ms"].as_f64().is_some_and(|ms| ms > 0.0 && ms < 60_000.0), "{metrics}");
    let agents = metrics["agents"].as_array().unwrap();
    let names: Vec<&str> = agents.iter().map(|agent| agent["agent"].as_str().unwrap()).collect();
    assert_eq!(names, world.servers.agents.iter().map(|agent| agent.name.as_str()).collect::<Vec<_>>());
    // Other tests may hold most of this server's connections, which is a reason of its own.
    let because_of_others = metrics["recommendation_reason"].as_str().unwrap().starts_with("connections");
    assert!(metrics["recommendation"] == "stay" || because_of_others, "{metrics}");
    for fields in [&metrics, &agents[0]] {
        let undocumented: Vec<&String> =
            fields.as_object().unwrap().keys().filter(|key| !PAGE.contains(&format!("\n| `{key}` | "))).collect();
        assert_eq!(undocumented, [""; 0], "docs/when-to-move.md has a line for each field");
    }

    let line = ["advise", "--regions", "2", "--latency-wanted", "500ms", "--delivery", "at-least-once"];
    let advised = switchyard(&world, &[line.as_slice(), &["--json"]].concat()).json();
    let advice = &advised["advice"];
    assert_eq!((&advice["recommendation"], &advice["triggers"][0]["measure"]), (&"sns_sqs".into(), &"regions".into()));
    assert_eq!(advice["triggers"][0]["source"], "ours");
    let costs = advice["costs"].as_array().unwrap();
    let ways: Vec<&str> = costs.iter().map(|cost| cost["way"].as_str().unwrap()).collect();
    assert_eq!(ways, ["stay", "redis_streams", "sns_sqs"]);
    assert!(costs.iter().all(|cost| cost["usd_per_month"].as_f64().unwrap() > 0.0), "{advice}");

    let lines = costs[2]["lines"].as_array().unwrap();
    let in_each_region = |what: &str| {
        let line = lines.iter().find(|line| line["what"] == what).unwrap();
        line["quantity"].as_f64().unwrap() / 2.0
    };
    assert_eq!(in_each_region("alarms"), alarms() as f64, "shared/advice/work.toml says how many alarms there are");
    assert_eq!(in_each_region("metrics from the logs"), metrics_from_logs() as f64, "and how many metrics");

    let page = switchyard(&world, &[line.as_slice(), &["--costs"]].concat());
    for words in [
        "Move to SNS and SQS: regions is 2",
        "also redis_streams: latency_wanted_ms",
        "not verified",
        "into and out of the queues",
    ] {
        assert!(page.out.contains(words), "{words}: {}{}", page.out, page.err);
    }
}

/// The alarms of the template, but for those of express lanes: not every agent has one.
fn alarms() -> usize {
    let resources = TEMPLATE.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let alarms = resources.filter(|name| name.ends_with("Alarm:") && !name.contains("Express")).count();
    // An alarm on a dead-letter queue watches two metrics, and is paid as two.
    alarms + TEMPLATE.matches("MetricName: ApproximateNumberOfMessagesNotVisible").count()
}

/// The metrics that the template's filters make out of log lines, each counted once.
fn metrics_from_logs() -> usize {
    TEMPLATE
        .lines()
        .filter_map(|line| line.split_once("MetricName: !Sub "))
        .map(|(_, name)| name)
        .collect::<BTreeSet<_>>()
        .len()
}
