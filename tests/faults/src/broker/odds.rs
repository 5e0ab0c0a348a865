//! How often the broker misbehaves, and how.

use serde::Serialize;
use std::time::Duration;

/// Probabilities, each drawn for itself. All zero: a broker that keeps its word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Odds {
    /// A published message arrives twice, with an id of its own each time.
    pub duplicate: f64,
    /// A published message arrives late, up to two seconds, so that later ones overtake it.
    pub late_arrival: f64,
    /// A received message stays visible: another receiver gets it too.
    pub redeliver: f64,
    /// A call is refused as a whole: too many requests.
    pub throttle: f64,
    /// An entry of a batch is refused while its neighbours are taken.
    pub refuse_entry: f64,
    /// A call is answered late.
    pub late_answer: f64,
    /// How late at most, by our clock. Below the clients' timeout of five seconds: what is later than that is `hang`.
    pub late_up_to: Duration,
    /// The connection is cut before anything was done.
    pub cut_before: f64,
    /// The connection is cut after everything was done: the client cannot know.
    pub cut_after: f64,
    /// Everything is done, and the answer never comes: the client's own timeout ends the call.
    pub hang: f64,
}

impl Odds {
    /// A broker on a bad day: every fault, each in a call or message of a hundred.
    pub const BAD_DAY: Self = Self {
        duplicate: 0.02,
        late_arrival: 0.02,
        redeliver: 0.02,
        throttle: 0.01,
        refuse_entry: 0.01,
        late_answer: 0.005,
        late_up_to: Duration::from_millis(200),
        cut_before: 0.005,
        cut_after: 0.01,
        hang: 0.0002,
    };

    /// All of it so many times as often.
    #[must_use]
    pub fn times(self, by: f64) -> Self {
        Self {
            duplicate: self.duplicate * by,
            late_arrival: self.late_arrival * by,
            redeliver: self.redeliver * by,
            throttle: self.throttle * by,
            refuse_entry: self.refuse_entry * by,
            late_answer: self.late_answer * by,
            late_up_to: self.late_up_to,
            cut_before: self.cut_before * by,
            cut_after: self.cut_after * by,
            hang: self.hang * by,
        }
    }
}
