//! Cutover plans, advanced by the pass: by what the ledger and the comparison say, and by nothing else.

use super::world::{AGENT, StewardWorld, soon};
use serde_json::{Value, json};
use std::time::Instant;
use steward::{cutover::answer, routing::route};
use switchyard_operations::{
    cutover::{CutoverAnswer, CutoverRequest, Figure, Step, Wait},
    pass::Pass,
    routing::RouteRequest,
};
use switchyard_store::{Ask, CutoverState, Failed, Mode, Verdict};
use uuid::Uuid;

/// How many outcomes a share must be of, here.
const ENOUGH: usize = 5;

impl StewardWorld {
    /// An agent that had nothing, and has this share by a plan: with limits on failures and lag, and these beside them.
    async fn plan(percent: u8, limits: Value) -> Self {
        let world = Self::new().await;
        world.store.set_routing(AGENT, Mode::Shadow, "ada").await.unwrap();
        let mut all = json!({
            "failures": { "pause": 0.3, "roll_back": 0.4 }, "lag_secs": { "pause": 60, "roll_back": 600 }, "at_least": ENOUGH,
        });
        all.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
        let steps = json!([{ "percent": percent, "soak_secs": 3_600 }, { "percent": 100 }]);
        if all.get("mismatch").is_some() {
            // No mapping that could be read: the pass finds that after it has judged the plans.
            world.store.set_compare_mapping("ada", AGENT, &json!({}), 1_000).await.unwrap();
        }
        world.cutover(&json!({ "do": "start", "plan": { "steps": steps, "limits": all } })).await;
        world
    }

    async fn cutover(&self, fields: &Value) -> CutoverAnswer {
        let mut fields = fields.clone();
        fields["agent"] = json!(AGENT);
        fields["operator"] = json!("ada");
        let request = CutoverRequest::of(fields.as_object().unwrap()).unwrap();
        answer(&self.store, request, soon()).await.unwrap()
    }

    async fn status(&self) -> CutoverAnswer {
        self.cutover(&json!({ "do": "status" })).await
    }

    async fn state(&self) -> CutoverState {
        self.store.cutover(AGENT).await.unwrap().unwrap().state
    }

    /// Events that are the agent's by the routing of now. They were published, and their messages are nowhere.
    async fn of_the_agent(&self, count: usize) -> Vec<Uuid> {
        let sql = format!(
            "with aggregate as materialized (select gen_random_uuid() as id from generate_series(1, {count} * 100))
             insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
             select gen_random_uuid(), 'thing.made', 'thing', x.id, '{{}}', '{{}}', 1
               from aggregate x join switchyard.agent a on a.name = '{AGENT}'
              where switchyard.owner_of(a, x.id::text, null) = 'n' limit {count}
             returning id"
        );
        let rows = self.side.query(&sql, &[]).await.unwrap();
        assert_eq!(rows.len(), count);
        self.run("delete from switchyard.outbox").await;
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// As if the present step had begun two hours ago; the events of the step are the same.
    async fn soak(&self) {
        self.run("update switchyard.cutover set step_at = step_at - interval '2 hours'").await;
    }

    /// The agent has handled these.
    async fn handled(&self, events: &[Uuid]) {
        for event in events {
            let mut tx = self.store.begin().await.unwrap();
            let verdict = tx.claim(AGENT, &[Ask::live(*event)]).await.unwrap()[0].verdict;
            assert_eq!(verdict, Verdict::Take);
            tx.commit().await.unwrap();
        }
    }

    /// The agent has failed at these, and will try again.
    async fn failed(&self, events: &[Uuid]) {
        let all: Vec<Failed> = events
            .iter()
            .map(|event| Failed {
                ask: Ask::live(*event),
                reason: "boom".into(),
                error: "it went boom".into(),
                delay_ms: 60_000,
            })
            .collect();
        self.store.fail(AGENT, &all).await.unwrap();
    }

    /// Events that are the agent's and wait since yesterday.
    async fn late(&self, count: usize) {
        self.of_the_agent(count).await;
        self.run("update switchyard.event_log set logged_at = logged_at - interval '1 day'").await;
        self.run("update switchyard.cutover set step_at = step_at - interval '1 day'").await;
    }

    /// What the comparison has found of the last two hours.
    async fn compared(&self, agreed: i64, differed: i64) {
        self.run(&format!(
            "insert into switchyard.comparison (agent, minute, agreed, differed)
             values (switchyard._agent_id('{AGENT}'), date_trunc('minute', now() - interval '1 hour', 'UTC'), {agreed}, {differed})"
        ))
        .await;
    }

    async fn todo_old(&self) -> i64 {
        self.number(&format!("select count(*) from switchyard.todo_old('{AGENT}', 1000)")).await
    }
}

/// What a pass did about the one plan that is under way.
fn step(pass: &Pass) -> (&Step, bool) {
    let [judged] = pass.cutovers.as_slice() else { panic!("one plan: {:?}", pass.cutovers) };
    (&judged.step, judged.done)
}

#[tokio::test]
async fn a_plan_goes_on_when_its_step_has_soaked_and_enough_has_gone_well_and_the_last_step_ends_it() {
    let world = StewardWorld::plan(99, json!({})).await;
    let events = world.of_the_agent(ENOUGH).await;
    world.handled(&events[1..]).await;
    world.soak().await;
    let waits =
        Step::Wait(vec![Wait::Outcomes { figure: Figure::Failures, have: ENOUGH as u64 - 1, want: ENOUGH as u64 }]);
    assert_eq!(step(&world.pass().await), (&waits, false));
    assert_eq!(world.status().await.next, Some(waits), "and who looks is told the same");

    world.handled(&events[..1]).await;
    let pass = world.pass().await;

    assert_eq!((step(&pass), pass.troubles()), ((&Step::Advance, true), 0));
    assert_eq!(world.store.routing(AGENT).await.unwrap().mode, Mode::Percent(100));
    assert_eq!(world.state().await, CutoverState::Done);
    assert_eq!(world.pass().await.cutovers, []);
}

#[tokio::test]
async fn a_plan_in_its_soak_waits_however_well_it_goes() {
    let world = StewardWorld::plan(99, json!({})).await;
    let events = world.of_the_agent(4 * ENOUGH).await;
    world.handled(&events).await;
    let pass = world.pass().await;
    assert!(
        matches!(step(&pass), (Step::Wait(waits), false) if matches!(waits.as_slice(), [Wait::Soak { .. }])),
        "{pass:?}"
    );
    assert_eq!(world.store.routing(AGENT).await.unwrap().mode, Mode::Percent(99));
}

#[tokio::test]
async fn failures_past_a_limit_hold_a_plan_say_so_once_and_past_the_hard_one_the_old_system_has_everything() {
    let world = StewardWorld::plan(99, json!({})).await;
    let events = world.of_the_agent(8).await;
    world.handled(&events[..4]).await;
    world.failed(&events[4..6]).await;

    let paused = world.pass().await;
    assert!(matches!(step(&paused), (Step::Pause(_), true)), "{paused:?}");
    assert_eq!(paused.troubles, ["the cutover of painter is paused at 99 percent: failures 33.33% (at most 30%)"]);
    let next = world.pass().await;
    assert_eq!((step(&next), next.troubles()), ((&Step::Stay, false), 0));

    world.failed(&events[6..]).await;
    let back = world.pass().await;
    assert!(
        back.troubles[0].starts_with("the cutover of painter was rolled back from 99 percent: failures 50"),
        "{back:?}"
    );
    let routing = world.store.routing(AGENT).await.unwrap();
    assert_eq!((routing.mode, routing.drain, world.state().await), (Mode::Shadow, true, CutoverState::RolledBack));
    assert_eq!(
        world.todo_old().await,
        4,
        "what the agent had not finished is in the old system's list in the same pass"
    );
    assert_eq!(back.agents[0].sent, 0, "and nothing of it is sent to the agent");
    let status = world.status().await;
    assert_eq!((status.moves.stay_old, status.moves.to_old, status.next), (4, 0, None));
}

#[tokio::test]
async fn a_plan_held_by_an_operator_only_resumes_on_an_order() {
    let world = StewardWorld::plan(99, json!({})).await;
    let fields = json!({ "agent": AGENT, "mode": "percent", "percent": 10, "operator": "bob" });
    let routed = route(&world.store, RouteRequest::of(fields.as_object().unwrap()).unwrap(), soon()).await.unwrap();
    assert_eq!((routed.percent, routed.cutover), (10, Some(CutoverState::Paused)));
    world.late(5).await;

    let pass = world.pass().await;

    assert_eq!(step(&pass), (&Step::Stay, false), "though a day's lag is past every limit");
    assert_eq!(world.store.routing(AGENT).await.unwrap().mode, Mode::Percent(10));
    let resumed = world.cutover(&json!({ "do": "resume" })).await;
    assert_eq!(resumed.cutover.unwrap().state, CutoverState::Running);
    assert_eq!(world.store.routing(AGENT).await.unwrap().mode, Mode::Percent(99));
    assert!(matches!(step(&world.pass().await), (Step::Wait(_), false)), "what paused it was of before");
    world.late(5).await;
    assert!(matches!(step(&world.pass().await), (Step::RollBack(_), true)));
}

#[tokio::test]
async fn a_mismatch_is_waited_for_until_it_was_compared_and_says_why_it_cannot_be() {
    let world = StewardWorld::plan(50, json!({ "mismatch": { "pause": 0.1, "roll_back": 0.5 } })).await;
    assert!(world.store.routing(AGENT).await.unwrap().beside, "else there would be nothing to compare");
    let events = world.of_the_agent(ENOUGH).await;
    world.handled(&events).await;
    world.soak().await;
    let waits = async || {
        let pass = world.pass().await;
        let (Step::Wait(waits), false) = step(&pass) else { panic!("{pass:?}") };
        waits.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(world.status().await.measured.unwrap().mismatch.unwrap().of, 0);
    world.compared(ENOUGH as i64 - 1, 0).await;
    assert_eq!(waits().await, "4 of 5 comparisons");
    world.store.set_compare_mapping_error(AGENT, Some("the table is gone")).await.unwrap();
    assert!(world.status().await.next.is_some_and(|next| format!("{next:?}").contains("the table is gone")));
    world.store.drop_compare_mapping("ada", AGENT).await.unwrap();
    assert_eq!(waits().await, "mismatch could not be measured (it is compared with nothing)");
    assert_eq!(world.state().await, CutoverState::Running);
}

#[tokio::test]
async fn a_mismatch_past_its_limits_holds_and_rolls_back() {
    for (agreed, differed, state) in
        [(95, 5, CutoverState::Done), (80, 20, CutoverState::Paused), (40, 60, CutoverState::RolledBack)]
    {
        let world = StewardWorld::plan(50, json!({ "mismatch": { "pause": 0.1, "roll_back": 0.5 } })).await;
        let events = world.of_the_agent(ENOUGH).await;
        world.handled(&events).await;
        world.soak().await;
        world.compared(agreed, differed).await;
        world.pass().await;
        assert_eq!(world.state().await, state, "{agreed} agreed, {differed} differed");
    }
}

#[tokio::test]
async fn comparisons_from_before_a_step_do_not_count_for_it() {
    let world = StewardWorld::plan(50, json!({ "mismatch": { "pause": 0.1, "roll_back": 0.5 } })).await;
    world.compared(0, 1_000).await;
    assert!(matches!(step(&world.pass().await), (Step::Wait(_), false)));
}

/// From the order to the last effect on the new side, with claims under way: a claim under way may still commit, and no other is granted.
#[tokio::test]
async fn after_a_roll_back_no_claim_is_taken_and_those_under_way_are_the_last() {
    let world = StewardWorld::plan(99, json!({})).await;
    let events = world.of_the_agent(2_000).await;
    world.pass().await;
    let asks: Vec<Ask> = events.iter().map(|event| Ask::live(*event)).collect();
    let (claimed, waiting) = asks.split_at(8);
    let mut under_way = Vec::new();
    for two in claimed.chunks(2) {
        let mut tx = world.store.begin().await.unwrap();
        assert!(tx.claim(AGENT, two).await.unwrap().iter().all(|standing| standing.verdict == Verdict::Take));
        under_way.push(tx);
    }

    let asked = Instant::now();
    let answered = world.cutover(&json!({ "do": "roll_back", "because": "to see how fast" })).await;
    let answered_after = asked.elapsed();
    let inspected = world.store.preview(AGENT, waiting).await.unwrap();
    assert!(inspected.answers.iter().all(|standing| standing.verdict == Verdict::Shadow), "it may only look on");
    for tx in under_way {
        tx.commit().await.unwrap();
    }

    let moved = answered.moved.unwrap().deliveries;
    println!("rolled back and answered after {} ms, {moved} unfinished deliveries moved", answered_after.as_millis());
    assert_eq!((moved, answered.moves.to_old, answered.moves.stay_old), (1_992, 8, 1_992));
    assert_eq!((world.todo_old().await, world.in_state("d").await), (1_000, 8), "listed, as many as were asked for");
    assert_eq!(world.pass().await.agents[0].sent, 0);
    assert_eq!(world.status().await.moves.to_old, 0);
}
