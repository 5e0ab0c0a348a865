//! Messages that SNS could not deliver to an agent's queue. No move task serves such a dead-letter queue, and the ledger does not know its messages.

use crate::{Redriver, scan, table::forward};
use switchyard_bus::{AgentPlaces, AgentQueues, Directory, Kind, Moves, Queue, Received};
use switchyard_operations::redrive::{Redrive, Redriven, Way};
use tokio::time::Instant;

/// How many messages are kept at a time.
const AT_A_TIME: usize = 100;

impl<D: Directory, M: Moves, Q: Queue> Redriver<D, M, Q> {
    /// Dead letter by dead letter to the agent's queue, until there are none or the time is up. The claim refuses a copy.
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
        done.dead_letters = Box::pin(from.depth()).await.map_err(|error| error.to_string())?.visible;
        if order.dry_run {
            done.way = if done.dead_letters > 0 { Way::Messages } else { Way::Nothing };
            return Ok(done);
        }
        self.ordered(order, Way::Messages, done.dead_letters).await?;
        let trouble = loop {
            let scan = match scan::receive(&from, AT_A_TIME, ends).await {
                Ok(scan) => scan,
                Err(error) => break Some(error.to_string()),
            };
            let dead_letters: Vec<&Received> = scan.dead_letters.iter().collect();
            let sent = forward(&queue, &from, &dead_letters).await;
            scan::delete(&from, &sent).await;
            done.sent += sent.len();
            if sent.len() < dead_letters.len() {
                let kept = dead_letters.len() - sent.len();
                break Some(format!("{kept} could not be sent and stay where they are: do it again"));
            }
            // Of a group there may be more behind the messages that were deleted by now.
            if scan.exhausted && (dead_letters.is_empty() || !shows_ten_of_a_group) {
                let hidden = scan.hidden;
                break (hidden > 0).then(|| format!("{hidden} are hidden by another reader: do it again"));
            }
            if Instant::now() >= ends {
                break Some("the time was up before the queue was empty: do it again".to_owned());
            }
        };
        done.trouble = trouble;
        if done.sent > 0 {
            done.way = Way::Messages;
            self.noted(order, "undelivered_sent", &done).await;
        }
        Ok(done)
    }
}
