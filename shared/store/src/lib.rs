#![doc = include_str!("../README.md")]

mod connect;
mod error;
mod ledger;
mod moving_over;
mod operating;
mod outbox;
mod row;
mod setup;
mod store;
mod tx;
mod url;

pub use connect::UrlSource;
pub use error::StoreError;
pub use ledger::{
    Ask, Child, ClaimAnswer, Failed, Ledger, Link, Missing, ParkReport, Preview, Reported, Seal, Settlement, State,
    StoredPayload, StreamDelivery, StreamEvent, Unidentified, Verdict,
};
pub use moving_over::{
    BackfillNow, CompareMapping, CutoverFigures, Decided, Judged, LookedTo, OldTable, Prepared, Routing, RoutingChange,
    Taken, Unmatched,
};
pub use operating::{
    AgentBreaker, AgentFigures, AutoRedrive, Due, Figures, Overdue, ParkedDelivery, Reassigned, Resent, Retention,
    Revised, Stepped, Swept, Tick,
};
pub use outbox::{AppendEvent, Ingested, Known, Page, Pending, Publication, SHARDS, Shards, Share, Sharer};
pub use setup::{
    APPLICATION, AgentSpec, Columns, Domain, DomainSet, EventsTable, Installed, Mapping, Migrated, Named, Progress,
    READER, RUNTIME, Registered, Replace, RoutedBy, Since, WaitPolicy, drop_history_index, grant_to_runtime,
    index_history, installed, migrate, migrate_with, remove, set_domain,
};
pub use store::Store;
pub use switchyard_operations::{
    Selection,
    audit::{AuditRow, FailureRow},
    backfill::{BackfillPhase, BackfillPreview, BackfillProgress, BackfillSelection, BackfillState},
    breaker::{Breaker, BreakerState},
    compare::{Compared, Example, Period, Trend, UnmatchedRow},
    cutover::{Cutover, CutoverLimit, CutoverLimits, CutoverPlan, CutoverState, CutoverStep},
    delays::{Cancellation, Delayed, Delays},
    outbox::UnpublishableEvent,
    redrive::ParkedGroup,
    routing::{Mode, Moves, Owner},
};
pub use tokio_postgres::Row;
pub use tokio_postgres::types::{ToSql, Type};
pub use tx::{Overwrite, Tx};
pub use url::DatabaseUrl;
