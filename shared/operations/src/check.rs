//! What several requests check alike.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Whether a field holds a name. The audit's readers see names, so nothing in one breaks their lines.
///
/// # Errors
/// One line that says what a name is.
pub(crate) fn is_name(field: &str, value: &str) -> Result<(), String> {
    if !value.trim().is_empty() && value.chars().count() <= 200 && !value.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(format!("{field:?} is missing, or no text of at most 200 characters in one line"))
    }
}

/// The name in a field.
///
/// # Errors
/// As [`is_name`].
pub(crate) fn named(fields: &Map<String, Value>, name: &str) -> Result<String, String> {
    let value = fields.get(name).and_then(Value::as_str).unwrap_or_default();
    is_name(name, value).map(|()| value.to_owned())
}

/// A field that does nothing is a mistake that would go unseen.
///
/// # Errors
/// One line that names the field.
pub(crate) fn only(fields: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    match fields.keys().find(|name| *name != "action" && !known.contains(&name.as_str())) {
        Some(unknown) => Err(format!("there is no field {:?} here", cut(unknown))),
        None => Ok(()),
    }
}

/// All fields but the action, as their type.
///
/// # Errors
/// One line that names what is wrong.
pub(crate) fn typed<T: DeserializeOwned>(fields: &Map<String, Value>) -> Result<T, String> {
    let mut fields = fields.clone();
    fields.remove("action");
    serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())
}

/// All fields but the action as a request, if it may be carried out.
///
/// # Errors
/// One line that names what is wrong, and what there is instead (`there_is`).
pub(crate) fn checked<T: DeserializeOwned>(
    fields: &Map<String, Value>,
    check: impl Fn(&T) -> Result<(), String>,
    there_is: &str,
) -> Result<T, String> {
    let read = typed(fields).and_then(|request| check(&request).map(|()| request));
    read.map_err(|wrong| format!("{wrong}: {there_is}"))
}

/// As much of a text as an answer repeats.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}
