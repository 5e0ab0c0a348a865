//! Shadow comparison: reads both sides and stores the outcomes. [`switchyard_compare::Mapping`] says what is compared with what; the steward
//! compares.

mod columns;
mod decided;
mod figures;
mod old;
mod outcomes;
mod statement;
mod unmatched;

pub use columns::OldTable;
pub use decided::Decided;
pub use outcomes::Judged;
pub use unmatched::{LookedTo, Unmatched};

use serde_json::Value;
use tokio_postgres::types::Type;

use crate::row::{clean, get, only};
use crate::{Store, StoreError};

/// How an agent is compared with the old system.
#[derive(Clone, Debug, PartialEq)]
pub struct CompareMapping {
    /// The agent.
    pub agent: String,
    /// The mapping, as [`switchyard_compare::Mapping::read`] takes it.
    pub mapping: Value,
    /// The mapping's version. Outcomes of another version do not count.
    pub version: i32,
    /// Since when: RFC 3339.
    pub since: String,
    /// Up to when the old system's rows were searched for rows that answer no event: microseconds since 1970, by the database's clock.
    pub unmatched_to_us: i64,
    /// The database's time now, in the same unit.
    pub now_us: i64,
    /// Whether the agent is in shadow mode now. Then the old system owns all of its events, and a row that answers none is unmatched.
    pub shadow: bool,
    /// Why the last comparison failed.
    pub trouble: Option<String>,
}

impl Store {
    /// Returns the agents that have a mapping, by name.
    pub async fn compare_mappings(&self) -> Result<Vec<CompareMapping>, StoreError> {
        const OP: &str = "compare_mappings";
        let rows = self
            .read(
                OP,
                "select agent, mapping, version, since, (extract(epoch from unmatched_to) * 1000000)::bigint,
                        (extract(epoch from now) * 1000000)::bigint, shadow, trouble
                   from switchyard.compare_mappings() order by agent",
                &[],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let mapping: &str = get(OP, row, 1)?;
                Ok(CompareMapping {
                    agent: get(OP, row, 0)?,
                    mapping: serde_json::from_str(mapping).map_err(|e| StoreError::bug(OP, e.to_string()))?,
                    version: get(OP, row, 2)?,
                    since: get(OP, row, 3)?,
                    unmatched_to_us: get(OP, row, 4)?,
                    now_us: get(OP, row, 5)?,
                    shadow: get(OP, row, 6)?,
                    trouble: get(OP, row, 7)?,
                })
            })
            .collect()
    }

    /// Sets an agent's mapping, as JSON that was parsed before, and its wait. Counts by an older mapping are deleted; the latest 20,000 decisions
    /// are compared again. Audited, with the mapping. Returns the mapping's version.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn set_compare_mapping(
        &self,
        operator: &str,
        agent: &str,
        mapping: &Value,
        wait_ms: u32,
    ) -> Result<i32, StoreError> {
        const OP: &str = "set_compare_mapping";
        let rows = self
            .write(
                OP,
                "select switchyard.set_compare_mapping($1, $2, $3::text::jsonb, $4)",
                &[
                    (&clean(operator).as_ref(), Type::TEXT),
                    (&agent, Type::TEXT),
                    (&mapping.to_string(), Type::TEXT),
                    (&i64::from(wait_ms), Type::INT8),
                ],
            )
            .await?;
        get(OP, &only(OP, rows)?, 0)
    }

    /// Deletes an agent's mapping and its counts. Audited. Returns whether it had one.
    pub async fn drop_compare_mapping(&self, operator: &str, agent: &str) -> Result<bool, StoreError> {
        const OP: &str = "drop_compare_mapping";
        let sql = "select switchyard.drop_compare_mapping($1, $2)";
        let rows = self.write(OP, sql, &[(&clean(operator).as_ref(), Type::TEXT), (&agent, Type::TEXT)]).await?;
        get(OP, &only(OP, rows)?, 0)
    }

    /// Stores why an agent could not be compared; `None` if it could. The text is for the operator and holds no payload.
    pub async fn set_compare_mapping_error(&self, agent: &str, trouble: Option<&str>) -> Result<(), StoreError> {
        self.write(
            "set_compare_mapping_error",
            "select switchyard.set_compare_error($1, $2)",
            &[(&agent, Type::TEXT), (&trouble.map(clean).as_deref(), Type::TEXT)],
        )
        .await?;
        Ok(())
    }

    /// Deletes decisions after 45 days and counts after 90, at most 10,000 of each for each agent. Returns how many.
    pub async fn prune_compared(&self) -> Result<u64, StoreError> {
        const OP: &str = "prune_compared";
        let rows = self.write(OP, "select switchyard.prune_compared()", &[]).await?;
        Ok(u64::try_from(get::<i64>(OP, &only(OP, rows)?, 0)?).unwrap_or(0))
    }
}
