//! A queue in memory. Its time passes only when a test says so: a test of a timeout does not wait for it.

use super::{Depth, Queue, Received, fault, whole_seconds};
use crate::{BATCH_ENTRIES, BusError, Keys, Kind, Message};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// For how long a deduplication id is remembered (Amazon SQS Developer Guide, "Exactly-once processing in Amazon SQS": five minutes).
const REMEMBERED: Duration = Duration::from_secs(5 * 60);

/// A queue in memory. Clones are the same queue.
#[derive(Debug, Clone, Default)]
pub struct MemoryQueue {
    kind: Kind,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    now: Duration,
    ever: u64,
    waiting: Vec<Waiting>,
    /// When a message with this deduplication id was last taken.
    sent: BTreeMap<String, Duration>,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    message: Message,
    sent_at: Duration,
    receives: u32,
    visible_at: Duration,
}

impl State {
    /// Whether it is a copy of what was taken within the last minutes; remembers it if not.
    fn is_copy(&mut self, message: &Message) -> bool {
        let Some(id) = &message.keys().deduplication_id else { return false };
        let now = self.now;
        let copy = self.sent.get(id).is_some_and(|at| now < *at + REMEMBERED);
        if !copy {
            self.sent.insert(id.clone(), now);
        }
        copy
    }

    /// The groups of which a message is being handled.
    fn locked(&self) -> BTreeSet<String> {
        let handled = self.waiting.iter().filter(|waiting| waiting.visible_at > self.now);
        handled.filter_map(|waiting| waiting.message.keys().group.clone()).collect()
    }
}

impl Waiting {
    fn handle(&self) -> String {
        format!("{}/{}", self.id, self.receives)
    }
}

/// The message and the receive that a handle names.
fn parse(handle: &str) -> Option<(u64, u32)> {
    let (id, receives) = handle.split_once('/')?;
    Some((id.parse().ok()?, receives.parse().ok()?))
}

impl MemoryQueue {
    /// A FIFO queue.
    #[must_use]
    pub fn fifo() -> Self {
        Self { kind: Kind::Fifo, ..Self::default() }
    }

    /// Lets time pass: what was hidden for no longer is visible afterwards.
    pub fn pass(&self, time: Duration) {
        self.with(|state| state.now += time);
    }

    /// Everything in the queue, hidden or not, in the order in which it came.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        self.with(|state| state.waiting.iter().map(|waiting| waiting.message.clone()).collect())
    }

    /// Takes out up to so many visible messages at once, as a move task does.
    pub(crate) fn take(&self, most: usize) -> Vec<Message> {
        self.with(|state| {
            let now = state.now;
            let mut left = most;
            let taken = state.waiting.extract_if(.., |waiting| {
                let takes = waiting.visible_at <= now && left > 0;
                left -= usize::from(takes);
                takes
            });
            taken.map(|waiting| waiting.message).collect()
        })
    }

    /// Puts messages in.
    pub(crate) fn put(&self, messages: impl IntoIterator<Item = Message>) {
        self.with(|state| {
            for message in messages {
                let (id, now) = (state.ever, state.now);
                state.ever += 1;
                state.waiting.push(Waiting { id, message, sent_at: now, receives: 0, visible_at: now });
            }
        });
    }

    /// Makes the messages with these handles visible after `time`. Returns how many of the handles are not valid any more.
    pub fn set_visibility(&self, handles: &[String], time: Duration) -> usize {
        self.with(|state| {
            let now = state.now;
            let mut missed = 0;
            for handle in handles {
                let received =
                    state.waiting.iter_mut().find(|waiting| waiting.handle() == *handle && waiting.receives > 0);
                match received.filter(|waiting| waiting.visible_at > now) {
                    Some(waiting) => waiting.visible_at = now + time,
                    None => missed += 1,
                }
            }
            missed
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Queue for MemoryQueue {
    async fn depth(&self) -> Result<Depth, BusError> {
        Ok(self.with(|state| {
            let visible = state.waiting.iter().filter(|waiting| waiting.visible_at <= state.now).count() as u64;
            Depth { visible, in_flight: state.waiting.len() as u64 - visible, delayed: 0 }
        }))
    }

    async fn send(&self, messages: &[Message]) -> Vec<Result<(), BusError>> {
        let copy = |message: &Message| self.kind.is_fifo() && self.with(|state| state.is_copy(message));
        let send = |message: &Message| match fault(self.kind, message) {
            Some(fault) => Err(BusError::refused("SendMessageBatch", fault, false)),
            None if copy(message) => Ok(()),
            None => {
                self.put([message.clone()]);
                Ok(())
            }
        };
        messages.iter().map(send).collect()
    }

    async fn receive(&self, max: usize, visibility: Duration) -> Result<Vec<Received>, BusError> {
        let visibility = Duration::from_secs(whole_seconds(visibility).unsigned_abs().into());
        Ok(self.with(|state| {
            let now = state.now;
            let locked = if self.kind.is_fifo() { state.locked() } else { BTreeSet::new() };
            let free =
                |waiting: &Waiting| waiting.message.keys().group.as_ref().is_none_or(|group| !locked.contains(group));
            let visible = state.waiting.iter_mut().filter(|waiting| waiting.visible_at <= now && free(waiting));
            visible
                .take(max.min(BATCH_ENTRIES))
                .map(|waiting| {
                    waiting.receives += 1;
                    waiting.visible_at = now + visibility;
                    let attributes = waiting.message.attributes();
                    let (group, deduplication_id) = waiting.message.keys().ids(self.kind);
                    Received {
                        body: waiting.message.body.clone(),
                        attributes: attributes.map(|(name, a)| (name.to_owned(), a.value.clone())).collect(),
                        message_id: waiting.id.to_string(),
                        receipt_handle: waiting.handle(),
                        keys: Keys::of(self.kind, group, deduplication_id),
                        sent_at: SystemTime::UNIX_EPOCH.checked_add(waiting.sent_at),
                        receives: waiting.receives,
                    }
                })
                .collect()
        }))
    }

    async fn delete(&self, receipt_handles: &[String]) -> Vec<Result<(), BusError>> {
        let delete = |handle: &String| {
            let (id, receives) = parse(handle)
                .ok_or_else(|| BusError::refused("DeleteMessageBatch", "the receipt handle is not valid", false))?;
            self.with(|state| state.waiting.retain(|waiting| waiting.id != id || waiting.receives != receives));
            Ok(())
        };
        receipt_handles.iter().map(delete).collect()
    }

    async fn release(&self, receipt_handles: &[String]) -> usize {
        self.set_visibility(receipt_handles, Duration::ZERO)
    }
}
