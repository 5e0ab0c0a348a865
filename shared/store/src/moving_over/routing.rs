//! The lever of a migration: whose turn it is, for which share, and for which projects whatever the share.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::row::{clean, get, only, word};
use crate::{Mode, Moves, Owner, Store, StoreError};

/// What the lever is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoutingChange {
    /// Whose turn it is.
    pub mode: Mode,
    /// Whether unfinished deliveries follow, as a standing order of every [`Store::sweep`]. Without it they stay with whom they are until
    /// somebody asks for [`Store::reassign`].
    pub drain: bool,
    /// While there is a percentage: whether the agent decides in shadow what the old system owns, so that the two can still be compared.
    pub beside: bool,
}

impl RoutingChange {
    /// This mode, and unfinished deliveries follow.
    #[must_use]
    pub const fn draining(mode: Mode) -> Self {
        Self { mode, drain: true, beside: false }
    }
}

impl From<Mode> for RoutingChange {
    /// This mode, for what nobody has asked for yet.
    fn from(mode: Mode) -> Self {
        Self { mode, drain: false, beside: false }
    }
}

/// How an agent's events are routed just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// Whose turn it is.
    pub mode: Mode,
    /// Whether unfinished deliveries follow.
    pub drain: bool,
    /// Whether the agent decides in shadow what the old system owns although there is a percentage.
    pub beside: bool,
    /// Projects that are the agent's whatever the percentage; they count in [`Mode::Percent`] alone, as the others do.
    pub pinned_new: Vec<String>,
    /// Projects that are the old system's whatever the percentage.
    pub pinned_old: Vec<String>,
    /// Goes up with every change.
    pub version: i32,
}

impl Store {
    /// How an agent's events are routed.
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

    /// Moves the lever. Acts on the next ask: an event that somebody has asked for keeps its owner until [`Store::reassign`], which
    /// [`RoutingChange::drain`] makes a standing order. Stops a cutover plan of the agent that is under way, since a hand on the lever wins.
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

    /// Says whether unfinished deliveries follow, and whether the agent decides beside the old system; `None` leaves that as it is. Whose turn
    /// it is stays as it is when this acts, not as somebody read it before. Else as [`Store::set_routing`].
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

    /// Gives a project to one side whatever the percentage says, or, with `None`, leaves it to the percentage again. Acts as
    /// [`Store::set_routing`] does, but for cutover plans, which go on.
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

    /// What [`Store::reassign`] would move now, and what it would leave where it is. Changes nothing. Costs as much as there is unfinished.
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
