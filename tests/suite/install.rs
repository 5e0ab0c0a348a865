//! Switchyard comes to a database that is at work: beside whatever stands there, on whatever table the events are in, and leaves again.

mod beside;
mod domain;
mod live;
mod mapping;
mod program;
mod removal;
mod shop;
