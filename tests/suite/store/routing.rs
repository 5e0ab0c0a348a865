//! Who listens to what, whose turn it is, and how that changes.

use switchyard_store::{
    AgentSpec, Ask, AutoRedrive, Mode, Moves, Owner, RoutedBy, RoutingChange, Since, StoreError, Type, Verdict,
};
use tokio::time::Instant;
use uuid::Uuid;

use super::directly_and_pooled;
use super::world::{AGENT, old_claim_in, spec};

directly_and_pooled! {
    async fn registering_again_changes_nothing(world: LedgerWorld) {
        world.routing(Mode::Shadow).await;
        let again = world.register(&["thing.made", "thing.changed"], Mode::Full).await;
        assert!(!again.created && again.added.is_empty() && again.removed.is_empty());
        let event = world.event("thing.made").await;
        assert_eq!(world.claim(event).await, Verdict::Shadow, "the lever is people's");
    }

    async fn two_registrations_at_once_are_one(world: LedgerWorld) {
        let fresh = AgentSpec { name: "twin".into(), ..spec(&["thing.made"]) };
        let (a, b) = tokio::join!(world.store.register(&fresh, Mode::Full, Since::Now), world.store.register(&fresh, Mode::Full, Since::Now));
        assert!(a.unwrap().created ^ b.unwrap().created);
        assert_eq!(world.number("select count(*) from switchyard.subscription s join switchyard.agent a on a.id = s.agent where a.name = 'twin'").await, 1);
    }

    async fn more_attempts_than_a_hundred_are_refused(world: LedgerWorld) {
        let refused = world.store.register(&AgentSpec { max_attempts: 101, ..spec(&[]) }, Mode::Full, Since::Now).await;
        assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
    }

    async fn a_new_type_counts_from_now_on(world: LedgerWorld) {
        let before = world.event("thing.sold").await;
        let registered = world.register(&["thing.made", "thing.changed", "thing.sold"], Mode::Full).await;
        assert_eq!(registered.added, ["thing.sold"]);
        let after = world.event("thing.sold").await;
        assert_eq!(world.claim(before).await, Verdict::NotSubscribed);
        assert_eq!(world.claim(after).await, Verdict::Take);
        world.sweep().await;
        assert_eq!(world.store.ledger(AGENT).await.unwrap().subscribed, 1);
    }

    async fn a_removed_type_ends_now_and_what_came_before_is_still_owed(world: LedgerWorld) {
        let before = world.event("thing.changed").await;
        let registered = world.register(&["thing.made"], Mode::Full).await;
        assert_eq!(registered.removed, ["thing.changed"]);
        let after = world.event("thing.changed").await;
        assert_eq!(world.claim(after).await, Verdict::NotSubscribed);
        world.sweep().await;
        assert!(world.row(before).await.is("n", "a"));
        assert_eq!(world.claim(before).await, Verdict::Take);
        assert!(world.delivery(after, 0).await.is_none());
    }

    async fn a_type_that_comes_back_starts_a_new_period(world: LedgerWorld) {
        let first = world.event("thing.changed").await;
        world.register(&["thing.made"], Mode::Full).await;
        let between = world.event("thing.changed").await;
        world.register(&["thing.made", "thing.changed"], Mode::Full).await;
        let second = world.event("thing.changed").await;
        assert_eq!(world.claim(between).await, Verdict::NotSubscribed);
        assert_eq!(world.claim(first).await, Verdict::Take);
        world.sweep_past_everything().await;
        let ledger = world.store.ledger(AGENT).await.unwrap();
        assert_eq!((ledger.subscribed, ledger.done, ledger.assigned), (2, 1, 1));
        assert!(world.row(second).await.is("n", "a"));
    }

    async fn a_type_removed_and_added_before_any_event_goes_on(world: LedgerWorld) {
        world.register(&[], Mode::Full).await;
        world.register(&["thing.made"], Mode::Full).await;
        let event = world.event("thing.made").await;
        assert_eq!(world.claim(event).await, Verdict::Take);
    }

    async fn an_existing_row_outlives_its_subscription(world: LedgerWorld) {
        // An event that was asked for while the registration was under way.
        let event = world.event("thing.made").await;
        world.fail(event).await;
        world.run_sql("update switchyard.subscription set until_seq = 0").await;
        assert_eq!(world.claim(event).await, Verdict::Take);
    }

    // Computed apart from the database: the percentile of SHA-256's second to fifth byte.
    async fn where_a_percentage_puts_an_aggregate_never_changes(world: LedgerWorld) {
        for (key, percentile, shard) in [
            ("", 20, 3),
            ("a", 70, 10),
            ("project-1", 18, 3),
            ("7d1f9c1e-3c5b-4c5e-9a57-1d2f6f0c8b11", 42, 2),
            ("Z\u{fc}rich", 10, 2),
        ] {
            let placed = "select switchyard._percentile_of($1), switchyard.shard_of($1)::int";
            let row = world.one(placed, &[(&key, Type::TEXT)]).await;
            assert_eq!((row.get::<_, i32>(0), row.get::<_, i32>(1)), (percentile, shard), "{key}");
            for (percent, owner) in [(percentile, "o"), (percentile + 1, "n")] {
                world.run_sql(&format!("update switchyard.agent set mode = 'percent', percent = {percent} where name = '{AGENT}'")).await;
                let owned = "select switchyard.owner_of(a, $1, null)::text from switchyard.agent a where a.name = 'painter'";
                assert_eq!(world.one(owned, &[(&key, Type::TEXT)]).await.get::<_, &str>(0), owner, "{key} at {percent}");
            }
        }
    }

    async fn the_owner_is_fixed_at_the_first_ask(world: LedgerWorld) {
        world.routing(Mode::Off).await;
        let old = world.event("thing.made").await;
        assert_eq!(world.claim(old).await, Verdict::NotYours);
        world.routing(Mode::Full).await;
        let new = world.event("thing.made").await;
        assert_eq!(world.old_claim(new).await, "not_yours");
        // The routing has changed back and forth; the rows have not.
        assert_eq!(world.claim(old).await, Verdict::NotYours);
        world.routing(Mode::Off).await;
        assert_eq!(world.old_claim(new).await, "not_yours");
        assert_eq!(world.claim(new).await, Verdict::Take);
        assert_eq!(world.old_claim(old).await, "take");
    }

    async fn a_percentage_is_stable_and_grows(world: LedgerWorld) {
        let aggregates: Vec<Uuid> = (1..=200).map(Uuid::from_u128).collect();
        let mut before: Vec<Uuid> = Vec::new();
        for percent in [0, 10, 50, 90, 100] {
            world.routing(Mode::Percent(percent)).await;
            let mut taken = Vec::new();
            for aggregate in &aggregates {
                let event = world.event_with("thing.made", *aggregate, "{}").await;
                if world.preview(event).await.verdict == Verdict::Take {
                    taken.push(*aggregate);
                }
            }
            assert!(before.iter().all(|a| taken.contains(a)), "who was in stays in");
            let expected = usize::from(percent) * 2;
            assert!(taken.len().abs_diff(expected) <= 20, "{percent} percent took {} of 200", taken.len());
            before = taken;
        }
        assert_eq!(before.len(), 200);
    }

    async fn routed_by_project_a_project_moves_as_one(world: LedgerWorld) {
        let by_project = AgentSpec { routed_by: RoutedBy::Project, ..spec(&["thing.made"]) };
        world.store.register(&by_project, Mode::Full, Since::Now).await.unwrap();
        world.routing(Mode::Percent(50)).await;
        let mut sides = Vec::new();
        for project in 0..12 {
            let mut answers = Vec::new();
            for _ in 0..4 {
                let event = world.event_with("thing.made", Uuid::new_v4(), &format!(r#"{{"project_id":"p{project}"}}"#)).await;
                answers.push(world.preview(event).await.verdict);
            }
            assert!(answers.iter().all(|a| *a == answers[0]));
            sides.push(answers[0]);
        }
        assert!(sides.contains(&Verdict::Take) && sides.contains(&Verdict::NotYours));
    }

    async fn reassigning_moves_what_is_unfinished_or_parked_and_nothing_else_and_the_old_system_begins_anew(world: LedgerWorld) {
        let [assigned, failing, parked, done] = [0; 4].map(|_| Uuid::new_v4());
        for id in [assigned, failing, parked, done] {
            world.run_sql(&format!("insert into events (id, type, aggregate_id) values ('{id}', 'thing.made', '{}')", Uuid::new_v4())).await;
        }
        world.sweep().await;
        world.fail(failing).await;
        world.park(parked).await;
        world.claim(done).await;
        world.routing(Mode::Off).await;
        assert_eq!(world.store.reassign(AGENT).await.unwrap().moved, 3);
        for event in [assigned, failing, parked] {
            let row = world.row(event).await;
            assert!(row.is("o", "a") && row.attempts == 0, "anew: {row:?}");
            assert_eq!(row.epoch, 1);
        }
        assert_eq!(world.number(&format!("select count(*) from switchyard.todo_old('{AGENT}')")).await, 3, "all of it is in the old system's list");
        assert!(world.row(done).await.is("n", "d"));
        assert!(!world.fail_as(failing, 0, Some(0)).await.counted);
        assert_eq!(world.old_claim(failing).await, "take");
    }

    async fn reassigning_skips_what_is_being_processed_and_meets_it_later(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.sweep().await;
        let mut tx = world.store.begin().await.unwrap();
        tx.claim(AGENT, &[Ask::live(event)]).await.unwrap();
        world.routing(Mode::Off).await;
        for _ in 0..2 {
            let pass = world.store.reassign(AGENT).await.unwrap();
            assert_eq!((pass.moved, pass.complete), (0, false));
        }
        tx.rollback().await.unwrap();
        assert_eq!(world.store.reassign(AGENT).await.unwrap().moved, 1);
        assert!(world.row(event).await.is("o", "a"));
        world.reassign_completely().await;
    }

    async fn reassigning_is_complete_only_when_no_transaction_can_still_write_by_the_old_routing(world: LedgerWorld) {
        world.routing(Mode::Full).await;
        let event = world.event("thing.made").await;
        // A first ask by the routing of now, in a transaction that stays open: no row that a pass could see.
        let mut asking = world.store.begin().await.unwrap();
        asking.claim(AGENT, &[Ask::live(event)]).await.unwrap();
        world.routing(Mode::Off).await;
        for _ in 0..3 {
            assert!(!world.store.reassign(AGENT).await.unwrap().complete);
        }
        asking.commit().await.unwrap();
        world.reassign_completely().await;
        assert!(world.row(event).await.is("n", "d"));
    }

    async fn a_claim_that_read_the_old_routing_later_than_the_change_began_is_waited_for(world: LedgerWorld) {
        // The trap: the change has its transaction id first, the asking one a later id, and still reads the old routing.
        let event = world.event("thing.made").await;
        world.run_sql(&format!("begin; select switchyard.set_routing('{AGENT}', 'off', 0, false)")).await;
        let mut asking = world.store.begin().await.unwrap();
        assert_eq!(asking.claim(AGENT, &[Ask::live(event)]).await.unwrap()[0].verdict, Verdict::Take);
        world.run_sql("commit").await;
        for _ in 0..3 {
            assert!(!world.store.reassign(AGENT).await.unwrap().complete);
        }
        asking.rollback().await.unwrap();
        world.reassign_completely().await;
        assert_eq!(world.claim(event).await, Verdict::NotYours);
    }

    async fn a_first_ask_that_has_read_the_routing_and_not_yet_written_is_waited_for(world: LedgerWorld) {
        // Between the reading and the writing lie microseconds; a lock inside the statement holds them open.
        let event = world.event("thing.made").await;
        let body: String = world.one("select pg_get_functiondef('switchyard._create_deliveries'::regproc)", &[]).await.get(0);
        let held = body.replace("where a.id = p_agent", "where a.id = p_agent and pg_advisory_xact_lock_shared(42) is not null");
        assert_ne!(body, held);
        world.run_sql(&held).await;
        world.run_sql("select pg_advisory_lock(42)").await;
        let asks = [Ask::live(event)];
        let mut asking = world.store.begin().await.unwrap();
        let change_meanwhile = async {
            world.lock_is_awaited().await;
            world.routing(Mode::Off).await;
            for _ in 0..20 {
                assert!(!world.store.reassign(AGENT).await.unwrap().complete);
            }
            world.run_sql("select pg_advisory_unlock(42)").await;
        };
        let (standings, ()) = tokio::join!(asking.claim(AGENT, &asks), change_meanwhile);
        assert_eq!(standings.unwrap()[0].verdict, Verdict::Take, "by the routing that it had read");
        asking.commit().await.unwrap();
        world.reassign_completely().await;
    }

    async fn draining_makes_every_sweep_reassign(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.sweep().await;
        world.store.set_routing(AGENT, RoutingChange::draining(Mode::Off), "ada").await.unwrap();
        world.sweep().await;
        assert!(world.row(event).await.is("o", "a"));
        world.store.set_routing(AGENT, RoutingChange::draining(Mode::Full), "ada").await.unwrap();
        world.sweep().await;
        let row = world.row(event).await;
        assert!(row.is("n", "a"));
        assert_eq!(row.epoch, 2);
    }

    async fn a_preview_of_the_routing_changes_nothing(world: LedgerWorld) {
        let beside = RoutingChange { mode: Mode::Percent(25), drain: false, beside: true };
        world.store.set_routing(AGENT, beside, "ada").await.unwrap();
        world.store.set_following(AGENT, Some(true), None, "bob").await.unwrap();
        let now = world.store.routing(AGENT).await.unwrap();
        assert_eq!((now.mode, now.drain, now.beside), (Mode::Percent(25), true, true));
        let said = "select detail::text from switchyard.audit where action = 'set_routing' and by = 'bob'";
        assert!(!world.one(said, &[]).await.get::<_, &str>(0).contains("\"mode\""), "he has not said anything of it");
    }

    async fn todo_old_lists_what_is_left_to_the_old_system(world: LedgerWorld) {
        world.routing(Mode::Off).await;
        let event = world.event("thing.made").await;
        world.sweep().await;
        let todo: Uuid = world.one(&format!("select switchyard.todo_old('{AGENT}')"), &[]).await.get(0);
        assert_eq!(todo, event);
        let mut tx = world.store.begin().await.unwrap();
        assert_eq!(old_claim_in(&mut tx, event).await.unwrap(), "take");
        tx.commit().await.unwrap();
        assert_eq!(world.number(&format!("select count(*) from switchyard.todo_old('{AGENT}')")).await, 0);
    }

    async fn what_moves_before_its_time_keeps_its_time(world: LedgerWorld) {
        world.routing(Mode::Off).await;
        let later = world.event_with("thing.made", Uuid::new_v4(), r#"{"deliver_at": "2999-01-01T00:00:00Z"}"#).await;
        world.publish_all().await;
        world.sweep().await;
        world.routing(Mode::Full).await;
        assert_eq!(world.store.reassign(AGENT).await.unwrap().moved, 1);
        assert!(world.row(later).await.is("n", "a"));
        assert_eq!(world.due().await, []);
    }

    async fn a_pinned_project_is_beyond_the_percentage_and_nothing_else(world: LedgerWorld) {
        world.store.pin(AGENT, "pilot", Some(Owner::New), "ada").await.unwrap();
        world.store.pin(AGENT, "last", Some(Owner::Old), "ada").await.unwrap();
        let of = async |project: &str| {
            let event = world.event_with("thing.made", Uuid::new_v4(), &format!(r#"{{"project_id":"{project}"}}"#)).await;
            world.preview(event).await.verdict
        };
        for (mode, pilot, last) in [
            (Mode::Percent(0), Verdict::Take, Verdict::NotYours),
            (Mode::Percent(100), Verdict::Take, Verdict::NotYours),
            (Mode::Off, Verdict::NotYours, Verdict::NotYours),
            (Mode::Full, Verdict::Take, Verdict::Take),
        ] {
            world.routing(mode).await;
            assert_eq!((of("pilot").await, of("last").await), (pilot, last), "{mode:?}");
        }
        world.routing(Mode::Percent(0)).await;
        world.store.pin(AGENT, "pilot", Some(Owner::Old), "ada").await.unwrap();
        assert_eq!(of("pilot").await, Verdict::NotYours, "a project is on one side");
        world.store.pin(AGENT, "last", None, "ada").await.unwrap();
        let routing = world.store.routing(AGENT).await.unwrap();
        assert_eq!((routing.pinned_new, routing.pinned_old), (vec![], vec!["pilot".to_owned()]));
    }

    async fn a_pin_moves_unfinished_rows_of_its_project_alone(world: LedgerWorld) {
        world.routing(Mode::Percent(0)).await;
        let [pilot, other] = [
            world.event_with("thing.made", Uuid::new_v4(), r#"{"project_id":"pilot"}"#).await,
            world.event_with("thing.made", Uuid::new_v4(), r#"{"project_id":"other"}"#).await,
        ];
        world.sweep().await;
        world.store.pin(AGENT, "pilot", Some(Owner::New), "ada").await.unwrap();
        assert!(world.row(pilot).await.is("o", "a"), "with whom it is, until somebody reassigns");
        let moves = Moves { to_new: 1, stay_old: 1, ..Moves::default() };
        assert_eq!(world.store.routing_moves(AGENT).await.unwrap(), moves);
        world.reassign_completely().await;
        assert!(world.row(pilot).await.is("n", "a") && world.row(other).await.is("o", "a"));
    }

    async fn a_preview_counts_what_a_routing_change_would_move(world: LedgerWorld) {
        world.routing(Mode::Off).await;
        let [touched, _] = [world.event("thing.made").await, world.event("thing.made").await];
        world.sweep().await;
        world.run_sql(&format!("select switchyard.fail('{AGENT}', '{touched}', 'half done')")).await;
        assert_eq!(world.store.routing_moves(AGENT).await.unwrap(), Moves { stay_old: 2, ..Moves::default() });
        world.routing(Mode::Full).await;
        let moves = Moves { to_new: 2, touched: 1, ..Moves::default() };
        assert_eq!(world.store.routing_moves(AGENT).await.unwrap(), moves);
        world.reassign_completely().await;
        assert_eq!(world.store.routing_moves(AGENT).await.unwrap(), Moves { stay_new: 2, ..Moves::default() });
    }

    async fn beside_a_percentage_the_agent_decides_in_shadow_what_the_old_system_owns(world: LedgerWorld) {
        world.routing(Mode::Percent(0)).await;
        let event = world.event("thing.made").await;
        assert_eq!(world.preview(event).await.verdict, Verdict::NotYours);
        let beside = RoutingChange { mode: Mode::Percent(0), drain: false, beside: true };
        world.store.set_routing(AGENT, beside, "ada").await.unwrap();
        assert_eq!(world.claim(event).await, Verdict::Shadow);
        assert_eq!(world.old_claim(event).await, "take");
        assert_eq!(world.claim(event).await, Verdict::Shadow, "the old system is usually first");
    }

    async fn more_pins_than_every_ask_should_read_are_refused(world: LedgerWorld) {
        world.run_sql("update switchyard.agent set pinned_old = array(select 'p' || n from generate_series(1, 1000) n)").await;
        let refused = world.store.pin(AGENT, "one too many", Some(Owner::New), "ada").await;
        assert!(matches!(&refused, Err(StoreError::Config { .. })), "{refused:?}");
        world.store.pin(AGENT, "p7", Some(Owner::New), "ada").await.unwrap();
        assert_eq!(world.store.routing(AGENT).await.unwrap().pinned_new, ["p7"]);
    }

    async fn a_routing_change_leaves_an_audit_row(world: LedgerWorld) {
        world.routing(Mode::Percent(25)).await;
        let row = world.one("select component, by, detail::text from switchyard.audit where action = 'set_routing'", &[]).await;
        assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), (AGENT, "ada"));
        assert!(row.get::<_, &str>(2).contains("\"percent\": 25"));
        world.store.pin(AGENT, "pilot", Some(Owner::New), "bob").await.unwrap();
        let row = world.one("select by, detail::text from switchyard.audit where action = 'pin'", &[]).await;
        assert!(row.get::<_, &str>(0) == "bob" && row.get::<_, &str>(1).contains("pilot"));
    }

    async fn reassigning_moves_more_than_one_pass_holds(world: LedgerWorld) {
        world.run_sql("insert into events (id, type) select gen_random_uuid(), 'thing.made' from generate_series(1, 5100)").await;
        world.sweep().await;
        world.routing(Mode::Off).await;
        let first = world.store.reassign_until(AGENT, Some(Instant::now())).await.unwrap();
        assert_eq!((first.moved, first.more), (5_000, true), "claims wait for a pass, so one ends before the end is looked at");
        let rest = world.store.reassign(AGENT).await.unwrap();
        assert_eq!((rest.moved, rest.more), (100, false));
        world.store.set_routing(AGENT, RoutingChange::draining(Mode::Full), "ada").await.unwrap();
        world.sweep().await;
        assert_eq!(world.number("select count(*) from switchyard.delivery where owner = 'n'").await, 5100, "and a sweep drains to the end");
    }

    async fn what_the_old_system_has_touched_is_parked_and_not_handed_to_the_agent(world: LedgerWorld) {
        world.routing(Mode::Off).await;
        let [touched, untouched] = [world.event("thing.made").await, world.event("thing.made").await];
        world.publish_all().await;
        world.sweep().await;
        world.run_sql(&format!("select switchyard.fail('{AGENT}', '{touched}', 'half done')")).await;
        world.routing(Mode::Full).await;
        assert_eq!(world.store.reassign(AGENT).await.unwrap().moved, 2);
        assert!(world.row(touched).await.is("n", "p"));
        assert!(world.row(untouched).await.is("n", "a"));
        assert_eq!(world.number("select count(*) from switchyard.failure where parked and reason = 'touched_by_the_old_system'").await, 1);
        world.let_time_pass().await;
        assert_eq!(world.due().await.iter().map(|d| d.0).collect::<Vec<_>>(), [untouched]);
        assert_eq!(world.claim(touched).await, Verdict::Parked);
        world.reassign_completely().await;
        // A person has looked at it.
        world.resend(touched, 0).await;
        assert_eq!(world.claim(touched).await, Verdict::Take);
    }

    async fn what_it_has_touched_stays_so_however_it_comes_back_to_it(world: LedgerWorld) {
        world.routing(Mode::Off).await;
        let [retried, resent, untouched] =
            [world.event("thing.made").await, world.event("thing.made").await, world.event("thing.made").await];
        world.sweep().await;
        world.run_sql(&format!("select switchyard.park('{AGENT}', '{retried}', 'half done'), switchyard.fail('{AGENT}', '{resent}', 'half done')")).await;
        world.run_sql(&format!("select switchyard.retry('{AGENT}', '{retried}')")).await;
        world.resend(resent, 0).await;
        for event in [retried, resent] {
            assert!(world.row(event).await.is("o", "a"));
        }
        world.routing(Mode::Full).await;
        assert_eq!(world.store.routing_moves(AGENT).await.unwrap(), Moves { to_new: 3, touched: 2, ..Moves::default() });
        world.reassign_completely().await;
        for event in [retried, resent] {
            assert!(world.row(event).await.is("n", "p"));
        }
        assert!(world.row(untouched).await.is("n", "a"));
        world.store.set_auto_redrive(AGENT, Some(AutoRedrive { times: 3, first_after_secs: 1 }), "ada").await.unwrap();
        world.run_sql("update switchyard.delivery set reason = 'process_died', at = at - interval '1 day' where state = 'p'").await;
        assert!(world.store.auto_redrive(AGENT).await.unwrap().is_empty(), "a person decides");
    }

    async fn the_old_system_is_handed_nothing_before_its_time(world: LedgerWorld) {
        let todo = format!("select count(*) from switchyard.todo_old('{AGENT}')");
        world.routing(Mode::Off).await;
        let later = world.event_with("thing.made", Uuid::new_v4(), r#"{"deliver_at": "2999-01-01T00:00:00Z"}"#).await;
        world.sweep().await;
        assert!(world.row(later).await.is("o", "a"));
        assert_eq!(world.number(&todo).await, 0);
        world.let_time_pass().await;
        assert_eq!(world.number(&todo).await, 1);
        world.store.set_grace(AGENT, 60_000).await.unwrap();
        world.run_sql(&format!("select switchyard.fail('{AGENT}', '{later}', 'hm')")).await;
        assert_eq!(world.number(&todo).await, 0, "what failed waits out the grace");
    }

    async fn an_old_system_that_keeps_failing_is_stopped_at_its_last_attempt(world: LedgerWorld) {
        world.routing(Mode::Off).await;
        let event = world.event("thing.made").await;
        for attempt in 1..=4 {
            assert!(world.delivery(event, 0).await.is_none_or(|d| d.state != "p"), "before attempt {attempt}");
            world.run_sql(&format!("select switchyard.fail('{AGENT}', '{event}', 'hm')")).await;
        }
        let row = world.row(event).await;
        assert!(row.is("o", "p") && row.attempts == 4, "{row:?}");
    }
}
