//! Payloads around the limit of a message, through the deployed template: each reaches the agent's decision.

use switchyard_tests::World;
use uuid::Uuid;

/// The verdict stands at the end of the text: an agent that read less of it would find nothing to complain about.
const VERDICT: &str = ". I hate it, it is terrible";

#[tokio::test]
async fn feedback_of_any_size_around_the_limit_comes_back_analyzed() {
    let world = World::new().await;
    let around = {
        let small = world.post("Size", VERDICT).await;
        bytes_of(&world, small).await - VERDICT.len()
    };

    for kib in [255, 256, 257, 1024] {
        let bytes = kib * 1024;
        let post = world.post("Size", &format!("{}{VERDICT}", "x".repeat(bytes - around - VERDICT.len()))).await;
        // The post's two times are in it, and a time is printed without the zeros at its end: up to six, and the point.
        assert!(bytes_of(&world, post).await.abs_diff(bytes) <= 14);
        let (_, analyzed) = world.event("sentiment.analyzed", &post.to_string()).await;
        assert_eq!(analyzed["label"], "negative", "{kib} KiB");
    }

    world.settled().await;
    let everything = "select count(*) from switchyard.failure";
    assert_eq!((world.count(everything).await, world.waiting("SentimentDeadLetterQueue").await), (0, 0));
}

/// How many bytes the payload of a post's first event has in the table.
async fn bytes_of(world: &World, post: Uuid) -> usize {
    let post = post.to_string();
    let size =
        "select octet_length(payload::text) from events where type = 'feedback.created' and aggregate_id::text = $1";
    let bytes: i32 = world.database.query_one(size, &[&post]).await.unwrap().get(0);
    bytes.try_into().unwrap()
}
