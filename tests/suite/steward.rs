//! The steward: what it does against a real ledger with queues and mappings in memory, an hour of downtime in simulated time, and the
//! deployed one.

mod breakers;
mod cutovers;
mod deployed;
mod downtime;
mod lost;
mod parked;
mod whole;
pub(crate) mod world;
