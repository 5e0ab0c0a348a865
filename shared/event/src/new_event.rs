//! An event that an agent wants to exist, and the identity that it gets.

use crate::{Event, EventType, JsonFault, MAX_DEPTH, json};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use thiserror::Error;
use uuid::Uuid;

/// The namespace of identifiers that are derived and not drawn (RFC 9562, version 5).
const NAMESPACE: Uuid = Uuid::from_u128(0x5e1f_c0de_5717_4b9d_8a2e_0a11_ab0a_4d00);

/// An event that an agent wants to exist. Data: two decisions that want the same are equal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewEvent {
    /// What kind of thing happened.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// The kind of thing it happened to.
    pub aggregate_type: String,
    /// The thing it happened to.
    pub aggregate_id: String,
    /// What happened.
    pub payload: Value,
    /// The schema version of the payload.
    pub version: u32,
    /// 1 (can wait) to 10 (now); the cause's where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Not before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliver_at: Option<Timestamp>,
}

/// A new event with its identity and metadata: what the store appends.
#[derive(Debug, Clone, PartialEq)]
pub struct Appendable {
    /// Derived from the cause, so that a second append is a no-op.
    pub id: Uuid,
    /// The event.
    pub event: NewEvent,
    /// Its metadata, all but the timestamp, which is the append's.
    pub metadata: Map<String, Value>,
}

impl Appendable {
    /// The same event at the beginning of a budget of its own: for what follows from an event that a person has sent again. It still belongs to
    /// its cause's chain; only hops and time to live start anew.
    #[must_use]
    pub fn afresh(mut self) -> Self {
        self.metadata.insert("hops".to_owned(), 1.into());
        self.metadata.remove("started_at");
        self
    }
}

/// A payload that cannot be an event's.
#[derive(Debug, Error)]
pub enum PayloadError {
    /// The type does not serialise to JSON.
    #[error("the payload of {event_type} cannot be written as JSON: {source}")]
    NotJson {
        /// The event's type.
        event_type: EventType,
        /// Why.
        source: serde_json::Error,
    },
    /// It would be refused by the table.
    #[error("the payload of {event_type} {fault}")]
    Fault {
        /// The event's type.
        event_type: EventType,
        /// Why.
        fault: JsonFault,
    },
}

impl NewEvent {
    /// An event of version 1 about one aggregate.
    ///
    /// # Errors
    /// [`PayloadError`] if the payload does not serialise, or the table would refuse it (NUL, too deep).
    pub fn new(
        event_type: EventType,
        aggregate_type: impl Into<String>,
        aggregate_id: impl Into<String>,
        payload: &impl Serialize,
    ) -> Result<Self, PayloadError> {
        let payload = serde_json::to_value(payload)
            .map_err(|source| PayloadError::NotJson { event_type: event_type.clone(), source })?;
        json::check(&payload.to_string(), MAX_DEPTH)
            .map_err(|fault| PayloadError::Fault { event_type: event_type.clone(), fault })?;
        Ok(Self {
            event_type,
            aggregate_type: aggregate_type.into(),
            aggregate_id: aggregate_id.into(),
            payload,
            version: 1,
            priority: None,
            deliver_at: None,
        })
    }

    /// The event with its identity: derived from the causing event, the agent, the run, the type and the place among its siblings, so that
    /// doing the same again appends nothing. The chain goes on: correlation, project, user and trace are the cause's, hops one more, and it
    /// began when it began ([`Metadata::chain_began`](crate::Metadata::chain_began)).
    #[must_use]
    pub fn caused_by(self, cause: &Event, agent: &str, run: i32, ordinal: usize) -> Appendable {
        let name = format!("{}/{agent}/{run}/{}/{ordinal}", cause.id, self.event_type);
        let from = &cause.metadata;
        let mut metadata = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                metadata.insert(key.to_owned(), value);
            }
        };
        put("project_id", from.project_id.as_deref().map(Value::from));
        put("user_id", from.user_id.as_deref().map(Value::from));
        put("correlation_id", Some(cause.correlation_id().into()));
        put("causation_id", Some(cause.id.to_string().into()));
        put("hops", Some(from.hops.saturating_add(1).into()));
        put("priority", Some(self.priority.unwrap_or(from.priority).into()));
        put("deliver_at", self.deliver_at.map(|at| json!(at)));
        put("traceparent", from.traceparent.as_deref().map(Value::from));
        // The first reaction begins the chain's time: the event before it may be a year old, and have waited for an agent that is new.
        let goes_on = from.hops > 0 || from.started_at.is_some();
        put("started_at", goes_on.then(|| json!(from.chain_began())));
        Appendable { id: Uuid::new_v5(&NAMESPACE, name.as_bytes()), event: self, metadata }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause() -> Event {
        Event::parse(include_str!("../fixtures/order.placed.v1.json")).unwrap()
    }

    fn child() -> NewEvent {
        NewEvent::new(EventType::named("order.packed"), "order", "o", &json!({"parcels": 2})).unwrap()
    }

    #[test]
    fn the_same_decision_gets_the_same_identity_and_any_difference_another() {
        let id = |agent: &str, run, ordinal| child().caused_by(&cause(), agent, run, ordinal).id;
        assert_eq!(id("sentiment", 0, 0), id("sentiment", 0, 0));
        let others = [id("other", 0, 0), id("sentiment", 1, 0), id("sentiment", 0, 1)];
        assert!(others.iter().all(|other| *other != id("sentiment", 0, 0)));
    }

    #[test]
    fn a_caused_event_continues_the_chain() {
        let cause = cause();
        let metadata = child().caused_by(&cause, "sentiment", 0, 0).metadata;
        assert_eq!(metadata["causation_id"], cause.id.to_string());
        assert_eq!(metadata["correlation_id"], cause.correlation_id());
        assert_eq!(metadata["hops"], cause.metadata.hops + 1);
        assert_eq!(metadata.get("project_id").and_then(Value::as_str), cause.metadata.project_id.as_deref());
    }

    /// The event that the table has of an appendable, said at this time.
    fn said(appendable: Appendable, at: &str) -> Event {
        let mut metadata = Value::Object(appendable.metadata);
        metadata["timestamp"] = at.into();
        let aggregate = (appendable.event.aggregate_type, appendable.event.aggregate_id);
        let metadata = crate::Metadata::parse(&metadata.to_string()).unwrap();
        Event::from_parts(appendable.id, appendable.event.event_type, aggregate, "{}".into(), 1, metadata).unwrap()
    }

    #[test]
    fn a_chain_s_time_begins_with_its_first_reaction_however_old_the_event_before_it_is() {
        let first = said(child().caused_by(&cause(), "sentiment", 0, 0), "2026-05-01T00:00:00Z");
        let second = said(child().caused_by(&first, "other", 0, 0), "2026-05-02T00:00:00Z");
        let third = child().caused_by(&second, "sentiment", 0, 0);
        assert_eq!(first.metadata.chain_began().to_string(), "2026-05-01T00:00:00Z");
        assert_eq!(second.metadata.chain_began(), first.metadata.chain_began());
        assert_eq!(
            (&third.metadata["hops"], &third.metadata["started_at"]),
            (&json!(3), &json!("2026-05-01T00:00:00Z"))
        );
    }

    #[test]
    fn a_requested_delay_moves_the_start_of_the_chain() {
        let later: Timestamp = "2027-01-01T00:00:00Z".parse().unwrap();
        let delayed = NewEvent { deliver_at: Some(later), ..child() }.caused_by(&cause(), "sentiment", 0, 0);
        let delayed = said(delayed, "2026-05-01T00:00:00Z");
        assert_eq!(child().caused_by(&delayed, "other", 0, 0).metadata["started_at"], json!(later));
    }

    #[test]
    fn events_of_a_redriven_event_have_a_new_budget_in_the_same_chain() {
        let first = said(child().caused_by(&cause(), "sentiment", 0, 0), "2026-05-01T00:00:00Z");
        let went_on = child().caused_by(&first, "sentiment", 0, 0);
        let afresh = went_on.clone().afresh();
        assert_eq!((&afresh.metadata["hops"], afresh.metadata.get("started_at")), (&json!(1), None));
        assert_eq!(afresh.metadata["correlation_id"], went_on.metadata["correlation_id"]);
        assert_eq!(afresh.id, went_on.id);
    }

    #[test]
    fn an_agent_cannot_create_a_payload_that_the_table_refuses() {
        let error = NewEvent::new(EventType::named("order.packed"), "order", "o", &json!({"a": "\0"})).unwrap_err();
        assert!(matches!(error, PayloadError::Fault { fault: JsonFault::Nul, .. }));
    }
}
