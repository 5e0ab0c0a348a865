//! The routing of an agent: which side owns its events, by mode, percentage and pinned projects.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::row::{clean, get, only, word};
use crate::{Mode, Moves, Owner, Store, StoreError};

/// A change of the routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoutingChange {
    /// Which side owns the events.
    pub mode: Mode,
    /// Whether every [`Store::sweep`] reassigns unfinished deliveries. Without it they keep their owner until [`Store::reassign`] is called.
    pub drain: bool,
    /// In mode `percent`: whether the agent also decides in shadow mode about what the old system owns, so that both can still be compared.
    pub beside: bool,
}

impl RoutingChange {
    /// This mode, with unfinished deliveries reassigned.
    #[must_use]
    pub const fn draining(mode: Mode) -> Self {
        Self { mode, drain: true, beside: false }
    }
}

impl From<Mode> for RoutingChange {
    /// This mode, for events that neither side has asked for yet.
    fn from(mode: Mode) -> Self {
        Self { mode, drain: false, beside: false }
    }
}

/// The present routing of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// Which side owns the events.
    pub mode: Mode,
    /// Whether unfinished deliveries are reassigned.
    pub drain: bool,
    /// In mode `percent`: whether the agent also decides in shadow mode about what the old system owns.
    pub beside: bool,
    /// Projects that are the agent's at every percentage. All pins count in [`Mode::Percent`] only.
    pub pinned_new: Vec<String>,
    /// Projects that are the old system's at every percentage.
    pub pinned_old: Vec<String>,
    /// Increases with every change.
    pub version: i32,
}

impl Store {
    /// Returns the routing of an agent.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn routing(&self, agent: &str) -> Result<Routing, StoreError> {
        const OP: &str = "routing";
        let sql = "select a.mode, a.percent, a.drain, a.beside, a.pinned_new, a.pinned_old, a.routing_version
                     from switchyard.agent_named($1) a";
        let row = only(OP, self.read(OP, sql, &[(&agent, Type::TEXT)]).await?)?;
        Ok(Routing {
            mode: mode(OP, &row, 0)?,
            drain: get(OP, &row, 2)?,
            beside: get(OP, &row, 3)?,
            pinned_new: get(OP, &row, 4)?,
            pinned_old: get(OP, &row, 5)?,
            version: get(OP, &row, 6)?,
        })
    }

    /// Sets the routing. It applies from the next ask: a delivery with a row keeps its owner until [`Store::reassign`], which every sweep calls with
    /// [`RoutingChange::drain`]. Holds an unfinished cutover plan of the agent.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn set_routing(
        &self,
        agent: &str,
        to: impl Into<RoutingChange>,
        operator: &str,
    ) -> Result<(), StoreError> {
        let RoutingChange { mode, drain, beside } = to.into();
        self.apply_routing(agent, Some(mode), Some(drain), Some(beside), operator).await
    }

    /// Sets whether unfinished deliveries are reassigned, and whether the agent decides beside the old system; `None` keeps a value. The mode stays
    /// as it is at the time of the call, not as the caller read it before. Otherwise as [`Store::set_routing`].
    pub async fn set_following(
        &self,
        agent: &str,
        drain: Option<bool>,
        beside: Option<bool>,
        operator: &str,
    ) -> Result<(), StoreError> {
        self.apply_routing(agent, None, drain, beside, operator).await
    }

    async fn apply_routing(
        &self,
        agent: &str,
        mode: Option<Mode>,
        drain: Option<bool>,
        beside: Option<bool>,
        operator: &str,
    ) -> Result<(), StoreError> {
        self.write(
            "set_routing",
            "select switchyard.set_routing($1, $2, $3, $4, $5, $6)",
            &[
                (&agent, Type::TEXT),
                (&mode.map(Mode::name), Type::TEXT),
                (&mode.map(|mode| i32::from(mode.percent())), Type::INT4),
                (&drain, Type::BOOL),
                (&beside, Type::BOOL),
                (&clean(operator).as_ref(), Type::TEXT),
            ],
        )
        .await?;
        Ok(())
    }

    /// Pins a project to one side at every percentage; `None` removes the pin. It applies as [`Store::set_routing`] does, but cutover plans go on.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered or has a thousand pinned projects.
    pub async fn pin(
        &self,
        agent: &str,
        project: &str,
        owner: Option<Owner>,
        operator: &str,
    ) -> Result<(), StoreError> {
        self.write(
            "pin",
            "select switchyard.pin($1, $2, $3::text::\"char\", $4)",
            &[
                (&agent, Type::TEXT),
                (&clean(project).as_ref(), Type::TEXT),
                (&owner.map(Owner::letter), Type::TEXT),
                (&clean(operator).as_ref(), Type::TEXT),
            ],
        )
        .await?;
        Ok(())
    }

    /// Returns what [`Store::reassign`] would move now, and what it would leave. Changes nothing. The cost grows with what is unfinished.
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn routing_moves(&self, agent: &str) -> Result<Moves, StoreError> {
        const OP: &str = "routing_moves";
        let sql = "select to_new, to_old, touched, stay_new, stay_old from switchyard.routing_moves($1)";
        let row = only(OP, self.read(OP, sql, &[(&agent, Type::TEXT)]).await?)?;
        Ok(Moves {
            to_new: get(OP, &row, 0)?,
            to_old: get(OP, &row, 1)?,
            touched: get(OP, &row, 2)?,
            stay_new: get(OP, &row, 3)?,
            stay_old: get(OP, &row, 4)?,
        })
    }
}

/// A mode from its name and, in the next column, its percentage.
fn mode(operation: &'static str, row: &Row, column: usize) -> Result<Mode, StoreError> {
    let percent = u8::try_from(get::<i32>(operation, row, column + 1)?).unwrap_or(100);
    word(operation, row, column, |name| Mode::named(name, percent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_found_again_by_its_name_and_percentage() {
        for mode in [Mode::Off, Mode::Shadow, Mode::Percent(0), Mode::Percent(25), Mode::Percent(100), Mode::Full] {
            assert_eq!(Mode::named(mode.name(), mode.percent()), Some(mode));
        }
        assert_eq!(Mode::named("percent", 101), Some(Mode::Percent(100)));
        assert_eq!(Mode::named("half", 50), None);
    }
}
