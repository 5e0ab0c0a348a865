//! When to move at all: figures, and the advice that they lead to. Changes nothing.

use crate::metrics::{measured, workload};
use std::time::Duration;
use switchyard_advice::{Advisor, Wishes};
use switchyard_operations::advise::Advised;
use switchyard_store::Store;
use tokio::time::Instant;

/// How far back figures go.
const WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// Measures, and advises.
///
/// # Errors
/// One line: what the database said, or that it did not answer before `ends`.
pub async fn advise(store: &Store, wishes: &Wishes, ends: Instant) -> Result<Advised, String> {
    let limit = ends.saturating_duration_since(Instant::now());
    let figures = store.within(limit).figures(WINDOW).await.map_err(|error| error.to_string())?;
    let advisor = Advisor::built_in().map_err(|error| error.to_string())?;
    let advice = advisor.advise(&workload(&figures), wishes).map_err(|error| error.to_string())?;
    Ok(Advised { metrics: measured(&figures, &advice), advice })
}
