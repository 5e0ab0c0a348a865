#![doc = include_str!("../README.md")]

mod advise;
mod cost;
mod data;
mod prices;
mod thresholds;
mod work;
mod workload;

pub use advise::{Advice, Advisor, Nearest, PricesUsed};
pub use cost::{Cost, Line};
pub use data::DataError;
pub use thresholds::{Bound, Reached, Source};
pub use workload::{Delivery, Measure, Ordering, Way, Wishes, Workload};
