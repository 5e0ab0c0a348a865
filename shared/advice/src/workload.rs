//! What is judged: what was measured, and what is wanted.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A way for events to reach those who react to them. In the order in which there is more of it to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Agents ask Postgres, as before.
    Stay,
    /// A relay feeds a stream of Redis, and workers read it.
    RedisStreams,
    /// A shim feeds an SNS topic, and each agent has a queue and a function.
    SnsSqs,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Stay, Self::RedisStreams, Self::SnsSqs];

    /// The way's name, as it stands in every answer.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stay => "stay",
            Self::RedisStreams => "redis_streams",
            Self::SnsSqs => "sns_sqs",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// Events a day.
    pub events_per_day: f64,
    /// The most events in one second.
    pub peak_per_second: f64,
    /// How many agents there are.
    pub agents: u32,
    /// How many agents an event goes to, on average.
    pub deliveries_per_event: f64,
    /// Payload and metadata of an event, in bytes.
    pub event_bytes: f64,
    /// Which share of the database server's connections is in use, from 0 to 1.
    pub connections: f64,
}

/// What is wanted. An empty field is not judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wishes {
    /// From an event to its reaction, in milliseconds.
    pub latency_wanted_ms: Option<u64>,
    /// In how many regions agents run; costs are reckoned for one where nothing is said.
    pub regions: Option<u32>,
    /// Which order is kept.
    pub ordering: Option<Ordering>,
    /// What may happen to an event.
    pub delivery: Option<Delivery>,
}

/// Which order is wanted. In the order in which it is harder to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ordering {
    /// None; where state is overwritten, the sequence decides.
    None,
    /// The events of an aggregate one after the other.
    Aggregate,
}

/// What may happen to an event. In the order in which it is harder to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// It may be lost.
    BestEffort,
    /// It may come twice.
    AtLeastOnce,
    /// It may come twice, and what it does happens once.
    EffectsOnce,
}

/// What thresholds are set for: one number of a workload or of what is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// [`Workload::events_per_day`].
    EventsPerDay,
    /// [`Workload::peak_per_second`].
    PeakPerSecond,
    /// [`Workload::agents`].
    Agents,
    /// [`Workload::connections`].
    Connections,
    /// [`Wishes::latency_wanted_ms`].
    LatencyWantedMs,
    /// [`Wishes::regions`].
    Regions,
    /// [`Wishes::ordering`], as its place from 0 on.
    Ordering,
    /// [`Wishes::delivery`], as its place from 0 on.
    Delivery,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::EventsPerDay,
        Self::PeakPerSecond,
        Self::Agents,
        Self::Connections,
        Self::LatencyWantedMs,
        Self::Regions,
        Self::Ordering,
        Self::Delivery,
    ];

    /// The measure's name, as it stands in every answer.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EventsPerDay => "events_per_day",
            Self::PeakPerSecond => "peak_per_second",
            Self::Agents => "agents",
            Self::Connections => "connections",
            Self::LatencyWantedMs => "latency_wanted_ms",
            Self::Regions => "regions",
            Self::Ordering => "ordering",
            Self::Delivery => "delivery",
        }
    }

    /// Its value; `None` if it is not given.
    #[must_use]
    pub fn of(self, workload: &Workload, wishes: &Wishes) -> Option<f64> {
        match self {
            Self::EventsPerDay => Some(workload.events_per_day),
            Self::PeakPerSecond => Some(workload.peak_per_second),
            Self::Agents => Some(f64::from(workload.agents)),
            Self::Connections => Some(workload.connections),
            // Exact up to 285,000 years.
            Self::LatencyWantedMs => wishes.latency_wanted_ms.map(|ms| ms as f64),
            Self::Regions => wishes.regions.map(f64::from),
            Self::Ordering => wishes.ordering.map(|wanted| f64::from(u8::from(wanted == Ordering::Aggregate))),
            Self::Delivery => wishes.delivery.map(|wanted| match wanted {
                Delivery::BestEffort => 0.0,
                Delivery::AtLeastOnce => 1.0,
                Delivery::EffectsOnce => 2.0,
            }),
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
