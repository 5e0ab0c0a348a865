//! The registration of an agent.

use serde::{Deserialize, Serialize};
use tokio_postgres::types::Type;

use crate::row::{get, only};
use crate::{Mode, Store, StoreError};
use switchyard_operations::words;

/// What a percentage is taken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoutedBy {
    /// Aggregates.
    Aggregate,
    /// Projects, for agents that share state within one.
    Project,
}

words!(RoutedBy { Aggregate = "aggregate", Project = "project" });

/// What an agent declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSpec {
    /// Its name, which identifies it everywhere.
    pub name: String,
    /// The event types that it subscribes to.
    pub subscribes: Vec<String>,
    /// By what its events are routed.
    pub routed_by: RoutedBy,
    /// How many attempts an event has, 1 to 100, unless the event says so itself.
    pub max_attempts: u16,
}

/// Since when an agent gets the events of a type that is new to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Since {
    /// From its registration.
    Now,
    /// From the retention's floor on. The next sweeps create the deliveries, up to a million sequences each, and [`Store::due`](crate::Store::due)
    /// returns them.
    Beginning,
}

/// What a registration changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Whether the agent was new.
    pub created: bool,
    /// Types that it subscribes to from now on.
    pub added: Vec<String>,
    /// Types that it subscribed to until now.
    pub removed: Vec<String>,
    /// Types whose subscription now starts earlier.
    pub extended: Vec<String>,
}

impl Store {
    /// Registers an agent or updates its registration; a second call changes nothing. `first_mode` counts at the first registration only, since
    /// operators set the routing afterwards ([`Store::set_routing`]). [`Since::Beginning`] counts at any: the agent then also gets the events above
    /// the floor that its subscriptions have left out.
    ///
    /// Fails with [`StoreError::Refused`] for `max_attempts` outside 1 to 100; with [`StoreError::Config`] for [`Since::Beginning`] if a backfill
    /// has taken some of these events or will take them, because they would be done twice.
    pub async fn register(&self, spec: &AgentSpec, first_mode: Mode, since: Since) -> Result<Registered, StoreError> {
        let (mode, percent) = (first_mode.name(), i32::from(first_mode.percent()));
        let rows = self
            .write(
                "register",
                "select created, added, removed, extended from switchyard.register($1, $2, $3, $4, $5, $6, $7)",
                &[
                    (&spec.name, Type::TEXT),
                    (&spec.subscribes, Type::TEXT_ARRAY),
                    (&spec.routed_by.name(), Type::TEXT),
                    (&i32::from(spec.max_attempts), Type::INT4),
                    (&mode, Type::TEXT),
                    (&percent, Type::INT4),
                    (&(since == Since::Beginning), Type::BOOL),
                ],
            )
            .await?;
        let row = only("register", rows)?;
        Ok(Registered {
            created: get("register", &row, 0)?,
            added: get("register", &row, 1)?,
            removed: get("register", &row, 2)?,
            extended: get("register", &row, 3)?,
        })
    }

    /// Sets the grace: after how many milliseconds an agent's delivery counts as lost and is sent again (two minutes at first).
    ///
    /// Fails with [`StoreError::Config`] if the agent is not registered.
    pub async fn set_grace(&self, agent: &str, grace_ms: u32) -> Result<(), StoreError> {
        self.write(
            "set_grace",
            "select switchyard.set_grace($1, $2::float8 * interval '1 millisecond')",
            &[(&agent, Type::TEXT), (&i64::from(grace_ms), Type::INT8)],
        )
        .await?;
        Ok(())
    }
}
