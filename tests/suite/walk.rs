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

#[tokio::test]
async fn a_stack_with_a_key_a_boundary_and_named_publishers_works_like_any_other() {
    let world = World::with(&[
        ("KmsKeyArn", "arn:aws:kms:us-east-1:000000000000:key/11111111-2222-4333-8444-555555555555"),
        ("PermissionsBoundary", "arn:aws:iam::aws:policy/PowerUserAccess"),
        ("IngressPublishers", "arn:aws:iam::000000000000:root"),
        ("AlarmTopicArn", "arn:aws:sns:us-east-1:000000000000:alarms"),
    ])
    .await;
    world.wake_shim();
    let post = world.post("Checkout is slow", "It crashes, I hate it").await.to_string();
    let (_, analyzed) = world.event("sentiment.analyzed", &post).await;
    assert_eq!(analyzed["label"], "negative");
    assert_eq!(world.outputs["Alarms"], "arn:aws:sns:us-east-1:000000000000:alarms");
}
