//! Wire names are promises: what was once written must be read for ever.
#![allow(clippy::unwrap_used, reason = "a test may fail by a panic, in its helpers too")]

use proptest::prelude::*;
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path};
use switchyard_event::{Event, EventType, NewEvent, UPCASTS, Upcast, newest, upcast};
use uuid::Uuid;

fn fixtures() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .collect()
}

#[test]
fn every_known_type_has_a_fixture_for_version_1() {
    let fixtures = fixtures();
    for known in EventType::KNOWN {
        let event = Event::parse(&fixtures[&format!("{known}.v1.json")]).unwrap();
        assert_eq!(&event.event_type, known);
    }
}

/// What an agent of today makes of the newest version of each type that has steps.
fn newest_payload(event: &Event) -> Value {
    let fixture = format!("{}.v{}.json", event.event_type, newest(UPCASTS, &event.event_type));
    serde_json::from_str(Event::parse(&fixtures()[&fixture]).unwrap().payload()).unwrap()
}

#[test]
fn every_version_ever_written_is_read_as_the_newest() {
    for (name, body) in fixtures() {
        let mut event = Event::parse(&body).unwrap();
        upcast(&mut event, UPCASTS).unwrap();
        let payload: Value = serde_json::from_str(event.payload()).unwrap();
        assert_eq!(payload, newest_payload(&event), "{name}");
    }
}

#[test]
fn every_version_that_a_step_starts_from_or_leads_to_has_a_fixture() {
    let fixtures = fixtures();
    for Upcast { event_type, from, .. } in UPCASTS {
        for version in [*from, from + 1] {
            let name = format!("{event_type}.v{version}.json");
            assert!(fixtures.contains_key(&name), "{name} is not frozen");
        }
    }
}

#[test]
fn a_fixture_goes_out_as_it_came_in() {
    for (name, body) in fixtures() {
        assert_eq!(Event::parse(&body).unwrap().to_wire(), body, "{name}");
    }
}

/// A frozen fixture is never edited: add a version. The list is of digests (UUID version 5 of the body), one line a file.
#[test]
fn no_fixture_changed_since_it_was_frozen() {
    let namespace = Uuid::from_u128(0x5e1f_c0de_5717_4b9d_8a2e_0a11_ab0a_4d00);
    let now: String = fixtures()
        .iter()
        .map(|(name, body)| format!("{} {name}\n", Uuid::new_v5(&namespace, body.as_bytes())))
        .collect();
    assert_eq!(
        now,
        include_str!("../fixtures/frozen.txt"),
        "a fixture was edited, added or removed without freezing it"
    );
}

#[test]
fn an_unknown_type_is_still_an_event() {
    let body = fixtures()["feedback.created.v1.json"].replace("feedback.created", "invoice.paid");
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
        let body = fixtures()["feedback.created.v1.json"].replacen(&raw_payload(), &payload, 1);
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
        let cause = Event::parse(&fixtures()["feedback.created.v1.json"]).unwrap();
        let made = NewEvent::new(EventType::SENTIMENT_ANALYZED, "post", "p", &payload).unwrap().caused_by(&cause, "sentiment", 0, 0);
        let mut metadata = made.metadata.clone();
        metadata.insert("timestamp".into(), "2026-01-05T09:30:00Z".into());
        let body = serde_json::json!({
            "id": made.id, "type": made.event.event_type, "aggregate_type": "post", "aggregate_id": "p",
            "payload": made.event.payload, "version": made.event.version, "metadata": metadata,
        });
        prop_assert!(Event::parse(&body.to_string()).is_ok());
    }
}

fn raw_payload() -> String {
    Event::parse(&fixtures()["feedback.created.v1.json"]).unwrap().payload().to_owned()
}
