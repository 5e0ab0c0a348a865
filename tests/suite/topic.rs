//! What reaches the topic, and how.

use serde_json::Value;
use std::collections::BTreeMap;
use switchyard_event::Event;
use switchyard_tests::World;
use uuid::Uuid;

#[tokio::test]
async fn a_type_without_a_subscriber_still_reaches_the_topic() {
    let world = World::new().await;
    let tap = world.tap().await;

    let id = world.append("invoice.paid", Uuid::new_v4(), r#"{"total": 12.50}"#).await;

    let heard = tap.hear(1, |body| body.contains("invoice.paid")).await;
    let event = Event::parse(&heard[0]).unwrap();
    assert_eq!((event.id, event.payload()), (id, r#"{"total": 12.50}"#));
    world.settled().await;
}

#[tokio::test]
async fn unusual_json_and_unicode_arrive_unchanged() {
    let world = World::new().await;
    let tap = world.tap().await;
    let odd = [
        r#"{"big": 18446744073709551617, "huge": 1e400, "one": 1.0, "tiny": 0.1e-20}"#,
        r#"{"zebra": 1, "a": {"": null}, "nested": [[[[[[{"deep": []}]]]]]]}"#,
        "{\"emoji\": \"😀👩\u{200d}🚀\", \"rtl\": \"\u{202e}abc\", \"combining\": \"e\u{301}\", \"nbsp\": \"\u{a0}\"}",
        r#"{"escapes": "\"\\\/\b\f\n\r\t\u007f", "line": "\u2028", "looks like": "\\u0000"}"#,
        "{\"noncharacters\": \"\u{fffe}\u{ffff}\u{10ffff}\"}",
        "null",
        "\"just text\"",
        "[]",
    ];
    let mut sent = BTreeMap::new();
    for payload in odd {
        sent.insert(world.append("odd.one", Uuid::new_v4(), payload).await, payload);
    }

    let heard = tap.hear(odd.len(), |body| body.contains("odd.one")).await;

    for body in heard {
        let event = Event::parse(&body).unwrap();
        let stored: String = world
            .database
            .query_one("select payload::text from events where id = $1", &[&event.id])
            .await
            .unwrap()
            .get(0);
        if stored.contains('\u{ffff}') {
            // SQS takes these two characters only as escapes; the value is the same.
            assert_eq!(event.decode::<Value>().unwrap(), serde_json::from_str::<Value>(&stored).unwrap());
        } else {
            assert_eq!(event.payload(), stored);
        }
        sent.remove(&event.id);
    }
    assert!(sent.is_empty(), "not heard: {sent:?}");
}
