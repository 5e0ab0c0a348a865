#![doc = include_str!("../README.md")]

mod event;
mod event_type;
mod json;
mod metadata;
mod new_event;

pub use event::{DecodeError, Event, ParseError};
pub use event_type::EventType;
pub use json::{JsonFault, MAX_DEPTH};
pub use metadata::{DEFAULT_PRIORITY, Metadata, MetadataError};
pub use new_event::{Appendable, NewEvent, PayloadError};
