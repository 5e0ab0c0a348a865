//! One queue, as SQS keeps it: visibility timeouts, receive counts, and what has been received too often. Pure: it knows time only as it is told.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

/// Attributes of a message by name: their type (`String`, `Number`) and value.
pub type Attributes = BTreeMap<String, (String, String)>;

/// A message as it was sent.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Its id, new with every send.
    pub id: String,
    /// The body.
    pub body: Arc<str>,
    /// Its attributes.
    pub attributes: Arc<Attributes>,
    /// When it was sent, in milliseconds since 1970.
    pub sent_ms: u64,
}

/// A message as it is received.
#[derive(Debug, Clone)]
pub struct Received {
    /// The message.
    pub sent: Sent,
    /// Names this receive: what deletes the message or changes its visibility.
    pub receipt_handle: String,
    /// How often it was received, this time included.
    pub receives: u32,
}

/// How many messages there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Waiting.
    pub visible: usize,
    /// Received, and neither deleted nor visible again.
    pub in_flight: usize,
    /// Sent, and not visible yet.
    pub delayed: usize,
}

#[derive(Debug)]
struct Held {
    sent: Sent,
    receives: u32,
    /// Until when it is hidden; `None` while it is visible.
    hidden_until: Option<Instant>,
}

/// A queue.
#[derive(Debug)]
pub(super) struct Queue {
    /// How long a receive hides a message where it does not say so itself.
    pub(super) visibility: Duration,
    /// After how many receives a message goes to the dead-letter queue with this name.
    pub(super) redrive: Option<(String, u32)>,
    /// Tags by key.
    pub(super) tags: BTreeMap<String, String>,
    /// Every attribute that was set, as it was set.
    pub(super) settings: BTreeMap<String, String>,
    held: HashMap<u64, Held>,
    ready: VecDeque<u64>,
    hidden: BTreeSet<(Instant, u64)>,
    next: u64,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub(super) fn new(visibility: Duration) -> Self {
        Self {
            visibility,
            redrive: None,
            tags: BTreeMap::new(),
            settings: BTreeMap::new(),
            held: HashMap::new(),
            ready: VecDeque::new(),
            hidden: BTreeSet::new(),
            next: 0,
        }
    }

    /// Takes a message in, visible after a while. `out_of_order` puts it before those that wait: a standard queue promises no order.
    pub(super) fn send(&mut self, sent: Sent, delay: Duration, out_of_order: bool, now: Instant) {
        self.next += 1;
        let key = self.next;
        let hidden_until = (!delay.is_zero()).then(|| now + delay);
        match hidden_until {
            Some(until) => {
                self.hidden.insert((until, key));
            }
            None if out_of_order => self.ready.push_front(key),
            None => self.ready.push_back(key),
        }
        self.held.insert(key, Held { sent, receives: 0, hidden_until });
    }

    /// Receives up to `max` messages and hides them. The second list is what has been received too often: it leaves the queue.
    pub(super) fn receive(&mut self, max: usize, visibility: Duration, now: Instant) -> (Vec<Received>, Vec<Sent>) {
        self.wake(now);
        let (mut received, mut dead) = (Vec::new(), Vec::new());
        while received.len() < max
            && let Some(key) = self.ready.pop_front()
        {
            let Some(held) = self.held.get_mut(&key) else { continue };
            if self.redrive.as_ref().is_some_and(|(_, most)| held.receives >= *most) {
                dead.extend(self.held.remove(&key).map(|held| held.sent));
                continue;
            }
            held.receives += 1;
            let until = now + visibility;
            held.hidden_until = Some(until);
            self.hidden.insert((until, key));
            let receipt_handle = format!("{key}-{}", held.receives);
            received.push(Received { sent: held.sent.clone(), receipt_handle, receives: held.receives });
        }
        (received, dead)
    }

    /// Deletes what this handle received. A handle that is older than the last receive deletes nothing, and a message that is gone is no fault:
    /// SQS answers success to both. `false` for what is no handle at all.
    pub(super) fn delete(&mut self, receipt_handle: &str) -> bool {
        let Some((key, receives)) = parts(receipt_handle) else { return false };
        if self.held.get(&key).is_some_and(|held| held.receives == receives)
            && let Some(held) = self.held.remove(&key)
        {
            match held.hidden_until {
                Some(until) => {
                    self.hidden.remove(&(until, key));
                }
                // Its visibility timeout was over and no receiver had taken it again: still deleted, and skipped where it waits.
                None => self.ready.retain(|ready| *ready != key),
            }
        }
        true
    }

    /// Hides a message for so long from now on. `false` where this handle holds nothing any more.
    pub(super) fn hide(&mut self, receipt_handle: &str, how_long: Duration, now: Instant) -> bool {
        self.wake(now);
        let Some((key, receives)) = parts(receipt_handle) else { return false };
        let Some(held) = self.held.get_mut(&key) else { return false };
        let (Some(until), true) = (held.hidden_until, held.receives == receives) else { return false };
        self.hidden.remove(&(until, key));
        if how_long.is_zero() {
            held.hidden_until = None;
            self.ready.push_back(key);
        } else {
            held.hidden_until = Some(now + how_long);
            self.hidden.insert((now + how_long, key));
        }
        true
    }

    /// Takes everything out, received or not.
    pub(super) fn purge(&mut self) -> usize {
        self.ready.clear();
        self.hidden.clear();
        std::mem::take(&mut self.held).len()
    }

    /// How many messages there are.
    #[must_use]
    pub(super) fn depth(&mut self, now: Instant) -> Depth {
        self.wake(now);
        let in_flight = self.held.values().filter(|held| held.hidden_until.is_some() && held.receives > 0).count();
        let visible = self.held.values().filter(|held| held.hidden_until.is_none()).count();
        Depth { visible, in_flight, delayed: self.held.len() - in_flight - visible }
    }

    /// Whether there is nothing at all.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The bodies of everything that it holds, received or not.
    pub(super) fn bodies(&self) -> impl Iterator<Item = &Sent> {
        self.held.values().map(|held| &held.sent)
    }

    /// What was hidden and is over waits again.
    fn wake(&mut self, now: Instant) {
        while let Some(&(until, key)) = self.hidden.first()
            && until <= now
        {
            self.hidden.remove(&(until, key));
            if let Some(held) = self.held.get_mut(&key) {
                held.hidden_until = None;
                self.ready.push_back(key);
            }
        }
    }
}

fn parts(receipt_handle: &str) -> Option<(u64, u32)> {
    let (key, receives) = receipt_handle.split_once('-')?;
    Some((key.parse().ok()?, receives.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn sent(id: &str) -> Sent {
        Sent { id: id.into(), body: "body".into(), attributes: Arc::default(), sent_ms: 0 }
    }

    fn queue_of(ids: &[&str], now: Instant) -> Queue {
        let mut queue = Queue::new(SECOND);
        ids.iter().for_each(|id| queue.send(sent(id), Duration::ZERO, false, now));
        queue
    }

    fn ids(received: &(Vec<Received>, Vec<Sent>)) -> Vec<&str> {
        received.0.iter().map(|one| one.sent.id.as_str()).collect()
    }

    #[test]
    fn what_is_received_is_hidden_and_comes_again_when_its_time_is_over() {
        let now = Instant::now();
        let mut queue = queue_of(&["a", "b"], now);
        assert_eq!(ids(&queue.receive(10, SECOND, now)), ["a", "b"]);
        assert!(queue.receive(10, SECOND, now).0.is_empty());
        let again = queue.receive(10, SECOND, now + SECOND);
        assert_eq!(again.0.iter().map(|one| one.receives).collect::<Vec<_>>(), [2, 2]);
    }

    #[test]
    fn only_the_last_handle_deletes() {
        let now = Instant::now();
        let mut queue = queue_of(&["a"], now);
        let first = queue.receive(1, SECOND, now).0.remove(0);
        let second = queue.receive(1, SECOND, now + SECOND).0.remove(0);
        assert!(queue.delete(&first.receipt_handle));
        assert_eq!(queue.depth(now + SECOND), Depth { visible: 0, in_flight: 1, delayed: 0 });
        assert!(queue.delete(&second.receipt_handle) && queue.delete(&second.receipt_handle) && !queue.delete("none"));
        assert!(queue.is_empty());
    }

    #[test]
    fn what_was_deleted_after_its_time_was_over_does_not_come_again() {
        let now = Instant::now();
        let mut queue = queue_of(&["a"], now);
        let received = queue.receive(1, SECOND, now).0.remove(0);
        assert_eq!(queue.depth(now + SECOND).visible, 1);
        assert!(queue.delete(&received.receipt_handle));
        assert!(queue.receive(1, SECOND, now + SECOND).0.is_empty());
    }

    #[test]
    fn a_changed_visibility_counts_from_the_change_and_only_for_who_holds_the_message() {
        let now = Instant::now();
        let mut queue = queue_of(&["a"], now);
        let held = queue.receive(1, SECOND, now).0.remove(0);
        assert!(queue.hide(&held.receipt_handle, 5 * SECOND, now));
        assert!(queue.receive(1, SECOND, now + 4 * SECOND).0.is_empty());
        assert!(queue.hide(&held.receipt_handle, Duration::ZERO, now + 4 * SECOND));
        assert_eq!(queue.receive(1, SECOND, now + 4 * SECOND).0.len(), 1);
        assert!(!queue.hide(&held.receipt_handle, SECOND, now + 4 * SECOND), "somebody else has received it since");
    }

    #[test]
    fn what_is_received_too_often_leaves_the_queue() {
        let now = Instant::now();
        let mut queue = queue_of(&["a"], now);
        queue.redrive = Some(("dead".into(), 2));
        for n in 0..2 {
            assert_eq!(queue.receive(1, SECOND, now + n * SECOND).0.len(), 1);
        }
        let (received, dead) = queue.receive(1, SECOND, now + 2 * SECOND);
        assert!(received.is_empty() && dead.len() == 1 && queue.is_empty());
    }

    #[test]
    fn a_delayed_message_waits_and_one_out_of_order_comes_first() {
        let now = Instant::now();
        let mut queue = queue_of(&["a"], now);
        queue.send(sent("late"), SECOND, false, now);
        queue.send(sent("early"), Duration::ZERO, true, now);
        assert_eq!(queue.depth(now), Depth { visible: 2, in_flight: 0, delayed: 1 });
        assert_eq!(ids(&queue.receive(10, SECOND, now)), ["early", "a"]);
        assert_eq!(ids(&queue.receive(10, SECOND, now + SECOND / 2)), Vec::<&str>::new());
        assert_eq!(queue.purge(), 3);
    }
}
