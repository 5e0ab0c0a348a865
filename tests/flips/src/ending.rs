//! How a run ends: one side is switched off for good, and the other must finish everything.

use crate::{
    keeper::Keeper,
    switch::{set, soon},
    world::{AGENT, Phase, World, nap},
};
use serde_json::{Value, json};
use std::time::Duration;
use steward::cutover::answer;
use switchyard_bus::Queue;
use switchyard_operations::cutover::{CutoverAnswer, CutoverRequest};
use switchyard_store::Selection;
use tokio::time::Instant;

/// For how long it is written on, each side still there, before and after the lever is moved for the last time.
const CALM: Duration = Duration::from_millis(1_500);
/// How long the side that is left may take to finish. Each pass of the steward and each look of the old system's into its list is 0.2 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who finishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The agent has everything, and the old system is switched off.
    Agent,
    /// A cutover plan is rolled back, and the agent is switched off.
    OldSystem,
}

/// What was measured of a roll-back under load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RollBack {
    /// From asking for it to its answer.
    pub(crate) answered_after: Duration,
    /// From asking for it to the agent's last effect, by the database's clock; negative where the last one was before.
    pub(crate) last_effect_after_ms: f64,
    /// How many deliveries it has given to the old system at once.
    pub(crate) moved: i64,
    /// How many unfinished ones were the old system's afterwards.
    pub(crate) left_to_the_old: i64,
}

impl Ending {
    pub(crate) const fn of(seed: u64) -> Self {
        if seed.is_multiple_of(2) { Self::Agent } else { Self::OldSystem }
    }

    /// Plays it, until nothing is left to do, or its time is up.
    pub(crate) async fn play(self, world: &World, keeper: &Keeper) -> Option<RollBack> {
        world.enter(Phase::Calm);
        let measured = match self {
            Self::Agent => {
                set(world, &json!({ "mode": "full", "drain": true })).await;
                nap(CALM).await;
                keeper.switch_off();
                None
            }
            Self::OldSystem => {
                let measured = roll_back(world).await;
                world.agent_works.set(false);
                Some(measured)
            }
        };
        nap(CALM).await;
        world.enter(Phase::Rest);
        // The writer's last transaction.
        nap(Duration::from_millis(500)).await;
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until && !at_rest(world, self).await {
            a_person_looks(world).await;
            nap(Duration::from_millis(200)).await;
        }
        measured
    }
}

/// A plan that stands at three quarters, and goes back while the agent has more to do than it can.
async fn roll_back(world: &World) -> RollBack {
    set(world, &json!({ "mode": "shadow", "drain": true })).await;
    let limits = json!({ "failures": { "pause": 1 }, "lag_secs": { "pause": 3_600 }, "at_least": 1 });
    let plan = json!({ "steps": [{ "percent": 75, "soak_secs": 3_600 }, { "percent": 100 }], "limits": limits });
    cutover(world, &json!({ "do": "start", "plan": plan })).await;
    world.rush.set(true);
    nap(CALM).await;
    let clock = "select clock_timestamp()::text";
    let asked_at: String = world.side.query_one(clock, &[]).await.unwrap().get(0);
    let asked = Instant::now();
    let answered = cutover(world, &json!({ "do": "roll_back", "because": "to see how fast" })).await;
    let answered_after = asked.elapsed();
    world.rush.set(false);
    nap(CALM).await;
    let last = "select coalesce(extract(epoch from max(at) - $1::text::timestamptz) * 1000, 0)::float8 from public.effect where by = 'new'";
    let last_effect_after_ms = world.side.query_one(last, &[&asked_at]).await.unwrap().get(0);
    let moved = answered.moved.unwrap_or_default().deliveries;
    RollBack { answered_after, last_effect_after_ms, moved, left_to_the_old: answered.moves.stay_old }
}

async fn cutover(world: &World, fields: &Value) -> CutoverAnswer {
    let mut fields = fields.clone();
    fields["agent"] = json!(AGENT);
    fields["operator"] = json!("flips");
    let request = CutoverRequest::of(fields.as_object().unwrap()).unwrap();
    answer(&world.store, request, soon()).await.unwrap()
}

/// Whether nothing is left to do: everything is published and settled, and no message is on its way to an agent that works.
async fn at_rest(world: &World, ending: Ending) -> bool {
    let queued = world.queue.depth().await.unwrap().total();
    let open = world
        .number(
            "(select count(*) from switchyard.outbox)
             + (select count(*) from switchyard.delivery where state in ('a', 'f', 'p'))
             + (select count(*) from switchyard.event_log e
                 where not exists (select 1 from switchyard.delivery d where d.seq = e.seq))",
        )
        .await;
    open == 0 && (queued == 0 || ending == Ending::OldSystem)
}

/// What is parked goes back to whose it is, as a person would send it who has looked at it.
async fn a_person_looks(world: &World) {
    let back = world.store.redrive(AGENT, &Selection::default(), 0, "a person", "looked at it").await.unwrap();
    world.count("parked deliveries that a person sent back to the agent", u64::try_from(back.len()).unwrap_or(0));
    let retried = format!(
        "select count(*) filter (where switchyard.retry('{AGENT}', p.event_id)) from switchyard.parked_old('{AGENT}') p"
    );
    world.count(
        "parked deliveries that a person sent back to the old system",
        world.number(&retried).await.unsigned_abs(),
    );
}
