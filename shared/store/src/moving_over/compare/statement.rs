//! Statements that a team's mapping shapes. Names are quoted; everything else is a parameter.

use switchyard_compare::{By, Condition, KeyPart, Path, Source};
use tokio_postgres::types::{ToSql, Type};

use super::columns::{Key, OldTable, Stamp};

/// A statement under construction.
#[derive(Default)]
pub(super) struct Statement {
    values: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
}

/// A source of the old system's rows, as part of a statement; `t` is a row.
pub(super) struct Rows {
    /// What follows `from` or `join`.
    pub(super) from: String,
    /// The columns of the key, and how they are compared.
    pub(super) key: Vec<(String, Key)>,
    /// When the row was written, as a `timestamptz`.
    pub(super) at: String,
    /// The condition for the times that were asked for, and for the mapping's `only`.
    pub(super) only: String,
    /// The row's own id, if it is an event.
    pub(super) event_id: Option<String>,
}

/// A time after every event, in microseconds since 1970: the year 2286, which every timestamp type can hold.
const FAR: i64 = 10_000_000_000_000_000;

impl Statement {
    /// Adds a parameter and returns its placeholder.
    pub(super) fn bind(&mut self, value: impl ToSql + Sync + Send + 'static, r#type: Type) -> String {
        self.values.push((Box::new(value), r#type));
        format!("${}", self.values.len())
    }

    /// The parameters, in their order.
    pub(super) fn parameters(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.values.iter().map(|(value, r#type)| (&**value as &(dyn ToSql + Sync), r#type.clone())).collect()
    }

    /// Returns the condition that the parts of a key are among these, part by part; with several parts it matches more than the keys. It is a list
    /// and no join, so that the database looks up each row in it, whatever number of rows the planner expects.
    pub(super) fn among(&mut self, parts: &[(String, Key)], wanted: &[Vec<Option<String>>]) -> String {
        let among = parts.iter().enumerate().map(|(part, (expression, key))| {
            let values: Vec<String> = wanted
                .iter()
                .filter_map(|key| key.get(part).cloned().flatten())
                .filter(|value| key.can_be(value))
                .collect();
            let values = self.bind(values, Type::TEXT_ARRAY);
            format!("{expression}{} = any ({values}::text[]{})", key.column_cast(), key.array_cast())
        });
        among.collect::<Vec<_>>().join(" and ")
    }

    /// A time given in microseconds since 1970.
    pub(super) fn time(&mut self, micros: i64) -> String {
        let micros = self.bind(micros, Type::INT8);
        from_micros(&micros)
    }

    /// A part of an event's key: `l` is its row of the log, `v` the event itself.
    pub(super) fn key_part(&mut self, part: &KeyPart) -> String {
        match part {
            KeyPart::Id => "l.event_id::text".to_owned(),
            KeyPart::AggregateId => "l.aggregate_id".to_owned(),
            KeyPart::ProjectId => "l.project_id".to_owned(),
            KeyPart::CorrelationId => "coalesce(v.metadata ->> 'correlation_id', l.event_id::text)".to_owned(),
            KeyPart::Payload(below) => {
                format!("switchyard._text_at(v.payload, {})", self.bind(below.clone(), Type::TEXT_ARRAY))
            }
            KeyPart::Metadata(below) => {
                format!("switchyard._text_at(v.metadata, {})", self.bind(below.clone(), Type::TEXT_ARRAY))
            }
        }
    }

    /// A row's value at a path, as the text of JSON.
    pub(super) fn value(&mut self, path: &Path) -> String {
        let column = quoted(path.first());
        if path.below().is_empty() {
            // Not JSONB: what stands in a column of type JSON may be something that JSONB refuses.
            format!("to_json(t.{column})::text")
        } else {
            format!("switchyard._json_at(t.{column}, {})", self.bind(path.below().to_vec(), Type::TEXT_ARRAY))
        }
    }

    /// Returns the rows of a source that were written between these times (microseconds since 1970, the end exclusive). For a table, `None` sets no
    /// end.
    pub(super) fn rows(
        &mut self,
        source: &Source,
        table: &OldTable,
        only: &[Condition],
        from: i64,
        until: Option<i64>,
    ) -> Rows {
        let mut rows = match source {
            Source::Table { schema, table: name, key, at, .. } => {
                let (stamp, native) = (format!("t.{}", quoted(at)), table.stamp(at));
                let bound = |time: String| match native {
                    Stamp::Zoned => time,
                    Stamp::Utc => format!("({time} at time zone 'UTC')"),
                };
                let until =
                    until.map(|until| format!(" and {stamp} < {}", bound(self.time(until)))).unwrap_or_default();
                let from = bound(self.time(from));
                Rows {
                    from: format!("{}.{} t", quoted(schema), quoted(name)),
                    key: key.iter().map(|(column, _)| (format!("t.{}", quoted(column)), table.key(column))).collect(),
                    only: format!("{stamp} >= {from}{until}"),
                    at: match native {
                        Stamp::Zoned => stamp,
                        Stamp::Utc => format!("({stamp} at time zone 'UTC')"),
                    },
                    event_id: None,
                }
            }
            Source::Events { event_type, by } => {
                let (from, until) = (self.time(from), self.time(until.unwrap_or(FAR)));
                let event_type = self.bind(event_type.clone(), Type::TEXT);
                let key = match by {
                    By::Causation => "(t.metadata ->> 'causation_id')",
                    By::Correlation => "coalesce(t.metadata ->> 'correlation_id', t.id::text)",
                    By::Aggregate => "t.aggregate_id",
                };
                Rows {
                    from: format!(
                        "(select l.logged_at, v.* from {} l join switchyard.event v on v.id = l.event_id) t",
                        logged_between(&format!("array[{event_type}]"), &from, &until)
                    ),
                    key: vec![(key.to_owned(), Key::Text)],
                    at: "t.logged_at".to_owned(),
                    only: format!("t.logged_at >= {from} and t.logged_at < {until}"),
                    event_id: Some("t.id".to_owned()),
                }
            }
        };
        for condition in only {
            let (column, below) = (condition.path.first(), condition.path.below());
            let holds = if condition.is.is_empty() && below.is_empty() && !table.is_json(column) {
                // As it is, so that the planner knows how many there are.
                format!("t.{} is null", quoted(column))
            } else {
                let below = self.bind(below.to_vec(), Type::TEXT_ARRAY);
                let found = format!("switchyard._text_at(t.{}, {below})", quoted(column));
                if condition.is.is_empty() {
                    format!("{found} is null")
                } else {
                    format!("{found} = any ({})", self.bind(condition.is.clone(), Type::TEXT_ARRAY))
                }
            };
            rows.only.push_str(&format!(" and {holds}"));
        }
        rows
    }
}

/// The events of these types in the log between two times, with a second more on both sides for inserts that overlapped.
pub(super) fn logged_between(types: &str, from: &str, until: &str) -> String {
    format!("switchyard.logged_between({types}, {from}, {until})")
}

/// The join from the event log `l` to the events, if a key is in them. An event that the application has deleted has no such part.
pub(super) fn events_for(key: &[KeyPart]) -> &'static str {
    if key.iter().any(KeyPart::is_in_event) { "left join switchyard.event v on v.id = l.event_id" } else { "" }
}

/// The types that an agent subscribes to, or has subscribed to.
pub(super) fn types_of(agent: &str) -> String {
    format!("switchyard.types_of({agent})")
}

/// A column of microseconds as a time.
pub(super) fn from_micros(micros: &str) -> String {
    format!("(timestamptz 'epoch' + {micros}::float8 * interval '1 microsecond')")
}

/// A time in microseconds.
pub(super) fn to_micros(time: &str) -> String {
    format!("(extract(epoch from {time}) * 1000000)::bigint")
}

/// A name as a quoted identifier; no character in it can end it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_name_is_quoted_whatever_it_contains() {
        assert_eq!(quoted("Order"), "\"Order\"");
        assert_eq!(quoted("a\"; drop table x; --"), "\"a\"\"; drop table x; --\"");
    }
}
