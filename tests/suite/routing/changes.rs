//! The lever of a deployed agent, moved by the command line, with an old system that claims beside it.

use crate::redrive::command_line::switchyard;
use serde_json::json;
use switchyard_tests::{World, eventually};
use uuid::Uuid;

const AGENT: &str = "sentiment";

/// The old system's part: it claims the post's event, and works on `take`.
async fn old_system(world: &World, post: Uuid) -> String {
    let (event, _) = world.event("feedback.created", &post.to_string()).await;
    let mut client = world.another_connection().await;
    let tx = client.transaction().await.unwrap();
    let answer: String = tx.query_one("select switchyard.claim($1, $2)", &[&AGENT, &event]).await.unwrap().get(0);
    if answer == "take" {
        let work = "insert into sentiment_analysis (post_id, project_id, label, score, confidence)
                    select id, project_id, 'by hand', 0, 1 from posts where id = $1";
        tx.execute(work, &[&post]).await.unwrap();
    }
    tx.commit().await.unwrap();
    answer
}

/// Which side has analysed a post.
async fn analysed_by(world: &World, post: Uuid) -> &'static str {
    eventually("an analysis", async || {
        let sql = "select label = 'by hand' from sentiment_analysis where post_id = $1";
        let rows = world.database.query(sql, &[&post]).await.unwrap();
        rows.first().map(|row| if row.get(0) { "old" } else { "new" })
    })
    .await
}

/// Feedback in a project of one's own.
async fn post_in(world: &World, project: Uuid) -> Uuid {
    let insert = "insert into posts (project_id, title) values ($1, 'I like it') returning id";
    world.database.query_one(insert, &[&project]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_migration_goes_there_and_back_by_the_command_line() {
    let world = World::new().await;
    let said = |arguments: &[&str]| switchyard(&world, &[arguments, &["--json"]].concat()).json();

    // The old system has everything.
    assert_eq!(said(&["route", AGENT, "off"])["mode"], "off");
    let first = world.post("I love it", "").await;
    assert_eq!(old_system(&world, first).await, "take");
    world.settled().await;

    // A project is let in; nothing else moves.
    let (pilot, other) = (Uuid::from_u128(71), Uuid::from_u128(72));
    let pinned = said(&["route", AGENT, "percent", "0", "--pin", &format!("{pilot}=new")]);
    assert_eq!((&pinned["percent"], &pinned["pinned_new"]), (&json!(0), &json!([pilot])));
    let (in_it, outside) = (post_in(&world, pilot).await, post_in(&world, other).await);
    assert_eq!(analysed_by(&world, in_it).await, "new");
    assert_eq!(old_system(&world, in_it).await, "already_done");
    assert_eq!(old_system(&world, outside).await, "take");
    assert_eq!(said(&["route", AGENT, "--pin", &format!("{pilot}=none")])["pinned_new"], json!([]));

    // A plan gives the agent everything, and the steward watches it.
    let plan = ["start", "--steps", "100:1h", "--max-failures", "1%", "--roll-back-at", "failures=5%"];
    let started = said(&[&["cutover", AGENT], plan.as_slice()].concat());
    assert_eq!(
        (&started["cutover"]["state"], &started["next"]["wait"][0]["soak"]["secs"].is_number()),
        (&json!("running"), &true)
    );
    let moved = world.post("I hate it", "").await;
    assert_eq!(analysed_by(&world, moved).await, "new");
    assert_eq!(world.call("steward", &json!({ "action": "pass" }))["cutovers"][0]["done"], false);
    let by_operator = said(&["route", AGENT, "percent", "100"]);
    assert_eq!(by_operator["cutover"], "paused", "an operator has set the routing");
    assert_eq!(said(&["cutover", AGENT, "resume"])["cutover"]["state"], "running");

    // And back.
    let back = switchyard(&world, &["cutover", AGENT, "rollback", "--because", "enough"]);
    assert_eq!(back.code, 0, "{}", back.err);
    for words in ["rolled back from 100 percent", "because: enough", "left to the old system", "todo_old('sentiment')"]
    {
        assert!(back.out.contains(words), "{words}: {}", back.out);
    }
    let last = world.post("Never mind", "").await;
    assert_eq!(old_system(&world, last).await, "take");
    world.settled().await;
    assert_eq!(analysed_by(&world, last).await, "old");

    let twice = switchyard(&world, &["cutover", AGENT, "rollback"]);
    assert!(twice.error().contains("no cutover that is running or paused or done"), "{}", twice.error());
    let nobody = switchyard(&world, &["route", "nobody"]);
    assert!(nobody.error().contains("nobody is not registered"), "{}", nobody.error());
    let by: Vec<String> = world
        .store
        .audit(100)
        .await
        .unwrap()
        .iter()
        .filter(|row| row.by == "ada")
        .map(|row| row.action.clone())
        .collect();
    for action in ["set_routing", "pin", "cutover_started", "cutover_paused", "cutover_resumed", "cutover_rolled_back"]
    {
        assert!(by.iter().any(|done| done == action), "{action}: {by:?}");
    }
}
