//! From older versions of a payload to the newest: one step for each version that is not the newest.
//!
//! To add a version: freeze its fixture (`fixtures/TYPE.vN.json`), add the step from the version before, deploy the agents that read it, and only
//! then let a publisher write it.

use crate::COMPETITOR_MENTIONED;
use switchyard_event::{Fields, Upcast};

/// The steps of all types, for an agent's `UPCASTS`.
pub const UPCASTS: &[Upcast] = &[Upcast { event_type: COMPETITOR_MENTIONED, from: 1, step: all_competitors_of_a_post }];

/// Version 1 named one competitor, so that a post that compared three products was three events about one post; version 2 names all of them
/// in one.
fn all_competitors_of_a_post(fields: &mut Fields) -> Result<(), String> {
    let competitor: String = fields.get("competitor")?;
    fields.rename("competitor", "competitors")?;
    fields.put("competitors", &[competitor])
}
