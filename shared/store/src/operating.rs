//! What the steward and operators do: find lost deliveries, redrive, dismiss, revise, and read failures and the audit.

mod audit;
mod breaker;
mod figures;
mod parked;
mod reconcile;
mod redrive;
mod revise;
mod selection;

pub use breaker::AgentBreaker;
pub use figures::{AgentFigures, Figures};
pub use parked::ParkedDelivery;
pub use reconcile::{Due, Overdue, Reassigned, Resent, Retention, Swept, Tick};
pub use redrive::{AutoRedrive, Stepped};
pub use revise::Revised;
