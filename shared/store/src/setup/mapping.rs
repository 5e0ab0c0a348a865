//! The application's events table, with its column for each of our names.
//!
//! [`EventsTable`] is what a team writes, [`Mapping`] the result after the table was read. The decision between the two is pure; `migrate` reads the
//! table's shape and stores the mapping in the database, where it never changes except for renames.

use std::fmt;

use serde::de::Deserializer;
use serde::{Deserialize, Serialize};

use crate::StoreError;

/// An application's table as its team describes it: the JSON file that `switchyard-setup --events` reads.
///
/// ```json
/// { "schema": "shop", "table": "order_events", "columns": { "id": "event_id", "type": "name", "version": null } }
/// ```
///
/// A column that is not named here is looked for under our own name. `aggregate_type`, `metadata`, `version` and `created_at` may be absent
/// from the table, and `null` says that a column of that name is something else.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsTable {
    /// Its schema, as in the catalogue: without quotes, with the letters as they are.
    #[serde(default = "public")]
    pub schema: String,
    /// Its name, as in the catalogue.
    pub table: String,
    /// Its columns.
    #[serde(default)]
    pub columns: Columns,
}

/// The columns as a team writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Columns {
    /// The event's id: a UUID, not null, and unique by itself.
    pub id: Option<String>,
    /// Its type: text.
    pub r#type: Option<String>,
    /// The kind of the aggregate: text.
    pub aggregate_type: Named,
    /// The aggregate's id: of any type, text on the wire.
    pub aggregate_id: Option<String>,
    /// JSON or JSONB.
    pub payload: Option<String>,
    /// JSONB.
    pub metadata: Named,
    /// The payload's schema version: a small number.
    pub version: Named,
    /// When it was inserted: a timestamp. With an index on it, events that came while the trigger was disabled are found.
    pub created_at: Named,
}

/// The setting of an optional column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Named {
    /// Not given: the column with our name, if it exists.
    #[default]
    Unspecified,
    /// The table has none.
    Absent,
    /// The column with this name.
    As(String),
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map_or(Self::Absent, Self::As))
    }
}

fn public() -> String {
    "public".to_owned()
}

impl EventsTable {
    /// Parses what a team has written.
    ///
    /// Fails with [`StoreError::Config`], which names the place in the JSON and the fields that exist.
    pub fn parse(json: &str) -> Result<Self, StoreError> {
        serde_json::from_str(json)
            .map_err(|error| StoreError::config(format!("no description of an events table: {error}")))
    }

    /// `public.events` with all of our columns.
    pub(crate) fn customary() -> Self {
        Self { schema: public(), table: "events".to_owned(), columns: Columns::default() }
    }

    pub(crate) fn name(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }

    /// Returns the mapping for a table of this shape.
    ///
    /// Fails with all problems, one a line, so that a team can fix them at once.
    pub(crate) fn on(&self, shape: &Shape) -> Result<Mapping, Vec<String>> {
        let mut check = ColumnCheck { table: self.name(), shape, problems: Vec::new() };
        let columns = &self.columns;
        let mapping = Mapping {
            schema: self.schema.clone(),
            table: self.table.clone(),
            id: check.needed("id", columns.id.as_deref(), &["uuid"]),
            r#type: check.needed("type", columns.r#type.as_deref(), TEXT),
            aggregate_type: check.optional("aggregate_type", &columns.aggregate_type, TEXT),
            aggregate_id: check.needed("aggregate_id", columns.aggregate_id.as_deref(), ANY),
            payload: check.needed("payload", columns.payload.as_deref(), &["jsonb", "json"]),
            metadata: check.optional("metadata", &columns.metadata, &["jsonb"]),
            version: check.optional("version", &columns.version, &["int4", "int2"]),
            created_at: check.optional("created_at", &columns.created_at, &["timestamptz", "timestamp"]),
        };
        check.check_key(&mapping);
        check.check_unfilled_columns(&mapping);
        if check.problems.is_empty() { Ok(mapping) } else { Err(check.problems) }
    }
}

const TEXT: &[&str] = &["text", "varchar"];
/// Accepts every type.
const ANY: &[&str] = &[];

/// A table in the catalogue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    /// An ordinary or a partitioned table, and not a view, a foreign table or a partition of another.
    pub(crate) is_table: bool,
    pub(crate) columns: Vec<Column>,
}

/// A column in the catalogue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// Such as `int4`.
    pub(crate) type_name: String,
    pub(crate) not_null: bool,
    /// The database fills it if an insert does not: a default or an identity.
    pub(crate) filled: bool,
    /// Only the database fills it: generated.
    pub(crate) generated: bool,
    /// It has a unique index of its own, on all rows and not deferrable.
    pub(crate) unique: bool,
}

/// The table's columns by our names, as the database stores them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mapping {
    /// The table's schema.
    pub schema: String,
    /// The table.
    pub table: String,
    /// Our `id`.
    pub id: String,
    /// Our `type`.
    pub r#type: String,
    /// Our `aggregate_type`; empty if the table has none.
    pub aggregate_type: Option<String>,
    /// Our `aggregate_id`.
    pub aggregate_id: String,
    /// Our `payload`.
    pub payload: String,
    /// Our `metadata`, if the table has it.
    pub metadata: Option<String>,
    /// Our `version`; 1 if the table has none.
    pub version: Option<String>,
    /// Our `created_at`; the time of logging if the table has none.
    pub created_at: Option<String>,
}

impl Mapping {
    /// The mapping of the table that the setup creates if none exists.
    pub(crate) fn of_our_own() -> Self {
        let as_ours = |name: &str| Some(name.to_owned());
        Self {
            schema: public(),
            table: "events".to_owned(),
            id: "id".to_owned(),
            r#type: "type".to_owned(),
            aggregate_type: as_ours("aggregate_type"),
            aggregate_id: "aggregate_id".to_owned(),
            payload: "payload".to_owned(),
            metadata: as_ours("metadata"),
            version: as_ours("version"),
            created_at: as_ours("created_at"),
        }
    }

    fn columns(&self) -> [(&'static str, Option<&str>); 8] {
        [
            ("id", Some(&self.id)),
            ("type", Some(&self.r#type)),
            ("aggregate_type", self.aggregate_type.as_deref()),
            ("aggregate_id", Some(&self.aggregate_id)),
            ("payload", Some(&self.payload)),
            ("metadata", self.metadata.as_deref()),
            ("version", self.version.as_deref()),
            ("created_at", self.created_at.as_deref()),
        ]
    }

    fn uses(&self, column: &str) -> bool {
        self.columns().iter().any(|(_, used)| *used == Some(column))
    }
}

/// `shop.order_events (id as event_id, type as name, no version)`: only what differs from our names.
impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said: Vec<String> = self
            .columns()
            .into_iter()
            .filter_map(|(ours, theirs)| match theirs {
                None => Some(format!("no {ours}")),
                Some(theirs) if theirs == ours => None,
                Some(theirs) => Some(format!("{ours} as {theirs}")),
            })
            .collect();
        write!(f, "{}.{}", self.schema, self.table)?;
        if said.is_empty() { Ok(()) } else { write!(f, " ({})", said.join(", ")) }
    }
}

struct ColumnCheck<'s> {
    table: String,
    shape: &'s Shape,
    problems: Vec<String>,
}

impl ColumnCheck<'_> {
    fn column(&self, name: &str) -> Option<&Column> {
        self.shape.columns.iter().find(|column| column.name == name)
    }

    /// Returns the column's name, and records a problem if the column does not fit.
    fn needed(&mut self, ours: &'static str, theirs: Option<&str>, types: &[&str]) -> String {
        let name = theirs.unwrap_or(ours);
        self.fits(ours, name, types);
        name.to_owned()
    }

    fn optional(&mut self, ours: &'static str, said: &Named, types: &[&str]) -> Option<String> {
        let name = match said {
            Named::Absent => return None,
            Named::Unspecified => {
                self.column(ours)?;
                ours
            }
            Named::As(theirs) => theirs,
        };
        self.fits(ours, name, types);
        Some(name.to_owned())
    }

    fn fits(&mut self, ours: &str, name: &str, types: &[&str]) {
        let also = if name == ours { String::new() } else { format!(" for our {ours}") };
        let table = &self.table;
        let problem = match self.column(name) {
            None if name == ours => {
                format!(
                    "{table} has no column {name}: name the one that is our {ours} in the mapping (`switchyard-setup --events`)"
                )
            }
            None => format!("{table} has no column {name}{also}"),
            Some(column) if !types.is_empty() && !types.contains(&column.type_name.as_str()) => {
                format!("{table}.{name} is {}, and{also} it must be {}", column.type_name, types.join(" or "))
            }
            Some(column) if column.generated => {
                format!("{table}.{name} is generated, and agents append events: it must take what they write")
            }
            Some(_) => return,
        };
        self.problems.push(problem);
    }

    /// Requires an id that is not null and unique: an event without an id cannot be logged, and without a unique id a second append would add a
    /// copy.
    fn check_key(&mut self, mapping: &Mapping) {
        if !self.shape.is_table {
            self.problems.push(format!(
                "{} is no ordinary table: a view, a foreign table or a partition has no trigger of its own",
                self.table
            ));
        } else if self.column(&mapping.id).is_some_and(|id| !id.not_null || !id.unique) {
            self.problems
                .push(format!("{} needs a key on {} alone: not null, and unique by itself", self.table, mapping.id));
        }
        let columns = mapping.columns();
        for (nth, (ours, theirs)) in columns.iter().enumerate() {
            if let Some((other, _)) = columns[..nth].iter().find(|(_, earlier)| theirs.is_some() && earlier == theirs) {
                self.problems
                    .push(format!("one column cannot be our {other} and our {ours}: {}", theirs.unwrap_or_default()));
            }
        }
    }

    /// Refuses other columns that an insert must fill, because agents know only these.
    fn check_unfilled_columns(&mut self, mapping: &Mapping) {
        let unfilled =
            |column: &&Column| column.not_null && !column.filled && !column.generated && !mapping.uses(&column.name);
        for column in self.shape.columns.iter().filter(unfilled) {
            self.problems.push(format!(
                "{}.{} is not null and has no default, and agents append events without it: give it a default",
                self.table, column.name
            ));
        }
    }
}

#[cfg(test)]
mod tests;
