//! How DDL waits for a gap between an application's transactions without holding it up.
//!
//! A statement that waits for a table's lock holds up everybody who comes after it. So each waits for a moment only, then steps back for at
//! least five times as long, and waits a little longer the next time, up to a bound: for most of the time nobody is held up, and at no time for
//! longer than the bound.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::StoreError;
use crate::row::get;

/// What DDL says of itself while it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// This one is done, such as `tables/events` or `posts insert`.
    Done(&'a str),
    /// The application's transactions left no gap for this one; it is tried again after the pause.
    Busy {
        /// What waits.
        what: &'a str,
        /// How often it has been tried.
        tries: u32,
        /// How long it steps back now.
        pause: Duration,
    },
}

/// How long DDL waits, and whom it tells.
#[derive(Clone, Copy)]
pub struct WaitPolicy<'a> {
    /// The longest that one statement waits for a lock, and so the longest that the application's own statements are held up by it, beside the
    /// few milliseconds in which the lock is held.
    pub lock_timeout: Duration,
    /// How long one step is tried in all, before it is given up as [`StoreError::Conflict`].
    pub at_most: Duration,
    /// Is told how it goes.
    pub report: &'a (dyn Fn(Progress<'_>) + Sync),
}

impl std::fmt::Debug for WaitPolicy<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { lock_timeout, at_most, .. } = self;
        f.debug_struct("Patience").field("lock_timeout", lock_timeout).field("at_most", at_most).finish_non_exhaustive()
    }
}

/// Two seconds for a lock, three minutes for a step, and what holds it up goes to the log.
impl Default for WaitPolicy<'_> {
    fn default() -> Self {
        Self { lock_timeout: Duration::from_secs(2), at_most: Duration::from_secs(180), report: &log }
    }
}

fn log(progress: Progress<'_>) {
    if let Progress::Busy { what, tries, pause } = progress {
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(what, tries, pause_ms, "the application is busy: waiting for a gap");
    }
}

/// How long a first try waits.
const FIRST: Duration = Duration::from_millis(100);
/// The shortest pause.
const PAUSE: Duration = Duration::from_secs(1);
/// How many times as long as a try the pause after it is, at least.
const REST: u32 = 5;

impl WaitPolicy<'_> {
    /// How long the try after so many waits for a lock.
    fn wait(&self, tries: u32) -> Duration {
        FIRST.saturating_mul(2_u32.saturating_pow(tries)).min(self.lock_timeout).max(Duration::from_millis(1))
    }

    /// How long to step back after so many tries; a little longer each time, so as not to fall into step with something that repeats.
    fn pause(&self, tries: u32) -> Duration {
        (self.wait(tries.saturating_sub(1)) * REST).max(PAUSE) + Duration::from_millis(25) * tries.min(40)
    }

    /// Carries out the statements that `list` (SQL: name, statement) finds, each in a transaction of its own, so that what is done stays done, and
    /// tells of each. One table that is busy does not hold up the others: the list is read again, and what has left it is done. Returns the names,
    /// in the order in which they were done.
    ///
    /// Fails with [`StoreError::Conflict`] if the time is up, and at once for everything that is no lock.
    pub(crate) async fn each(
        &self,
        client: &Client,
        operation: &'static str,
        what: &str,
        list: &str,
    ) -> Result<Vec<String>, StoreError> {
        let fail = |error| StoreError::from_postgres(operation, error);
        let mut done = Vec::new();
        let mut tries = self.with(what);
        loop {
            tries.ready(client).await?;
            let mut busy = None;
            for row in client.query_typed(list, &[]).await.map_err(fail)? {
                let (name, statement): (String, String) = (get(operation, &row, 0)?, get(operation, &row, 1)?);
                match client.batch_execute(&statement).await.map_err(fail) {
                    Ok(()) => {
                        (self.report)(Progress::Done(&name));
                        done.push(name);
                    }
                    Err(error) if error.is_conflict() => busy = Some(error),
                    Err(error) => return Err(error),
                }
            }
            match busy {
                None => return Ok(done),
                Some(busy) => tries.step_back(busy).await?,
            }
        }
    }

    /// Begins to try one step.
    pub(crate) fn with<'w>(&'w self, what: &'w str) -> Tries<'w> {
        Tries { wait_policy: self, what, begun: Instant::now(), tries: 0 }
    }
}

/// One step, tried again and again while the application's transactions are in its way.
pub(crate) struct Tries<'w> {
    wait_policy: &'w WaitPolicy<'w>,
    what: &'w str,
    begun: Instant,
    tries: u32,
}

impl Tries<'_> {
    /// Sets how long the statements of the next try wait for a lock.
    pub(crate) async fn ready(&self, client: &Client) -> Result<(), StoreError> {
        let timeout = format!("set lock_timeout = '{}ms'", self.wait_policy.wait(self.tries).as_millis());
        client.batch_execute(&timeout).await.map_err(|error| StoreError::from_postgres("lock_timeout", error))
    }

    /// The try has failed: steps back, where somebody was in the way and there is time left.
    ///
    /// Fails with that failure otherwise.
    pub(crate) async fn step_back(&mut self, failure: StoreError) -> Result<(), StoreError> {
        let pause = self.wait_policy.pause(self.tries + 1);
        if !failure.is_conflict() || self.begun.elapsed() + pause > self.wait_policy.at_most {
            return Err(failure);
        }
        self.tries += 1;
        (self.wait_policy.report)(Progress::Busy { what: self.what, tries: self.tries, pause });
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_try_waits_twice_as_long_as_the_one_before_and_never_longer_than_the_bound() {
        let wait_policy = WaitPolicy { lock_timeout: Duration::from_millis(700), ..WaitPolicy::default() };
        let waits: Vec<u128> = (0..6).map(|tries| wait_policy.wait(tries).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 700, 700, 700]);
        assert_eq!(wait_policy.wait(u32::MAX), wait_policy.lock_timeout);
    }

    #[test]
    fn a_bound_under_the_first_wait_bounds_it_too_and_never_means_no_bound() {
        let wait_policy = |millis| WaitPolicy { lock_timeout: Duration::from_millis(millis), ..WaitPolicy::default() };
        assert_eq!(wait_policy(30).wait(0), Duration::from_millis(30));
        assert_eq!(wait_policy(0).wait(0), Duration::from_millis(1), "nought would wait for ever");
    }

    #[test]
    fn writers_are_blocked_for_at_most_a_sixth_of_the_time() {
        let wait_policy = WaitPolicy::default();
        for tries in 0..100 {
            assert!(wait_policy.pause(tries + 1) >= wait_policy.wait(tries) * 5, "{tries}");
        }
    }
}
