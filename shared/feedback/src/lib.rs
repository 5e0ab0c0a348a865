#![doc = include_str!("../README.md")]

mod sentiment;
mod similarity;
mod types;
mod upcasts;
mod words;

pub use sentiment::{Label, Sentiment, sentiment};
pub use similarity::similarity;
pub use types::*;
pub use upcasts::UPCASTS;
