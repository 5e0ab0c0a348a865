//! From the old system to agents: routing, backfill, comparison and cutover.

mod backfill;
mod compare;
mod cutover;
mod routing;

pub use backfill::{BackfillNow, Prepared, Taken};
pub use compare::{CompareMapping, Decided, Judged, LookedTo, OldTable, Unmatched};
pub use cutover::CutoverFigures;
pub use routing::{Routing, RoutingChange};
