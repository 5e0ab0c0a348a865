//! Backfills: what a pass does about those that are running, and what requests do.

mod advance;
mod decide;

pub use decide::{Seen, Step, Why, at_a_time, decide, pause_after};

pub(crate) use advance::{Reach, advance};
pub(crate) use decide::LONGEST;

use switchyard_operations::backfill::{Act, BackfillAnswer, BackfillRequest, DEFAULT_PER_SECOND};
use switchyard_store::{Store, StoreError};

/// Answers a request.
///
/// # Errors
/// [`StoreError::Config`], in words, where it cannot be done: no such agent, nothing under way, or a selection that cannot be (see
/// [`Store::start_backfill`]); else as the store's.
pub async fn answer(store: &Store, request: BackfillRequest) -> Result<BackfillAnswer, StoreError> {
    let BackfillRequest { agent, act, selection, per_second, operator } = request;
    let (mut preview, mut cancelled) = (None, None);
    match (act, &selection) {
        (Act::Start, Some(selection)) => {
            let per_second = per_second.unwrap_or(DEFAULT_PER_SECOND);
            let run = store.start_backfill(&agent, selection, per_second, &operator).await?;
            tracing::info!(agent, operator, run, per_second, "a backfill of it was started");
        }
        (Act::Preview, Some(selection)) => preview = Some(store.preview_backfill(&agent, selection).await?),
        (Act::Start | Act::Preview | Act::Progress, _) => {}
        (Act::Pause, _) => store.pause_backfill(&agent, &operator).await?,
        (Act::Resume, _) => store.resume_backfill(&agent, per_second, &operator).await?,
        (Act::Cancel, _) => cancelled = Some(store.cancel_backfill(&agent, &operator).await?),
    }
    if matches!(act, Act::Pause | Act::Resume | Act::Cancel) {
        tracing::info!(agent, operator, ?act, "an operator has moved the backfill");
    }
    let progress = store.backfill_progress(&agent).await?;
    Ok(BackfillAnswer { agent, preview, progress, cancelled })
}
