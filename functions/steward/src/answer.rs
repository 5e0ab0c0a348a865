//! What the ledger and the bus report, as the answers say it.

use switchyard_bus::Depth;
use switchyard_operations::{
    pass::Clock,
    status::{Deliveries, Queue},
};
use switchyard_store::{Ledger, Tick};

pub(crate) fn deliveries(ledger: &Ledger) -> Deliveries {
    Deliveries {
        settled: ledger.done + ledger.superseded + ledger.expired,
        pending: ledger.pending + ledger.assigned + ledger.failing,
        parked: ledger.parked - ledger.parked_old,
        old: ledger.assigned_old + ledger.parked_old,
    }
}

pub(crate) fn queue(depth: Depth) -> Queue {
    Queue { waiting: depth.visible, in_flight: depth.in_flight, delayed: depth.delayed }
}

pub(crate) fn clock(tick: &Tick) -> Clock {
    Clock {
        held_back_secs: tick.held_back_secs,
        old_waits_secs: tick.old_waits_secs,
        room: tick.room,
        logged_late: tick.logged_late,
        ..Clock::default()
    }
}
