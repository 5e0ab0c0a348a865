//! What things cost: list prices of one day.

use crate::{DataError, data::read};
use serde::{Deserialize, Serialize};

const FILE: &str = "docs/prices/us-east-1-2026-11-21.toml";

/// What has a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Item {
    SnsPublish,
    SnsFifoPublish,
    SnsFifoPublishedGb,
    SnsFifoDelivery,
    SnsFifoDeliveredGb,
    SqsRequest,
    SqsFifoRequest,
    LambdaRequest,
    LambdaGbSecond,
    LogsGb,
    Alarm,
    Metric,
    WorkerHour,
    DatabaseCpuHour,
}

impl Item {
    const ALL: [Self; 14] = [
        Self::SnsPublish,
        Self::SnsFifoPublish,
        Self::SnsFifoPublishedGb,
        Self::SnsFifoDelivery,
        Self::SnsFifoDeliveredGb,
        Self::SqsRequest,
        Self::SqsFifoRequest,
        Self::LambdaRequest,
        Self::LambdaGbSecond,
        Self::LogsGb,
        Self::Alarm,
        Self::Metric,
        Self::WorkerHour,
        Self::DatabaseCpuHour,
    ];
}

/// One price.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Price {
    item: Item,
    usd: f64,
    per: f64,
    pub(crate) unit: String,
    pub(crate) source: String,
    pub(crate) verified: bool,
}

impl Price {
    /// What one of it costs.
    pub(crate) fn each(&self) -> f64 {
        self.usd / self.per
    }
}

/// A node that Redis can run on.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) gb: f64,
    pub(crate) usd_per_hour: f64,
    pub(crate) source: String,
    pub(crate) verified: bool,
}

/// The prices of one region and day.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Prices {
    pub(crate) region: String,
    pub(crate) currency: String,
    pub(crate) as_of: String,
    price: Vec<Price>,
    #[serde(rename = "redis_node")]
    pub(crate) nodes: Vec<Node>,
}

impl Prices {
    pub(crate) fn built_in() -> Result<Self, DataError> {
        let read: Self = read(FILE, include_str!("../../../docs/prices/us-east-1-2026-11-21.toml"))?;
        for item in Item::ALL {
            read.of(item)?;
        }
        let wrong = |usd: f64| !(usd.is_finite() && usd > 0.0);
        if let Some(price) = read.price.iter().find(|price| wrong(price.each())) {
            return Err(DataError::new(FILE, format!("{:?} costs nothing", price.item)));
        }
        if read.nodes.is_empty() || read.nodes.iter().any(|node| wrong(node.usd_per_hour) || wrong(node.gb)) {
            return Err(DataError::new(FILE, "there is no redis_node, or one that costs or holds nothing"));
        }
        Ok(read)
    }

    /// The price of something.
    pub(crate) fn of(&self, item: Item) -> Result<&Price, DataError> {
        let mut prices = self.price.iter().filter(|price| price.item == item);
        match (prices.next(), prices.next()) {
            (Some(price), None) => Ok(price),
            _ => Err(DataError::new(FILE, format!("{item:?} has no price, or two"))),
        }
    }

    /// What was not read on the provider's own page: where it stands, each page once.
    pub(crate) fn unverified(&self) -> Vec<String> {
        let prices = self.price.iter().filter(|price| !price.verified).map(|price| &price.source);
        let nodes = self.nodes.iter().filter(|node| !node.verified).map(|node| &node.source);
        let mut sources: Vec<String> = prices.chain(nodes).cloned().collect();
        sources.dedup();
        sources
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn everything_has_one_price_with_a_page_to_look_at() {
        let prices = Prices::built_in().unwrap();
        assert_eq!(prices.price.len(), Item::ALL.len());
        assert!(prices.price.iter().all(|price| price.source.contains("pricing:")));
        assert!(prices.nodes.iter().all(|node| node.source.contains("pricing:")));
    }

    #[test]
    fn the_file_bears_the_region_and_the_day_that_it_says() {
        let prices = Prices::built_in().unwrap();
        assert_eq!(FILE, format!("docs/prices/{}-{}.toml", prices.region, prices.as_of));
        let newest = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/prices")).unwrap();
        let newest = newest.map(|file| file.unwrap().file_name().into_string().unwrap()).max().unwrap();
        assert!(FILE.ends_with(&newest), "a newer file than the one that is compiled in: {newest}");
    }
}
