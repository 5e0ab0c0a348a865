//! The steps of the types known at the start: one for each version that is not the newest.
//!
//! To add a version: freeze its fixture (`fixtures/TYPE.vN.json`), add the step from the one before, deploy the agents that read it, and only then
//! let a publisher write it. Who reads knows the new version before anybody says it.

use crate::{EventType, Upcast, upcast::Fields};

/// The upcasts of the vocabulary: every agent's, unless it brings its own.
pub const UPCASTS: &[Upcast] =
    &[Upcast { event_type: EventType::COMPETITOR_MENTIONED, from: 1, step: all_competitors_of_a_post }];

/// Version 1 named one competitor, so that a post that compared three products was three events about one post; version 2 names all of them
/// in one.
fn all_competitors_of_a_post(fields: &mut Fields) -> Result<(), String> {
    let competitor: String = fields.get("competitor")?;
    fields.rename("competitor", "competitors")?;
    fields.put("competitors", &[competitor])
}
