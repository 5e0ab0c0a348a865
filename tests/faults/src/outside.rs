//! Publishers without a database: what they put into the ingress queue is theirs no more, so it must stand in the table afterwards, once.

use crate::{agents::WRITTEN, workload::Outcome, world::World};
use std::collections::BTreeMap;
use uuid::Uuid;

/// How many events they publish.
const EVENTS: usize = 20;

/// Publishes: good events, half of them twice; and among them some that no table can hold, which must take nobody with them.
pub(crate) fn publish(world: &World, seed: u64) {
    let Some(names) = world.queues.get("ingest") else { return };
    let mut random = fastrand::Rng::with_seed(seed ^ 2);
    let put = |body: &str| world.broker.put(&names.queue, body, BTreeMap::new());
    for n in 0..EVENTS {
        let id = uuid::Builder::from_random_bytes(random.u128(..).to_le_bytes()).into_uuid();
        let aggregate = uuid::Builder::from_random_bytes(random.u128(..).to_le_bytes()).into_uuid().to_string();
        let body = body(id, &aggregate, n);
        if put(&body) {
            world.intents.note([id], Outcome::Ok);
        }
        match n % 5 {
            0 | 1 => drop(put(&body)),
            // Same id, other content: whichever comes first stays, and the other one is parked.
            2 => drop(put(&body.replace("\"n\":", "\"m\":"))),
            // No UUID for an aggregate: the application's column takes none of it.
            3 => world.stranger("ingest", &self::body(Uuid::from_u128(random.u128(..)), "no-uuid", n)),
            _ => {}
        }
    }
}

fn body(id: Uuid, aggregate: &str, n: usize) -> String {
    format!(
        r#"{{"id":"{id}","type":"{WRITTEN}","aggregate_type":"outside","aggregate_id":"{aggregate}","payload":{{"n":{n}}},"version":1,"metadata":{{"timestamp":"2026-01-05T09:30:00Z"}}}}"#
    )
}
