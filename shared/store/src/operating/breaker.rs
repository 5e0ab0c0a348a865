//! Whether what an agent depends on is believed to be up.
//!
//! Closed is the ordinary state. `trip` opens it, and nothing is tried for a while: 30 s, doubled each time that a probe fails, up to 15
//! minutes. Then it is half-open: one record at a time is tried, and its outcome closes or opens it. What a person has forced, nothing
//! automatic moves. Every change leaves an audit row. Times are the database's.

use serde::Serialize;
use tokio_postgres::types::Type;

use crate::row::{clean, count, get, only, word};
use crate::{BreakerState, Store, StoreError};

/// An agent's breaker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Breaker {
    /// The agent.
    pub agent: String,
    /// Its state.
    pub state: BreakerState,
    /// Set by hand, so that nothing automatic moves it.
    pub forced: bool,
    /// Why it is not closed.
    pub reason: Option<String>,
    /// Since when it is in this state: RFC 3339.
    pub since: String,
    /// How often it has opened since it was last closed.
    pub opens: u16,
    /// Open: in how many seconds it may be tried again; 0 when that is now, or where nobody waits.
    pub retry_in_secs: f64,
    /// The event source mappings that a steward has turned off, by their ids ([`Store::set_paused`]). Those of other stacks on the same database are
    /// among them.
    pub paused: Vec<String>,
}

impl Store {
    /// The breakers of all agents, by name.
    pub async fn breakers(&self) -> Result<Vec<Breaker>, StoreError> {
        const OP: &str = "breakers";
        let rows = self
            .read(
                OP,
                "select b.state, a.name, b.forced, b.reason, switchyard.rfc3339(b.since), b.opens,
                        greatest(0, coalesce(extract(epoch from b.retry_at - clock_timestamp()), 0))::float8, b.paused
                   from switchyard.breaker b join switchyard.agent a on a.id = b.agent order by a.name",
                &[],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Breaker {
                    agent: get(OP, row, 1)?,
                    state: word(OP, row, 0, BreakerState::named)?,
                    forced: get(OP, row, 2)?,
                    reason: get(OP, row, 3)?,
                    since: get(OP, row, 4)?,
                    opens: count(get(OP, row, 5)?),
                    retry_in_secs: get(OP, row, 6)?,
                    paused: get(OP, row, 7)?,
                })
            })
            .collect()
    }

    /// What the agent depends on is down. Closed becomes open for 30 s; half-open becomes open for twice as long as the last time, up to
    /// 15 minutes; open and forced stay as they are. Returns the state that holds now.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn trip(&self, agent: &str, reason: &str) -> Result<BreakerState, StoreError> {
        const OP: &str = "trip";
        let reason = clean(reason);
        let parameters = [(&agent as _, Type::TEXT), (&reason.as_ref() as _, Type::TEXT)];
        let rows = self.write(OP, "select switchyard.trip($1, $2)", &parameters).await?;
        word(OP, &only(OP, rows)?, 0, BreakerState::named)
    }

    /// For the steward: an open breaker whose wait is over becomes half-open. Returns the state that holds now.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn half_open(&self, agent: &str) -> Result<BreakerState, StoreError> {
        const OP: &str = "half_open";
        let rows = self.write(OP, "select switchyard.half_open($1)", &[(&agent, Type::TEXT)]).await?;
        word(OP, &only(OP, rows)?, 0, BreakerState::named)
    }

    /// Whether the caller may try one record while the breaker is half-open: one caller at a time, and whoever dies with the token holds
    /// up the others for 60 s. Ends with [`Store::trip`] or [`Store::recovered`].
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn probe(&self, agent: &str) -> Result<bool, StoreError> {
        const OP: &str = "probe";
        let rows = self.write(OP, "select switchyard.probe($1)", &[(&agent, Type::TEXT)]).await?;
        get(OP, &only(OP, rows)?, 0)
    }

    /// A probe came through: half-open becomes closed. Returns the state that holds now.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn recovered(&self, agent: &str) -> Result<BreakerState, StoreError> {
        const OP: &str = "recovered";
        let rows = self.write(OP, "select switchyard.recovered($1)", &[(&agent, Type::TEXT)]).await?;
        word(OP, &only(OP, rows)?, 0, BreakerState::named)
    }

    /// Holds a breaker open or closed by hand; `None` gives it back to the machine, which then tries at once what was held open.
    ///
    /// Fails with [`StoreError::Config`] for half-open, and if the agent is not registered.
    pub async fn force_breaker(&self, agent: &str, to: Option<BreakerState>, operator: &str) -> Result<(), StoreError> {
        let (to, operator) = (to.map(BreakerState::name), clean(operator));
        self.write(
            "force_breaker",
            "select switchyard.force_breaker($1, $2, $3)",
            &[(&agent, Type::TEXT), (&to, Type::TEXT), (&operator.as_ref(), Type::TEXT)],
        )
        .await?;
        Ok(())
    }

    /// For the steward: remembers of these event source mappings that it has turned them off, or not any more, so that it turns on only what it has
    /// turned off itself, and nothing that a person or another stack's steward has. A change leaves an audit row.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn set_paused(&self, agent: &str, mappings: &[&str], paused: bool) -> Result<(), StoreError> {
        let parameters = [(&agent as _, Type::TEXT), (&mappings as _, Type::TEXT_ARRAY), (&paused as _, Type::BOOL)];
        self.write("set_paused", "select switchyard.set_paused($1, $2, $3)", &parameters).await?;
        Ok(())
    }
}
