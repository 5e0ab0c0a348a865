//! Waiting for a condition, with a deadline.

use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How long anything may take here: more than the minute of a schedule, and far more than anything else. These machines are noisy, and a wait
/// ends as soon as its condition holds.
const DEADLINE: Duration = Duration::from_secs(120);

/// Asks until there is an answer.
///
/// # Panics
/// If there is none within two minutes; the message names what was waited for.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    let mut ticks = interval(Duration::from_millis(20));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited two minutes, and still not: {what}");
    }
}
