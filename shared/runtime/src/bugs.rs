//! Bugs that the fault suite plants, to see that its checks find them. Without the feature `faults` each of them is off at compile time, and
//! nothing of it is left.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
};
use switchyard_faults::bug;
use switchyard_store::Verdict;
use uuid::Uuid;

thread_local! {
    /// The id of the message that brought each event.
    static BROUGHT: RefCell<HashMap<Uuid, String>> = RefCell::default();
    /// The messages that this process has handled.
    static HANDLED: RefCell<HashSet<String>> = RefCell::default();
    /// Whether this process has ever found the agent to be in charge.
    static IN_CHARGE: Cell<bool> = const { Cell::new(false) };
}

/// Remembers which message brought an event.
pub(crate) fn received(event: Uuid, message: &str) {
    if bug("dedup_by_message_id") {
        BROUGHT.with_borrow_mut(|brought| brought.insert(event, message.to_owned()));
    }
}

/// The verdict that a process with a planted bug goes by: its own memory of message ids instead of the ledger, or the routing as it was when it first
/// asked.
pub(crate) fn believed(verdict: Verdict, event: Uuid) -> Verdict {
    if bug("dedup_by_message_id") && matches!(verdict, Verdict::Take | Verdict::AlreadyDone) {
        let message = BROUGHT.with_borrow(|brought| brought.get(&event).cloned()).unwrap_or_default();
        return if HANDLED.with_borrow(|handled| handled.contains(&message)) {
            Verdict::AlreadyDone
        } else {
            Verdict::Take
        };
    }
    if bug("routing_cached") {
        IN_CHARGE.set(IN_CHARGE.get() || verdict == Verdict::Take);
        if verdict == Verdict::NotYours && IN_CHARGE.get() {
            return Verdict::Take;
        }
    }
    verdict
}

/// Remembers that an event was handled, by the message that brought it.
pub(crate) fn handled(event: Uuid) {
    if bug("dedup_by_message_id")
        && let Some(message) = BROUGHT.with_borrow(|brought| brought.get(&event).cloned())
    {
        HANDLED.with_borrow_mut(|handled| handled.insert(message));
    }
}
