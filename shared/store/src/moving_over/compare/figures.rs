//! The comparison in numbers, by time, and with examples.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::row::{get, only};
use crate::{Compared, Example, Period, Store, StoreError, Trend, UnmatchedRow};

impl Store {
    /// Returns the counts of a comparison since then (RFC 3339, from that minute on), by the time of the decisions. Without a mapping, every
    /// decision counts as not compared yet.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered, [`StoreError::Refused`] if `since` is not a time.
    pub async fn compared(&self, agent: &str, since: &str) -> Result<Compared, StoreError> {
        const OP: &str = "compared";
        let sql = "select agreed, differed, only_old, only_new, not_yet, overtaken, unmatched from switchyard.compared($1, $2::text::timestamptz)";
        let rows = self.read(OP, sql, &[(&agent, Type::TEXT), (&since, Type::TEXT)]).await?;
        counts(OP, &only(OP, rows)?, 0)
    }

    /// The same by period, the oldest first, without empty periods. At most the latest 500.
    ///
    /// Fails with [`StoreError::Refused`] if `since` is not a time.
    pub async fn compared_by(&self, agent: &str, since: &str, period: Period) -> Result<Vec<Trend>, StoreError> {
        const OP: &str = "compared_by";
        let unit = match period {
            Period::Hour => "hour",
            Period::Day => "day",
        };
        let sql = "select step, agreed, differed, only_old, only_new, 0::bigint, overtaken, unmatched
                     from switchyard.compared_by($1, $2::text::timestamptz, $3) order by step";
        let rows = self.read(OP, sql, &[(&agent, Type::TEXT), (&since, Type::TEXT), (&unit, Type::TEXT)]).await?;
        rows.iter().map(|row| Ok(Trend { from: get(OP, row, 0)?, compared: counts(OP, row, 1)? })).collect()
    }

    /// Returns the latest events that did not agree by the present mapping, at most `of_each` of each outcome.
    ///
    /// Fails with [`StoreError::Refused`] if `since` is not a time.
    pub async fn compared_examples(&self, agent: &str, since: &str, of_each: i64) -> Result<Vec<Example>, StoreError> {
        const OP: &str = "compared_examples";
        let rows = self
            .read(
                OP,
                "select event_id, outcome, differs, at from switchyard.compared_examples($1, $2::text::timestamptz, $3)",
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

    /// Returns the latest rows of the old system that answer no event.
    ///
    /// Fails with [`StoreError::Refused`] if `since` is not a time.
    pub async fn unmatched_examples(
        &self,
        agent: &str,
        since: &str,
        at_most: i64,
    ) -> Result<Vec<UnmatchedRow>, StoreError> {
        const OP: &str = "unmatched_examples";
        let rows = self
            .read(
                OP,
                "select answer, key, at from switchyard.unmatched_examples($1, $2::text::timestamptz, $3)",
                &[(&agent, Type::TEXT), (&since, Type::TEXT), (&at_most.max(0), Type::INT8)],
            )
            .await?;
        rows.iter()
            .map(|row| Ok(UnmatchedRow { answer: get(OP, row, 0)?, key: get(OP, row, 1)?, at: get(OP, row, 2)? }))
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
        unmatched: count(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mismatch_is_a_share_of_the_events_with_an_outcome() {
        let compared =
            Compared { agreed: 6, differed: 1, only_old: 0, only_new: 1, not_yet: 90, overtaken: 10, unmatched: 0 };
        assert_eq!((compared.judged(), compared.mismatch()), (8, Some(0.25)));
        assert_eq!(Compared { not_yet: 5, ..Compared::default() }.mismatch(), None);
    }
}
