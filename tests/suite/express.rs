//! Express queues: urgent events do not wait behind the others, and the steward reconciles both queues of an agent.

mod flood;
mod steward;
