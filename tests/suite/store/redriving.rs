//! What is parked: looked at, sent back by hand and by itself, once each.

use std::time::Duration;

use switchyard_store::{
    Ask, AutoRedrive, Mode, ParkReport, ParkedDelivery, ParkedGroup, Selection, Settlement, State, StoreError, Type,
    Unidentified, Verdict,
};
use uuid::Uuid;

use super::directly_and_pooled;
use super::world::{AGENT, LedgerWorld};

impl LedgerWorld {
    async fn parked_for(&self, reason: &str) -> Uuid {
        let event = self.event("thing.made").await;
        self.park_for(event, reason, "it went boom").await;
        event
    }

    async fn park_for(&self, event: Uuid, reason: &str, error: &str) {
        let parked = ParkReport { ask: Ask::live(event), reason: reason.into(), error: error.into() };
        self.store.park(AGENT, &[parked]).await.unwrap();
    }

    async fn unidentified(&self, message_id: &str, reason: &str) {
        let message =
            Unidentified { message_id: message_id.into(), run: 0, reason: reason.into(), error: "no JSON".into() };
        self.store.park_unidentified(AGENT, &[message]).await.unwrap();
    }

    async fn redrive(&self, selection: &Selection, defer_secs: u32) -> Vec<i64> {
        self.store.redrive(AGENT, selection, defer_secs, "alice", "mended").await.unwrap()
    }

    async fn told(&self) -> Vec<ParkedDelivery> {
        self.store.parked_deliveries(AGENT, &everything(), None, 100).await.unwrap()
    }

    async fn groups(&self) -> Vec<ParkedGroup> {
        self.store.parked(AGENT, &Selection::default()).await.unwrap()
    }

    async fn seqs(&self, events: &[Uuid]) -> Vec<i64> {
        let mut seqs = Vec::new();
        for event in events {
            seqs.push(self.seq(*event).await);
        }
        seqs
    }

    /// As if everything had been parked so long ago.
    async fn parked_ago(&self, secs: i64) {
        self.run_sql(&format!("update switchyard.delivery set at = now() - interval '{secs} s' where state = 'p'"))
            .await;
    }

    async fn auto(&self, times: u16, first_after_secs: u32) {
        self.store.set_auto_redrive(AGENT, Some(AutoRedrive { times, first_after_secs }), "alice").await.unwrap();
    }

    async fn auto_redriven(&self) -> Vec<i64> {
        self.store.auto_redrive(AGENT).await.unwrap()
    }
}

fn everything() -> Selection {
    Selection::default()
}

directly_and_pooled! {
    async fn parked_deliveries_are_grouped_by_reason_and_type(world: LedgerWorld) {
        let mut rejected = Vec::new();
        for n in 0..5 {
            let event = world.event("thing.made").await;
            world.park_for(event, "rejected", &format!("error {n}")).await;
            rejected.push(event);
        }
        let changed = world.event("thing.changed").await;
        world.fail(changed).await;
        world.park_for(changed, "rejected", "of another type").await;
        world.claim(world.event("thing.made").await).await;
        let groups = world.groups().await;
        assert_eq!(groups.iter().map(|g| (g.event_type.as_deref(), g.count)).collect::<Vec<_>>(), [(Some("thing.made"), 5), (Some("thing.changed"), 1)]);
        assert_eq!((groups[0].reason.as_str(), groups[0].error.as_deref()), ("rejected", Some("error 4")));
        assert_eq!(groups[0].examples, [rejected[4], rejected[3], rejected[2]]);
        assert!(groups[0].oldest < groups[0].newest, "{groups:?}");
        assert_eq!((groups[1].error.as_deref(), &groups[1].examples), (Some("of another type"), &vec![changed]));
    }

    async fn a_delivery_parked_again_shows_its_last_error(world: LedgerWorld) {
        let event = world.parked_for("rejected").await;
        world.redrive(&everything(), 0).await;
        world.park_for(event, "rejected", "still not mended").await;
        assert_eq!(world.groups().await[0].error.as_deref(), Some("still not mended"));
        let told = world.told().await.remove(0);
        assert_eq!((told.error.as_deref(), told.redrives), (Some("still not mended"), 1));
    }

    async fn the_deliveries_themselves_are_told_in_the_order_of_the_sequence(world: LedgerWorld) {
        let [first, second] = [world.event_with("thing.made", Uuid::new_v4(), r#"{"project_id": "p1"}"#).await, world.event("thing.changed").await];
        world.fail(second).await;
        world.fail(second).await;
        world.park_for(second, "attempts_used_up", "at last").await;
        world.park_for(first, "rejected", "at once").await;
        let told = world.told().await;
        assert_eq!(told.iter().map(|d| d.event_id).collect::<Vec<_>>(), [first, second]);
        assert_eq!((told[0].project_id.as_deref(), told[0].error.as_deref(), told[0].attempts), (Some("p1"), Some("at once"), 1));
        assert_eq!((told[1].event_type.as_str(), told[1].reason.as_str(), told[1].attempts, told[1].redrives), ("thing.changed", "attempts_used_up", 2, 0));
        assert_eq!((told[1].seq, told[1].run), (world.seq(second).await, 0));
    }

    async fn a_redrive_brings_back_what_is_parked_and_nothing_else(world: LedgerWorld) {
        let parked = [world.parked_for("rejected").await, world.parked_for("attempts_used_up").await];
        let [done, failing, expired] = [world.event("thing.made").await, world.event("thing.made").await, world.event("thing.made").await];
        world.claim(done).await;
        world.fail(failing).await;
        world.settle(expired, Settlement::Expired).await;
        assert_eq!(world.redrive(&everything(), 0).await, world.seqs(&parked).await);
        for event in parked {
            let row = world.row(event).await;
            assert_eq!((row.is("n", "a"), row.attempts, row.epoch), (true, 0, 1));
        }
        assert!(world.row(failing).await.is("n", "f") && world.row(failing).await.epoch == 0);
        assert!(world.row(done).await.is("n", "d") && world.row(expired).await.is("n", "e"));
        assert!(world.groups().await.is_empty());
        assert_eq!(world.claim(parked[0]).await, Verdict::Take);
    }

    async fn a_redrive_that_is_repeated_does_nothing(world: LedgerWorld) {
        let event = world.parked_for("rejected").await;
        world.redrive(&everything(), 0).await;
        assert!(world.redrive(&everything(), 0).await.is_empty());
        assert_eq!(world.row(event).await.epoch, 1);
        let actions: Vec<_> = world.store.audit(100).await.unwrap().into_iter().map(|r| r.action).collect();
        assert_eq!(actions.iter().filter(|a| *a == "redrive").count(), 1, "what did nothing leaves no trace");
    }

    async fn of_redrives_at_once_each_delivery_goes_back_once(world: LedgerWorld) {
        for _ in 0..30 {
            world.parked_for("rejected").await;
        }
        let asked: Vec<_> = (0..4).map(|_| {
            let store = world.store.clone();
            tokio::spawn(async move { store.redrive(AGENT, &Selection::default(), 0, "alice", "all at once").await.unwrap() })
        }).collect();
        let mut seqs = Vec::new();
        for one in asked {
            seqs.extend(one.await.unwrap());
        }
        seqs.sort_unstable();
        let all: Vec<i64> = world.side.query_typed("select seq from switchyard.delivery order by seq", &[]).await.unwrap().iter().map(|r| r.get(0)).collect();
        assert_eq!(seqs, all);
        assert_eq!(world.number("select count(*) from switchyard.delivery where epoch = 1 and redrives = 1").await, 30);
    }

    async fn a_redrive_waits_for_one_that_is_under_way_and_leaves_its_rows_alone(world: LedgerWorld) {
        let event = world.parked_for("rejected").await;
        let seq = world.seq(event).await;
        let mut first = world.store.begin().await.unwrap();
        let sql = "select seq from switchyard._send_back($1, array[$2], array[0], interval '0', 'first')";
        assert_eq!(first.query(sql, &[(&AGENT, Type::TEXT), (&seq, Type::INT8)]).await.unwrap().len(), 1);
        let store = world.store.clone();
        let second = tokio::spawn(async move { store.redrive(AGENT, &Selection::default(), 0, "bob", "second").await.unwrap() });
        world.lock_is_awaited().await;
        first.commit().await.unwrap();
        assert!(second.await.unwrap().is_empty());
        assert_eq!(world.row(event).await.epoch, 1);
    }

    async fn many_go_back_in_steps_and_none_is_left_out_or_done_twice(world: LedgerWorld) {
        world.run_sql("insert into events (id, type) select gen_random_uuid(), 'thing.made' from generate_series(1, 20500)").await;
        world.run_sql("delete from switchyard.outbox; insert into switchyard.delivery (seq, run, agent, owner, state, reason)
            select l.seq, 0, a.id, 'n', 'p', 'rejected' from switchyard.event_log l cross join switchyard.agent a").await;
        let back = world.redrive(&everything(), 0).await;
        assert_eq!(back.len(), 20_500);
        assert!(back.is_sorted_by(|a, b| a < b));
        assert_eq!(world.number("select count(*) from switchyard.delivery where epoch = 1 and state = 'a'").await, 20_500);
        let audited: i64 = world.number("select sum((detail ->> 'redriven')::int) from switchyard.audit where action = 'redrive'").await;
        assert_eq!(audited, 20_500);
        world.run_sql("update switchyard.delivery set state = 'p'").await;
        assert_eq!(world.redrive(&Selection { at_most: Some(10_001), ..everything() }, 0).await.len(), 10_001);
        assert_eq!(world.number("select count(*) from switchyard.delivery where epoch = 2").await, 10_001);
    }

    async fn what_is_parked_again_meanwhile_does_not_go_back_twice_in_one_call(world: LedgerWorld) {
        world.run_sql("insert into events (id, type) select gen_random_uuid(), 'thing.made' from generate_series(1, 10500)").await;
        world.run_sql("insert into switchyard.delivery (seq, run, agent, owner, state, reason)
            select l.seq, 0, a.id, 'n', 'p', 'rejected' from switchyard.event_log l cross join switchyard.agent a").await;
        world.run_sql("create function fail_at_once() returns trigger language plpgsql as $$ begin new.state := 'p'; return new; end $$;
            create trigger fail_at_once before update on switchyard.delivery for each row execute function fail_at_once()").await;
        let back = world.redrive(&Selection { at_most: Some(20_000), ..everything() }, 0).await;
        assert_eq!(back.len(), 10_500);
        assert_eq!(world.number("select max(epoch) from switchyard.delivery").await, 1);
    }

    async fn of_two_replays_of_an_event_only_the_chosen_one_goes_back(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.claim(event).await;
        let mut runs = [0; 2];
        for run in &mut runs {
            *run = world.store.new_run(AGENT, "again").await.unwrap();
            world.resend(event, *run).await;
            world.park_as(event, *run, None).await;
        }
        world.redrive(&Selection { at_most: Some(1), ..everything() }, 0).await;
        assert!(world.delivery(event, runs[0]).await.unwrap().is("n", "a"));
        assert!(world.delivery(event, runs[1]).await.unwrap().is("n", "p"));
        assert_eq!(world.redrive(&everything(), 0).await, [world.seq(event).await]);
    }

    async fn a_deferred_redrive_sends_nothing_from_the_table(world: LedgerWorld) {
        let event = world.parked_for("rejected").await;
        world.publish_all().await;
        world.redrive(&everything(), 600).await;
        assert!(world.due().await.is_empty());
        let wait: f64 = world.one("select extract(epoch from next_attempt_at - now())::float8 from switchyard.delivery", &[]).await.get(0);
        assert!((590.0..=600.0).contains(&wait), "{wait}");
        world.let_time_pass().await;
        assert_eq!(world.due().await, [(event, 0, 1)], "but what nobody brought it does");
    }

    async fn without_a_deferral_the_table_sends_at_once(world: LedgerWorld) {
        let event = world.parked_for("rejected").await;
        world.publish_all().await;
        world.redrive(&everything(), 0).await;
        assert_eq!(world.due().await, [(event, 0, 1)]);
    }

    async fn who_redrove_what_and_why_is_on_record(world: LedgerWorld) {
        let event = world.parked_for("rejected").await;
        let selection = Selection { events: vec![event], reasons: vec!["rejected".into()], since: Some("2020-01-01T00:00:00Z".into()), ..everything() };
        world.redrive(&selection, 0).await;
        let row = world.store.audit(1).await.unwrap().remove(0);
        assert_eq!((row.by.as_str(), row.action.as_str(), row.component.as_deref()), ("alice", "redrive", Some(AGENT)));
        assert_eq!((&row.detail["redriven"], &row.detail["reason"], &row.detail["defer_secs"]), (&1.into(), &"mended".into(), &0.into()));
        assert_eq!(row.detail["selection"]["reasons"], serde_json::json!(["rejected"]));
        assert_eq!(row.detail["selection"]["events"], 1, "so many, not which: there may be thousands");
    }

    async fn a_report_of_the_time_before_the_redrive_is_void(world: LedgerWorld) {
        let event = world.parked_for("rejected").await;
        world.redrive(&everything(), 0).await;
        assert!(!world.park_as(event, 0, Some(0)).await.counted);
        assert!(world.park_as(event, 0, Some(1)).await.counted);
    }

    async fn a_replay_that_is_parked_goes_back_too(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.claim(event).await;
        let run = world.store.new_run(AGENT, "again").await.unwrap();
        world.resend(event, run).await;
        world.park_as(event, run, None).await;
        assert_eq!(world.groups().await[0].count, 1);
        assert_eq!(world.redrive(&everything(), 0).await, [world.seq(event).await]);
        assert!(world.delivery(event, run).await.unwrap().is("n", "a"));
        assert!(world.row(event).await.is("n", "d"));
    }

    async fn what_the_old_system_has_parked_is_its_own(world: LedgerWorld) {
        world.routing(Mode::Off).await;
        let event = world.event("thing.made").await;
        world.run_sql(&format!("select switchyard.park('{AGENT}', '{event}', 'hm')")).await;
        assert!(world.groups().await.is_empty());
        assert!(world.redrive(&everything(), 0).await.is_empty());
        assert!(world.row(event).await.is("o", "p"));
        let ledger = world.store.ledger(AGENT).await.unwrap();
        assert_eq!((ledger.parked, ledger.parked_old), (1, 1));
        assert_eq!(world.store.dismiss(AGENT, &everything(), "alice", "of no use").await.unwrap(), 0);
        let named = Selection { events: vec![event], ..everything() };
        assert_eq!(world.store.dismiss(AGENT, &named, "alice", "of no use").await.unwrap(), 1, "by its name");
        assert!(world.row(event).await.is("o", "e"));
    }

    async fn a_body_that_is_no_event_is_a_row_and_a_group_without_a_type(world: LedgerWorld) {
        world.unidentified("m-1", "malformed").await;
        world.unidentified("m-2", "malformed").await;
        world.unidentified("m-2", "malformed").await;
        let groups = world.groups().await;
        assert_eq!(groups.len(), 1);
        assert_eq!((groups[0].reason.as_str(), groups[0].event_type.as_deref(), groups[0].count), ("malformed", None, 2));
        assert_eq!((groups[0].error.as_deref(), groups[0].examples.len()), (Some("no JSON"), 0));
        let failures = world.store.failures(AGENT, 10).await.unwrap();
        let told: Vec<_> = failures.iter().map(|f| (f.message_id.as_deref(), f.event_id, f.parked)).collect();
        assert_eq!(told, [(Some("m-2"), None, true), (Some("m-1"), None, true)]);
    }

    async fn an_unidentified_message_leaves_the_list_after_a_move_and_returns_after_a_failure(world: LedgerWorld) {
        world.unidentified("m-1", "malformed").await;
        world.redrive(&everything(), 600).await;
        assert_eq!(world.groups().await.len(), 1, "the table cannot know whether it went");
        assert_eq!(world.store.everything_sent_back(AGENT, Duration::from_secs(60), "alice").await.unwrap(), 0, "a minute ago it was not there");
        assert_eq!(world.store.everything_sent_back(AGENT, Duration::ZERO, "alice").await.unwrap(), 1);
        assert!(world.groups().await.is_empty());
        let row = world.store.audit(1).await.unwrap().remove(0);
        assert_eq!((row.action.as_str(), &row.detail["redriven"]), ("redrive_unmatched", &1.into()));
        world.unidentified("m-1", "malformed").await;
        assert_eq!(world.groups().await[0].count, 1);
        assert_eq!(world.store.failures(AGENT, 10).await.unwrap().len(), 2, "both are kept");
    }

    async fn what_is_not_in_the_table_is_told_once_however_often_it_was_parked(world: LedgerWorld) {
        let stranger = Uuid::new_v4();
        world.park_for(stranger, "not_in_table", "who is that").await;
        world.park_for(stranger, "not_in_table", "who is that").await;
        let groups = world.groups().await;
        assert_eq!((groups.len(), groups[0].count, &groups[0].examples), (1, 1, &vec![stranger]));
        // Committed after all: from now on its delivery tells what there is to tell.
        world.run_sql(&format!("insert into events (id, type) values ('{stranger}', 'thing.made')")).await;
        world.claim(stranger).await;
        assert!(world.groups().await.is_empty());
    }

    async fn ingest_can_park_under_its_own_name(world: LedgerWorld) {
        let message = Unidentified { message_id: "m".into(), run: 0, reason: "id_conflict".into(), error: "a \0 in it".into() };
        world.store.park_unidentified("ingest", &[message]).await.unwrap();
        assert_eq!(world.store.parked("ingest", &everything()).await.unwrap()[0].count, 1);
        assert!(world.groups().await.is_empty());
        assert!(world.store.redrive("ingest", &everything(), 60, "alice", "mended").await.unwrap().is_empty());
        assert_eq!(world.store.everything_sent_back("ingest", Duration::ZERO, "alice").await.unwrap(), 1);
        assert!(world.store.parked("ingest", &everything()).await.unwrap().is_empty());
    }

    async fn automatic_redrive_is_off_by_default(world: LedgerWorld) {
        world.parked_for("attempts_used_up").await;
        world.parked_ago(1_000_000).await;
        assert!(world.auto_redriven().await.is_empty());
        world.auto(1, 60).await;
        assert_eq!(world.auto_redriven().await.len(), 1);
        world.parked_for("attempts_used_up").await;
        world.parked_ago(1_000_000).await;
        world.store.set_auto_redrive(AGENT, None, "alice").await.unwrap();
        assert!(world.auto_redriven().await.is_empty());
    }

    async fn only_what_may_have_healed_goes_back_by_itself(world: LedgerWorld) {
        let healed = [world.parked_for("attempts_used_up").await, world.parked_for("unanswered").await, world.parked_for("process_died").await];
        for reason in ["rejected", "malformed", "unknown_version", "too_many_hops"] {
            world.parked_for(reason).await;
        }
        world.parked_ago(61).await;
        world.auto(3, 60).await;
        assert_eq!(world.auto_redriven().await, world.seqs(&healed).await);
        assert_eq!(world.number("select count(*) from switchyard.delivery where state = 'p'").await, 4);
        let row = world.store.audit(1).await.unwrap().remove(0);
        assert_eq!((row.action.as_str(), &row.detail), ("auto_redrive", &serde_json::json!({"redriven": 3})));
    }

    async fn each_automatic_redrive_waits_twice_as_long_until_it_is_given_up(world: LedgerWorld) {
        let event = world.parked_for("attempts_used_up").await;
        world.auto(3, 60).await;
        for wait in [60, 120, 240] {
            world.parked_ago(wait - 5).await;
            assert!(world.auto_redriven().await.is_empty(), "{wait}");
            world.parked_ago(wait + 1).await;
            assert_eq!(world.auto_redriven().await, [world.seq(event).await], "{wait}");
            world.park_for(event, "attempts_used_up", "again").await;
        }
        world.parked_ago(1_000_000).await;
        assert!(world.auto_redriven().await.is_empty());
        assert_eq!(world.told().await[0].redrives, 3);
    }

    async fn at_most_a_hundred_go_back_by_themselves_at_once_the_longest_parked_first(world: LedgerWorld) {
        world.run_sql("insert into events (id, type) select gen_random_uuid(), 'thing.made' from generate_series(1, 150)").await;
        world.run_sql("insert into switchyard.delivery (seq, run, agent, owner, state, reason, at)
            select l.seq, 0, a.id, 'n', 'p', 'unanswered', now() - l.seq * interval '1 hour' from switchyard.event_log l cross join switchyard.agent a").await;
        world.auto(1, 60).await;
        assert_eq!(world.auto_redriven().await, (51..=150).collect::<Vec<i64>>());
        assert_eq!(world.auto_redriven().await, (1..=50).collect::<Vec<i64>>());
    }

    async fn an_automatic_redrive_is_set_within_bounds_and_on_record(world: LedgerWorld) {
        for (times, first_after_secs) in [(0, 60), (101, 60), (1, 0)] {
            let refused = world.store.set_auto_redrive(AGENT, Some(AutoRedrive { times, first_after_secs }), "alice").await;
            assert!(matches!(refused, Err(StoreError::Refused { .. })), "{times}, {first_after_secs}");
        }
        world.auto(5, 900).await;
        let row = world.store.audit(1).await.unwrap().remove(0);
        assert_eq!((row.by.as_str(), row.action.as_str()), ("alice", "set_auto_redrive"));
        assert_eq!((&row.detail["times"], &row.detail["first_after_secs"]), (&5.into(), &900.into()));
    }

    async fn the_state_of_deliveries_is_told_as_it_is_now_and_in_the_order_asked(world: LedgerWorld) {
        let [done, parked, unheard] = [world.event("thing.made").await, world.event("thing.made").await, world.event("thing.sold").await];
        world.claim(done).await;
        world.park(parked).await;
        let asked = [(parked, 0), (Uuid::new_v4(), 0), (done, 0), (done, 7), (unheard, 0), (parked, 0)];
        let expected = [Some(State::Parked), None, Some(State::Done), None, None, Some(State::Parked)];
        assert_eq!(world.store.settled(AGENT, &asked).await.unwrap(), expected);
        assert!(matches!(world.store.settled("nobody", &asked).await, Err(StoreError::Config { .. })));
    }

    async fn failures_are_told_newest_first_and_not_too_many(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.fail(event).await;
        world.park(event).await;
        let told = world.store.failures(AGENT, 10).await.unwrap();
        assert_eq!(told.iter().map(|f| (f.parked, f.attempt)).collect::<Vec<_>>(), [(true, 1), (false, 1)]);
        assert_eq!((told[0].seq, told[0].error.as_deref()), (Some(world.seq(event).await), Some("it went boom")));
        assert_eq!(world.store.failures(AGENT, 1).await.unwrap().len(), 1);
        assert!(world.store.failures("nobody", 10).await.unwrap().is_empty());
    }

    async fn a_note_from_outside_is_on_record_under_its_operators_name(world: LedgerWorld) {
        world.store.note("frank", "move_started", Some(AGENT), r#"{"handle": "h-1"}"#).await.unwrap();
        let row = world.store.audit(1).await.unwrap().remove(0);
        assert_eq!((row.by.as_str(), row.action.as_str(), row.component.as_deref()), ("frank", "move_started", Some(AGENT)));
        assert_eq!(row.detail, serde_json::json!({"handle": "h-1"}));
        world.store.set_routing(AGENT, Mode::Full, "ada").await.unwrap();
        assert_ne!(world.store.audit(1).await.unwrap()[0].by, "frank", "the name ends with its transaction");
        assert!(matches!(world.store.note("frank", "x", None, "no JSON").await, Err(StoreError::Refused { .. })));
    }

    async fn a_time_that_is_none_is_refused_in_words(world: LedgerWorld) {
        for (selection, name) in [
            (Selection { since: Some("yesterday".into()), ..everything() }, "since"),
            (Selection { until: Some("2026-01-01T00:00:00".into()), ..everything() }, "until"),
        ] {
            let refused = world.store.parked(AGENT, &selection).await.unwrap_err().to_string();
            assert!(refused.starts_with(&format!("{name} is not a time in RFC 3339, such as 2026-01-31T12:00:00Z")), "{refused}");
            assert!(world.store.redrive(AGENT, &selection, 0, "alice", "x").await.is_err());
        }
    }

    async fn exactly_the_deliveries_that_are_named_go_back(world: LedgerWorld) {
        let [one, other, failing] = [world.parked_for("x").await, world.parked_for("x").await, world.event("thing.made").await];
        world.fail(failing).await;
        let named = [(one, 0), (one, 0), (failing, 0), (other, 7), (Uuid::new_v4(), 0)];
        let back = world.store.redrive_these(AGENT, &named, 60, "alice", "mended").await.unwrap();
        assert_eq!(back, [(one, 0)]);
        assert_eq!([world.row(one).await.epoch, world.row(other).await.epoch, world.row(failing).await.epoch], [1, 0, 0]);
        let row = world.store.audit(1).await.unwrap().remove(0);
        assert_eq!((row.action.as_str(), &row.detail["redriven"], &row.detail["defer_secs"]), ("redrive", &1.into(), &60.into()));
        assert!(world.store.redrive_these(AGENT, &named, 60, "alice", "mended").await.unwrap().is_empty());
        assert!(world.store.redrive_these(AGENT, &[], 60, "alice", "mended").await.unwrap().is_empty());
    }

    async fn only_unmatched_messages_that_were_sent_leave_the_list(world: LedgerWorld) {
        let [there, gone] = [Uuid::new_v4(), Uuid::new_v4()];
        world.park_for(there, "not_in_table", "?").await;
        world.park_for(gone, "not_in_table", "?").await;
        world.unidentified("m-1", "malformed").await;
        world.unidentified("m-2", "malformed").await;
        let sent = world.store.sent_back(AGENT, &[there], &["m-2".into()], "alice").await.unwrap();
        assert_eq!(sent, 2);
        let groups = world.groups().await;
        assert_eq!(groups.iter().map(|g| g.count).sum::<i64>(), 2);
        assert!(groups.iter().any(|g| g.examples == [gone]));
        assert_eq!(world.store.sent_back(AGENT, &[], &[], "alice").await.unwrap(), 0, "nothing named is nothing");
        assert_eq!(world.store.sent_back(AGENT, &[there], &["m-2".into()], "alice").await.unwrap(), 0);
    }

    async fn pages_follow_one_another_and_the_number_is_counted_without_them(world: LedgerWorld) {
        let mut events = Vec::new();
        for _ in 0..5 {
            events.push(world.parked_for("x").await);
        }
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = world.store.parked_deliveries(AGENT, &everything(), after, 2).await.unwrap();
            seen.extend(page.iter().map(|one| one.event_id));
            after = page.last().map(|one| (one.seq, one.run));
            if page.len() < 2 {
                break;
            }
        }
        assert_eq!(seen, events);
        assert_eq!(world.store.parked_count(AGENT, &everything()).await.unwrap(), 5);
        let some = Selection { events: events[..3].to_vec(), ..everything() };
        assert_eq!(world.store.parked_count(AGENT, &some).await.unwrap(), 3);
        assert_eq!(world.store.parked_count(AGENT, &Selection { at_most: Some(2), ..some.clone() }).await.unwrap(), 2);
        assert_eq!(world.store.parked_deliveries(AGENT, &Selection { at_most: Some(1), ..some }, None, 2).await.unwrap().len(), 1);
    }

    async fn what_is_dismissed_is_expired_for_good_and_counted_once(world: LedgerWorld) {
        let [one, other] = [world.parked_for("x").await, world.parked_for("y").await];
        let selection = Selection { reasons: vec!["x".into()], ..everything() };
        assert_eq!(world.store.dismiss(AGENT, &selection, "alice", "nobody needs it").await.unwrap(), 1);
        assert_eq!(world.store.dismiss(AGENT, &selection, "alice", "nobody needs it").await.unwrap(), 0);
        assert!(world.row(one).await.is("n", "e"));
        assert!(world.row(other).await.is("n", "p"));
        assert_eq!(world.number("select count(*) from switchyard.delivery where reason = 'dismissed'").await, 1);
        assert_eq!(world.claim(one).await, Verdict::AlreadyDone);
        let trail = world.store.audit(100).await.unwrap();
        let rows: Vec<_> = trail.iter().filter(|r| r.action == "dismiss").collect();
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].by.as_str(), &rows[0].detail["dismissed"], &rows[0].detail["reason"]), ("alice", &1.into(), &"nobody needs it".into()));
    }
}
