#![doc = include_str!("../README.md")]

mod append;
mod audit;
mod backfill;
mod breaker;
mod catalogue;
mod chain;
mod claim;
mod compare;
mod cutover;
mod delays;
mod deploy;
mod direct;
mod error;
mod figures;
mod history;
mod ingest;
mod lease;
mod ledger;
mod mapping;
mod migrate;
mod outbox;
mod parked;
mod payload;
mod publish;
mod reconcile;
mod redrive;
mod remove;
mod report;
mod revise;
mod routing;
mod schema;
mod selection;
mod shards;
mod store;
mod stream;
mod suspect;
mod tx;
mod unpublishable;
mod url;
mod wait_policy;

pub use append::AppendEvent;
pub use backfill::{BackfillNow, Prepared, Taken};
pub use breaker::Breaker;
pub use chain::Link;
pub use claim::{Ask, ClaimAnswer, Preview, Settlement, Verdict};
pub use compare::{CompareMapping, Decided, Judged, LookedTo, OldTable, Stray};
pub use cutover::CutoverFigures;
pub use deploy::{AgentSpec, Registered, RoutedBy, Since};
pub use error::StoreError;
pub use figures::{AgentFigures, Figures};
pub use history::{drop_history_index, index_history};
pub use ingest::Ingested;
pub use lease::{Share, Sharer};
pub use ledger::{Ledger, Missing};
pub use mapping::{Columns, EventsTable, Mapping, Named};
pub use migrate::{Migrated, migrate, migrate_with};
pub use outbox::{Known, Page, Pending};
pub use parked::ParkedDelivery;
pub use payload::StoredPayload;
pub use publish::Publication;
pub use reconcile::{Due, Overdue, Reassigned, Resent, Retention, Swept, Tick};
pub use redrive::{AutoRedrive, Stepped};
pub use remove::{Installed, installed, remove};
pub use report::{Failed, ParkReport, Reported, State, Unidentified};
pub use revise::Revised;
pub use routing::{Routing, RoutingChange};
pub use shards::{SHARDS, Shards};
pub use store::Store;
pub use stream::{Child, StreamDelivery, StreamEvent};
pub use switchyard_operations::{
    Selection,
    audit::{AuditRow, FailureRow},
    backfill::{BackfillPhase, BackfillPreview, BackfillProgress, BackfillSelection, BackfillState},
    breaker::BreakerState,
    compare::{Compared, Example, Period, StrayRow, Trend},
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
pub use wait_policy::{Progress, WaitPolicy};
