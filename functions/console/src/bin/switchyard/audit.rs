//! `switchyard audit`: who did what.

use crate::{
    failure::Failure,
    functions::Stack,
    style::{cell, print_line, short, table},
    when::since,
};
use clap::Args;
use jiff::Timestamp;
use switchyard_operations::redrive::{Audited, Request};

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// How many
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) at_most: u16,
}

/// The latest first.
pub(crate) async fn run(stack: &Stack, options: &Options, json: bool) -> Result<(), Failure> {
    let answer: Audited = stack.ask(&Request::Audit { at_most: options.at_most }, json).await?;
    if !json {
        print_line(page(&answer, Timestamp::now()));
    }
    Ok(())
}

fn page(answer: &Audited, now: Timestamp) -> String {
    if answer.audit.is_empty() {
        return "the audit has no rows yet".into();
    }
    let rows = answer.audit.iter().map(|row| {
        vec![
            cell(since(&row.at, now)),
            cell(&row.by),
            cell(&row.action),
            cell(row.component.as_deref().unwrap_or_default()),
            cell(short(&particulars(&row.detail), 120)),
        ]
    });
    table(&["WHEN", "WHO", "DID", "COMPONENT", "PARTICULARS"], rows.collect())
}

/// `redriven 3, reason mended`, where JSON says `{"redriven": 3, "reason": "mended"}`.
fn particulars(detail: &serde_json::Value) -> String {
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match detail.as_object() {
        None if detail.is_null() => String::new(),
        None => text(detail),
        Some(fields) => {
            let parts = fields
                .iter()
                .map(|(name, value)| (name, text(value)))
                .filter(|(_, value)| !matches!(value.as_str(), "" | "{}" | "null"));
            parts.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::particulars;
    use serde_json::json;

    #[test]
    fn particulars_are_said_in_words() {
        assert_eq!(
            particulars(&json!({"redriven": 3, "reason": "mended", "selection": {}, "per_second": null})),
            "reason mended, redriven 3"
        );
        assert_eq!(particulars(&json!(null)), "");
        assert_eq!(particulars(&json!("by hand")), "by hand");
    }
}
