//! Which changes of the application's tables are events.
//!
//! A domain is data: the setup keeps it in the database, and creates a trigger for each kind of change. No table of a domain is named in this crate.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use crate::row::{get, only};
use crate::setup::direct::Session;
use crate::setup::wait_policy::WaitPolicy;
use crate::{DatabaseUrl, StoreError};

const OP: &str = "set_domain";

/// A domain as its team describes it: the JSON file that `switchyard-setup --domain` reads.
///
/// ```json
/// { "name": "shop", "tables": [
///     { "table": "orders", "aggregate_type": "order", "insert": "order.placed", "update": "order.changed" },
///     { "table": "parcels", "aggregate_type": "order", "aggregate_id": "order_id", "insert": "order.packed" },
///     { "table": "returns", "aggregate_type": "return", "by_value": { "column": "state", "events": { "paid": "return.paid" } } } ] }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    name: String,
    tables: Vec<Table>,
}

/// A table of the application.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default = "public")]
    schema: String,
    table: String,
    /// The column by which an update finds the row as it was.
    #[serde(default = "id")]
    key: String,
    aggregate_type: String,
    /// The column with the aggregate's id.
    #[serde(default = "id")]
    aggregate_id: String,
    insert: Option<String>,
    update: Option<String>,
    by_value: Option<ByValue>,
}

/// The event is named by the value that a column gets, by an insert or an update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ByValue {
    column: String,
    events: BTreeMap<String, String>,
}

/// What one trigger is created from: the columns of `switchyard.domain_triggers`.
#[derive(Serialize)]
struct Trigger<'d> {
    schema: &'d str,
    table: &'d str,
    operation: &'static str,
    event_type: Option<&'d str>,
    aggregate_type: &'d str,
    key: &'d str,
    aggregate_id: &'d str,
    by_value: Option<&'d ByValue>,
}

fn public() -> String {
    "public".to_owned()
}

fn id() -> String {
    "id".to_owned()
}

impl Domain {
    /// Reads what a team has written.
    ///
    /// Fails with [`StoreError::Config`], which says where the JSON is wrong and which fields there are.
    pub fn parse(json: &str) -> Result<Self, StoreError> {
        let domain: Self = serde_json::from_str(json)
            .map_err(|error| StoreError::config(format!("no description of a domain: {error}")))?;
        match domain.problem() {
            None => Ok(domain),
            Some(problem) => Err(StoreError::config(format!("no description of a domain: {problem}"))),
        }
    }

    /// The domain of an application that appends its events itself: no table of it has a trigger, but the events table.
    #[must_use]
    pub fn none() -> Self {
        Self { name: "none".to_owned(), tables: Vec::new() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn problem(&self) -> Option<String> {
        if self.name.is_empty() {
            return Some("its name is empty".to_owned());
        }
        let mut tables = BTreeSet::new();
        self.tables.iter().find_map(|table| {
            let name = format!("{}.{}", table.schema, table.table);
            if !tables.insert((&table.schema, &table.table)) {
                return Some(format!("{name} is in it twice"));
            }
            table.problem().map(|problem| format!("{name}: {problem}"))
        })
    }

    fn triggers(&self) -> Vec<Trigger<'_>> {
        self.tables.iter().flat_map(Table::triggers).collect()
    }
}

impl Table {
    fn problem(&self) -> Option<&'static str> {
        let events = self.insert.iter().chain(&self.update);
        match &self.by_value {
            Some(_) if events.clone().next().is_some() => {
                Some("`by_value` is for inserts and updates, so there is no `insert` and no `update` beside it")
            }
            None if events.clone().next().is_none() => Some("it needs `insert`, `update` or `by_value`"),
            Some(by_value) if by_value.events.is_empty() => Some("`by_value` names no event"),
            by_value => {
                let of_values = by_value.iter().flat_map(|by_value| by_value.events.values());
                events.chain(of_values).any(String::is_empty).then_some("the name of an event is empty")
            }
        }
    }

    fn triggers(&self) -> impl Iterator<Item = Trigger<'_>> {
        [("insert", &self.insert), ("update", &self.update)].into_iter().filter_map(|(operation, event)| {
            let by_value = self.by_value.as_ref();
            (event.is_some() || by_value.is_some()).then_some(Trigger {
                schema: &self.schema,
                table: &self.table,
                operation,
                event_type: event.as_deref(),
                aggregate_type: &self.aggregate_type,
                key: &self.key,
                aggregate_id: &self.aggregate_id,
                by_value,
            })
        })
    }
}

/// Which domain a new one may replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// Whichever the database has: for one that an operator names.
    Any,
    /// Only an older version of the same name: for one that a program brings along. Where the database has another one, that stays.
    OwnVersion,
}

/// What [`set_domain`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainSet {
    /// The name of the domain that the database has now.
    pub name: String,
    /// The triggers created, such as `orders insert`, and those dropped, such as `orders insert (dropped)`.
    pub triggers: Vec<String>,
    /// Those that could not be created: there is no such table, or none with such columns.
    pub without_table: Vec<String>,
}

/// Keeps a domain in a database that [`migrate`](crate::migrate) has made ready, creates the triggers that are missing or have changed, and drops those
/// that the domain has no more. Each [`migrate`](crate::migrate) after it does the same for tables that have appeared since.
///
/// Needs what [`migrate_with`](crate::migrate_with) needs, and fails as it does.
pub async fn set_domain(
    url: &DatabaseUrl,
    domain: &Domain,
    replace: Replace,
    wait_policy: &WaitPolicy<'_>,
) -> Result<DomainSet, StoreError> {
    let session = Session::open(url, OP).await?;
    let set = set(&session.client, domain, replace, wait_policy).await;
    session.close(set).await
}

async fn set(
    client: &Client,
    domain: &Domain,
    replace: Replace,
    wait_policy: &WaitPolicy<'_>,
) -> Result<DomainSet, StoreError> {
    let triggers = serde_json::to_string(&domain.triggers()).map_err(|e| StoreError::bug(OP, e.to_string()))?;
    let set = "select switchyard.set_domain($1, $2::text::jsonb, $3)";
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&domain.name, Type::TEXT), (&triggers, Type::TEXT), (&(replace == Replace::OwnVersion), Type::BOOL)];
    let name = get(OP, &only(OP, client.query_typed(set, &parameters).await.map_err(fail)?)?, 0)?;
    let triggers = bring_triggers_up_to_date(client, wait_policy).await?;
    let rows = client.query_typed("select name from switchyard.domain_triggers() where not fits", &[]).await;
    let without_table = rows.map_err(fail)?.iter().map(|row| get(OP, row, 0)).collect::<Result<_, _>>()?;
    Ok(DomainSet { name, triggers, without_table })
}

/// Creates and drops triggers until they are those of the domain. Each locks out its table's writers until the end of its transaction.
pub(super) async fn bring_triggers_up_to_date(
    client: &Client,
    wait_policy: &WaitPolicy<'_>,
) -> Result<Vec<String>, StoreError> {
    const DUE: &str = "select name, ddl from switchyard.missing_triggers()
        union all select name, ddl from switchyard.surplus_triggers()";
    wait_policy.each(client, OP, "the triggers on the application's tables", DUE).await
}

fn fail(error: tokio_postgres::Error) -> StoreError {
    StoreError::from_postgres(OP, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(tables: &str) -> String {
        Domain::parse(&format!(r#"{{"name": "shop", "tables": [{tables}]}}"#)).unwrap_err().to_string()
    }

    #[test]
    fn a_table_has_a_trigger_for_each_kind_of_change_that_is_an_event() {
        let domain = Domain::parse(
            r#"{"name": "shop", "tables": [
                {"table": "orders", "aggregate_type": "order", "insert": "order.placed", "update": "order.changed"},
                {"schema": "stock", "table": "parcels", "aggregate_type": "order", "aggregate_id": "order_id", "insert": "order.packed"},
                {"table": "returns", "aggregate_type": "return", "by_value": {"column": "state", "events": {"paid": "return.paid"}}}]}"#,
        )
        .unwrap();
        let triggers = domain.triggers();
        let triggers: Vec<_> = triggers.iter().map(|t| (t.schema, t.table, t.operation, t.event_type)).collect();
        assert_eq!(
            triggers,
            [
                ("public", "orders", "insert", Some("order.placed")),
                ("public", "orders", "update", Some("order.changed")),
                ("stock", "parcels", "insert", Some("order.packed")),
                ("public", "returns", "insert", None),
                ("public", "returns", "update", None),
            ]
        );
    }

    #[test]
    fn a_description_that_is_wrong_is_refused_with_its_reason() {
        let orders = r#""table": "orders", "aggregate_type": "order""#;
        for (tables, problem) in [
            (format!("{{{orders}}}"), "public.orders: it needs `insert`, `update` or `by_value`"),
            (format!(r#"{{{orders}, "delete": "order.gone"}}"#), "unknown field `delete`"),
            (format!(r#"{{{orders}, "insert": ""}}"#), "the name of an event is empty"),
            (format!(r#"{{{orders}, "by_value": {{"column": "state", "events": {{}}}}}}"#), "names no event"),
            (format!(r#"{{{orders}, "by_value": {{"column": "state", "events": {{"a": ""}}}}}}"#), "event is empty"),
            (
                format!(r#"{{{orders}, "insert": "a", "by_value": {{"column": "s", "events": {{"a": "b"}}}}}}"#),
                "no `insert`",
            ),
            (format!(r#"{{{orders}, "insert": "a"}}, {{{orders}, "update": "b"}}"#), "public.orders is in it twice"),
        ] {
            let said = refused(&tables);
            assert!(said.contains(problem), "{tables}: {said}");
        }
    }
}
