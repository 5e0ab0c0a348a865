//! The walk of one event, from a row in the application's table through the real stack and back.

use switchyard_tests::World;

#[tokio::test]
async fn feedback_becomes_an_event_and_comes_back_analyzed() {
    let world = World::new().await;

    let post = world.post("Checkout is slow", "It crashes, I hate it").await.to_string();

    let (created, _) = world.event("feedback.created", &post).await;
    let (_, analyzed) = world.event("sentiment.analyzed", &post).await;
    assert_eq!(analyzed["label"], "negative");

    let row = world
        .database
        .query_one(
            "select metadata->>'causation_id', metadata->>'hops' from events where type = 'sentiment.analyzed'",
            &[],
        )
        .await
        .unwrap();
    assert_eq!((row.get::<_, String>(0), row.get::<_, String>(1)), (created.to_string(), "1".to_owned()));
    let row = world.database.query_one("select label from sentiment_analysis", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "negative");
    world.settled().await;
}
