//! What was once written must be read for ever.
#![allow(clippy::unwrap_used, reason = "a test may fail by a panic, in its helpers too")]

use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path};
use switchyard_event::{Event, Upcast, newest, upcast};
use switchyard_feedback::{TYPES, UPCASTS};

fn fixtures() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .collect()
}

#[test]
fn every_type_has_a_fixture_for_version_1() {
    let fixtures = fixtures();
    for event_type in TYPES {
        let event = Event::parse(&fixtures[&format!("{event_type}.v1.json")]).unwrap();
        assert_eq!((&event.event_type, event.version), (event_type, 1));
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
