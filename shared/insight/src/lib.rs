#![doc = include_str!("../README.md")]

mod sentiment;
mod similarity;
mod words;

pub use sentiment::{Label, Sentiment, sentiment};
pub use similarity::similarity;
