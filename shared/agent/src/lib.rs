#![doc = include_str!("../README.md")]

mod apply;
mod decision;
mod declaration;
mod refusal;
mod schedule;
pub mod testing;

pub use apply::{Applied, Change, State, last_of_each};
pub use decision::Decision;
pub use declaration::{Declaration, ExpressQueue, Limits, RoutedBy};
pub use refusal::{Refusal, Reject};
pub use schedule::Schedule;

use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use switchyard_event::{Event, EventType, NewEvent, Upcast};

/// What the runtime logs when it parks an event because its chain is too long or too old. The metric filters of `template.yaml` look for these
/// words.
pub const STOPPED_CHAIN: &str = "a chain was stopped";

/// One agent. See the crate's page for what each step may do.
///
/// Futures need not be `Send`: a Lambda instance handles one batch at a time, on one thread.
#[allow(async_fn_in_trait)]
pub trait Agent: Sized {
    /// Its name: lower case, words joined by hyphens. It names the queue, the function and the delivery rows, and never changes.
    const NAME: &'static str;
    /// The event types that it receives.
    const SUBSCRIBES: &'static [EventType];
    /// What keeps its events together while a cutover moves them by percentage: the aggregate, or the project where its state is shared.
    const ROUTED_BY: RoutedBy = RoutedBy::Aggregate;
    /// How older versions of a payload become the newest, which alone it reads: what no step starts from is of version 1. A newer version than
    /// these steps lead to is parked as `unknown_version` instead of being misread, and succeeds after a deploy and a redrive.
    const UPCASTS: &'static [Upcast] = &[];
    /// How many attempts an event has, the first included, before it is parked. An event's own `max_attempts` wins.
    const MAX_ATTEMPTS: u16 = 4;
    /// How long to wait between attempts.
    const SCHEDULE: Schedule = Schedule::DEFAULT;
    /// What its function may use.
    const LIMITS: Limits = Limits::DEFAULT;
    /// Whether urgent events have a queue of their own.
    const EXPRESS_QUEUE: ExpressQueue = ExpressQueue::None;

    /// What it knows when it decides: data, so that a replay can record it and decide again. JSON has no NaN and no infinity.
    type Facts: Serialize + DeserializeOwned + Debug;
    /// What it wants written: data, so that it can be stored, compared and shown.
    type Effect: Serialize + DeserializeOwned + PartialEq + Debug;
    /// The transaction that its effects are written in; the runtime's.
    type Tx;

    /// Reads and model calls for one event. No writes: it may run for an event that another process settles meanwhile, and more than once.
    ///
    /// # Errors
    /// Any [`Refusal`] except `Superseded`.
    async fn gather(&self, event: &Event) -> Result<Self::Facts, Refusal>;

    /// Decides. The same event and facts decide the same, always.
    ///
    /// # Errors
    /// [`Reject`] where no retry could help: the event goes to the dead-letter queue with the reason.
    fn decide(event: &Event, facts: &Self::Facts) -> Result<Decision<Self::Effect>, Reject>;

    /// The state that this effect overwrites; `None` for one that only adds. Where a newer event of this agent has written the state already,
    /// the runtime applies nothing of the event, appends none of its events, and settles it as superseded. It asks for all effects of a batch in one
    /// statement. An event of the same sequence passes again: a replay repeats its effects.
    #[must_use]
    fn overwrites(_: &Self::Effect) -> Option<State> {
        None
    }

    /// Writes one effect inside the transaction that settles the delivery. Returns events that only the commit can know, such as a
    /// threshold just crossed.
    ///
    /// An agent that implements [`Agent::apply_batch`], or has no effects, leaves this out. One that has effects and implements neither has each of
    /// its events fail, with these words.
    ///
    /// # Errors
    /// Any [`Refusal`]; the whole of this event's part is then undone. `Conflict` says that the facts are outdated, `Superseded` that a
    /// newer event has written already.
    async fn apply(_: Change<'_, Self::Effect>, _: &mut Self::Tx) -> Result<Vec<NewEvent>, Refusal> {
        Err(Refusal::retry("the agent has effects and applies none"))
    }

    /// Writes the effects of a batch inside the one transaction that settles it: for set-based SQL, with one statement for all of them. By
    /// default calls [`Agent::apply`] for each.
    ///
    /// The changes are in the order of the log, and those of one event in the order of its decision. Several may belong to one event, and several
    /// may overwrite the same state: the last one counts ([`last_of_each`]). There is always at least one, and never one that is too late by
    /// [`Agent::overwrites`].
    ///
    /// # Errors
    /// Any [`Refusal`] undoes all of the batch; each record is then tried alone, as a batch of its own, so that the refusal counts for the record
    /// that it is about and for no other. A panic is a [`Refusal::Retry`].
    async fn apply_batch(changes: &[Change<'_, Self::Effect>], tx: &mut Self::Tx) -> Result<Applied, Refusal> {
        apply::one_by_one::<Self>(changes, tx).await
    }
}
