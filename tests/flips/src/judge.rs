//! What is true of every event, whatever has happened.

use crate::world::{World, nap};
use std::time::Duration;

/// What must not be, each with how often it is.
const NEVER: &[(&str, &str)] = &[
    (
        "events that nobody owns",
        "select count(*) from public.events v left join switchyard.event_log e on e.event_id = v.id
           left join switchyard.delivery d on d.seq = e.seq and d.run = 0 where d.seq is null",
    ),
    (
        "events without an effect",
        "select count(*) from public.events v where not exists (select 1 from public.effect f where f.event_id = v.id)",
    ),
    (
        "events with more than one effect",
        "select count(*) from (select event_id from public.effect group by event_id having count(*) > 1) x",
    ),
    (
        "effects of a side that does not own the event",
        "select count(*) from public.effect f join switchyard.event_log e on e.event_id = f.event_id
           join switchyard.delivery d on d.seq = e.seq and d.run = 0
          where d.owner <> case f.by when 'new' then 'n' else 'o' end",
    ),
    (
        "effects of events that do not exist",
        "select count(*) from public.effect f where not exists (select 1 from public.events v where v.id = f.event_id)",
    ),
    ("deliveries left behind", "select count(*) from switchyard.delivery where state not in ('d', 's', 'e')"),
    ("events that were never published", "select count(*) from switchyard.outbox"),
];

/// What is wrong, in words; nothing, where all is well.
pub(crate) async fn judge(world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    for (what, sql) in NEVER {
        let n = world.number(sql).await;
        if n > 0 {
            wrong.push(format!("{n} {what}"));
        }
    }
    wrong
}

/// While it goes on: for how long an event has had no owner at the longest. The sweep gives it one when it is older than the grace.
pub(crate) async fn watch(world: &World) {
    let side = world.another_connection().await;
    let sql = "select coalesce(max(extract(epoch from clock_timestamp() - e.logged_at)) * 1000, 0)::float8 from switchyard.event_log e
                where e.logged_at > clock_timestamp() - interval '2 minutes'
                  and not exists (select 1 from switchyard.delivery d where d.seq = e.seq)";
    let mut longest = 0.0f64;
    while !world.is_over() {
        let now: f64 = side.query_one(sql, &[]).await.unwrap().get(0);
        longest = longest.max(now);
        nap(Duration::from_millis(100)).await;
    }
    world.count("longest time without an owner, in ms", longest.round() as u64);
}
