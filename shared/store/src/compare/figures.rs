//! The comparison in numbers, by time, and by example.

use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::claim::get;
use crate::store::only;
use crate::{Store, StoreError};

/// How an agent's decisions and the old system compare, in events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// Both did the same, or both did nothing.
    pub agreed: i64,
    /// Both did something, and not the same.
    pub differed: i64,
    /// Only the old system did something; the strays are among these.
    pub only_old: i64,
    /// Only the agent would have done something.
    pub only_new: i64,
    /// Decided and not compared yet, since the old system still has time; or logged in the last ten minutes and not decided yet.
    pub not_yet: i64,
    /// Not told apart: the next event of the same key came before any answer.
    pub overtaken: i64,
    /// Rows of the old system that answer no event.
    pub strays: i64,
}

impl Compared {
    /// How many events say something: those that agree, and those that do not.
    #[must_use]
    pub fn told(&self) -> i64 {
        self.agreed + self.differed + self.only_old + self.only_new
    }

    /// Which share of what says something does not agree, from 0 to 1; none where nothing says anything.
    #[must_use]
    pub fn mismatch(&self) -> Option<f64> {
        let told = self.told();
        // Counts of events are far below 2^52, up to which an f64 is exact.
        (told > 0).then(|| (told - self.agreed) as f64 / told as f64)
    }
}

/// In which steps a trend is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// By the hour.
    Hour,
    /// By the day, in UTC.
    Day,
}

/// A step of a trend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trend {
    /// When it begins: RFC 3339.
    pub from: String,
    /// How its events compare; what is not compared yet is in no step.
    #[serde(flatten)]
    pub compared: Compared,
}

/// An event that did not agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// The event.
    pub event_id: Uuid,
    /// `differed`, `only_old` or `only_new`.
    pub outcome: String,
    /// The fields that differ, by name.
    pub differs: Vec<String>,
    /// When the agent decided: RFC 3339.
    pub at: String,
}

/// A row of the old system that answers no event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrayRow {
    /// Among which answers of the mapping.
    pub answer: String,
    /// Its key, part by part.
    pub key: Vec<String>,
    /// When it was written: RFC 3339.
    pub at: String,
}

const COUNTS: &str = "coalesce(sum(c.agreed), 0)::bigint, coalesce(sum(c.differed), 0)::bigint, coalesce(sum(c.only_old + c.strays), 0)::bigint,
    coalesce(sum(c.only_new), 0)::bigint, 0::bigint, coalesce(sum(c.overtaken), 0)::bigint, coalesce(sum(c.strays), 0)::bigint";

impl Store {
    /// How an agent compares with the old system since then (RFC 3339, counted from that minute on), by the time of the decisions. Where it is not compared at all, every
    /// decision is one that is not compared yet.
    ///
    /// Fails with [`StoreError::Config`] where the agent is not registered, [`StoreError::Refused`] where `since` is no time.
    pub async fn compared(&self, agent: &str, since: &str) -> Result<Compared, StoreError> {
        const OP: &str = "compared";
        let sql = "select agreed, differed, only_old, only_new, not_yet, overtaken, strays from switchyard.compared($1, $2::text::timestamptz)";
        let rows = self.read(OP, sql, &[(&agent, Type::TEXT), (&since, Type::TEXT)]).await?;
        counts(OP, &only(OP, rows)?, 0)
    }

    /// The same step by step, the oldest first; steps without any event are left out. At most the latest 500.
    ///
    /// Fails with [`StoreError::Refused`] where `since` is no time.
    pub async fn compared_by(&self, agent: &str, since: &str, period: Period) -> Result<Vec<Trend>, StoreError> {
        const OP: &str = "compared_by";
        let unit = match period {
            Period::Hour => "hour",
            Period::Day => "day",
        };
        let sql = format!(
            "select * from (
               select switchyard.rfc3339(date_trunc($3, c.minute, 'UTC')) as step, {COUNTS} from switchyard.comparison c
                where c.agent = $1 and c.minute >= date_trunc('minute', $2::text::timestamptz, 'UTC')
                group by date_trunc($3, c.minute, 'UTC') order by date_trunc($3, c.minute, 'UTC') desc limit 500) x
              order by x.step"
        );
        let rows = self.read(OP, &sql, &[(&agent, Type::TEXT), (&since, Type::TEXT), (&unit, Type::TEXT)]).await?;
        rows.iter().map(|row| Ok(Trend { from: get(OP, row, 0)?, compared: counts(OP, row, 1)? })).collect()
    }

    /// The latest events that did not agree by the mapping of now, at most so many of each outcome.
    ///
    /// Fails with [`StoreError::Refused`] where `since` is no time.
    pub async fn compared_examples(&self, agent: &str, since: &str, of_each: i64) -> Result<Vec<Example>, StoreError> {
        const OP: &str = "compared_examples";
        let rows = self
            .read(
                OP,
                "select s.event_id, s.outcome, coalesce(s.differs, '{}'), switchyard.rfc3339(s.at)
                   from switchyard.counterpart c
                   cross join unnest(array['differed', 'only_old', 'only_new']) with ordinality o (outcome, ord)
                   cross join lateral (
                     select x.* from switchyard.shadow x
                      where x.agent = c.agent and x.outcome = o.outcome and x.outcome <> 'agreed' and x.at >= $2::text::timestamptz
                        and x.run = 0 and x.judged_by = c.version
                      order by x.at desc limit $3) s
                  where c.agent = $1 order by o.ord, s.at desc",
                &[(&agent, Type::TEXT), (&since, Type::TEXT), (&of_each.max(0), Type::INT8)],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Example {
                    event_id: get(OP, row, 0)?,
                    outcome: get(OP, row, 1)?,
                    differs: get(OP, row, 2)?,
                    at: get(OP, row, 3)?,
                })
            })
            .collect()
    }

    /// The latest rows of the old system that answer no event.
    ///
    /// Fails with [`StoreError::Refused`] where `since` is no time.
    pub async fn stray_examples(&self, agent: &str, since: &str, at_most: i64) -> Result<Vec<StrayRow>, StoreError> {
        const OP: &str = "stray_examples";
        let rows = self
            .read(
                OP,
                "select s.answer, s.key, switchyard.rfc3339(s.at) from switchyard.stray s
                  where s.agent = $1 and s.at >= $2::text::timestamptz order by s.at desc limit $3",
                &[(&agent, Type::TEXT), (&since, Type::TEXT), (&at_most.max(0), Type::INT8)],
            )
            .await?;
        rows.iter()
            .map(|row| Ok(StrayRow { answer: get(OP, row, 0)?, key: get(OP, row, 1)?, at: get(OP, row, 2)? }))
            .collect()
    }
}

fn counts(operation: &'static str, row: &Row, first: usize) -> Result<Compared, StoreError> {
    let count = |place: usize| get(operation, row, first + place);
    Ok(Compared {
        agreed: count(0)?,
        differed: count(1)?,
        only_old: count(2)?,
        only_new: count(3)?,
        not_yet: count(4)?,
        overtaken: count(5)?,
        strays: count(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mismatch_is_a_share_of_what_says_something() {
        let compared =
            Compared { agreed: 6, differed: 1, only_old: 0, only_new: 1, not_yet: 90, overtaken: 10, strays: 0 };
        assert_eq!((compared.told(), compared.mismatch()), (8, Some(0.25)));
        assert_eq!(Compared { not_yet: 5, ..Compared::default() }.mismatch(), None);
    }
}
