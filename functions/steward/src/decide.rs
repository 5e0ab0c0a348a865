//! What a pass does for one agent, decided from what it has seen. Pure: nothing here asks or waits.

use std::time::Duration;
use switchyard_store::{BreakerState, Overdue};

/// For how long a queue's messages are not taken for lost after an agent's breaker has changed, as those are not that a breaker has kept waiting.
const AFTER_A_CHANGE: Duration = Duration::from_secs(3_600);

/// How many deliveries go out again where a breaker is half-open: enough for a probe to have something to try.
const FOR_A_PROBE: usize = 10;

/// The state of a mapping, or the state that it is changing to, and who has set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Messages flow.
    On,
    /// Messages flow, though the steward has noted that it turned it off: an operator has turned it on since, or the steward died before it could.
    OnAgain,
    /// The steward has turned it off.
    Paused,
    /// An operator has turned it off.
    PausedByOperator,
}

impl Flow {
    /// From whether the mapping is to be enabled, and whether the steward has noted that it turned it off.
    #[must_use]
    pub const fn of(wanted: bool, paused: bool) -> Self {
        match (wanted, paused) {
            (true, false) => Self::On,
            (true, true) => Self::OnAgain,
            (false, true) => Self::Paused,
            (false, false) => Self::PausedByOperator,
        }
    }

    /// Whether messages flow.
    #[must_use]
    pub const fn is_on(self) -> bool {
        matches!(self, Self::On | Self::OnAgain)
    }

    /// What it is after an order, and with that whether the order is about it.
    #[must_use]
    pub const fn after(self, order: Order) -> Self {
        match (order, self) {
            (Order::Pause, Self::On | Self::OnAgain) => Self::Paused,
            (Order::Resume, Self::Paused) | (Order::Forget, Self::OnAgain) => Self::On,
            (_, same) => same,
        }
    }
}

/// What a pass has seen of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The breaker.
    pub breaker: BreakerState,
    /// An operator has set it, and it stays as it is until an operator ends the setting.
    pub forced: bool,
    /// The wait of an open breaker is over.
    pub wait_over: bool,
    /// For how long the breaker has been in this state.
    pub since: Duration,
    /// Its mappings: one, or one for each of its queues.
    pub flows: Vec<Flow>,
    /// How many messages the queue holds: waiting, in flight and delayed.
    pub in_queue: u64,
    /// How many deliveries may go out again in one pass.
    pub at_most: usize,
}

/// Something to do for an agent. Orders are carried out in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Turn the breaker half-open; if it is then, [`Order::Resume`] follows from itself.
    HalfOpen,
    /// Turn off the mappings that are on, and remember who did.
    Pause,
    /// Turn on the mappings that the steward has turned off, and forget that it had.
    Resume,
    /// An operator has turned on mappings that the steward had turned off: forget that it had.
    Forget,
    /// Report that an operator has turned a mapping off. It stays off.
    PausedByOperator,
    /// Put what the ledger has due, at most so many, into the queue.
    Send(Overdue, usize),
}

/// Decides.
///
/// - Mappings are off while the breaker is open, and on otherwise; nothing is ordered where it is so already. One that an
///   operator has turned off stays off, and does not affect the others.
/// - An open breaker whose wait is over is probed, unless an operator has forced it.
/// - What is due goes out only while messages flow from all of its queues, and only when the queue is empty: what is in it is not lost. What has been due for an
///   hour goes out all the same, since a queue that is never empty must not hide what was lost. Each copy costs one claim.
/// - After an outage of an hour everything that waits is due by an hour. So while the breaker is half-open, and for an hour after its last
///   change, only an empty queue is sent to.
#[must_use]
pub fn decide(seen: &Seen) -> Vec<Order> {
    let any = |flow: Flow| seen.flows.contains(&flow);
    if seen.breaker == BreakerState::Open {
        return match seen.flows.iter().any(|flow| flow.is_on()) {
            _ if seen.wait_over && !seen.forced => vec![Order::HalfOpen],
            true => vec![Order::Pause],
            false => vec![],
        };
    }
    let send = match (seen.in_queue, seen.breaker) {
        (0, BreakerState::HalfOpen) => Some(Order::Send(Overdue::Now, seen.at_most.min(FOR_A_PROBE))),
        (0, _) => Some(Order::Send(Overdue::Now, seen.at_most)),
        (_, BreakerState::HalfOpen) => None,
        _ => (seen.since >= AFTER_A_CHANGE).then_some(Order::Send(Overdue::ByAnHour, seen.at_most)),
    };
    let by_operator = any(Flow::PausedByOperator);
    [
        any(Flow::OnAgain).then_some(Order::Forget),
        any(Flow::Paused).then_some(Order::Resume),
        by_operator.then_some(Order::PausedByOperator),
        send.filter(|_| !by_operator),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn calm() -> Seen {
        Seen {
            breaker: BreakerState::Closed,
            forced: false,
            wait_over: false,
            since: Duration::from_secs(86_400),
            flows: vec![Flow::On],
            in_queue: 0,
            at_most: 1_000,
        }
    }

    #[test]
    fn what_is_due_goes_out_when_the_queue_is_empty_and_else_only_what_is_an_hour_late() {
        assert_eq!(decide(&calm()), [Order::Send(Overdue::Now, 1_000)]);
        assert_eq!(decide(&Seen { in_queue: 1, ..calm() }), [Order::Send(Overdue::ByAnHour, 1_000)]);
    }

    #[test]
    fn what_an_outage_has_kept_waiting_is_not_sent_again_while_it_drains() {
        let drains = Seen { in_queue: 500, since: Duration::from_secs(3_599), ..calm() };
        assert_eq!(decide(&drains), []);
        assert_eq!(decide(&Seen { in_queue: 0, ..drains.clone() }), [Order::Send(Overdue::Now, 1_000)]);
        let hour = Seen { since: Duration::from_secs(3_600), ..drains };
        assert_eq!(decide(&hour), [Order::Send(Overdue::ByAnHour, 1_000)]);
    }

    #[test]
    fn an_open_breaker_pauses_the_mapping_once() {
        let open = Seen { breaker: BreakerState::Open, ..calm() };
        assert_eq!(decide(&open), [Order::Pause]);
        assert_eq!(decide(&Seen { flows: vec![Flow::Paused], ..open }), []);
    }

    #[test]
    fn an_open_breaker_is_probed_when_its_wait_is_over_unless_a_person_holds_it() {
        let waited = Seen { breaker: BreakerState::Open, wait_over: true, flows: vec![Flow::Paused], ..calm() };
        assert_eq!(decide(&waited), [Order::HalfOpen]);
        assert_eq!(decide(&Seen { forced: true, ..waited.clone() }), []);
        assert_eq!(decide(&Seen { forced: true, flows: vec![Flow::On], ..waited }), [Order::Pause]);
    }

    #[test]
    fn a_half_open_breaker_lets_messages_flow_and_sends_a_few_where_there_are_none_to_try() {
        let probing = Seen { breaker: BreakerState::HalfOpen, flows: vec![Flow::Paused], in_queue: 7, ..calm() };
        assert_eq!(decide(&probing), [Order::Resume]);
        assert_eq!(
            decide(&Seen { flows: vec![Flow::On], in_queue: 0, ..probing }),
            [Order::Send(Overdue::Now, FOR_A_PROBE)]
        );
    }

    #[test]
    fn a_mapping_that_a_person_has_turned_off_stays_off_and_one_turned_on_again_stays_on() {
        let of = |flow| decide(&Seen { flows: vec![flow], ..calm() });
        assert_eq!(of(Flow::PausedByOperator), [Order::PausedByOperator]);
        assert_eq!(of(Flow::Paused), [Order::Resume, Order::Send(Overdue::Now, 1_000)]);
        assert_eq!(of(Flow::OnAgain), [Order::Forget, Order::Send(Overdue::Now, 1_000)]);
    }

    #[test]
    fn a_mapping_that_an_operator_has_turned_off_stops_only_what_is_due_on_the_other_queue() {
        let queues = |breaker, flow| decide(&Seen { breaker, flows: vec![flow, Flow::PausedByOperator], ..calm() });
        assert_eq!(queues(BreakerState::Open, Flow::On), [Order::Pause]);
        assert_eq!(queues(BreakerState::Open, Flow::Paused), []);
        assert_eq!(queues(BreakerState::Closed, Flow::Paused), [Order::Resume, Order::PausedByOperator]);
        assert_eq!(queues(BreakerState::Closed, Flow::On), [Order::PausedByOperator]);
    }

    fn flow() -> impl Strategy<Value = Flow> {
        prop_oneof![Just(Flow::On), Just(Flow::OnAgain), Just(Flow::Paused), Just(Flow::PausedByOperator)]
    }

    fn seen() -> impl Strategy<Value = Seen> {
        let breaker = prop_oneof![Just(BreakerState::Closed), Just(BreakerState::Open), Just(BreakerState::HalfOpen)];
        let flows = prop::collection::vec(flow(), 1..3);
        let since = (0u64..7_200).prop_map(Duration::from_secs);
        (breaker, any::<bool>(), any::<bool>(), since, flows, 0u64..3, 1usize..2_000).prop_map(
            |(breaker, forced, wait_over, since, flows, in_queue, at_most)| Seen {
                breaker,
                forced,
                wait_over,
                since,
                flows,
                in_queue,
                at_most,
            },
        )
    }

    /// The mappings after these orders.
    fn after(seen: &Seen, orders: &[Order]) -> Vec<Flow> {
        seen.flows.iter().map(|flow| orders.iter().fold(*flow, |now, order| now.after(*order))).collect()
    }

    proptest! {
        #[test]
        fn nothing_is_sent_to_a_queue_whose_mapping_is_off(seen in seen()) {
            let orders = decide(&seen);
            for (at, order) in orders.iter().enumerate() {
                if let Order::Send(..) = order {
                    let all_flow = after(&seen, &orders[..at]).iter().all(|flow| flow.is_on());
                    prop_assert!(all_flow && seen.breaker != BreakerState::Open);
                }
            }
        }

        #[test]
        fn a_full_queue_is_never_filled_with_what_is_merely_due_and_no_pass_sends_more_than_it_may(seen in seen()) {
            for order in decide(&seen) {
                if let Order::Send(overdue, at_most) = order {
                    prop_assert!(at_most <= seen.at_most);
                    prop_assert!(seen.in_queue == 0 || overdue == Overdue::ByAnHour);
                    let settled = seen.breaker == BreakerState::Closed && seen.since >= AFTER_A_CHANGE;
                    prop_assert!(overdue == Overdue::Now || settled);
                }
            }
        }

        #[test]
        fn a_mapping_is_touched_only_where_it_differs_and_never_twice(seen in seen()) {
            let orders = decide(&seen);
            let touches: Vec<_> = orders.iter().filter(|order| matches!(order, Order::Pause | Order::Resume)).collect();
            prop_assert!(touches.len() <= 1);
            for order in touches {
                prop_assert!(seen.flows.iter().any(|flow| flow.after(*order) != *flow));
            }
        }

        #[test]
        fn what_a_person_has_turned_off_is_never_touched(seen in seen()) {
            let orders = decide(&seen);
            for (before, after) in seen.flows.iter().zip(after(&seen, &orders)) {
                prop_assert_eq!(*before == Flow::PausedByOperator, after == Flow::PausedByOperator);
            }
        }

        #[test]
        fn a_breaker_that_is_open_or_not_leaves_no_other_mapping_as_it_should_not_be(seen in seen()) {
            let orders = decide(&seen);
            let open = seen.breaker == BreakerState::Open;
            let ours = after(&seen, &orders).into_iter().filter(|flow| *flow != Flow::PausedByOperator);
            prop_assert!(orders == [Order::HalfOpen] || ours.into_iter().all(|flow| flow.is_on() != open));
        }

        #[test]
        fn a_second_pass_that_sees_the_same_breaker_touches_nothing_more(seen in seen()) {
            let flows = after(&seen, &decide(&seen));
            let again = decide(&Seen { flows, ..seen });
            prop_assert!(!again.iter().any(|order| matches!(order, Order::Pause | Order::Resume | Order::Forget)));
        }

        #[test]
        fn a_breaker_that_a_person_holds_is_never_probed(seen in seen()) {
            let probed = decide(&Seen { forced: true, ..seen }).contains(&Order::HalfOpen);
            prop_assert!(!probed);
        }
    }
}
