//! Every dead-letter queue, with its depth and age.

use crate::{Redriver, moves, scan, words};
use futures_util::future::join_all;
use jiff::Timestamp;
use switchyard_bus::{AgentPlaces, BusError, Directory, Moves, Queue, Received};
use switchyard_operations::redrive::{DeadLetterQueue, Kind, Listed};
use switchyard_store::Selection;

impl<D: Directory, M: Moves, Q: Queue> Redriver<D, M, Q> {
    /// All dead-letter queues, all asked at once. A queue that does not answer says so in its line.
    pub(crate) async fn list(&self) -> Result<Listed, String> {
        let mut places = Box::pin(self.directory.places()).await.map_err(|error| error.to_string())?.agents;
        places.sort_by(|one, other| one.agent.cmp(&other.agent));
        let queues = join_all(places.iter().map(|place| self.queues_of(place))).await;
        let queues: Result<Vec<Vec<DeadLetterQueue>>, String> = queues.into_iter().collect();
        Ok(Listed { queues: queues?.concat() })
    }

    async fn queues_of(&self, place: &AgentPlaces) -> Result<Vec<DeadLetterQueue>, String> {
        let groups = self.store.parked(&place.agent, &Selection::default()).await.map_err(words)?;
        let mut own = self.numbers(place, Kind::Agent, &place.dead_letter_url).await;
        own.parked = Some(groups.iter().map(|group| group.count).sum());
        // A subscription's dead-letter queue is served by no move task, so it is not asked for one.
        match Box::pin(self.moves.list(&place.dead_letter_arn)).await {
            Ok(tasks) => own.moving = moves::running(&tasks).map(moves::answer),
            Err(error) => own.error = own.error.or_else(|| Some(error.to_string())),
        }
        let mut queues = vec![own];
        if let Some(url) = &place.subscription_dead_letter_url {
            queues.push(self.numbers(place, Kind::Subscription, url).await);
        }
        Ok(queues)
    }

    async fn numbers(&self, place: &AgentPlaces, kind: Kind, url: &str) -> DeadLetterQueue {
        let mut queue = DeadLetterQueue {
            agent: place.agent.clone(),
            kind,
            queue: url.rsplit('/').next().unwrap_or(url).to_owned(),
            waiting: 0,
            in_flight: 0,
            oldest_secs: None,
            parked: None,
            moving: None,
            error: None,
        };
        if let Err(error) = self.count(&mut queue, url).await {
            queue.error = Some(error.to_string());
        }
        queue
    }

    async fn count(&self, queue: &mut DeadLetterQueue, url: &str) -> Result<(), BusError> {
        let dead_letters = (self.open)(url);
        let depth = Box::pin(dead_letters.depth()).await?;
        (queue.waiting, queue.in_flight) = (depth.visible, depth.in_flight);
        if depth.visible > 0 {
            let seen = scan::some(&dead_letters).await?;
            scan::put_back(&dead_letters, &seen).await;
            queue.oldest_secs = oldest_secs(&seen, Timestamp::now());
        }
        Ok(())
    }
}

/// SQS does not tell the age of the oldest dead letter, and a standard queue has no order: this is the age of the oldest one seen.
fn oldest_secs(dead_letters: &[Received], now: Timestamp) -> Option<u64> {
    let first = Timestamp::try_from(dead_letters.iter().filter_map(|dead_letter| dead_letter.sent_at).min()?).ok()?;
    Some(u64::try_from(now.duration_since(first).as_secs()).unwrap_or(0))
}
