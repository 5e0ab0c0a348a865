//! Back from the dead-letter queue: what is parked is seen without being touched, goes back once, to one agent, and says who sent it.

pub(crate) mod command_line;
mod middle;

use crate::failures::REFUSE;
use command_line::{finish, start, switchyard, switchyard_with_input};
use serde_json::{Value, json};
use switchyard_bus::{Queue, SqsQueue};
use switchyard_tests::{World, eventually};
use uuid::Uuid;

/// With one attempt each, what the database refuses is parked at once.
const ONE_ATTEMPT: &str = "update switchyard.agent set max_attempts = 1";

const REMOVE_THE_REFUSAL: &str = "drop trigger refuse on sentiment_analysis";

/// A world in which so many posts are refused and parked for `sentiment`, and one without a text beside them.
async fn parked(refused: usize) -> World {
    let world = World::new().await;
    // A pass looks into the dead-letter queue, and what it looks at is not there for a second.
    world.steward_on_call().await;
    world.database.batch_execute(REFUSE).await.unwrap();
    world.database.batch_execute(ONE_ATTEMPT).await.unwrap();
    for number in 0..refused {
        world.post(&format!("Refused {number}"), "words").await;
    }
    world.post("", "").await;
    world.settled().await;
    dead_letters(&world, refused + 1).await;
    world
}

/// Waits until so many letters wait in the dead-letter queue of `sentiment`.
async fn dead_letters(world: &World, expected: usize) {
    eventually(&format!("{expected} letters"), async || {
        (world.waiting("SentimentDeadLetterQueue").await as usize == expected).then_some(())
    })
    .await;
}

/// Waits until so many events are parked for `sentiment`, and everything else is settled.
async fn left_parked(world: &World, expected: i64) {
    eventually(&format!("{expected} parked"), async || {
        let open = world.count(&deliveries("d.state in ('a', 'f')")).await;
        (open == 0 && world.count(&deliveries("d.state = 'p'")).await == expected).then_some(())
    })
    .await;
}

fn deliveries(condition: &str) -> String {
    format!(
        "select count(*) from switchyard.delivery d join switchyard.agent a on a.id = d.agent
          where a.name = 'sentiment' and {condition}"
    )
}

/// How often the agent did its work, by its effects: the events that it said.
async fn analyses(world: &World) -> i64 {
    world.count("select count(*) from events where type = 'sentiment.analyzed'").await
}

/// The audit's rows of a person, as action and operator, oldest first.
async fn audit(world: &World) -> Vec<(String, String)> {
    let sql = "select action, by from switchyard.audit where by = 'ada' order by id";
    let rows = world.database.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// The event about a post whose title is like this.
async fn event_about(world: &World, title: &str) -> Uuid {
    let sql = "select e.id from events e join posts p on p.id = e.aggregate_id where p.title = $1 and e.type = 'feedback.created'";
    world.database.query_one(sql, &[&title]).await.unwrap().get(0)
}

/// The URL of the queue for what SNS could not deliver to `sentiment`, by the tag that names it: its own name is cut off.
async fn undelivered(world: &World) -> String {
    let queue = world.queue("SentimentQueue").await;
    let tags = world.sqs.list_queue_tags().queue_url(queue).send().await.unwrap().tags.unwrap();
    tags["switchyard:subscription-dead-letters"].clone()
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn inspecting_shows_what_is_parked_and_removes_nothing() {
    let world = parked(2).await;

    let listed = switchyard(&world, &["dlq", "--json"]).json();
    let queues = listed["queues"].as_array().unwrap();
    let own = queues.iter().find(|queue| queue["agent"] == "sentiment" && queue["kind"] == "agent").unwrap();
    let expected = ["agent", "error", "in_flight", "kind", "moving", "oldest_secs", "parked", "queue", "waiting"];
    assert_eq!(keys(own), expected, "keys are promises to scripts");
    assert_eq!((&own["waiting"], &own["parked"], &own["error"]), (&json!(3), &json!(3), &Value::Null));
    assert!(own["oldest_secs"].as_u64().unwrap() < 600);
    for (agent, kind) in [("duplicate", "agent"), ("duplicate", "subscription"), ("sentiment", "subscription")] {
        assert!(
            queues.iter().any(|queue| queue["agent"] == agent && queue["kind"] == kind),
            "{agent} {kind}: {listed}"
        );
    }

    let inspected = switchyard(&world, &["dlq", "sentiment", "--json"]).json();
    assert_eq!(keys(&inspected), ["agent", "groups", "parked", "queue"]);
    let expected = ["count", "error", "event_type", "examples", "newest", "oldest", "reason"];
    assert_eq!(keys(&inspected["groups"][0]), expected, "keys are promises to scripts");
    let groups: Vec<_> =
        inspected["groups"].as_array().unwrap().iter().map(|g| (g["reason"].clone(), g["count"].clone())).collect();
    assert_eq!(groups, [(json!("attempts_used_up"), json!(2)), (json!("no_text"), json!(1))]);
    assert!(inspected["groups"][0]["error"].as_str().unwrap().contains("23514"));
    assert_eq!(inspected["queue"], json!({ "seen": 3, "complete": true, "hidden": 0, "not_parked": [] }));

    let page = switchyard(&world, &["dlq", "sentiment", "--reason", "no_text"]);
    assert!(
        page.out.contains("1 delivery of sentiment parked") && !page.out.contains("attempts_used_up"),
        "{}",
        page.out
    );
    assert!(!page.out.contains("words"), "a payload is never shown");

    dead_letters(&world, 3).await;
    assert_eq!(audit(&world).await, []);
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_done_and_changes_nothing() {
    let world = parked(2).await;
    let before = world.count(&deliveries("d.state = 'p' and d.epoch = 0")).await;

    let all = switchyard(&world, &["redrive", "sentiment", "--dry-run", "--json"]).json();
    assert_eq!((&all["way"], &all["deliveries"], &all["dead_letters"]), (&json!("move"), &json!(3), &json!(3)));
    let some = switchyard(&world, &["redrive", "sentiment", "-n", "--reason", "no_text", "--json"]).json();
    assert_eq!((&some["way"], &some["deliveries"]), (&json!("table"), &json!(1)));
    assert_eq!(some["groups"][0]["reason"], "no_text");
    let none = switchyard(&world, &["redrive", "sentiment", "-n", "--type", "nothing.such", "--json"]).json();
    assert_eq!((&none["way"], &none["deliveries"]), (&json!("nothing"), &json!(0)));

    dead_letters(&world, 3).await;
    assert_eq!((world.count(&deliveries("d.state = 'p' and d.epoch = 0")).await, before), (3, 3));
    assert_eq!(audit(&world).await, []);
}

#[tokio::test]
async fn everything_goes_back_by_a_move_task_and_is_done_once() {
    let world = parked(3).await;
    let refusal = switchyard(&world, &["redrive", "sentiment"]);
    assert!(refusal.error().contains("--yes"), "nobody is there to be asked: {}", refusal.err);
    world.database.batch_execute(REMOVE_THE_REFUSAL).await.unwrap();

    let said = switchyard(&world, &["redrive", "sentiment", "--yes", "--watch", "--because", "mended"]);

    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("moving 4 dead letters back to sentiment; requeued 4 deliveries"), "{}", said.out);
    left_parked(&world, 1).await;
    assert_eq!(analyses(&world).await, 3);
    // What has no text is parked again, by a letter of its own.
    dead_letters(&world, 1).await;
    let done = audit(&world).await;
    let did = ["redrive_ordered", "redrive", "move_started", "redrive_unmatched"];
    assert!(
        did.iter().take(3).eq(done.iter().map(|(action, _)| action).take(3)),
        "the intention comes first: {done:?}"
    );
    assert!(done.iter().all(|(action, by)| did.contains(&action.as_str()) && by == "ada"), "{done:?}");
    let progress = switchyard(&world, &["redrive", "sentiment", "--progress", "--json"]).json();
    assert_eq!(keys(&progress), ["agent", "dead_letters", "moving", "parked", "under_way"]);
    assert_eq!(keys(&progress["moving"]), ["failure", "moved", "started_at", "status", "to_move"]);
    assert_eq!((&progress["moving"]["status"], &progress["moving"]["moved"]), (&json!("COMPLETED"), &json!(4)));
    let shown = switchyard(&world, &["audit", "--json"]).json();
    assert!(shown["audit"].as_array().unwrap().iter().any(|row| row["detail"]["reason"] == "mended"), "{shown}");
}

#[tokio::test]
async fn a_running_move_task_is_reported_not_doubled_and_can_be_cancelled() {
    // More than `dlq` looks at, or there would be nothing to move for a moment, and the task done.
    let world = parked(12).await;

    let first = switchyard(&world, &["redrive", "sentiment", "--yes", "--rate", "1", "--json"]).json();
    assert_eq!((&first["way"], &first["moving"]["status"]), (&json!("move"), &json!("RUNNING")));
    let second = switchyard(&world, &["redrive", "sentiment", "--yes", "--json"]).json();
    assert_eq!((&second["way"], &second["deliveries"]), (&json!("already_moving"), &json!(0)));
    let listed = switchyard(&world, &["dlq"]);
    assert!(listed.out.contains("running"), "{}", listed.out);

    let cancelled = switchyard(&world, &["redrive", "sentiment", "--cancel"]);
    assert_eq!(cancelled.code, 0, "{}", cancelled.err);
    eventually("the task to end", async || {
        let progress = switchyard(&world, &["redrive", "sentiment", "--progress", "--json"]).json();
        (progress["moving"]["status"] == "CANCELLED").then_some(())
    })
    .await;
    // What has moved is refused and parked again by the agent, the rest by the cancellation: none waits to come from the table.
    left_parked(&world, 13).await;
    dead_letters(&world, 13).await;
    let again = switchyard(&world, &["redrive", "sentiment", "--cancel"]);
    assert_eq!(again.code, 0, "what is cancelled may be cancelled again: {}", again.err);
    let done = audit(&world).await;
    let cancellations: Vec<&str> =
        done.iter().map(|(action, _)| action.as_str()).filter(|action| action.starts_with("move_cancel")).collect();
    assert_eq!(cancellations, ["move_cancel_ordered", "move_cancelled", "move_cancel_ordered"]);
}

#[tokio::test]
async fn a_selection_goes_back_to_this_agent_alone_and_its_copies_leave_the_queue() {
    let world = parked(3).await;
    world.database.batch_execute(REMOVE_THE_REFUSAL).await.unwrap();
    let chosen = event_about(&world, "Refused 1").await.to_string();
    let duplicates = world.count("select count(*) from switchyard.delivery d join switchyard.agent a on a.id = d.agent where a.name = 'duplicate' and d.epoch > 0").await;

    let said = switchyard(&world, &["redrive", "sentiment", "--id", &chosen, "--json"]).json();

    let expected =
        ["agent", "dead_letters", "defer_secs", "deliveries", "dry_run", "moving", "removed", "sent", "trouble", "way"];
    assert_eq!(keys(&said), expected, "keys are promises to scripts");
    assert_eq!((&said["deliveries"], &said["sent"], &said["removed"]), (&json!(1), &json!(1), &json!(1)));
    left_parked(&world, 3).await;
    assert_eq!(analyses(&world).await, 1);
    dead_letters(&world, 3).await;
    let others = world.count("select count(*) from switchyard.delivery d join switchyard.agent a on a.id = d.agent where a.name = 'duplicate' and d.epoch > 0").await;
    assert_eq!((others, duplicates), (0, 0), "no other agent hears of it");

    let rest = switchyard(
        &world,
        &[
            "redrive",
            "sentiment",
            "--reason",
            "attempts_used_up",
            "--since",
            "1h",
            "--type",
            "feedback.created",
            "--json",
        ],
    )
    .json();
    assert_eq!((&rest["way"], &rest["deliveries"]), (&json!("table"), &json!(2)));
    left_parked(&world, 1).await;
    assert_eq!(analyses(&world).await, 3);
    let expected = ["redrive_ordered", "redrive", "redrive_ordered", "redrive"];
    assert!(audit(&world).await.iter().map(|(action, _)| action).eq(&expected));
}

#[tokio::test]
async fn what_the_queue_has_lost_comes_from_the_table() {
    let world = parked(2).await;
    world.database.batch_execute(REMOVE_THE_REFUSAL).await.unwrap();
    let url = world.queue("SentimentDeadLetterQueue").await;
    world.sqs.purge_queue().queue_url(url).send().await.unwrap();
    dead_letters(&world, 0).await;

    let said = switchyard(&world, &["redrive", "sentiment", "--yes", "--json"]).json();

    assert_eq!((&said["way"], &said["deliveries"], &said["sent"]), (&json!("table"), &json!(3), &json!(3)));
    left_parked(&world, 1).await;
    assert_eq!(analyses(&world).await, 2);
}

#[tokio::test]
async fn a_body_that_names_no_event_goes_back_by_its_reason() {
    let world = parked(0).await;
    world.send("Sentiment", "{ no event").await;
    dead_letters(&world, 2).await;

    let inspected = switchyard(&world, &["dlq", "sentiment", "--json"]).json();
    assert_eq!(
        inspected["queue"]["not_parked"][0],
        json!({ "ledger": "no_event", "reason": "malformed", "event_type": null, "count": 1 })
    );
    let said = switchyard(&world, &["redrive", "sentiment", "--reason", "malformed", "--json"]).json();

    assert_eq!((&said["way"], &said["deliveries"], &said["sent"]), (&json!("table"), &json!(0), &json!(1)));
    // It is malformed still, and parked again.
    dead_letters(&world, 2).await;
    world.drained("Sentiment").await;
    let again = world.count("select count(*) from switchyard.failure where reason = 'malformed'").await;
    assert_eq!(again, 2);
}

#[tokio::test]
async fn an_edited_payload_goes_back_as_a_new_version_beside_the_original() {
    let world = parked(1).await;
    let empty = event_about(&world, "").await;
    let original: String =
        world.database.query_one("select payload::text from events where id = $1", &[&empty]).await.unwrap().get(0);
    let id = empty.to_string();

    let unreadable = switchyard_with_input(&world, &["edit", "sentiment", &id, "--payload", "-"], "{ no");
    assert!(unreadable.error().contains("no JSON"));
    let mended = original.replacen("\"title\": \"\"", "\"title\": \"I love it\"", 1);
    assert_ne!(mended, original);
    let said = switchyard_with_input(
        &world,
        &["edit", "sentiment", &id, "--payload", "-", "--because", "the import lost it", "--json"],
        &mended,
    )
    .json();

    assert_eq!((&said["revision"], &said["deliveries"], &said["removed"]), (&json!(1), &json!(1), &json!(1)));
    left_parked(&world, 1).await;
    assert_eq!(analyses(&world).await, 1);
    let kept: String =
        world.database.query_one("select payload::text from events where id = $1", &[&empty]).await.unwrap().get(0);
    assert_eq!(kept, original, "the record stays");
    let done = audit(&world).await;
    assert_eq!(done, [("revise".into(), "ada".into()), ("redrive".into(), "ada".into())]);
    let again = switchyard_with_input(&world, &["edit", "sentiment", &id, "--payload", "-"], &mended);
    assert!(again.error().contains("is not parked for sentiment"), "{}", again.err);
}

#[tokio::test]
async fn what_sns_could_not_deliver_goes_to_the_agent_s_queue() {
    let world = World::at_rest().await;
    world.steward_on_call().await;
    let tap = world.tap().await;
    world.post("Lovely", "words").await;
    world.deaf("Sentiment").await;
    world.wake_shim();
    let bodies = tap.hear(1, |body| body.contains("feedback.created")).await;
    let url = undelivered(&world).await;
    for _ in 0..2 {
        world.sqs.send_message().queue_url(&url).message_body(&bodies[0]).send().await.unwrap();
    }

    let dry = switchyard(&world, &["redrive", "sentiment", "--subscription", "-n", "--json"]).json();
    assert_eq!((&dry["way"], &dry["dead_letters"]), (&json!("messages"), &json!(2)));
    let said = switchyard(&world, &["redrive", "sentiment", "--subscription", "--yes", "--json"]).json();

    assert_eq!((&said["way"], &said["sent"], &said["trouble"]), (&json!("messages"), &json!(2), &Value::Null));
    left_parked(&world, 0).await;
    world.drained("Sentiment").await;
    assert_eq!(analyses(&world).await, 1, "a copy changes nothing");
    assert!(SqsQueue::new(&world.aws, url).depth().await.unwrap().is_empty());
    let done = audit(&world).await;
    assert_eq!(done, [("redrive_ordered".into(), "ada".into()), ("undelivered_sent".into(), "ada".into())]);
}

#[tokio::test]
async fn concurrent_repeated_and_killed_redrives_lose_and_double_nothing() {
    let world = parked(6).await;
    world.database.batch_execute(REMOVE_THE_REFUSAL).await.unwrap();

    // Everything and a selection, six at once; the function's processes are killed meanwhile.
    let all = ["redrive", "sentiment", "--yes"];
    let some = ["redrive", "sentiment", "--reason", "attempts_used_up"];
    let started: Vec<_> = (0..6).map(|n| start(&world, if n % 2 == 0 { &all } else { &some })).collect();
    for _ in 0..3 {
        eventually("a process to kill", async || {
            let pids = world.pids("switchyard-redrive");
            for pid in &pids {
                let _ = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
            }
            (!pids.is_empty()).then_some(())
        })
        .await;
    }
    for child in started {
        let _ = finish(child, "");
    }
    let last = switchyard(&world, &all);
    assert_eq!(last.code, 0, "{}", last.err);
    // Where a killed one left a row assigned and sent nothing, the table's turn comes when its hold is over.
    world
        .database
        .batch_execute("update switchyard.delivery set next_attempt_at = now() where state = 'a'")
        .await
        .unwrap();
    eventually("only what has no text is parked", async || {
        world.call("steward", &json!({ "action": "pass" }));
        let open = world.count(&deliveries("d.state in ('a', 'f')")).await;
        (open == 0 && world.count(&deliveries("d.state = 'p'")).await == 1).then_some(())
    })
    .await;

    assert_eq!(analyses(&world).await, 6);
    assert_eq!(world.count("select count(distinct post_id) from sentiment_analysis").await, 6);
}

#[tokio::test]
async fn a_dismissal_is_final_and_leaves_the_rest() {
    let world = parked(1).await;
    let dismiss = ["dismiss", "sentiment", "--reason", "no_text"];
    let with = |more: &[&'static str]| switchyard(&world, &[&dismiss[..], more].concat());

    assert_eq!(with(&[]).code, 2, "a reason for the audit is not optional");
    let unsure = with(&["--because", "nobody fills it in"]);
    assert!(unsure.error().contains("--yes"), "{}", unsure.err);
    assert_eq!(with(&["-n", "--json"]).json(), json!({ "agent": "sentiment", "dry_run": true, "deliveries": 1 }));
    left_parked(&world, 2).await;
    let done = with(&["--because", "nobody fills it in", "--yes", "--json"]).json();

    assert_eq!(done, json!({ "agent": "sentiment", "dry_run": false, "deliveries": 1 }));
    left_parked(&world, 1).await;
    assert_eq!(world.count(&deliveries("d.state = 'e' and d.reason = 'dismissed'")).await, 1);
    assert_eq!(audit(&world).await, [("dismiss".into(), "ada".into())]);
    let again = with(&["--because", "nobody fills it in", "--yes", "--json"]).json();
    assert_eq!(again["deliveries"], 0);
}

#[tokio::test]
async fn what_the_topic_has_refused_is_shown_and_goes_again() {
    let world = World::at_rest().await;
    assert!(switchyard(&world, &["outbox"]).out.contains("every event could be published"));
    // In one transaction, or the shim would be faster.
    let aside = "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
         values (gen_random_uuid(), 'thing.made', 'thing', gen_random_uuid(), '{}', '{}', 1);
         update switchyard.outbox set parked_at = now(), attempts = 5, reason = 'refused'";
    world.database.batch_execute(aside).await.unwrap();

    let shown = switchyard(&world, &["outbox", "--json"]).json();
    assert_eq!(shown["unpublishable"][0]["reason"], "refused");
    assert!(switchyard(&world, &["status"]).out.contains("could not be published; no agent receives"));
    let again = switchyard(&world, &["outbox", "--again", "--json"]).json();

    assert_eq!((shown["unpublishable"].as_array().unwrap().len(), &again["retried"]), (1, &json!(1)));
    assert!(switchyard(&world, &["outbox"]).out.contains("every event could be published"));
    assert!(audit(&world).await.iter().all(|(_, by)| by == "ada") && audit(&world).await.len() == 1);
}

#[tokio::test]
async fn failures_that_may_pass_can_go_back_by_themselves() {
    let world = parked(1).await;
    world.database.batch_execute(REMOVE_THE_REFUSAL).await.unwrap();

    let set = switchyard(&world, &["redrive", "sentiment", "--auto", "2", "--after", "1s", "--json"]).json();
    assert_eq!(set, json!({ "agent": "sentiment", "times": 2, "first_after_secs": 1 }));
    eventually("the refused one done", async || {
        world.call("steward", &json!({ "action": "pass" }));
        (analyses(&world).await == 1).then_some(())
    })
    .await;
    left_parked(&world, 1).await;

    let off = switchyard(&world, &["redrive", "sentiment", "--no-auto"]);
    assert!(off.out.contains("by an operator only"), "{}", off.out);
    assert_eq!(audit(&world).await.len(), 2);
}

#[tokio::test]
async fn failures_say_why_without_opening_a_queue() {
    let world = parked(1).await;

    let failures = switchyard(&world, &["failures", "sentiment", "--json"]).json();

    let rows = failures["failures"].as_array().unwrap();
    let reasons: Vec<&str> =
        rows.iter().filter(|row| row["parked"] == true).filter_map(|row| row["reason"].as_str()).collect();
    assert!(reasons.contains(&"attempts_used_up") && reasons.contains(&"no_text"), "{reasons:?}");
    let page = switchyard(&world, &["failures", "sentiment"]);
    assert!(page.out.contains("no_text") && page.out.contains("parked"), "{}", page.out);
}

#[tokio::test]
async fn what_cannot_be_done_is_said_in_one_line() {
    let world = World::at_rest().await;

    let unknown = switchyard(&world, &["dlq", "sentimet"]);
    assert!(unknown.error().contains("Did you mean \"sentiment\"?"), "{}", unknown.err);
    let elsewhere = switchyard(&world, &["dlq", "--stack", "nowhere"]);
    assert!(elsewhere.error().contains("there is no stack \"nowhere\""), "{}", elsewhere.err);
    let unreachable = switchyard(&world, &["dlq", "--endpoint-url", "http://127.0.0.1:9"]);
    assert!(unreachable.error().contains("--endpoint-url"), "{}", unreachable.err);
    let strangers = finish(
        command_line::command(&world)
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY")
            .arg("dlq")
            .spawn()
            .unwrap(),
        "",
    );
    assert!(strangers.error().contains("no credentials"), "{}", strangers.err);
    let nowhere = finish(command_line::command(&world).env_remove("AWS_REGION").arg("dlq").spawn().unwrap(), "");
    assert!(nowhere.error().contains("AWS_REGION"), "{}", nowhere.err);
    assert_eq!(switchyard(&world, &["redrive"]).code, 2);
    assert_eq!(switchyard(&world, &["redrive", "sentiment", "--since", "soon"]).code, 2);
}

#[tokio::test]
async fn an_operator_lists_and_forces_breakers() {
    let world = World::at_rest().await;

    let opened = switchyard(&world, &["breaker", "sentiment", "open"]);
    assert_eq!(opened.code, 0, "{}", opened.err);
    let shown = switchyard(&world, &["breaker"]);
    let line = shown.out.lines().find(|line| line.contains("sentiment")).unwrap();
    assert!(line.contains("open (forced)"), "{}", shown.out);
    let status = switchyard(&world, &["status", "--json"]).json();
    assert!(status["agents"].as_array().unwrap().iter().any(|agent| agent["breaker"]["forced"] == true), "{status}");
    assert_eq!(switchyard(&world, &["breaker", "sentiment", "auto"]).code, 0);
    assert!(!switchyard(&world, &["breaker"]).out.contains("(forced)"));
}
