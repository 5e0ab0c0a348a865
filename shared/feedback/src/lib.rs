#![doc = include_str!("../README.md")]

mod sentiment;
mod similarity;
mod types;
mod upcasts;
mod words;

pub use sentiment::{Label, Sentiment, sentiment};
pub use similarity::similarity;
pub use types::*;
pub use upcasts::UPCASTS;

/// Its tables, as SQL that may be applied again: the application applies it, before Switchyard is set up.
pub const TABLES: &str = include_str!("../sql/tables.sql");

/// What the agents of this bundle do with tables of the application: the rights of the functions' role.
pub const AGENTS_RIGHTS: &[(&str, &str)] = &[
    ("posts", "select"),
    ("feedback_duplicates", "select, insert"),
    ("sentiment_analysis", "select, insert, update"),
    ("model_baselines", "select"),
    ("model_validations", "select, insert, update"),
];

/// Which changes of its tables are events, as the JSON that `switchyard-setup --domain` reads.
pub const DOMAIN: &str = include_str!("../domain.json");
