//! The deployed agent `sentiment` in shadow mode, beside an old system that writes the same table.

use super::toml;
use crate::redrive::command_line::switchyard;
use serde_json::Value;
use switchyard_store::Mode;
use switchyard_tests::{World, eventually};
use uuid::Uuid;

/// What the team wrote, with a wait that a test can wait for.
fn mapping() -> String {
    include_str!("../../../functions/agents/sentiment/compare.toml").replace("wait = \"5m\"", "wait = \"5s\"")
}

/// The old system: a cron job that looks for posts without an analysis. Of one it thinks otherwise, and one it forgets.
async fn old_system(world: &World, otherwise: Uuid, forgotten: Uuid) {
    let job = "insert into sentiment_analysis (post_id, project_id, score, label, confidence)
               select p.id, p.project_id, case when p.id = $1 then 0.9 else -0.8 end, case when p.id = $1 then 'positive' else 'negative' end, 0.5
                 from posts p where p.id <> $2 and not exists (select 1 from sentiment_analysis a where a.post_id = p.id)";
    world.database.execute(job, &[&otherwise, &forgotten]).await.unwrap();
}

#[tokio::test]
async fn the_agent_decides_beside_the_old_system_and_the_operator_sees_where_they_differ() {
    let world = World::new().await;
    world.store.set_routing("sentiment", Mode::Shadow, "ada").await.unwrap();
    let file = std::env::temp_dir().join(format!("compare-{}.toml", world.account));
    std::fs::write(&file, mapping()).unwrap();
    let set = switchyard(&world, &["compare", "sentiment", "--mapping", file.to_str().unwrap(), "--json"]).json();
    assert_eq!(set["mapping"], toml(&mapping()));

    let mut posts = Vec::new();
    for number in 0..6 {
        posts.push(world.post(&format!("Checkout {number} is slow"), "It crashes, I hate it").await);
    }
    old_system(&world, posts[1], posts[2]).await;

    let report = eventually("both sides compared", async || {
        let pass = world.call("steward", &serde_json::json!({ "action": "pass" }));
        assert_eq!(pass["compared"][0]["trouble"], Value::Null, "{pass}");
        let report = switchyard(&world, &["compare", "sentiment", "--since", "1h", "--values", "--json"]).json();
        let told: i64 =
            ["agreed", "differed", "only_old", "only_new"].iter().map(|count| report[*count].as_i64().unwrap()).sum();
        (told == 6).then_some(report)
    })
    .await;

    let counts = ["agreed", "differed", "only_old", "only_new", "not_yet", "overtaken"]
        .map(|count| report[count].as_i64().unwrap());
    assert_eq!(counts, [4, 1, 0, 1, 0, 0], "{report}");
    let of = |post: Uuid| {
        let world = &world;
        async move { world.event("feedback.created", &post.to_string()).await.0.to_string() }
    };
    let examples = report["examples"].as_array().unwrap();
    let [differed, missing] = examples.as_slice() else { panic!("{report}") };
    assert_eq!((&differed["outcome"], &differed["event_id"]), (&"differed".into(), &of(posts[1]).await.into()));
    assert_eq!(differed["differs"], serde_json::json!(["analysis.label", "analysis.score"]));
    assert_eq!(
        (&differed["values"][0]["ours"], &differed["values"][0]["theirs"]),
        (&"negative".into(), &"positive".into())
    );
    assert_eq!((&missing["outcome"], &missing["event_id"]), (&"only_new".into(), &of(posts[2]).await.into()));

    // Nothing of the agent's was applied, and nothing left it.
    assert_eq!(world.count("select count(*) from sentiment_analysis").await, 5);
    let own = "select count(*) from events where type = 'sentiment.analyzed' and metadata->>'causation_id' is not null";
    assert_eq!(world.count(own).await, 0);

    let page = switchyard(&world, &["compare", "sentiment"]);
    assert!(page.code == 0 && page.out.contains("DIFFERED") && page.out.contains("analysis.label"), "{}", page.out);
    assert!(!page.out.contains("positive"), "values are for who asks: {}", page.out);
    let overview = switchyard(&world, &["compare"]);
    assert!(overview.out.contains("sentiment") && overview.out.contains("33.33 %"), "{}", overview.out);
    assert!(switchyard(&world, &["audit", "--json"]).out.contains("values_shown"));

    std::fs::write(&file, mapping().replace("\"score\"", "\"scores\"")).unwrap();
    let wrong = switchyard(&world, &["compare", "sentiment", "--mapping", file.to_str().unwrap()]);
    assert!(
        wrong.error().contains("answers[0].fields[1].theirs") && wrong.error().contains("\"scores\""),
        "{}",
        wrong.err
    );
    std::fs::remove_file(&file).unwrap();
    let stopped = switchyard(&world, &["compare", "sentiment", "--stop"]);
    assert!(stopped.code == 0 && stopped.out.contains("is not compared"), "{}{}", stopped.out, stopped.err);
}
