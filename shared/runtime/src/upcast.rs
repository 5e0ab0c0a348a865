//! Every payload in the version that the agent reads.

use crate::{batch::Admitted, outcome::Outcomes};
use switchyard_event::{Upcast, upcast};

/// Brings each event to the newest version that the agent's steps know. A version from the future is refused as `unknown_version`, a step
/// that fails as `upcast_failed`.
pub(crate) fn layer(steps: &[Upcast], admitted: Vec<Admitted>, outcomes: &mut Outcomes<'_>) -> Vec<Admitted> {
    let mut current = Vec::with_capacity(admitted.len());
    for mut record in admitted {
        let brought = match record.refused {
            Some(_) => Ok(()),
            None => upcast(&mut record.parsed.event, steps),
        };
        match brought {
            Ok(()) => current.push(record),
            Err(error) => current.extend(record.refuse(error.reason(), error.to_string(), outcomes)),
        }
    }
    current
}
