//! What SNS could not deliver to an agent's queue. No move task serves such a queue, and the ledger knows nothing of its letters.

use crate::{Redriver, scan, table::forward};
use switchyard_bus::{AgentPlaces, AgentQueues, Directory, Kind, Moves, Queue, Received};
use switchyard_operations::redrive::{Redrive, Redriven, Way};
use tokio::time::Instant;

/// How many letters are held at a time.
const AT_A_TIME: usize = 100;

impl<D: Directory, M: Moves, Q: Queue> Redriver<D, M, Q> {
    /// Letter by letter to the agent's queue, until there are none or the time is up. What comes twice is absorbed by the claim.
    pub(crate) async fn undelivered(
        &self,
        place: &AgentPlaces,
        order: &Redrive,
        ends: Instant,
    ) -> Result<Redriven, String> {
        let Some(url) = &place.subscription_dead_letter_url else {
            return Err(format!("{} has no dead-letter queue for its subscription", place.agent));
        };
        let (from, queue) = ((self.open)(url), AgentQueues::of(place, &self.open));
        let shows_ten_of_a_group = Kind::of(url).is_fifo();
        let mut done = Redriven::nothing(order);
        done.letters = Box::pin(from.depth()).await.map_err(|error| error.to_string())?.visible;
        if order.dry_run {
            done.way = if done.letters > 0 { Way::Letters } else { Way::Nothing };
            return Ok(done);
        }
        self.ordered(order, Way::Letters, done.letters).await?;
        let trouble = loop {
            let scan = match scan::receive(&from, AT_A_TIME, ends).await {
                Ok(scan) => scan,
                Err(error) => break Some(error.to_string()),
            };
            let letters: Vec<&Received> = scan.letters.iter().collect();
            let sent = forward(&queue, &from, &letters).await;
            scan::delete(&from, &sent).await;
            done.sent += sent.len();
            if sent.len() < letters.len() {
                let kept = letters.len() - sent.len();
                break Some(format!("{kept} could not be sent and stay where they are: do it again"));
            }
            // Of a group there may be more behind what was held and is gone by now.
            if scan.exhausted && (letters.is_empty() || !shows_ten_of_a_group) {
                let hidden = scan.hidden;
                break (hidden > 0).then(|| format!("{hidden} are being looked at by somebody else: do it again"));
            }
            if Instant::now() >= ends {
                break Some("the time was up before the queue was empty: do it again".to_owned());
            }
        };
        done.trouble = trouble;
        if done.sent > 0 {
            done.way = Way::Letters;
            self.noted(order, "undelivered_sent", &done).await;
        }
        Ok(done)
    }
}
