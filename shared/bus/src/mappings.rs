//! The event source mappings between queues and functions: whether an agent is fed. Only the steward may change one.

use crate::BusError;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// The state of a mapping: what was last requested, and whether it is in effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappingState {
    /// Whether the function is to be fed. While a mapping is created or updated otherwise the service does not report it; then this is `true`,
    /// and a later call corrects it.
    pub wanted: bool,
    /// Whether it is in effect. A change takes seconds to a minute; until then the function may be fed or not, and another change is refused as
    /// transient.
    pub settled: bool,
}

impl MappingState {
    /// Whether the function may be getting messages at this moment.
    #[must_use]
    pub const fn may_feed(self) -> bool {
        self.wanted || !self.settled
    }
}

/// Event source mappings, by their UUIDs.
#[allow(async_fn_in_trait)]
pub trait Mappings {
    /// Whether a mapping feeds its function.
    ///
    /// # Errors
    /// [`BusError`]: `setup` where there is no such mapping.
    async fn enabled(&self, mapping: &str) -> Result<MappingState, BusError>;

    /// Makes a mapping feed its function, or stop. Repeating it changes nothing. Returns the state that it has now, which is seldom
    /// settled: batches that were taken before a stop are still handled.
    ///
    /// # Errors
    /// [`BusError`]: transient while an earlier change is under way, `setup` where there is no such mapping. After a
    /// transient one the change may have been made: ask [`Mappings::enabled`].
    async fn set_enabled(&self, mapping: &str, enabled: bool) -> Result<MappingState, BusError>;
}

/// Mappings of Lambda.
#[derive(Debug, Clone)]
pub struct LambdaMappings {
    client: aws_sdk_lambda::Client,
}

impl LambdaMappings {
    /// Mappings in the account and region of these settings.
    #[must_use]
    pub fn new(settings: &aws_config::SdkConfig) -> Self {
        Self { client: aws_sdk_lambda::Client::new(settings) }
    }
}

impl Mappings for LambdaMappings {
    async fn enabled(&self, mapping: &str) -> Result<MappingState, BusError> {
        const OPERATION: &str = "GetEventSourceMapping";
        let call = self.client.get_event_source_mapping().uuid(mapping);
        let answer = Box::pin(call.send()).await.map_err(|error| BusError::of(OPERATION, &error))?;
        state(OPERATION, answer.state())
    }

    async fn set_enabled(&self, mapping: &str, enabled: bool) -> Result<MappingState, BusError> {
        const OPERATION: &str = "UpdateEventSourceMapping";
        let call = self.client.update_event_source_mapping().uuid(mapping).enabled(enabled);
        let answer = Box::pin(call.send()).await.map_err(|error| BusError::of(OPERATION, &error))?;
        state(OPERATION, answer.state())
    }
}

/// The words of the service (AWS Lambda API Reference, EventSourceMappingConfiguration: Creating, Enabling, Enabled, Disabling, Disabled,
/// Updating, Deleting).
fn state(operation: &'static str, word: Option<&str>) -> Result<MappingState, BusError> {
    let of = |wanted, settled| Ok(MappingState { wanted, settled });
    match word {
        Some("Enabled") => of(true, true),
        Some("Disabled") => of(false, true),
        Some("Disabling" | "Deleting") => of(false, false),
        Some(_) => of(true, false),
        None => Err(BusError::refused(operation, "the answer has no state", true)),
    }
}

/// Mappings in memory. A change is settled at the second call of `enabled`, as it takes a while elsewhere. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct MemoryMappings {
    states: Arc<Mutex<BTreeMap<String, MappingState>>>,
}

impl MemoryMappings {
    /// These mappings, all of them feeding.
    #[must_use]
    pub fn of<'a>(mappings: impl IntoIterator<Item = &'a str>) -> Self {
        let fed = MappingState { wanted: true, settled: true };
        let states = mappings.into_iter().map(|mapping| (mapping.to_owned(), fed)).collect();
        Self { states: Arc::new(Mutex::new(states)) }
    }

    fn with<T>(
        &self,
        operation: &'static str,
        mapping: &str,
        work: impl FnOnce(&mut MappingState) -> Result<T, BusError>,
    ) -> Result<T, BusError> {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let detail = || format!("ResourceNotFoundException: there is no mapping {mapping}");
        let missing = || BusError { operation, detail: detail(), transient: false, setup: true };
        work(states.get_mut(mapping).ok_or_else(missing)?)
    }
}

impl Mappings for MemoryMappings {
    async fn enabled(&self, mapping: &str) -> Result<MappingState, BusError> {
        self.with("GetEventSourceMapping", mapping, |state| {
            let seen = *state;
            state.settled = true;
            Ok(seen)
        })
    }

    async fn set_enabled(&self, mapping: &str, enabled: bool) -> Result<MappingState, BusError> {
        const OPERATION: &str = "UpdateEventSourceMapping";
        self.with(OPERATION, mapping, |state| {
            if !state.settled && state.wanted != enabled {
                return Err(BusError::refused(OPERATION, "ResourceInUseException: a change is under way", true));
            }
            if state.wanted != enabled {
                *state = MappingState { wanted: enabled, settled: false };
            }
            Ok(*state)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_disabled_mapping_feeds_no_function() {
        for (word, feeds) in [
            ("Disabled", false),
            ("Disabling", true),
            ("Deleting", true),
            ("Enabled", true),
            ("Enabling", true),
            ("Creating", true),
            ("Updating", true),
        ] {
            assert_eq!(state("GetEventSourceMapping", Some(word)).unwrap().may_feed(), feeds, "{word}");
        }
        assert!(state("GetEventSourceMapping", None).unwrap_err().transient);
    }
}
