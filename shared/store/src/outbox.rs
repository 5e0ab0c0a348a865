//! From an event to the topic: appending, the pages that the shim reads, and the leases of its shards.

pub(crate) mod append;
mod delays;
mod ingest;
mod lease;
mod pages;
mod publish;
mod shards;
mod unpublishable;

pub use append::AppendEvent;
pub use ingest::Ingested;
pub use lease::{Share, Sharer};
pub use pages::{Known, Page, Pending};
pub use publish::Publication;
pub use shards::{SHARDS, Shards};
