//! Who moves the lever, through the steward's own requests.

use crate::{
    world::{AGENT, World, nap},
    writer::PROJECTS,
};
use serde_json::{Value, json};
use std::time::Duration;
use steward::routing::{pin, route};
use switchyard_operations::routing::{Pin, RouteRequest, Routed};
use tokio::time::Instant;

/// From one flip to the next: some come while the one before is still being drained, some when it has settled.
const APART_MS: std::ops::Range<u64> = 20..260;

/// So many flips, of the mode, the percentage or a project's pin.
pub(crate) async fn flip(world: &World, flips: u32) {
    let mut chance = world.chance(4);
    for _ in 0..flips {
        nap(Duration::from_millis(chance.u64(APART_MS))).await;
        let routed = if chance.u8(..100) < 25 {
            let to = ["new", "old", "none"][chance.usize(..3)];
            world.count(format!("flips: pin to {to}"), 1);
            let project = format!("p{}", chance.u32(..PROJECTS));
            pinned(world, &json!({ "project": project, "to": to })).await
        } else {
            let mode = ["off", "shadow", "percent", "percent", "percent", "full"][chance.usize(..6)];
            world.count(format!("flips: to {mode}"), 1);
            let mut fields = json!({ "mode": mode, "drain": chance.bool(), "beside": chance.bool() });
            if mode == "percent" {
                fields["percent"] = json!([0, 10, 25, 50, 75, 90, 100][chance.usize(..7)]);
            }
            set(world, &fields).await
        };
        let moved = routed.moved.unwrap_or_default().deliveries;
        world.count("deliveries that changed hands at a flip", moved.unsigned_abs());
        world.count(
            "flips that left deliveries where they were",
            u64::from(routed.moves.to_new + routed.moves.to_old > 0),
        );
    }
}

/// Moves the lever as a request says.
pub(crate) async fn set(world: &World, fields: &Value) -> Routed {
    let request = RouteRequest::of(complete(fields).as_object().unwrap()).unwrap();
    route(&world.store, request, soon()).await.unwrap()
}

async fn pinned(world: &World, fields: &Value) -> Routed {
    let request = Pin::of(complete(fields).as_object().unwrap()).unwrap();
    pin(&world.store, request, soon()).await.unwrap()
}

fn complete(fields: &Value) -> Value {
    let mut fields = fields.clone();
    fields["agent"] = json!(AGENT);
    fields["operator"] = json!("flips");
    fields
}

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}
