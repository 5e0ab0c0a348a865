#![doc = include_str!("../README.md")]

mod event;
mod event_type;
mod json;
mod metadata;
mod new_event;
mod reason;
mod upcast;

pub use event::{DecodeError, Event, ParseError};
pub use event_type::EventType;
pub use json::{JsonFault, MAX_DEPTH};
pub use metadata::{ClaimCheck, DEFAULT_PRIORITY, Metadata, MetadataError};
pub use new_event::{Appendable, NewEvent, PayloadError};
pub use reason::Reason;
pub use upcast::{Fields, Upcast, UpcastError, newest, upcast};
