//! A backfill of a deployed agent, ordered by the command line.

use crate::redrive::command_line::switchyard;
use serde_json::{Value, json};
use switchyard_tests::{World, eventually};
use uuid::Uuid;

/// Posts from before the installation: their events are in the table, and no trigger has logged them.
async fn old_posts(world: &World, count: i64) -> Vec<Uuid> {
    let sql = format!(
        "begin;
         alter table events disable trigger switchyard_log;
         insert into posts (project_id, title, description)
         select '00000000-0000-0000-0000-000000000007', 'I love number ' || n, 'words' from generate_series(1, {count}) n;
         update events set created_at = timestamptz '2020-01-01' + (split_part(payload ->> 'title', ' ', 4) || ' minutes')::interval
          where not exists (select 1 from switchyard.event_log l where l.event_id = events.id);
         alter table events enable always trigger switchyard_log;
         commit"
    );
    world.database.batch_execute(&sql).await.unwrap();
    let rows = world
        .database
        .query("select id from events where created_at < '2021-01-01' order by created_at", &[])
        .await
        .unwrap();
    assert_eq!(rows.len() as i64, count);
    rows.iter().map(|row| row.get(0)).collect()
}

fn pass(world: &World) -> Value {
    world.call("steward", &json!({ "action": "pass" }))
}

fn progress(world: &World) -> Value {
    switchyard(world, &["backfill", "sentiment", "--progress", "--json"]).json()["progress"].clone()
}

#[tokio::test]
async fn a_backfill_applies_effects_and_publishes_new_events() {
    let world = World::new().await;
    world.steward_on_call().await;
    let events = old_posts(&world, 25).await;
    let tap = world.tap().await;

    let would = switchyard(&world, &["backfill", "sentiment", "--since", "2019-01-01T00:00:00Z", "--dry-run"]);
    assert!(would.out.contains("would take 25 events for sentiment"), "{}{}", would.out, would.err);
    let wrong =
        switchyard(&world, &["backfill", "sentiment", "--since", "2019-01-01T00:00:00Z", "--type", "spec.linked"]);
    assert!(wrong.error().contains("does not subscribe to spec.linked: it subscribes to"), "{}", wrong.err);
    let started = switchyard(&world, &["backfill", "sentiment", "--since", "2019-01-01T00:00:00Z", "--rate", "500/s"]);
    assert!(started.out.contains("begins within a minute"), "{}{}", started.out, started.err);

    let post = world.post("And I hate this one", "").await.to_string();
    let passed = pass(&world);
    assert_eq!(passed["troubles"], json!([]), "{passed}");
    assert_eq!(passed["backfills"][0]["taken"], 25, "{passed}");
    world.event("sentiment.analyzed", &post).await;
    eventually("the backfill done", async || {
        if progress(&world)["state"] != "done" {
            pass(&world);
        }
        (progress(&world)["state"] == "done").then_some(())
    })
    .await;
    world.settled().await;

    assert_eq!(world.count("select count(*) from sentiment_analysis").await, 26);
    let said = "select count(*) from events e where e.type = 'sentiment.analyzed' and e.created_at > '2021-01-01'
                   and exists (select 1 from events c where c.id::text = e.metadata ->> 'causation_id' and c.created_at < '2021-01-01')";
    assert_eq!(world.count(said).await, 25, "each says what it follows from, once");
    let heard = tap.hear(27, |_| true).await;
    let of =
        |event_type: &str| heard.iter().filter(|body| body.contains(&format!("\"type\":\"{event_type}\""))).count();
    assert_eq!((of("sentiment.analyzed"), of("feedback.created")), (26, 1), "history itself is not published again");
    let others = "select count(*) from switchyard.delivery d join switchyard.agent a on a.id = d.agent where a.name <> 'sentiment' and d.seq < 1";
    assert_eq!(world.count(others).await, 0, "it is this agent's alone");
    let status = switchyard(&world, &["backfill", "sentiment", "--progress"]);
    assert!(
        status.out.contains("taken: 25 of 25") && status.out.contains("25 done, 0 under way, 0 parked"),
        "{}",
        status.out
    );
    assert_eq!(events.len(), 25);
}

#[tokio::test]
async fn a_steward_that_is_killed_in_the_middle_has_lost_nothing_and_done_nothing_twice() {
    let world = World::new().await;
    old_posts(&world, 60).await;
    world.store.set_grace("sentiment", 500).await.unwrap();
    let started = switchyard(&world, &["backfill", "sentiment", "--since", "2019-01-01T00:00:00Z", "--rate", "10"]);
    assert_eq!(started.code, 0, "{}", started.err);

    world.wake("StewardFunctionName");
    eventually("the middle", async || {
        let taken = world.count("select taken from switchyard.backfill").await;
        assert!(taken < 60, "too late to kill it");
        (taken >= 10).then_some(())
    })
    .await;
    for pid in world.pids("steward") {
        let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
        assert!(killed.success());
    }
    assert_eq!(world.count("select count(*) from switchyard.backfill where state = 'running'").await, 1);

    assert_eq!(switchyard(&world, &["backfill", "sentiment", "--resume", "--rate", "500"]).code, 0);
    eventually("the backfill done", async || {
        pass(&world);
        (progress(&world)["state"] == "done").then_some(())
    })
    .await;
    world.settled().await;
    let done = progress(&world);
    assert_eq!((&done["selected"], &done["taken"], &done["done"]), (&json!(60), &json!(60), &json!(60)), "{done}");
    assert_eq!(world.count("select count(*) from sentiment_analysis").await, 60);
    assert_eq!(world.count("select count(*) from events where type = 'sentiment.analyzed'").await, 60);
}

#[tokio::test]
async fn pause_resume_and_cancel_record_the_operator() {
    let world = World::new().await;
    world.steward_on_call().await;
    old_posts(&world, 5).await;
    let none = switchyard(&world, &["backfill", "sentiment", "--pause"]);
    assert!(none.error().contains("sentiment has no running backfill"), "{}", none.err);
    let order = |arguments: &[&str]| {
        let line: Vec<&str> = ["backfill", "sentiment"].iter().chain(arguments).copied().collect();
        let said = switchyard(&world, &line);
        assert_eq!(said.code, 0, "{}", said.err);
        said.out
    };
    order(&["--since", "2019-01-01T00:00:00Z", "--rate", "5"]);
    assert!(order(&["--pause"]).contains("paused"));
    assert_eq!(pass(&world)["backfills"], json!([]));
    assert!(order(&["--resume", "--rate", "7/s"]).contains("7 a second at most"));
    assert!(order(&["--cancel"]).contains("cancelled"));
    let names = "select count(*) from switchyard.audit where by = 'ada' and action like 'backfill%'";
    assert_eq!(world.count(names).await, 4);
}
