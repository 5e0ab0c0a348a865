//! Following a redrive.

use crate::{dlq::moving, failure::Failure, functions::Stack, style::count};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};
use switchyard_operations::redrive::{Progress, Request};

/// How often to ask.
const PACE: Duration = Duration::from_secs(1);
/// How long to wait for the agent after the last message was moved. A busy agent has always something under way, so there is an end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until no move task runs and the agent has nothing under way, or until it had a minute for it. The last answer.
pub(crate) async fn until_done(stack: &Stack, agent: &str) -> Result<Progress, Failure> {
    // Hidden by itself where standard error is no terminal.
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::default_spinner());
    bar.enable_steady_tick(Duration::from_millis(100));
    let mut moved_by = None;
    loop {
        let now: Progress = stack.ask(&Request::Progress { agent: agent.to_owned() }, false).await?;
        let task = now.moving.as_ref().map(moving).unwrap_or_default();
        bar.set_message(format!("{task}; {} under way, {} parked", count(now.under_way, "delivery"), now.parked));
        if !is_moving(&now) {
            let since: Instant = *moved_by.get_or_insert_with(Instant::now);
            if now.under_way == 0 || since.elapsed() > PATIENCE {
                bar.finish_and_clear();
                return Ok(now);
            }
        }
        tokio::time::sleep(PACE).await;
    }
}

fn is_moving(now: &Progress) -> bool {
    now.moving.as_ref().is_some_and(|task| matches!(task.status.as_str(), "RUNNING" | "CANCELLING"))
}
