//! The breaker of an agent: every way from state to state, what a person has forced, and one probe at a time.

use switchyard_store::{AgentBreaker, Ask, Breaker, BreakerState, Mode, StoreError, Type};

use super::directly_and_pooled;
use super::world::{AGENT, LedgerWorld, spec};
use BreakerState::{Closed, HalfOpen, Open};

impl LedgerWorld {
    async fn registered(&self) -> AgentBreaker {
        self.store.breakers().await.unwrap().remove(0)
    }

    async fn breaker(&self) -> Breaker {
        self.registered().await.breaker
    }

    async fn state(&self) -> BreakerState {
        self.breaker().await.state
    }

    /// As if the wait of an open breaker, or the time of a probe, were over.
    async fn let_the_breaker_wait_out(&self) {
        self.run_sql(
            "update switchyard.breaker set retry_at = now() - interval '1 ms' where retry_at is not null;
             update switchyard.breaker set probe_until = now() - interval '1 ms' where probe_until is not null",
        )
        .await;
    }

    async fn trip(&self) -> BreakerState {
        self.store.trip(AGENT, "the model answers 503").await.unwrap()
    }

    /// From closed to half-open.
    async fn half_open(&self) {
        assert_eq!(self.trip().await, Open);
        self.let_the_breaker_wait_out().await;
        assert_eq!(self.store.half_open(AGENT).await.unwrap(), HalfOpen);
    }

    async fn audited(&self) -> Vec<String> {
        let rows = self.store.audit(1_000).await.unwrap();
        rows.into_iter().rev().map(|row| row.action).filter(|a| a != "register").collect()
    }
}

directly_and_pooled! {
    async fn a_registered_agent_has_a_closed_breaker(world: LedgerWorld) {
        let AgentBreaker { agent, breaker, paused } = world.registered().await;
        assert_eq!((agent.as_str(), breaker.state, breaker.forced), (AGENT, Closed, false));
        assert_eq!((breaker.reason, breaker.opens, paused), (None, 0, Vec::new()));
        assert!(breaker.retry_in_secs == 0.0 && breaker.since.ends_with('Z'), "{}", breaker.since);
    }

    async fn a_preview_includes_the_state_of_the_breaker(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        let asks = [Ask::live(event), Ask::live(event)];
        assert_eq!(world.store.preview(AGENT, &asks).await.unwrap().breaker, Closed);
        world.trip().await;
        let inspected = world.store.preview(AGENT, &asks).await.unwrap();
        assert_eq!((inspected.breaker, inspected.answers.len()), (Open, 2));
        world.let_the_breaker_wait_out().await;
        world.store.half_open(AGENT).await.unwrap();
        assert_eq!(world.store.preview(AGENT, &asks).await.unwrap().breaker, HalfOpen);
    }

    async fn the_breaker_of_one_agent_is_not_anothers(world: LedgerWorld) {
        let other = switchyard_store::AgentSpec { name: "carver".into(), ..spec(&["thing.made"]) };
        world.store.register(&other, Mode::Full, switchyard_store::Since::Now).await.unwrap();
        world.trip().await;
        let states: Vec<_> = world.store.breakers().await.unwrap().into_iter().map(|b| (b.agent, b.breaker.state)).collect();
        assert_eq!(states, [("carver".to_owned(), Closed), (AGENT.to_owned(), Open)]);
        let event = world.event("thing.made").await;
        assert_eq!(world.store.preview("carver", &[Ask::live(event)]).await.unwrap().breaker, Closed);
    }

    async fn a_trip_opens_for_thirty_seconds_and_a_second_one_does_not_prolong_it(world: LedgerWorld) {
        assert_eq!(world.trip().await, Open);
        let first = world.breaker().await;
        assert_eq!((first.opens, first.reason.as_deref()), (1, Some("the model answers 503")));
        assert!((29.0..=30.0).contains(&first.retry_in_secs), "{first:?}");
        assert_eq!(world.store.trip(AGENT, "another reason").await.unwrap(), Open);
        let second = world.breaker().await;
        assert_eq!((second.opens, &second.reason, &second.since), (1, &first.reason, &first.since));
        assert!(second.retry_in_secs <= first.retry_in_secs);
        assert_eq!(world.audited().await, ["breaker_opened"]);
    }

    async fn an_open_breaker_becomes_half_open_when_its_wait_is_over_and_not_before(world: LedgerWorld) {
        world.trip().await;
        assert_eq!(world.store.half_open(AGENT).await.unwrap(), Open);
        world.let_the_breaker_wait_out().await;
        assert_eq!(world.state().await, Open, "time alone changes nothing");
        assert_eq!(world.store.half_open(AGENT).await.unwrap(), HalfOpen);
        assert_eq!(world.store.half_open(AGENT).await.unwrap(), HalfOpen);
        assert_eq!(world.audited().await, ["breaker_opened", "breaker_half_open"]);
    }

    async fn a_failed_probe_opens_it_for_twice_as_long_up_to_a_quarter_of_an_hour(world: LedgerWorld) {
        for (opens, wait) in [(1, 30.0), (2, 60.0), (3, 120.0), (4, 240.0), (5, 480.0), (6, 900.0), (7, 900.0)] {
            assert_eq!(world.trip().await, Open);
            let breaker = world.breaker().await;
            assert_eq!(breaker.opens, opens);
            assert!((wait - 1.0..=wait).contains(&breaker.retry_in_secs), "{breaker:?}");
            world.let_the_breaker_wait_out().await;
            world.store.half_open(AGENT).await.unwrap();
        }
    }

    async fn a_probe_that_comes_through_closes_it_and_the_next_wait_is_short_again(world: LedgerWorld) {
        world.half_open().await;
        world.trip().await;
        world.let_the_breaker_wait_out().await;
        world.store.half_open(AGENT).await.unwrap();
        assert_eq!(world.store.recovered(AGENT).await.unwrap(), Closed);
        let breaker = world.breaker().await;
        assert_eq!((breaker.opens, breaker.reason, breaker.retry_in_secs), (0, None, 0.0));
        world.trip().await;
        assert!(world.breaker().await.retry_in_secs <= 30.0);
        let expected = ["breaker_opened", "breaker_half_open", "breaker_opened", "breaker_half_open", "breaker_closed", "breaker_opened"];
        assert_eq!(world.audited().await, expected);
    }

    async fn only_a_half_open_breaker_can_recover(world: LedgerWorld) {
        assert_eq!(world.store.recovered(AGENT).await.unwrap(), Closed);
        world.trip().await;
        // A probe that another process lost meanwhile.
        assert_eq!(world.store.recovered(AGENT).await.unwrap(), Open);
        assert_eq!(world.audited().await, ["breaker_opened"]);
    }

    async fn a_half_open_breaker_gives_one_token_at_a_time_and_another_after_a_minute(world: LedgerWorld) {
        assert!(!world.store.probe(AGENT).await.unwrap(), "closed: nobody needs one");
        world.half_open().await;
        assert!(world.store.probe(AGENT).await.unwrap());
        assert!(!world.store.probe(AGENT).await.unwrap());
        let left = "select round(extract(epoch from probe_until - clock_timestamp())) from switchyard.breaker";
        assert!((59..=60).contains(&world.number(left).await));
        world.let_the_breaker_wait_out().await;
        assert!(world.store.probe(AGENT).await.unwrap(), "whoever had it died with it");
        world.trip().await;
        assert!(!world.store.probe(AGENT).await.unwrap(), "open: nothing is tried");
        world.let_the_breaker_wait_out().await;
        world.store.half_open(AGENT).await.unwrap();
        assert!(world.store.probe(AGENT).await.unwrap(), "a new half-open state has a new token");
    }

    async fn of_many_who_ask_for_the_token_at_once_exactly_one_gets_it(world: LedgerWorld) {
        world.half_open().await;
        for _ in 0..5 {
            let asked: Vec<_> = (0..8).map(|_| { let store = world.store.clone(); tokio::spawn(async move { store.probe(AGENT).await.unwrap() }) }).collect();
            let mut given = 0;
            for one in asked {
                given += usize::from(one.await.unwrap());
            }
            assert_eq!(given, 1);
            world.let_the_breaker_wait_out().await;
        }
    }

    async fn of_two_who_trip_at_once_one_opens_it(world: LedgerWorld) {
        let mut first = world.store.begin().await.unwrap();
        first.query("select switchyard.trip($1, 'down')", &[(&AGENT, Type::TEXT)]).await.unwrap();
        let store = world.store.clone();
        let second = tokio::spawn(async move { store.trip(AGENT, "down").await.unwrap() });
        world.lock_is_awaited().await;
        first.commit().await.unwrap();
        assert_eq!(second.await.unwrap(), Open);
        assert_eq!(world.breaker().await.opens, 1);
        assert_eq!(world.audited().await, ["breaker_opened"]);
    }

    async fn what_is_forced_closed_no_trip_opens(world: LedgerWorld) {
        world.half_open().await;
        world.store.force_breaker(AGENT, Some(Closed), "alice").await.unwrap();
        let breaker = world.breaker().await;
        assert_eq!((breaker.state, breaker.forced, breaker.reason.as_deref()), (Closed, true, Some("forced by alice")));
        assert_eq!(world.trip().await, Closed);
        assert!(!world.store.probe(AGENT).await.unwrap());
        world.store.force_breaker(AGENT, None, "alice").await.unwrap();
        assert_eq!((world.breaker().await.forced, world.breaker().await.reason), (false, None));
        assert_eq!(world.trip().await, Open, "automatic again");
    }

    async fn what_is_forced_open_stays_open_until_it_is_given_back_and_is_then_tried_at_once(world: LedgerWorld) {
        world.store.force_breaker(AGENT, Some(Open), "bob").await.unwrap();
        world.let_the_breaker_wait_out().await;
        assert_eq!(world.store.half_open(AGENT).await.unwrap(), Open);
        assert_eq!(world.store.recovered(AGENT).await.unwrap(), Open);
        assert!(!world.store.probe(AGENT).await.unwrap());
        assert_eq!(world.trip().await, Open);
        assert_eq!(world.breaker().await.reason.as_deref(), Some("forced by bob"));
        world.store.force_breaker(AGENT, None, "bob").await.unwrap();
        assert_eq!((world.state().await, world.breaker().await.forced), (Open, false));
        assert_eq!(world.store.half_open(AGENT).await.unwrap(), HalfOpen);
    }

    async fn giving_back_what_was_never_forced_changes_nothing(world: LedgerWorld) {
        world.trip().await;
        let before = world.breaker().await;
        world.store.force_breaker(AGENT, None, "carol").await.unwrap();
        let after = world.breaker().await;
        assert_eq!((after.state, after.opens, &after.since, &after.reason), (Open, 1, &before.since, &before.reason));
        assert!(after.retry_in_secs > 25.0, "its wait goes on: {after:?}");
    }

    async fn a_breaker_cannot_be_forced_half_open(world: LedgerWorld) {
        let refused = world.store.force_breaker(AGENT, Some(HalfOpen), "dave").await.unwrap_err();
        assert_eq!(refused.to_string(), "a breaker is forced open or closed, not half_open");
        assert_eq!(world.state().await, Closed);
    }

    async fn a_forced_breaker_is_in_the_audit(world: LedgerWorld) {
        world.store.force_breaker(AGENT, Some(Open), "eve").await.unwrap();
        let row = world.store.audit(1).await.unwrap().remove(0);
        assert_eq!((row.by.as_str(), row.action.as_str(), row.component.as_deref()), ("eve", "breaker_forced", Some(AGENT)));
        assert_eq!(row.detail, serde_json::json!({"to": "open", "was": "closed"}));
    }

    async fn the_steward_remembers_what_it_has_paused(world: LedgerWorld) {
        for mappings in [["b"], ["a"], ["a"]] {
            world.store.set_paused(AGENT, &mappings, true).await.unwrap();
        }
        assert_eq!(world.registered().await.paused, ["a", "b"], "each once");
        world.trip().await;
        assert_eq!(world.registered().await.paused, ["a", "b"], "it is the mapping's matter, not the breaker's");
        world.store.set_paused(AGENT, &["a", "c"], false).await.unwrap();
        assert_eq!(world.registered().await.paused, ["b"], "what another stack has paused stays so");
        world.store.set_paused(AGENT, &[], false).await.unwrap();
        assert_eq!(world.audited().await, ["queue_paused", "queue_paused", "breaker_opened", "queue_resumed"]);
    }

    async fn an_agent_that_is_not_registered_has_no_breaker(world: LedgerWorld) {
        let asked = [
            world.store.trip("nobody", "x").await.unwrap_err(), world.store.half_open("nobody").await.unwrap_err(),
            world.store.recovered("nobody").await.unwrap_err(), world.store.force_breaker("nobody", None, "x").await.unwrap_err(),
        ];
        for refused in asked {
            assert!(matches!(refused, StoreError::Config { .. }), "{refused}");
            assert_eq!(refused.to_string(), "agent nobody is not registered: check the name, or register it with switchyard-setup");
        }
    }

    async fn a_breaker_whose_row_is_gone_can_still_be_opened(world: LedgerWorld) {
        world.run_sql("delete from switchyard.breaker").await;
        world.store.set_paused(AGENT, &["a"], false).await.unwrap();
        world.run_sql("delete from switchyard.breaker").await;
        assert_eq!(world.trip().await, Open);
        assert_eq!(world.breaker().await.state, Open);
    }
}
