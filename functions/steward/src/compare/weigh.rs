//! Both sides of some events brought together.

use switchyard_compare::{Finding, Heard, Mapping, Slot, end_of_wait, heard, judge, slot};
use switchyard_store::{Decided, OldTable, Store, StoreError};

/// How far apart the events of one window may be logged. The log is looked through from the first of them until the last one's wait is
/// over, so a decision that came a day late is not compared in one look with those of today.
const WINDOW_US: i64 = 30 * 60 * 1_000_000;

/// An agent, and with what it is compared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compares<'a> {
    pub(super) agent: &'a str,
    pub(super) mapping: &'a Mapping,
    /// What the old system's tables are like, answer by answer.
    pub(super) tables: &'a [OldTable],
}

/// What came of each of these, in no particular order.
///
/// # Errors
/// As the store's: where a table or a column has gone, its text names it.
pub(super) async fn weigh(
    store: &Store,
    compares: Compares<'_>,
    mut decided: Vec<Decided>,
) -> Result<Vec<(Decided, Finding)>, StoreError> {
    decided.sort_by_key(|decided| decided.at_us);
    let mut weighed = Vec::with_capacity(decided.len());
    let mut most = decided.len();
    while !decided.is_empty() {
        let size = window(&decided).min(most);
        let Some(findings) = weigh_window(store, compares, &decided[..size]).await? else {
            // The old system's rows are large: fewer of them at a time, from now on.
            most = size.div_ceil(2);
            continue;
        };
        let rest = decided.split_off(size);
        weighed.extend(decided.into_iter().zip(findings));
        decided = rest;
    }
    Ok(weighed)
}

/// How many of these, the oldest first, make a window; at least one.
fn window(decided: &[Decided]) -> usize {
    let Some(first) = decided.first() else { return 0 };
    decided.iter().take_while(|decided| decided.at_us - first.at_us <= WINDOW_US).count()
}

/// None where the old system's rows are too much for one look, which a single event's never are.
async fn weigh_window(
    store: &Store,
    Compares { agent, mapping, tables }: Compares<'_>,
    decided: &[Decided],
) -> Result<Option<Vec<Finding>>, StoreError> {
    let mut answers: Vec<Vec<Heard>> = vec![Vec::new(); decided.len()];
    let ends = decided.iter().map(|decided| end_of_wait(mapping, decided.at_us, decided.due_us)).max().unwrap_or(0);
    for (place, (answer, table)) in mapping.answers.iter().zip(tables).enumerate() {
        let next = store.next_of_key(agent, &answer.theirs.source, place, decided, ends).await?;
        let slots = decided.iter().zip(next).map(|(decided, next)| slot(mapping, decided.at_us, decided.due_us, next));
        let asked: Vec<(&Decided, Slot)> = decided.iter().zip(slots).collect();
        let Some(found) = store.old_rows(answer, place, table, &asked).await? else { return Ok(None) };
        for ((answers, found), (_, slot)) in answers.iter_mut().zip(found).zip(asked) {
            answers.push(heard(slot, found));
        }
    }
    Ok(Some(decided.iter().zip(&answers).map(|(decided, heard)| judge(mapping, &decided.decision, heard)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Decided {
        Decided {
            event_id: uuid::Uuid::nil(),
            seq: 1,
            at_us: minutes * 60_000_000,
            due_us: 0,
            decision: serde_json::Value::Null,
            keys: Vec::new(),
        }
    }

    #[test]
    fn a_window_ends_where_the_log_would_have_to_be_looked_through_for_too_long() {
        assert_eq!(window(&[at(0), at(10), at(30), at(31), at(500)]), 3);
        assert_eq!(window(&[at(0), at(500)]), 1);
        assert_eq!(window(&[]), 0);
    }
}
