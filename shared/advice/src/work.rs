//! How much work an event is, each way. What each figure is and where it comes from stands in the file.

use crate::{DataError, data::read};
use serde::Deserialize;

const FILE: &str = "shared/advice/work.toml";

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Work {
    pub(crate) everywhere: Everywhere,
    pub(crate) stay: Stay,
    pub(crate) redis_streams: RedisStreams,
    pub(crate) sns_sqs: SnsSqs,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Everywhere {
    pub(crate) handler_ms: f64,
    pub(crate) log_bytes_per_delivery: f64,
    pub(crate) envelope_bytes: f64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stay {
    pub(crate) poll_every_ms: f64,
    pub(crate) poll_database_ms: f64,
    pub(crate) take_database_ms: f64,
    pub(crate) worker_per_second: f64,
    pub(crate) workers: f64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RedisStreams {
    pub(crate) relay_database_ms: f64,
    pub(crate) kept_hours: f64,
    pub(crate) overhead: f64,
    pub(crate) fill: f64,
    pub(crate) nodes: f64,
    pub(crate) worker_per_second: f64,
    pub(crate) workers: f64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnsSqs {
    pub(crate) event_database_ms: f64,
    pub(crate) claim_database_ms: f64,
    pub(crate) entries_per_publish: f64,
    pub(crate) requests_per_delivery: f64,
    pub(crate) empty_receives_per_hour: f64,
    pub(crate) memory_gb: f64,
    pub(crate) resident_secs_per_minute: f64,
    pub(crate) alarms_per_agent: f64,
    pub(crate) alarms: f64,
    pub(crate) metrics: f64,
}

impl Work {
    pub(crate) fn built_in() -> Result<Self, DataError> {
        read(FILE, include_str!("../work.toml"))
    }
}
