//! The test's clock: a second here stands for five minutes.

use std::time::Duration;

/// How much faster than life. Ten minutes become two seconds: long enough that the lever is moved a dozen times while the old system makes up its
/// mind, short enough that a run lasts minutes.
const SCALE: u32 = 300;

/// A span of life, here.
const fn scaled(secs: u64) -> Duration {
    Duration::from_millis(secs * 1_000 / SCALE as u64)
}

/// How late the old system may be: ten minutes.
pub(crate) const LATE: Duration = scaled(600);
/// How long a delivery may be under way before it counts as lost: two minutes.
pub(crate) const GRACE: Duration = scaled(120);
/// How often the steward comes: every minute.
pub(crate) const PASS: Duration = scaled(60);
/// How often the old system's cron job looks into its list: every minute.
pub(crate) const CRON: Duration = scaled(60);
