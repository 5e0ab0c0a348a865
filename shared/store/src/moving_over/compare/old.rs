//! The old system's side: its rows in a table of its own, or among the events.

use serde_json::Value;
use switchyard_compare::{Answer, Found, Slot};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::columns::OldTable;
use super::decided::{Decided, part_of};
use super::statement::{Statement, from_micros};
use crate::row::get;
use crate::{Store, StoreError};

/// How much text of the old system's rows is read at a time. A team's columns may have any size, and the steward has little memory.
const MOST_BYTES: i64 = 8 * 1024 * 1024;

impl Store {
    /// Returns the old system's answer to each of these events, in their order: the last row with the event's key in the event's slot. `place` is
    /// the answer's place in the mapping, `table` comes from [`Store::old_tables`].
    ///
    /// `None` if the rows are too large to hold: ask about fewer events. A single event always gets an answer.
    ///
    /// Fails with [`StoreError::Config`] if this role may not read the table.
    pub async fn old_rows(
        &self,
        answer: &Answer,
        place: usize,
        table: &OldTable,
        asked: &[(&Decided, Slot)],
    ) -> Result<Option<Vec<Found>>, StoreError> {
        const OP: &str = "old_rows";
        let mut found = vec![Found::Nothing; asked.len()];
        let bounds = (asked.iter().map(|(_, slot)| slot.from).min(), asked.iter().map(|(_, slot)| slot.until).max());
        let (Some(from), Some(until)) = bounds else { return Ok(Some(found)) };
        let until = Some(until).filter(|_| !table.is_overwritten());
        let mut statement = Statement::default();
        let events: Vec<Uuid> = asked.iter().map(|(decided, _)| decided.event_id).collect();
        let events = statement.bind(events, Type::UUID_ARRAY);
        let froms = statement.bind(asked.iter().map(|(_, slot)| slot.from).collect::<Vec<_>>(), Type::INT8_ARRAY);
        let untils = statement.bind(asked.iter().map(|(_, slot)| slot.until).collect::<Vec<_>>(), Type::INT8_ARRAY);
        let rows = statement.rows(&answer.theirs.source, table, &answer.theirs.only, from, until);

        let (mut columns, mut names, mut same) = (Vec::new(), Vec::new(), Vec::new());
        for (part, (column, key)) in rows.key.iter().enumerate() {
            let values: Vec<Option<String>> = asked
                .iter()
                .map(|(decided, _)| part_of(decided, place, part).filter(|value| key.can_be(value)))
                .collect();
            columns.push(format!("{}::text[]{}", statement.bind(values, Type::TEXT_ARRAY), key.array_cast()));
            names.push(format!("k{part}"));
            same.push(format!("{column}{} = k.k{part}", key.column_cast()));
        }
        let wanted: Vec<Vec<Option<String>>> =
            asked.iter().filter_map(|(decided, _)| decided.keys.get(place).cloned()).collect();
        let among = statement.among(&rows.key, &wanted);
        if let Some(event_id) = &rows.event_id {
            // An event is no answer to itself.
            same.push(format!("{event_id} <> k.event_id"));
        }
        let values = answer.asked().map(|path| statement.value(path)).collect::<Vec<_>>().join(", ");
        let most = statement.bind(MOST_BYTES, Type::INT8);
        // In the slot the last row is the answer; behind it any row tells that there may have been one.
        let slot_until = from_micros("k.until_us");
        let in_time = if table.is_overwritten() { "true".to_owned() } else { format!("{} < {slot_until}", rows.at) };
        let sql = format!(
            "select y.ord, case when y.fits then y.held end, y.fits
               from (select x.*, sum(octet_length(array_to_string(x.held, ''))) over (order by x.ord) <= {most}
                                 or row_number() over (order by x.ord) = 1 as fits
                       from (select distinct on (k.ord) k.ord,
                                    case when {at} < {slot_until} then array[{values}]::text[] end as held
                               from unnest({events}, {froms}, {untils}, {columns}) with ordinality k (event_id, from_us, until_us, {names}, ord)
                               join {source} on {same}
                              where {only} and {among} and {at} >= {slot_from} and {in_time}
                              order by k.ord, {at} < {slot_until} desc, case when {at} < {slot_until} then {at} end desc, {at}) x) y",
            columns = columns.join(", "),
            names = names.join(", "),
            source = rows.from,
            same = same.join(" and "),
            only = rows.only,
            at = rows.at,
            slot_from = from_micros("k.from_us"),
        );
        for row in self.read(OP, &sql, &statement.parameters()).await? {
            let ord: i64 = get(OP, &row, 0)?;
            let values: Option<Vec<Option<String>>> = get(OP, &row, 1)?;
            // A row behind its slot has no size, and always fits but where it comes after what was too much.
            if !get::<Option<bool>>(OP, &row, 2)?.unwrap_or(true) {
                return Ok(None);
            }
            let place = usize::try_from(ord - 1).ok();
            if let Some(place) = place.and_then(|place| found.get_mut(place)) {
                *place = match values {
                    Some(values) => {
                        Found::InSlot(values.into_iter().map(|text| text.map_or(Value::Null, json_of)).collect())
                    }
                    None => Found::After,
                };
            }
        }
        Ok(Some(found))
    }
}

/// Parses JSON that the database printed; if it does not parse (a number of a thousand digits), returns its text.
fn json_of(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}
