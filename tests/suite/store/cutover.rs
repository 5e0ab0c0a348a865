//! A cutover plan's steps: each one transaction with the routing that it sets, and none against a hand on the switch.

use switchyard_store::{
    Ask, Cutover, CutoverLimit, CutoverLimits, CutoverPlan, CutoverState, CutoverStep, Mode, Owner, Routing,
    RoutingChange, Selection, Since, StoreError, Verdict,
};

use super::directly_and_pooled;
use super::world::{AGENT, LedgerWorld, spec};

fn plan(steps: &[(u8, u32)]) -> CutoverPlan {
    let limit = |pause| CutoverLimit { pause, roll_back: Some(pause * 5.0) };
    CutoverPlan {
        steps: steps.iter().map(|&(percent, soak_secs)| CutoverStep { percent, soak_secs }).collect(),
        limits: CutoverLimits { mismatch: None, failures: limit(0.01), lag_secs: limit(60.0), at_least: 100 },
    }
}

impl LedgerWorld {
    async fn cutover_from(&self, mode: Mode, steps: &[(u8, u32)]) -> Cutover {
        self.routing(mode).await;
        self.store.start_cutover(AGENT, &plan(steps), "ada").await.unwrap();
        self.cutover().await
    }

    async fn cutover(&self) -> Cutover {
        self.store.cutover(AGENT).await.unwrap().expect("a plan")
    }

    async fn routed(&self) -> Routing {
        self.store.routing(AGENT).await.unwrap()
    }
}

directly_and_pooled! {
    async fn a_plan_begins_with_its_first_step_and_is_read_as_it_was_written(world: LedgerWorld) {
        assert_eq!(world.store.cutover(AGENT).await.unwrap(), None);
        let cutover = world.cutover_from(Mode::Shadow, &[(25, 3_600), (100, 0)]).await;
        assert_eq!(cutover.plan, plan(&[(25, 3_600), (100, 0)]));
        assert_eq!((cutover.state, cutover.step, cutover.by.as_str()), (CutoverState::Running, 0, "ada"));
        assert!(cutover.in_step_secs < 60.0 && cutover.ended_at.is_none());
        let minute = format!("select ('{}'::timestamptz - '{}'::timestamptz between '0 s' and '1 min')::int", cutover.compared_from, cutover.step_at);
        assert_eq!(world.number(&minute).await, 1, "{cutover:?}");
        assert!(cutover.compared_from.contains(":00"), "{cutover:?}");
        let routing = world.routed().await;
        assert_eq!((routing.mode, routing.drain, routing.beside), (Mode::Percent(25), false, false));
        assert_eq!(world.store.cutovers_under_way().await.unwrap().len(), 1);
    }

    async fn with_a_limit_on_mismatch_the_agent_decides_beside_the_old_system(world: LedgerWorld) {
        world.routing(Mode::Shadow).await;
        let mut plan = plan(&[(25, 60), (100, 0)]);
        plan.limits.mismatch = Some(CutoverLimit { pause: 0.01, roll_back: None });
        let compared_with_nothing = world.store.start_cutover(AGENT, &plan, "ada").await.unwrap_err();
        assert!(compared_with_nothing.to_string().contains("switchyard compare painter --mapping"), "{compared_with_nothing}");
        world.store.set_compare_mapping("ada", AGENT, &serde_json::json!({}), 1_000).await.unwrap();
        world.store.start_cutover(AGENT, &plan, "ada").await.unwrap();
        assert!(world.routed().await.beside);
        assert_eq!(world.cutover().await.plan, plan);
        world.store.roll_back_cutover(AGENT, "enough", "ada").await.unwrap();
        assert!(!world.routed().await.beside);
    }

    async fn each_step_sets_its_share_and_the_last_one_without_a_soak_is_the_end(world: LedgerWorld) {
        let first = world.cutover_from(Mode::Off, &[(25, 60), (50, 60), (100, 0)]).await;
        assert!(world.store.advance_cutover(&first, "{}", "steward").await.unwrap());
        let second = world.cutover().await;
        assert_eq!((second.step, world.routed().await.mode), (1, Mode::Percent(50)));
        assert!(!world.store.advance_cutover(&first, "{}", "steward").await.unwrap(), "it was judged before");
        assert!(world.store.advance_cutover(&second, "{}", "steward").await.unwrap());
        let last = world.cutover().await;
        assert_eq!((last.step, last.state, world.routed().await.mode), (2, CutoverState::Done, Mode::Percent(100)));
        assert!(last.ended_at.is_some() && world.store.cutovers_under_way().await.unwrap().is_empty());
    }

    async fn a_last_step_with_a_soak_is_done_when_it_has_soaked(world: LedgerWorld) {
        let only = world.cutover_from(Mode::Off, &[(100, 60)]).await;
        assert_eq!(only.state, CutoverState::Running);
        assert!(world.store.advance_cutover(&only, "{}", "steward").await.unwrap());
        assert_eq!(world.cutover().await.state, CutoverState::Done);
    }

    async fn an_agent_has_one_plan_at_a_time_and_none_takes_back_what_it_has(world: LedgerWorld) {
        world.cutover_from(Mode::Percent(10), &[(25, 60), (100, 0)]).await;
        let again = world.store.start_cutover(AGENT, &plan(&[(50, 0)]), "ada").await;
        assert!(matches!(&again, Err(StoreError::Config { .. })), "{again:?}");
        world.store.roll_back_cutover(AGENT, "no", "ada").await.unwrap();
        for mode in [Mode::Full, Mode::Percent(30)] {
            world.routing(mode).await;
            let smaller = world.store.start_cutover(AGENT, &plan(&[(25, 60), (100, 0)]), "ada").await;
            assert!(matches!(&smaller, Err(StoreError::Config { .. })), "{smaller:?}");
        }
    }

    async fn a_plan_that_rolls_back_gives_the_old_system_everything_and_its_unfinished_follow(world: LedgerWorld) {
        for (from, back) in [(Mode::Shadow, Mode::Shadow), (Mode::Off, Mode::Off), (Mode::Percent(10), Mode::Off)] {
            let cutover = world.cutover_from(from, &[(90, 60), (100, 0)]).await;
            assert!(world.store.roll_back_cutover_at(&cutover, "lag", "{}", "steward").await.unwrap());
            let routing = world.routed().await;
            assert_eq!((routing.mode, routing.drain), (back, true), "from {from:?}");
            let cutover = world.cutover().await;
            assert_eq!((cutover.state, cutover.because.as_deref()), (CutoverState::RolledBack, Some("lag")));
        }
        world.cutover_from(Mode::Off, &[(100, 60)]).await;
        let [waiting, failed, parked] =
            [world.event("thing.made").await, world.event("thing.made").await, world.event("thing.made").await];
        world.sweep().await;
        world.fail(failed).await;
        world.park(parked).await;
        world.store.roll_back_cutover(AGENT, "enough", "ada").await.unwrap();
        world.reassign_completely().await;
        assert_eq!(world.number(&format!("select count(*) from switchyard.todo_old('{AGENT}')")).await, 3);
        for event in [waiting, failed, parked] {
            assert_eq!(world.claim(event).await, Verdict::NotYours);
            assert_eq!(world.old_claim(event).await, "take");
        }
    }

    async fn a_plan_that_is_done_can_still_be_rolled_back_and_one_that_was_cannot(world: LedgerWorld) {
        world.cutover_from(Mode::Off, &[(100, 0)]).await;
        world.store.roll_back_cutover(AGENT, "after all", "ada").await.unwrap();
        assert_eq!(world.routed().await.mode, Mode::Off);
        let twice = world.store.roll_back_cutover(AGENT, "again", "ada").await.unwrap_err();
        assert!(twice.to_string().contains("no cutover"), "{twice}");
    }

    async fn any_change_of_the_routing_pauses_the_plan(world: LedgerWorld) {
        let cutover = world.cutover_from(Mode::Off, &[(25, 60), (100, 0)]).await;
        world.store.set_routing(AGENT, Mode::Percent(10), "bob").await.unwrap();
        let paused = world.cutover().await;
        assert_eq!((paused.state, paused.by_operator), (CutoverState::Paused, true));
        assert_eq!(paused.because.as_deref(), Some("the routing was set to 10 percent by an operator"));
        assert!(!world.store.advance_cutover(&cutover, "{}", "steward").await.unwrap());
        assert!(!world.store.roll_back_cutover_at(&cutover, "lag", "{}", "steward").await.unwrap());
        assert_eq!(world.routed().await.mode, Mode::Percent(10));
        world.store.resume_cutover(AGENT, "bob").await.unwrap();
        assert_eq!((world.routed().await.mode, world.cutover().await.state), (Mode::Percent(25), CutoverState::Running));
        world.run_sql("update switchyard.agent set mode = 'off'").await;
        assert!(world.cutover().await.by_operator, "past our functions, too");
    }

    async fn a_pin_leaves_a_plan_alone_and_setting_what_is_set_already_does_not(world: LedgerWorld) {
        world.cutover_from(Mode::Off, &[(25, 60), (100, 0)]).await;
        world.store.pin(AGENT, "last", Some(Owner::Old), "ada").await.unwrap();
        world.register(&["thing.made"], Mode::Full).await;
        assert_eq!(world.cutover().await.state, CutoverState::Running);
        world.store.set_routing(AGENT, Mode::Percent(25), "bob").await.unwrap();
        assert!(world.cutover().await.by_operator, "whoever says 25 wants 25");
        let audit = world.store.audit(100).await.unwrap();
        let paused = audit.iter().find(|row| row.action == "cutover_paused").unwrap();
        assert_eq!(paused.by, "bob");
        world.store.resume_cutover(AGENT, "bob").await.unwrap();
        world.store.set_routing(AGENT, RoutingChange::draining(Mode::Percent(25)), "bob").await.unwrap();
        assert!(world.cutover().await.by_operator, "the next step would end the draining");
    }

    async fn a_plan_paused_by_a_limit_may_roll_back_and_one_paused_by_an_operator_does_not(world: LedgerWorld) {
        let cutover = world.cutover_from(Mode::Off, &[(25, 60), (100, 0)]).await;
        assert!(world.store.pause_cutover_at(&cutover, "lag 61 s", "{}", "steward").await.unwrap());
        let paused = world.cutover().await;
        assert_eq!((paused.state, paused.by_operator, world.routed().await.mode), (CutoverState::Paused, false, Mode::Percent(25)));
        assert!(!world.store.advance_cutover(&cutover, "{}", "steward").await.unwrap());
        world.store.pause_cutover(AGENT, "let me look", "ada").await.unwrap();
        assert!(!world.store.roll_back_cutover_at(&cutover, "lag", "{}", "steward").await.unwrap());
        world.store.resume_cutover(AGENT, "ada").await.unwrap();
        assert!(world.store.pause_cutover_at(&cutover, "lag 61 s", "{}", "steward").await.unwrap());
        assert!(world.store.roll_back_cutover_at(&cutover, "lag", "{}", "steward").await.unwrap());
    }

    async fn a_resumed_plan_restarts_its_soak(world: LedgerWorld) {
        let cutover = world.cutover_from(Mode::Off, &[(100, 60)]).await;
        let event = world.event("thing.made").await;
        world.fail(event).await;
        world.run_sql("update switchyard.cutover set step_at = step_at - interval '1 hour'").await;
        assert_eq!(world.store.cutover_figures(AGENT).await.unwrap().failed, 1);
        assert!(world.store.pause_cutover_at(&cutover, "failures", "{}", "steward").await.unwrap());
        world.store.resume_cutover(AGENT, "ada").await.unwrap();
        let cutover = world.cutover().await;
        assert!(cutover.in_step_secs < 60.0 && cutover.because.is_none());
        assert_eq!(world.store.cutover_figures(AGENT).await.unwrap().failed, 0);
        let running = world.store.resume_cutover(AGENT, "ada").await.unwrap_err();
        assert!(running.to_string().contains("paused"), "{running}");
    }

    async fn the_figures_are_of_the_agent_s_own_events_since_the_step_began(world: LedgerWorld) {
        world.routing(Mode::Full).await;
        let before = world.event("thing.made").await;
        world.fail(before).await;
        world.cutover_from(Mode::Off, &[(100, 60)]).await;
        world.reassign_completely().await;
        let [good, late, failing, parked, open] = [
            world.event("thing.made").await, world.event("thing.made").await, world.event("thing.made").await,
            world.event("thing.made").await, world.event("thing.made").await,
        ];
        world.claim(good).await;
        for event in [late, failing] {
            world.fail(event).await;
        }
        world.claim(late).await;
        world.park(parked).await;
        let figures = world.store.cutover_figures(AGENT).await.unwrap();
        assert_eq!((figures.settled, figures.failed), (1, 3), "one at the first attempt; one late, one failing, one parked");
        world.resend(parked, 0).await;
        world.claim(parked).await;
        world.claim(open).await;
        assert_eq!(world.store.cutover_figures(AGENT).await.unwrap().failed, 3, "what was brought back had failed");
    }

    async fn what_the_old_system_had_is_the_step_s_from_when_the_agent_got_it(world: LedgerWorld) {
        world.routing(Mode::Off).await;
        let [done, failing, parked, waiting] = [
            world.event("thing.made").await, world.event("thing.made").await, world.event("thing.made").await,
            world.event("thing.made").await,
        ];
        world.sweep().await;
        world.cutover_from(Mode::Off, &[(100, 60)]).await;
        world.reassign_completely().await;
        assert!(world.row(waiting).await.is("n", "a"));
        let figures = async || {
            let figures = world.store.cutover_figures(AGENT).await.unwrap();
            (figures.settled, figures.failed)
        };
        assert_eq!(figures().await, (0, 0));
        world.claim(done).await;
        world.fail(failing).await;
        world.park(parked).await;
        assert_eq!(figures().await, (1, 2));
        world.claim(failing).await;
        world.resend(parked, 0).await;
        world.claim(parked).await;
        assert_eq!(figures().await, (1, 2), "late is failed, and so is who had to be brought back");
        world.run_sql("update switchyard.cutover set step_at = clock_timestamp() + interval '1 hour'").await;
        assert_eq!(figures().await, (0, 0), "another step has nothing to do with it");
    }

    async fn what_had_failed_before_the_step_is_no_failure_of_it_when_it_comes_back(world: LedgerWorld) {
        world.cutover_from(Mode::Off, &[(100, 60)]).await;
        let parked = world.event("thing.made").await;
        world.park(parked).await;
        world.store.pause_cutover(AGENT, "let me look", "ada").await.unwrap();
        world.store.resume_cutover(AGENT, "ada").await.unwrap();
        world.resend(parked, 0).await;
        world.claim(parked).await;
        let figures = world.store.cutover_figures(AGENT).await.unwrap();
        assert_eq!((figures.settled, figures.failed), (1, 0));
    }

    async fn the_lag_is_that_of_the_oldest_event_that_is_the_agent_s_asked_for_or_not(world: LedgerWorld) {
        world.routing(Mode::Off).await;
        let old = world.event("thing.made").await;
        world.sweep().await;
        world.cutover_from(Mode::Off, &[(100, 60)]).await;
        let lag = async || world.store.cutover_figures(AGENT).await.unwrap().lag_secs;
        assert_eq!(lag().await, 0.0, "what the old system has is not the agent's to wait for");
        let event = world.event("thing.made").await;
        world.event_with("thing.made", uuid::Uuid::new_v4(), r#"{"deliver_at": "2999-01-01T00:00:00Z"}"#).await;
        world.run_sql("update switchyard.event_log set logged_at = logged_at - interval '10 minutes'").await;
        assert_eq!(lag().await, 0.0, "what was there before the step began is not the step's");
        world.run_sql("update switchyard.cutover set step_at = step_at - interval '1 hour'").await;
        assert!((600.0..660.0).contains(&lag().await), "nobody has asked: {}", lag().await);
        world.fail(event).await;
        assert!((600.0..660.0).contains(&lag().await), "it is being tried: {}", lag().await);
        world.claim(event).await;
        assert_eq!(lag().await, 0.0, "and what is for later does not wait yet");
        assert_eq!(world.old_claim(old).await, "take");
    }

    async fn what_is_old_and_comes_back_to_the_agent_is_late_only_from_then_on(world: LedgerWorld) {
        let two_days_ago = "update switchyard.event_log set logged_at = logged_at - interval '2 days';
            update switchyard.delivery set at = at - interval '2 days'";
        world.event("thing.sold").await;
        world.routing(Mode::Off).await;
        let old_system_s = world.event("thing.made").await;
        world.sweep().await;
        world.routing(Mode::Full).await;
        let parked = world.event("thing.made").await;
        world.event("thing.made").await;
        world.park(parked).await;
        world.sweep().await;
        world.run_sql(two_days_ago).await;
        world.cutover_from(Mode::Off, &[(100, 60)]).await;
        let lag = async || world.store.cutover_figures(AGENT).await.unwrap().lag_secs;
        assert_eq!(lag().await, 0.0, "a backlog of before");
        world.store.redrive(AGENT, &Selection::default(), 0, "ada", "mended").await.unwrap();
        world.run_sql("update switchyard.delivery set given_at = given_at - interval '100 s'").await;
        world.run_sql("update switchyard.cutover set step_at = step_at - interval '1 hour'").await;
        assert!((100.0..160.0).contains(&lag().await), "as long as it has been back: {}", lag().await);
        world.fail(parked).await;
        assert!((100.0..160.0).contains(&lag().await), "a failure is no new beginning: {}", lag().await);
        world.claim(parked).await;
        world.store.register(&spec(&["thing.made", "thing.changed", "thing.sold"]), Mode::Full, Since::Beginning).await.unwrap();
        assert_eq!(lag().await, 0.0, "from the beginning, and not asked for yet");
        world.sweep().await;
        assert_eq!(lag().await, 0.0, "and waiting");
        world.reassign_completely().await;
        assert!(world.row(old_system_s).await.is("n", "a"));
        assert!(lag().await < 60.0, "reassigned: {}", lag().await);
        let failing = world.event("thing.made").await;
        world.run_sql(&format!("update switchyard.event_log set logged_at = now() - interval '10 minutes' where event_id = '{failing}'")).await;
        world.fail(failing).await;
        assert!((600.0..660.0).contains(&lag().await), "and what is new is late by all of its time: {}", lag().await);
    }

    async fn every_step_of_a_plan_leaves_a_trace_with_what_it_was_judged_by(world: LedgerWorld) {
        let first = world.cutover_from(Mode::Off, &[(25, 60), (50, 60), (100, 0)]).await;
        world.store.advance_cutover(&first, r#"{"lag_secs": 3}"#, "steward").await.unwrap();
        world.store.pause_cutover(AGENT, "let me look", "bob").await.unwrap();
        world.store.resume_cutover(AGENT, "bob").await.unwrap();
        world.store.roll_back_cutover(AGENT, "enough", "ada").await.unwrap();
        let audit = world.store.audit(100).await.unwrap();
        let told: Vec<(&str, &str)> = audit
            .iter()
            .rev()
            .filter(|row| row.action.starts_with("cutover"))
            .map(|row| (row.action.as_str(), row.by.as_str()))
            .collect();
        let expected = [
            ("cutover_started", "ada"), ("cutover_step", "steward"), ("cutover_paused", "bob"), ("cutover_resumed", "bob"),
            ("cutover_rolled_back", "ada"),
        ];
        assert_eq!(told, expected);
        let step = audit.iter().find(|row| row.action == "cutover_step").unwrap();
        assert_eq!((&step.detail["percent"], &step.detail["figures"]["lag_secs"]), (&50.into(), &3.into()));
        assert_eq!(audit.iter().filter(|row| row.action == "set_routing").count(), 5, "and so does each routing");
    }

    async fn a_claim_that_is_under_way_at_a_roll_back_is_the_agent_s_last_effect(world: LedgerWorld) {
        world.cutover_from(Mode::Off, &[(100, 60)]).await;
        let [claimed, waiting] = [world.event("thing.made").await, world.event("thing.made").await];
        world.sweep().await;
        let mut tx = world.store.begin().await.unwrap();
        assert_eq!(tx.claim(AGENT, &[Ask::live(claimed)]).await.unwrap()[0].verdict, Verdict::Take);
        world.store.roll_back_cutover(AGENT, "enough", "ada").await.unwrap();
        world.store.reassign(AGENT).await.unwrap();
        assert!(world.row(waiting).await.is("o", "a"));
        tx.commit().await.unwrap();
        world.reassign_completely().await;
        assert!(world.row(claimed).await.is("n", "d"));
        assert_eq!(world.claim(waiting).await, Verdict::NotYours);
    }
}
