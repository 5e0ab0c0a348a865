//! What a pass does for one agent, decided from what it has seen. Pure: nothing here asks or waits.

use std::time::Duration;
use switchyard_store::{BreakerState, Overdue};

/// For how long a queue's messages are not taken for lost after an agent's breaker has changed, as those are not that a breaker has kept waiting.
const AFTER_A_CHANGE: Duration = Duration::from_secs(3_600);

/// How many deliveries go out again where a breaker is half-open: enough for a probe to have something to try.
const FOR_A_PROBE: usize = 10;

/// Whether messages flow from an agent's queue to its function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// The mapping is enabled, or on its way there.
    On,
    /// The mapping is disabled, or on its way there.
    Off,
}

/// What a pass has seen of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The breaker.
    pub breaker: BreakerState,
    /// A person has set it, and it stays as it is until one sets it free.
    pub forced: bool,
    /// The wait of an open breaker is over.
    pub wait_over: bool,
    /// For how long the breaker has been in this state.
    pub since: Duration,
    /// The mapping.
    pub flow: Flow,
    /// The steward itself has turned the mapping off, and not on again since.
    pub paused_by_steward: bool,
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
    /// Turn the mapping off, and remember who did.
    Pause,
    /// Turn the mapping on, and forget who had turned it off.
    Resume,
    /// Somebody has turned the mapping on that the steward had turned off: forget that.
    Forget,
    /// Tell that a person has turned the mapping off. It stays off.
    PausedByHand,
    /// Put what the ledger has due, at most so many, into the queue.
    Send(Overdue, usize),
}

/// Decides.
///
/// - The mapping is off while the breaker is open, and on otherwise; nothing is ordered where it is so already. A mapping that a person has
///   turned off is left alone.
/// - An open breaker whose wait is over is probed, unless a person has forced it.
/// - What is due goes out only while messages flow, and only when the queue is empty: what is in it is not lost. What has been due for an
///   hour goes out all the same, since a queue that is never empty must not hide what was lost. Copies cost a look each.
/// - After an outage of an hour everything that waits is due by an hour. So while the breaker is half-open, and for an hour after its last
///   change, only an empty queue is sent to.
#[must_use]
pub fn decide(seen: &Seen) -> Vec<Order> {
    if seen.breaker == BreakerState::Open {
        return match seen.flow {
            _ if seen.wait_over && !seen.forced => vec![Order::HalfOpen],
            Flow::On => vec![Order::Pause],
            Flow::Off => vec![],
        };
    }
    let send = match (seen.in_queue, seen.breaker) {
        (0, BreakerState::HalfOpen) => Some(Order::Send(Overdue::Now, seen.at_most.min(FOR_A_PROBE))),
        (0, _) => Some(Order::Send(Overdue::Now, seen.at_most)),
        (_, BreakerState::HalfOpen) => None,
        _ => (seen.since >= AFTER_A_CHANGE).then_some(Order::Send(Overdue::ByAnHour, seen.at_most)),
    };
    let first = match (seen.flow, seen.paused_by_steward) {
        (Flow::On, false) => None,
        (Flow::On, true) => Some(Order::Forget),
        (Flow::Off, true) => Some(Order::Resume),
        (Flow::Off, false) => return vec![Order::PausedByHand],
    };
    first.into_iter().chain(send).collect()
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
            flow: Flow::On,
            paused_by_steward: false,
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
        assert_eq!(decide(&Seen { flow: Flow::Off, paused_by_steward: true, ..open }), []);
    }

    #[test]
    fn an_open_breaker_is_probed_when_its_wait_is_over_unless_a_person_holds_it() {
        let waited = Seen { breaker: BreakerState::Open, wait_over: true, flow: Flow::Off, ..calm() };
        assert_eq!(decide(&waited), [Order::HalfOpen]);
        assert_eq!(decide(&Seen { forced: true, ..waited.clone() }), []);
        assert_eq!(decide(&Seen { forced: true, flow: Flow::On, ..waited }), [Order::Pause]);
    }

    #[test]
    fn a_half_open_breaker_lets_messages_flow_and_sends_a_few_where_there_are_none_to_try() {
        let probing =
            Seen { breaker: BreakerState::HalfOpen, flow: Flow::Off, paused_by_steward: true, in_queue: 7, ..calm() };
        assert_eq!(decide(&probing), [Order::Resume]);
        assert_eq!(
            decide(&Seen { flow: Flow::On, paused_by_steward: false, in_queue: 0, ..probing }),
            [Order::Send(Overdue::Now, FOR_A_PROBE)]
        );
    }

    #[test]
    fn a_mapping_that_a_person_has_turned_off_stays_off_and_one_turned_on_again_stays_on() {
        let off = Seen { flow: Flow::Off, ..calm() };
        assert_eq!(decide(&off), [Order::PausedByHand]);
        assert_eq!(decide(&Seen { paused_by_steward: true, ..off }), [Order::Resume, Order::Send(Overdue::Now, 1_000)]);
        let on = Seen { paused_by_steward: true, ..calm() };
        assert_eq!(decide(&on), [Order::Forget, Order::Send(Overdue::Now, 1_000)]);
    }

    fn seen() -> impl Strategy<Value = Seen> {
        let breaker = prop_oneof![Just(BreakerState::Closed), Just(BreakerState::Open), Just(BreakerState::HalfOpen)];
        let flow = prop_oneof![Just(Flow::On), Just(Flow::Off)];
        let since = (0u64..7_200).prop_map(Duration::from_secs);
        (breaker, any::<bool>(), any::<bool>(), since, flow, any::<bool>(), 0u64..3, 1usize..2_000).prop_map(
            |(breaker, forced, wait_over, since, flow, paused_by_steward, in_queue, at_most)| Seen {
                breaker,
                forced,
                wait_over,
                since,
                flow,
                paused_by_steward,
                in_queue,
                at_most,
            },
        )
    }

    /// The mapping and the steward's memory of it after the orders that change them.
    fn after(seen: &Seen, orders: &[Order]) -> (Flow, bool) {
        orders.iter().fold((seen.flow, seen.paused_by_steward), |now, order| match order {
            Order::Pause => (Flow::Off, true),
            Order::Resume => (Flow::On, false),
            Order::Forget => (now.0, false),
            Order::HalfOpen | Order::PausedByHand | Order::Send(..) => now,
        })
    }

    proptest! {
        #[test]
        fn nothing_is_sent_to_a_queue_that_nobody_reads(seen in seen()) {
            let orders = decide(&seen);
            let mut flow = seen.flow;
            for order in &orders {
                match order {
                    Order::Pause => flow = Flow::Off,
                    Order::Resume => flow = Flow::On,
                    Order::Send(..) => prop_assert!(flow == Flow::On && seen.breaker != BreakerState::Open),
                    _ => {}
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
            match touches.first() {
                Some(Order::Pause) => prop_assert_eq!(seen.flow, Flow::On),
                Some(Order::Resume) => prop_assert!(seen.flow == Flow::Off && seen.paused_by_steward),
                _ => {}
            }
        }

        #[test]
        fn what_a_person_has_turned_off_is_never_turned_on(seen in seen()) {
            let by_hand = Seen { flow: Flow::Off, paused_by_steward: false, ..seen };
            prop_assert!(!decide(&by_hand).contains(&Order::Resume));
        }

        #[test]
        fn a_second_pass_that_sees_the_same_breaker_touches_nothing_more(seen in seen()) {
            let (flow, paused_by_steward) = after(&seen, &decide(&seen));
            let again = decide(&Seen { flow, paused_by_steward, ..seen });
            prop_assert!(!again.iter().any(|order| matches!(order, Order::Pause | Order::Resume | Order::Forget)));
        }

        #[test]
        fn a_breaker_that_a_person_holds_is_never_probed(seen in seen()) {
            let probed = decide(&Seen { forced: true, ..seen }).contains(&Order::HalfOpen);
            prop_assert!(!probed);
        }
    }
}
