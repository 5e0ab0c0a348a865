//! Express lanes: what is urgent does not wait behind what is not, and whoever looks after an agent looks after both of its queues.

mod flood;
mod steward;
