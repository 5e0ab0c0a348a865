//! What each way costs a month: list prices without free tiers, of what the transport adds. What all ways need alike (the database itself, models,
//! traffic between zones and regions) is left out.

use crate::{
    DataError,
    prices::{Item, Node, Prices},
    work::Work,
    workload::{Ordering, Way, Wishes, Workload},
};
use serde::{Deserialize, Serialize};

/// A month, as the providers reckon it.
const HOURS: f64 = 730.0;
const DAYS: f64 = HOURS / 24.0;
const MINUTES: f64 = HOURS * 60.0;
const MS_PER_HOUR: f64 = 3_600_000.0;
const GB: f64 = 1e9;
/// What SNS and SQS take for one request.
const REQUEST_BYTES: f64 = 65_536.0;
/// What is larger travels as a claim check: four requests' worth at most.
const MOST_REQUESTS: f64 = 4.0;
/// The shortest interval between polls.
const SHORTEST_POLL_MS: f64 = 10.0;

/// What a way costs a month.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// The way.
    pub way: Way,
    /// All of it, in US dollars.
    pub usd_per_month: f64,
    /// What it is made of.
    pub lines: Vec<Line>,
}

/// One thing that is paid for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// What it is for.
    pub what: String,
    /// How much of it there is in a month.
    pub quantity: f64,
    /// Of what.
    pub unit: String,
    /// What that costs, in US dollars.
    pub usd: f64,
    /// Whether its price was verified on the provider's page.
    pub verified: bool,
}

/// What a workload amounts to in a month, in every region together.
struct Month<'a> {
    prices: &'a Prices,
    events: f64,
    deliveries: f64,
    regions: f64,
    lines: Vec<Line>,
}

impl<'a> Month<'a> {
    fn of(prices: &'a Prices, workload: &Workload, wishes: &Wishes) -> Self {
        let regions = f64::from(wishes.regions.unwrap_or(1).max(1));
        let events = workload.events_per_day * DAYS;
        Self { prices, events, deliveries: events * workload.deliveries_per_event, regions, lines: Vec::new() }
    }

    fn pay(&mut self, what: &str, item: Item, quantity: f64) -> Result<(), DataError> {
        let price = self.prices.of(item)?;
        let quantity = quantity * self.regions;
        let usd = quantity * price.each();
        self.lines.push(Line {
            what: what.to_owned(),
            quantity,
            unit: price.unit.clone(),
            usd,
            verified: price.verified,
        });
        Ok(())
    }

    /// Whatever reacts, reacts: the same each way, and counted so that the sums are what is paid.
    fn pay_for_logs(&mut self, work: &Work) -> Result<(), DataError> {
        let bytes = self.deliveries * work.everywhere.log_bytes_per_delivery;
        self.pay("logs of the deliveries", Item::LogsGb, bytes / GB)
    }

    fn pay_for_workers(&mut self, workload: &Workload, per_second: f64, at_least: f64) -> Result<(), DataError> {
        let busy = (workload.peak_per_second * workload.deliveries_per_event / per_second).ceil();
        self.pay("workers that run all the time", Item::WorkerHour, busy.max(at_least) * HOURS)
    }

    fn pay_for_database(&mut self, ms: f64) -> Result<(), DataError> {
        self.pay("the database's time", Item::DatabaseCpuHour, ms / MS_PER_HOUR)
    }

    fn total(self, way: Way) -> Cost {
        Cost { way, usd_per_month: self.lines.iter().map(|line| line.usd).sum(), lines: self.lines }
    }
}

/// What one way costs for a workload.
pub(crate) fn cost(
    way: Way,
    workload: &Workload,
    wishes: &Wishes,
    prices: &Prices,
    work: &Work,
) -> Result<Cost, DataError> {
    let month = Month::of(prices, workload, wishes);
    match way {
        Way::Stay => stay(month, workload, wishes, work),
        Way::RedisStreams => redis_streams(month, workload, work),
        Way::SnsSqs => sns_sqs(month, workload, wishes, work),
    }
}

fn stay(mut month: Month<'_>, workload: &Workload, wishes: &Wishes, work: &Work) -> Result<Cost, DataError> {
    let every_ms = wishes.latency_wanted_ms.map_or(work.stay.poll_every_ms, |ms| (ms as f64).max(SHORTEST_POLL_MS));
    let polls = f64::from(workload.agents) * HOURS * MS_PER_HOUR / every_ms;
    month.pay_for_database(polls * work.stay.poll_database_ms + month.deliveries * work.stay.take_database_ms)?;
    month.pay_for_workers(workload, work.stay.worker_per_second, work.stay.workers)?;
    month.pay_for_logs(work)?;
    Ok(month.total(Way::Stay))
}

fn redis_streams(mut month: Month<'_>, workload: &Workload, work: &Work) -> Result<Cost, DataError> {
    let redis = &work.redis_streams;
    let entry = (workload.event_bytes + work.everywhere.envelope_bytes) * redis.overhead;
    let gb = workload.events_per_day * redis.kept_hours / 24.0 * entry / GB;
    if let Some((node, count)) = cheapest(&month.prices.nodes, gb / redis.fill) {
        let hours = count * redis.nodes * HOURS * month.regions;
        month.lines.push(Line {
            what: "Redis, each node with a replica".to_owned(),
            quantity: hours,
            unit: format!("hour of {}", node.name),
            usd: hours * node.usd_per_hour,
            verified: node.verified,
        });
    }
    month.pay_for_database(month.events * redis.relay_database_ms)?;
    month.pay_for_workers(workload, redis.worker_per_second, redis.workers)?;
    month.pay_for_logs(work)?;
    Ok(month.total(Way::RedisStreams))
}

/// The nodes of one kind that hold so much and cost the least, and how many.
fn cheapest(nodes: &[Node], gb: f64) -> Option<(&Node, f64)> {
    let enough = nodes.iter().map(|node| (node, (gb / node.gb).ceil().max(1.0)));
    enough.min_by(|(one, n), (other, m)| (one.usd_per_hour * n).total_cmp(&(other.usd_per_hour * m)))
}

fn sns_sqs(mut month: Month<'_>, workload: &Workload, wishes: &Wishes, work: &Work) -> Result<Cost, DataError> {
    let (sns_sqs, agents) = (&work.sns_sqs, f64::from(workload.agents));
    let bytes = workload.event_bytes + work.everywhere.envelope_bytes;
    let requests = (bytes / REQUEST_BYTES).ceil().clamp(1.0, MOST_REQUESTS);
    let travels = bytes.min(MOST_REQUESTS * REQUEST_BYTES) / GB;
    let (events, deliveries) = (month.events, month.deliveries);
    let publishes = events / sns_sqs.entries_per_publish;
    let received =
        deliveries * sns_sqs.requests_per_delivery * requests + agents * sns_sqs.empty_receives_per_hour * HOURS;
    if wishes.ordering == Some(Ordering::Aggregate) {
        month.pay("published to the topic (FIFO)", Item::SnsFifoPublish, publishes)?;
        month.pay("published to the topic (FIFO), bytes", Item::SnsFifoPublishedGb, events * travels)?;
        month.pay("from the topic to the queues (FIFO)", Item::SnsFifoDelivery, deliveries)?;
        month.pay("from the topic to the queues (FIFO), bytes", Item::SnsFifoDeliveredGb, deliveries * travels)?;
        month.pay("into and out of the queues (FIFO)", Item::SqsFifoRequest, received)?;
    } else {
        month.pay("published to the topic", Item::SnsPublish, publishes * requests)?;
        month.pay("into and out of the queues", Item::SqsRequest, received)?;
    }
    // The shim and the steward are started every minute.
    month.pay("functions started", Item::LambdaRequest, deliveries + 2.0 * MINUTES)?;
    let seconds = deliveries * work.everywhere.handler_ms / 1_000.0 + sns_sqs.resident_secs_per_minute * MINUTES;
    month.pay("function time", Item::LambdaGbSecond, seconds * sns_sqs.memory_gb)?;
    month.pay_for_database(events * sns_sqs.event_database_ms + deliveries * sns_sqs.claim_database_ms)?;
    month.pay("alarms", Item::Alarm, agents * sns_sqs.alarms_per_agent + sns_sqs.alarms)?;
    month.pay("metrics from the logs", Item::Metric, sns_sqs.metrics)?;
    month.pay_for_logs(work)?;
    Ok(month.total(Way::SnsSqs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Delivery;
    use proptest::prelude::*;

    const SMALL: Workload = Workload {
        events_per_day: 10_000.0,
        peak_per_second: 5.0,
        agents: 3,
        deliveries_per_event: 2.0,
        event_bytes: 600.0,
        connections: 0.1,
    };

    fn of(way: Way, workload: &Workload, wishes: &Wishes) -> Cost {
        cost(way, workload, wishes, &Prices::built_in().unwrap(), &Work::built_in().unwrap()).unwrap()
    }

    fn usd(way: Way, workload: &Workload) -> f64 {
        of(way, workload, &Wishes::default()).usd_per_month
    }

    fn line(cost: &Cost, what: &str) -> f64 {
        cost.lines.iter().find(|line| line.what == what).unwrap().usd
    }

    #[test]
    fn the_bill_of_a_small_workload_matches_a_manual_calculation() {
        // 304,167 events and 608,333 deliveries a month.
        let cost = of(Way::SnsSqs, &SMALL, &Wishes::default());
        let near =
            |what: &str, usd: f64| assert!((line(&cost, what) - usd).abs() < 0.01, "{what}: {}", line(&cost, what));
        near("published to the topic", 0.15);
        near("into and out of the queues", 0.4 * (0.608_333 * 3.0 + 3.0 * 0.657));
        near("functions started", 0.2 * (0.608_333 + 0.0876));
        near("function time", 0.25 * (60_833.0 + 80.0 * 43_800.0) * 0.000_013_333_4);
        near("alarms", 4.3);
        near("metrics from the logs", 3.3);
        near("logs of the deliveries", 0.30);
        let sum: f64 = cost.lines.iter().map(|line| line.usd).sum();
        assert_eq!(sum, cost.usd_per_month);
        assert!(
            usd(Way::Stay, &SMALL) < usd(Way::SnsSqs, &SMALL)
                && usd(Way::SnsSqs, &SMALL) < usd(Way::RedisStreams, &SMALL)
        );
    }

    #[test]
    fn a_request_is_paid_for_each_64_kib_and_never_for_more_than_travels() {
        let with = |event_bytes: f64| {
            let workload = Workload { event_bytes, ..SMALL };
            line(&of(Way::SnsSqs, &workload, &Wishes::default()), "published to the topic")
        };
        let one = with(600.0);
        assert_eq!(with(65_536.0 - 700.0), one);
        assert_eq!(with(65_536.0 - 699.0), 2.0 * one);
        assert_eq!((with(262_144.0), with(8e6)), (4.0 * one, 4.0 * one));
    }

    #[test]
    fn order_by_aggregate_is_paid_at_the_prices_of_fifo() {
        let wishes = Wishes { ordering: Some(Ordering::Aggregate), ..Wishes::default() };
        let fifo = of(Way::SnsSqs, &SMALL, &wishes);
        assert!(fifo.lines.iter().any(|line| line.what.contains("FIFO")));
        let none =
            Wishes { ordering: Some(Ordering::None), delivery: Some(Delivery::AtLeastOnce), ..Wishes::default() };
        assert_eq!(of(Way::SnsSqs, &SMALL, &none), of(Way::SnsSqs, &SMALL, &Wishes::default()));
    }

    #[test]
    fn a_lower_latency_costs_more_polling() {
        let with = |latency| of(Way::Stay, &SMALL, &Wishes { latency_wanted_ms: latency, ..Wishes::default() });
        let database = |latency| line(&with(latency), "the database's time");
        assert!(database(Some(1_000)) > database(None) && database(Some(50)) > database(Some(1_000)));
        assert_eq!(database(Some(0)), database(Some(10)));
    }

    #[test]
    fn the_cheapest_nodes_with_enough_memory_are_chosen() {
        let nodes = Prices::built_in().unwrap().nodes;
        let taken = |gb: f64| cheapest(&nodes, gb).map(|(node, count)| (node.name.as_str(), count)).unwrap();
        assert_eq!(taken(0.0), ("cache.t4g.small", 1.0));
        assert_eq!(taken(2.0), ("cache.t4g.small", 2.0));
        assert_eq!(taken(13.0), ("cache.r7g.large", 1.0));
        assert_eq!(cheapest(&[], 1.0), None);
    }

    fn workload() -> impl Strategy<Value = Workload> {
        (0.0..1e8, 0.0..1e4, 0..200_u32, 0.0..50.0, 0.0..1e6).prop_map(
            |(events_per_day, peak_per_second, agents, deliveries_per_event, event_bytes)| Workload {
                events_per_day,
                peak_per_second,
                agents,
                deliveries_per_event,
                event_bytes,
                connections: 0.5,
            },
        )
    }

    proptest! {
        #[test]
        fn more_of_anything_never_costs_less(
            less in workload(),
            more in (1.0..100.0, 1.0..100.0, 0..50_u32, 1.0..10.0, 1.0..10.0),
            ordering in prop::option::of(prop_oneof![Just(Ordering::None), Just(Ordering::Aggregate)]),
            regions in prop::option::of(1..5_u32),
        ) {
            let wishes = Wishes { ordering, regions, ..Wishes::default() };
            let most = Workload {
                events_per_day: less.events_per_day * more.0,
                peak_per_second: less.peak_per_second * more.1,
                agents: less.agents + more.2,
                deliveries_per_event: less.deliveries_per_event * more.3,
                event_bytes: less.event_bytes * more.4,
                ..less
            };
            for way in Way::ALL {
                let (before, after) = (of(way, &less, &wishes), of(way, &most, &wishes));
                prop_assert!(before.usd_per_month >= 0.0 && before.usd_per_month.is_finite());
                // Sums of floats in another order may differ in their last digits.
                prop_assert!(after.usd_per_month >= before.usd_per_month * (1.0 - 1e-12), "{way}: {before:?} {after:?}");
            }
        }

        #[test]
        fn twice_the_events_cost_more_each_way(less in workload().prop_filter("some", |w| w.events_per_day > 1.0 && w.deliveries_per_event > 0.1)) {
            let twice = Workload { events_per_day: less.events_per_day * 2.0, ..less };
            for way in Way::ALL {
                prop_assert!(usd(way, &twice) > usd(way, &less), "{way}");
            }
        }

        #[test]
        fn two_regions_cost_twice(workload in workload()) {
            let in_regions = |regions| Wishes { regions: Some(regions), ..Wishes::default() };
            for way in Way::ALL {
                let (one, two) = (of(way, &workload, &in_regions(1)), of(way, &workload, &in_regions(2)));
                prop_assert!((two.usd_per_month - 2.0 * one.usd_per_month).abs() <= 1e-9 * two.usd_per_month);
            }
        }
    }
}
