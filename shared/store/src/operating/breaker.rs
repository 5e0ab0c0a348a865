//! The breaker of each agent.
//!
//! It is normally closed. `trip` opens it, and the agent tries nothing for a while: 30 s, doubled each time that a probe fails, up to 15 minutes.
//! Then it is half-open: the agent tries one record at a time, and the outcome closes or opens the breaker. Nothing automatic changes a state that
//! an operator has forced. Every change adds an audit row. Times are the database's.

use tokio_postgres::types::Type;

use crate::row::{clean, count, get, only, word};
use crate::{Breaker, BreakerState, Store, StoreError};

/// A registered agent's breaker.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentBreaker {
    /// The agent.
    pub agent: String,
    /// Its breaker.
    pub breaker: Breaker,
    /// The ids of the event source mappings that a steward has turned off ([`Store::set_paused`]), those of other stacks on the same database
    /// included.
    pub paused: Vec<String>,
}

impl Store {
    /// The breakers of all agents, by name.
    pub async fn breakers(&self) -> Result<Vec<AgentBreaker>, StoreError> {
        const OP: &str = "breakers";
        let rows = self
            .read(
                OP,
                "select state, agent, forced, reason, since, opens, retry_in_secs, paused from switchyard.breakers() order by agent",
                &[],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(AgentBreaker {
                    agent: get(OP, row, 1)?,
                    breaker: Breaker {
                        state: word(OP, row, 0, BreakerState::named)?,
                        forced: get(OP, row, 2)?,
                        reason: get(OP, row, 3)?,
                        since: get(OP, row, 4)?,
                        opens: count(get(OP, row, 5)?),
                        retry_in_secs: get(OP, row, 6)?,
                    },
                    paused: get(OP, row, 7)?,
                })
            })
            .collect()
    }

    /// Opens the breaker, because the agent's dependency is down. Closed becomes open for 30 s; half-open becomes open for twice the last wait, up
    /// to 15 minutes; open and forced stay as they are. Returns the present state.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn trip(&self, agent: &str, reason: &str) -> Result<BreakerState, StoreError> {
        const OP: &str = "trip";
        let reason = clean(reason);
        let parameters = [(&agent as _, Type::TEXT), (&reason.as_ref() as _, Type::TEXT)];
        let rows = self.write(OP, "select switchyard.trip($1, $2)", &parameters).await?;
        word(OP, &only(OP, rows)?, 0, BreakerState::named)
    }

    /// For the steward: makes an open breaker half-open after its wait. Returns the present state.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn half_open(&self, agent: &str) -> Result<BreakerState, StoreError> {
        const OP: &str = "half_open";
        let rows = self.write(OP, "select switchyard.half_open($1)", &[(&agent, Type::TEXT)]).await?;
        word(OP, &only(OP, rows)?, 0, BreakerState::named)
    }

    /// Returns whether the caller may try one record while the breaker is half-open. Only one caller at a time may; if it dies, the next one may
    /// after 60 s. [`Store::trip`] or [`Store::recovered`] ends the probe.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn probe(&self, agent: &str) -> Result<bool, StoreError> {
        const OP: &str = "probe";
        let rows = self.write(OP, "select switchyard.probe($1)", &[(&agent, Type::TEXT)]).await?;
        get(OP, &only(OP, rows)?, 0)
    }

    /// Closes a half-open breaker after a successful probe. Returns the present state.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn recovered(&self, agent: &str) -> Result<BreakerState, StoreError> {
        const OP: &str = "recovered";
        let rows = self.write(OP, "select switchyard.recovered($1)", &[(&agent, Type::TEXT)]).await?;
        word(OP, &only(OP, rows)?, 0, BreakerState::named)
    }

    /// Forces a breaker open or closed; `None` ends that, and a breaker that was forced open is then probed at once.
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

    /// For the steward: records that it turned these event source mappings off or on. It turns on only what it turned off itself, and nothing that
    /// an operator or another stack's steward did. A change adds an audit row.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn set_paused(&self, agent: &str, mappings: &[&str], paused: bool) -> Result<(), StoreError> {
        let parameters = [(&agent as _, Type::TEXT), (&mappings as _, Type::TEXT_ARRAY), (&paused as _, Type::BOOL)];
        self.write("set_paused", "select switchyard.set_paused($1, $2, $3)", &parameters).await?;
        Ok(())
    }
}
