//! How DDL waits for a gap between the application's transactions without blocking them for long.
//!
//! A statement that waits for a table's lock blocks every later statement on the table. So each one waits for a moment only, then pauses for at
//! least five times as long, and waits a little longer the next time, up to a maximum. For most of the time nothing is blocked, and never for longer
//! than the maximum.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::StoreError;
use crate::row::get;

/// The progress of DDL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// This step is done, such as `tables/events` or `orders insert`.
    Done(&'a str),
    /// The application's transactions left no gap for this step; it is tried again after the pause.
    Busy {
        /// The step.
        what: &'a str,
        /// How often it has been tried.
        tries: u32,
        /// How long it pauses now.
        pause: Duration,
    },
}

/// How long DDL waits, and where its progress is reported.
#[derive(Clone, Copy)]
pub struct WaitPolicy<'a> {
    /// The longest that one statement waits for a lock. The application's statements are blocked for at most this time, and the few milliseconds in
    /// which the lock is held.
    pub lock_timeout: Duration,
    /// How long one step is tried in all, before it fails with [`StoreError::Conflict`].
    pub at_most: Duration,
    /// Receives the progress.
    pub report: &'a (dyn Fn(Progress<'_>) + Sync),
}

impl std::fmt::Debug for WaitPolicy<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { lock_timeout, at_most, .. } = self;
        f.debug_struct("Patience").field("lock_timeout", lock_timeout).field("at_most", at_most).finish_non_exhaustive()
    }
}

/// Two seconds for a lock, three minutes for a step; the log says what blocks it.
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
/// A pause is at least this many times as long as the try before it.
const REST: u32 = 5;

impl WaitPolicy<'_> {
    /// How long the next try waits for a lock, after this many tries.
    fn wait(&self, tries: u32) -> Duration {
        FIRST.saturating_mul(2_u32.saturating_pow(tries)).min(self.lock_timeout).max(Duration::from_millis(1))
    }

    /// How long to pause after this many tries. It grows a little each time, so that it does not keep pace with a process that repeats.
    fn pause(&self, tries: u32) -> Duration {
        (self.wait(tries.saturating_sub(1)) * REST).max(PAUSE) + Duration::from_millis(25) * tries.min(40)
    }

    /// Runs the statements that `list` (SQL: name, statement) returns, each in a transaction of its own, so that what is done stays done, and
    /// reports each. A busy table does not block the others: the list is read again, without what is done. Returns the names, in the order in which
    /// they were done.
    ///
    /// Fails with [`StoreError::Conflict`] if the time is up, and at once with any error that is no lock.
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

    /// Starts the tries of one step.
    pub(crate) fn with<'w>(&'w self, what: &'w str) -> Tries<'w> {
        Tries { wait_policy: self, what, begun: Instant::now(), tries: 0 }
    }
}

/// One step, which is tried again while the application's transactions block it.
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

    /// Handles a failed try: pauses, if a lock was the cause and there is time left.
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
