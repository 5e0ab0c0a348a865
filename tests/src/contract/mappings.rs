//! The contract of [`Mappings`].

use crate::eventually;
use switchyard_bus::{MappingState, Mappings};

/// Every promise of mappings, given one that feeds its function and a UUID that is none's. It feeds again afterwards.
pub async fn keeps_what_mappings_promise(mappings: &impl Mappings, mapping: &str, nobodys: &str) {
    becomes(mappings, mapping, true).await;
    for enabled in [false, true] {
        for again in [false, true] {
            let state = mappings.set_enabled(mapping, enabled).await.unwrap();
            assert_eq!(state.wanted, enabled, "again: {again}");
            becomes(mappings, mapping, enabled).await;
        }
    }

    let look = mappings.enabled(nobodys).await.unwrap_err();
    let order = mappings.set_enabled(nobodys, false).await.unwrap_err();
    for error in [look, order] {
        assert!(error.setup && !error.transient, "{error}");
    }
}

async fn becomes(mappings: &impl Mappings, mapping: &str, wanted: bool) {
    let settled = MappingState { wanted, settled: true };
    eventually(&format!("{settled:?}"), async || {
        (mappings.enabled(mapping).await.expect("it answers") == settled).then_some(())
    })
    .await;
    assert_eq!(settled.may_feed(), wanted);
}
