//! The delivery ledger: what a claim answers, what is reported, and what can be read of it.

mod chain;
pub(crate) mod claim;
mod counts;
mod payload;
mod report;
mod stream;
mod suspect;

pub use chain::Link;
pub use claim::{Ask, ClaimAnswer, Preview, Seal, Settlement, Verdict};
pub use counts::{Ledger, Missing};
pub use payload::StoredPayload;
pub use report::{Failed, ParkReport, Reported, State, Unidentified};
pub use stream::{Child, StreamDelivery, StreamEvent};
