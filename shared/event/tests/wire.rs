//! An event on the wire: what goes out is what came in.
#![allow(clippy::unwrap_used, reason = "a test may fail by a panic, in its helpers too")]

use proptest::prelude::*;
use serde_json::Value;
use switchyard_event::{Event, EventType, NewEvent};
use uuid::Uuid;

const PLACED: &str = include_str!("../fixtures/order.placed.v1.json");

#[test]
fn any_name_is_a_type() {
    let body = PLACED.replace("order.placed", "invoice.paid");
    assert_eq!(Event::parse(&body).unwrap().event_type, EventType::named("invoice.paid"));
}

/// Any JSON that Postgres could print, at most a few levels deep.
fn json() -> impl Strategy<Value = Value> {
    let text = "[^\\x00]{0,12}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no infinity", |n| n.is_finite()).prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(text, inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_event_survives_the_round_trip(
        id in any::<u128>(), names in prop::array::uniform3("[^\\x00]{1,20}"), payload in json(), version in 1u32..,
        other in prop::collection::btree_map("x[a-z]{1,8}", json(), 0..4), sequence in any::<i64>(), hops in any::<u32>(),
    ) {
        let [kind, aggregate_type, aggregate_id] = names;
        let mut metadata = serde_json::json!({ "timestamp": "2026-01-05T09:30:00Z", "sequence": sequence, "hops": hops });
        metadata.as_object_mut().unwrap().extend(other);
        let body = serde_json::json!({
            "id": Uuid::from_u128(id), "type": kind, "aggregate_type": aggregate_type, "aggregate_id": aggregate_id,
            "payload": payload, "version": version, "metadata": metadata,
        });
        let event = Event::parse(&body.to_string()).unwrap();
        let again: Value = serde_json::from_str(&event.to_wire()).unwrap();
        prop_assert_eq!(again, body);
    }

    #[test]
    fn the_payload_is_kept_byte_for_byte(space in "[ \\t\\n]{0,3}", number in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?") {
        let payload = format!("{{\"n\":{space}{number}}}");
        let body = PLACED.replacen(&raw_payload(), &payload, 1);
        let event = Event::parse(&body).unwrap();
        prop_assert_eq!(event.payload(), payload.as_str());
        let again = Event::parse(&event.to_wire()).unwrap();
        prop_assert_eq!(again.payload(), payload.as_str());
    }

    #[test]
    fn any_text_is_refused_or_read_and_never_a_panic(text in ".*") {
        let _ = Event::parse(&text);
    }

    #[test]
    fn an_agent_s_event_can_be_read_by_the_next_agent(payload in json()) {
        let cause = Event::parse(PLACED).unwrap();
        let made = NewEvent::new(EventType::named("order.packed"), "order", "o", &payload).unwrap().caused_by(&cause, "packer", 0, 0);
        let mut metadata = made.metadata.clone();
        metadata.insert("timestamp".into(), "2026-01-05T09:30:00Z".into());
        let body = serde_json::json!({
            "id": made.id, "type": made.event.event_type, "aggregate_type": "order", "aggregate_id": "o",
            "payload": made.event.payload, "version": made.event.version, "metadata": metadata,
        });
        prop_assert!(Event::parse(&body.to_string()).is_ok());
    }
}

fn raw_payload() -> String {
    Event::parse(PLACED).unwrap().payload().to_owned()
}
