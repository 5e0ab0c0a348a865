//! What an answer to a batch means: which messages are acknowledged. Pure.

use serde_json::Value;

/// Which of these messages an answer acknowledges, as Lambda reads it (AWS Lambda Developer Guide, "Implementing partial batch responses"): an
/// answer that names no failures acknowledges all, by whatever kind of nothing; one that names a message that was not in the batch, or
/// names none in an entry, or is no JSON, acknowledges none.
pub(super) fn acknowledged(answer: &[u8], ids: &[&str]) -> Vec<bool> {
    let none = || vec![false; ids.len()];
    if answer.is_empty() {
        return vec![true; ids.len()];
    }
    let Ok(answer) = serde_json::from_slice::<Value>(answer) else { return none() };
    let Some(failures) = answer.get("batchItemFailures").filter(|failures| !failures.is_null()) else {
        return vec![true; ids.len()];
    };
    let Some(failures) = failures.as_array() else { return none() };
    let failed: Option<Vec<&str>> =
        failures.iter().map(|failure| failure["itemIdentifier"].as_str().filter(|id| ids.contains(id))).collect();
    failed.map_or_else(none, |failed| ids.iter().map(|id| !failed.contains(id)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: &str) -> Vec<bool> {
        acknowledged(answer.as_bytes(), &["a", "b"])
    }

    #[test]
    fn every_kind_of_nothing_acknowledges_all() {
        for answer in ["", "null", "\"\"", "{}", r#"{"batchItemFailures":null}"#, r#"{"batchItemFailures":[]}"#] {
            assert_eq!(read(answer), [true, true], "{answer}");
        }
    }

    #[test]
    fn what_is_named_is_not_acknowledged() {
        assert_eq!(read(r#"{"batchItemFailures":[{"itemIdentifier":"b"}]}"#), [true, false]);
    }

    #[test]
    fn what_cannot_be_understood_acknowledges_none() {
        for answer in [
            "no JSON",
            r#"{"batchItemFailures":"b"}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":"b"},{"itemIdentifier":"stranger"}]}"#,
        ] {
            assert_eq!(read(answer), [false, false], "{answer}");
        }
    }
}
