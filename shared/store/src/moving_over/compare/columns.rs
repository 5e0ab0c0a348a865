//! Checks that a table of the old system has what a mapping names.

use std::collections::BTreeMap;

use switchyard_compare::{Answer, Mapping, Source};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::row::get;
use crate::{Store, StoreError};

/// How a key is compared: in the column's own type if it is known, so that its index is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// As text.
    Text,
    /// As a uuid.
    Uuid,
    /// As a whole number.
    Integer,
    /// As the text that the column prints, without an index.
    Printed,
}

impl Key {
    /// Whether a value can be a key of this kind. Another value matches no row, and would make the statement fail. Accepts what Postgres accepts as
    /// a UUID, so not the form of a URN.
    pub(super) fn can_be(self, value: &str) -> bool {
        match self {
            Self::Uuid => !value.starts_with("urn:") && Uuid::parse_str(value).is_ok(),
            Self::Integer => value.parse::<i64>().is_ok(),
            Self::Text | Self::Printed => true,
        }
    }

    pub(super) fn array_cast(self) -> &'static str {
        match self {
            Self::Uuid => "::uuid[]",
            Self::Integer => "::bigint[]",
            Self::Text | Self::Printed => "",
        }
    }

    pub(super) fn column_cast(self) -> &'static str {
        if self == Self::Printed { "::text" } else { "" }
    }
}

/// The type of a column with a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamp {
    /// With a time zone.
    Zoned,
    /// Without a time zone; in UTC.
    Utc,
}

/// The table of the old system for one answer of a mapping. For an answer that is an event there is nothing to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OldTable {
    types: BTreeMap<String, String>,
    overwritten: bool,
}

impl OldTable {
    /// Whether a new answer overwrites the one before it of the same key, so that an older one may be gone: as the mapping says, or if the table can
    /// hold only one row of a key. For a view this cannot be known, and it counts as overwritten, since that reports no false difference.
    #[must_use]
    pub fn is_overwritten(&self) -> bool {
        self.overwritten
    }

    pub(super) fn key(&self, column: &str) -> Key {
        match self.types.get(column).map(String::as_str) {
            Some("text" | "character varying") => Key::Text,
            Some("uuid") => Key::Uuid,
            Some("smallint" | "integer" | "bigint") => Key::Integer,
            _ => Key::Printed,
        }
    }

    /// Whether a column may hold JSON's null, which is not SQL's.
    pub(super) fn is_json(&self, column: &str) -> bool {
        matches!(self.types.get(column).map(String::as_str), None | Some("json" | "jsonb"))
    }

    pub(super) fn stamp(&self, column: &str) -> Stamp {
        match self.types.get(column).map(String::as_str) {
            Some("timestamp without time zone") => Stamp::Utc,
            _ => Stamp::Zoned,
        }
    }
}

/// A column that a mapping names, and the key of the mapping.
struct Named<'m> {
    key: String,
    column: &'m str,
}

impl Store {
    /// Returns the old system's tables, answer by answer.
    ///
    /// Fails with [`StoreError::Config`] if one lacks what the mapping names, or this role may not read it. The text names the mapping's key, the
    /// table and the column, and what exists instead.
    pub async fn old_tables(&self, mapping: &Mapping) -> Result<Vec<OldTable>, StoreError> {
        let mut tables = Vec::with_capacity(mapping.answers.len());
        for (place, answer) in mapping.answers.iter().enumerate() {
            tables.push(self.old_table(&format!("answers[{place}]"), answer).await?);
        }
        Ok(tables)
    }

    async fn old_table(&self, key: &str, answer: &Answer) -> Result<OldTable, StoreError> {
        const OP: &str = "old_table";
        let Source::Table { schema, table, key: columns, at, overwritten } = &answer.theirs.source else {
            return Ok(OldTable::default());
        };
        let columns: Vec<&str> = columns.iter().map(|(column, _)| column.as_str()).collect();
        let rows = self
            .read(
                OP,
                "select c.relname::text, coalesce(row_security_active(c.oid), false), a.attname::text, format_type(a.atttypid, null),
                        coalesce(has_schema_privilege(n.oid, 'usage') and has_column_privilege(c.oid, a.attnum, 'select'), false), current_user::text,
                        c.relkind not in ('r', 'p') or exists (
                          select 1 from pg_catalog.pg_index i
                           where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
                             and not exists (
                               select 1 from unnest(i.indkey[0:i.indnkeyatts - 1]) k (attnum)
                                 join pg_catalog.pg_attribute x on x.attrelid = c.oid and x.attnum = k.attnum
                                where x.attname <> all ($3)))
                   from pg_catalog.pg_namespace n
                   join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relkind in ('r', 'p', 'v', 'm', 'f')
                   join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                  where n.nspname = $1 and c.relname = $2
                  order by a.attnum",
                &[(schema, Type::TEXT), (table, Type::TEXT), (&columns, Type::TEXT_ARRAY)],
            )
            .await?;
        let called = format!("{schema}.{table}");
        let Some(first) = rows.first() else {
            return Err(StoreError::config(format!("{key}.theirs.table: there is no table {called}")));
        };
        if get(OP, first, 1)? {
            let role: &str = get(OP, first, 5)?;
            return Err(StoreError::config(format!(
                "{key}.theirs.table: row-level security filters what {role} sees of {called}: grant it BYPASSRLS, or name a view that it may read"
            )));
        }
        let mut types = BTreeMap::new();
        let mut unreadable = Vec::new();
        for row in &rows {
            let column: String = get(OP, row, 2)?;
            if !get::<bool>(OP, row, 4)? {
                unreadable.push(column.clone());
            }
            types.insert(column, get(OP, row, 3)?);
        }
        for Named { key, column } in named(key, answer) {
            if !types.contains_key(column) {
                let there = types.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                return Err(StoreError::config(format!("{key}: {called} has no column {column:?}: it has {there}")));
            }
            if unreadable.iter().any(|other| other == column) {
                let role: &str = get(OP, first, 5)?;
                return Err(StoreError::config(format!(
                    "{key}: {role} may not read the column {column:?} of {called}: grant it usage on the schema and select on the table"
                )));
            }
        }
        match types.get(at).map(String::as_str) {
            Some("timestamp with time zone" | "timestamp without time zone") => {
                Ok(OldTable { types, overwritten: overwritten.map_or_else(|| get(OP, first, 6), Ok)? })
            }
            other => Err(StoreError::config(format!(
                "{key}.theirs.at: the column {at:?} of {called} is of the type {}: a point in time is needed, timestamptz or timestamp",
                other.unwrap_or_default()
            ))),
        }
    }
}

fn named<'m>(prefix: &str, answer: &'m Answer) -> Vec<Named<'m>> {
    let mut named = Vec::new();
    let mut add = |key: String, column: &'m str| named.push(Named { key: format!("{prefix}.{key}"), column });
    if let Source::Table { key, at, .. } = &answer.theirs.source {
        key.iter().for_each(|(column, _)| add(format!("theirs.key.{column}"), column));
        add("theirs.at".into(), at);
    }
    for (name, list) in [("only", &answer.theirs.only), ("nothing", &answer.theirs.nothing)] {
        for (place, condition) in list.iter().enumerate() {
            add(format!("theirs.{name}[{place}].path"), condition.path.first());
        }
    }
    for (place, field) in answer.fields.iter().enumerate() {
        add(format!("fields[{place}].theirs"), field.theirs.first());
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_fails_the_statement_is_not_used_as_a_key() {
        let uuid = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        for taken in [uuid, "67e5504410b1426f9247bb680e5fe0c8", "{67e55044-10b1-426f-9247-bb680e5fe0c8}"] {
            assert!(Key::Uuid.can_be(taken), "{taken}");
        }
        let urn = format!("urn:uuid:{uuid}");
        assert!(!Key::Uuid.can_be(&urn) && !Key::Uuid.can_be("order-7") && !Key::Integer.can_be("7.0"));
        assert!(Key::Text.can_be(&urn) && Key::Printed.can_be(&urn));
    }
}
