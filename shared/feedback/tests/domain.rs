//! What the triggers emit are events of the domain.
#![allow(clippy::unwrap_used, reason = "a test may fail by a panic, in its helpers too")]

use serde_json::Value;
use switchyard_feedback::{DOMAIN, TABLES, TYPES};

fn events(table: &Value) -> Vec<String> {
    let of_values = table["by_value"]["events"].as_object().into_iter().flat_map(|events| events.values());
    let events = [&table["insert"], &table["update"]].into_iter().chain(of_values);
    events.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[test]
fn each_table_of_the_domain_is_there_and_each_event_is_a_type_of_ours() {
    let domain: Value = serde_json::from_str(DOMAIN).unwrap();
    let tables = domain["tables"].as_array().unwrap();
    assert_eq!(tables.iter().flat_map(events).count(), 12);
    for table in tables {
        let name = table["table"].as_str().unwrap();
        assert!(TABLES.contains(&format!("create table if not exists {name} (")), "{name}");
        for event in events(table) {
            assert!(TYPES.iter().any(|known| known.as_str() == event), "{event}");
        }
    }
}
