//! Who writes events: one at a time, or a few in a transaction that is committed late, or not at all.

use crate::world::{Phase, TYPE, World, nap};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

/// How many aggregates there are: so many that each percentage moves some, so few that each is met by both sides.
const AGGREGATES: u128 = 60;
/// How many events come in one while there is a rush: more than the agent handles in the time.
const RUSH: u32 = 12;
/// How many projects.
pub(crate) const PROJECTS: u32 = 6;

pub(crate) async fn write(world: &World, per_second: u32) {
    let mut chance = world.chance(1);
    let mut client = world.another_connection().await;
    let mut ticks = interval(Duration::from_secs(1) / per_second.max(1));
    // What could not be written in time is caught up on: the load is what was asked for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while world.phase() < Phase::Rest {
        ticks.tick().await;
        let several = match chance.u8(..100) {
            _ if world.rush.get() => RUSH,
            0..5 => chance.u32(2..5),
            _ => 1,
        };
        let tx = client.transaction().await.unwrap();
        for _ in 0..several {
            let insert =
                "insert into public.events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
                          values ($1, $2, 'thing', $3, '{}', jsonb_build_object('project_id', $4::text), 1)";
            let (id, aggregate) = (Uuid::from_u128(chance.u128(..)), Uuid::from_u128(chance.u128(..AGGREGATES)));
            let project = format!("p{}", chance.u32(..PROJECTS));
            tx.execute(insert, &[&id, &TYPE, &aggregate, &project]).await.unwrap();
        }
        if several > 1 && !world.rush.get() {
            nap(Duration::from_millis(chance.u64(..300))).await;
        }
        if chance.u8(..100) < 2 {
            tx.rollback().await.unwrap();
            world.count("transactions of the writer rolled back", 1);
        } else {
            tx.commit().await.unwrap();
        }
    }
}
