//! What the ledger says of a backfill's deliveries.

use super::scene::{all, minute, since};
use crate::store::{
    directly_and_pooled,
    scene::{AGENT, Deadline},
};
use switchyard_store::{
    Ask, BackfillSelection, BackfillState, Mode, Overwrite, Retention, Selection, Settlement, StoreError, Verdict,
};
use uuid::Uuid;

directly_and_pooled! {
    async fn every_selected_event_is_taken_once_the_oldest_first(scene: Scene) {
        let events = scene.histories(25).await;
        scene.history("other.type", 3).await;
        let run = scene.backfill(&all()).await;
        scene.prepare().await;
        let mut taken = Vec::new();
        for _ in 0..4 {
            taken.extend(scene.take(10).await);
        }
        assert_eq!(taken, events);
        for event in &events {
            assert!(scene.delivery(*event, run).await.unwrap().is("n", "a"));
            assert_eq!(scene.claim_run(*event, run).await, Verdict::Take);
            assert_eq!(scene.claim_run(*event, run).await, Verdict::AlreadyDone);
        }
    }

    async fn a_backfill_emits_events_and_a_replay_does_not(scene: Scene) {
        let event = scene.history("thing.made", 1).await;
        let live = scene.event("thing.made").await;
        let run = scene.backfill(&all()).await;
        scene.prepare().await;
        scene.take_all().await;
        scene.claim(live).await;
        let replay = scene.store.new_run(AGENT, "again").await.unwrap();
        scene.resend(live, replay).await;
        let asks = [(event, run), (live, replay), (live, 0)].map(|(event_id, run)| Ask { event_id, run, epoch: None });
        let emits: Vec<bool> =
            scene.store.preview(AGENT, &asks).await.unwrap().answers.iter().map(|standing| standing.emits).collect();
        assert_eq!(emits, [true, false, true]);
    }

    async fn a_step_whose_connection_is_lost_before_its_commit_has_not_happened(scene: Scene) {
        let events = scene.histories(10).await;
        scene.backfill(&all()).await;
        scene.prepare().await;
        assert_eq!(scene.take(4).await, events[..4]);
        scene.fill_bucket().await;
        let mut dies = scene.store.begin().await.unwrap();
        let taken = dies.query("select cardinality(seqs) from switchyard.take_backfill('painter', 4, 1000)", &[]).await.unwrap();
        assert_eq!(taken[0].get::<_, i32>(0), 4);
        drop(dies);
        assert_eq!(scene.take_all().await, events[4..], "the same ones again, and none of them lost");
        assert_eq!(scene.number("select count(*) from switchyard.delivery where run > 0").await, 10);
    }

    async fn what_was_taken_and_never_sent_is_due_when_its_lease_runs_out(scene: Scene) {
        let events = scene.histories(3).await;
        let run = scene.backfill(&all()).await;
        scene.prepare().await;
        scene.take_all().await;
        assert!(scene.due().await.is_empty(), "leased");
        scene.let_time_pass().await;
        assert_eq!(scene.due().await, events.iter().map(|event| (*event, run, 0)).collect::<Vec<_>>());
    }

    async fn two_concurrent_takers_take_each_event_once(scene: Scene) {
        let events = scene.histories(40).await;
        scene.backfill(&all()).await;
        scene.prepare().await;
        scene.fill_bucket().await;
        let taking = (0..4).map(|_| {
            let store = scene.store.clone();
            tokio::spawn(async move { store.take_backfill(AGENT, 10, 1_000).await.unwrap().due })
        });
        let mut seqs = Vec::new();
        for some in taking.collect::<Vec<_>>() {
            seqs.extend(some.await.unwrap().iter().map(|due| due.seq));
        }
        seqs.sort_unstable();
        assert_eq!(seqs, (-40..0).collect::<Vec<i64>>());
        assert_eq!(scene.progress().await.taken, i64::try_from(events.len()).unwrap());
    }

    async fn a_backfill_never_exceeds_its_unfinished_limit(scene: Scene) {
        let events = scene.histories(10).await;
        let run = scene.backfill(&all()).await;
        scene.prepare().await;
        scene.fill_bucket().await;
        let take = async || scene.store.take_backfill(AGENT, 100, 4).await.unwrap().due.len();
        assert_eq!((take().await, take().await), (4, 0));
        scene.claim_run(events[0], run).await;
        scene.fail_as(events[1], run, None).await;
        scene.park_as(events[2], run, None).await;
        assert_eq!(take().await, 2, "done and parked make room, what is to be tried again does not");
    }

    async fn a_rate_lets_pass_what_time_has_brought_and_never_more_than_a_minute_of_it(scene: Scene) {
        let allowed = async |since: &str| {
            scene.number(&format!("select switchyard._allowance('2026-01-01 12:00:00', {since}, 10, '1 minute')")).await
        };
        assert_eq!(allowed("timestamptz '2026-01-01 11:59:58.55'").await, 14);
        assert_eq!(allowed("timestamptz '2026-01-01 10:00:00'").await, 600);
        assert_eq!(allowed("timestamptz '2026-01-01 12:00:05'").await, 0);
    }

    async fn whatever_is_taken_uses_up_its_share_of_the_rate(scene: Scene) {
        scene.histories(30).await;
        scene.store.start_backfill(AGENT, &all(), 2, "ada").await.unwrap();
        scene.prepare().await;
        scene.fill_bucket().await;
        let before: f64 = scene.one("select extract(epoch from spent_until)::float8 from switchyard.backfill", &[]).await.get(0);
        scene.store.take_backfill(AGENT, 20, 1_000).await.unwrap();
        let after: f64 = scene.one("select extract(epoch from spent_until)::float8 from switchyard.backfill", &[]).await.get(0);
        // What is older than a minute is forfeited, so a little more than the ten seconds that twenty are worth.
        assert!((10.0..20.0).contains(&(after - before)), "{}", after - before);
        let left = scene.store.backfill_now(AGENT).await.unwrap().unwrap().allowance;
        assert!((98..=110).contains(&left), "{left}");
    }

    async fn the_live_ledger_does_not_count_a_backfill_and_its_progress_does(scene: Scene) {
        let events = scene.histories(5).await;
        let live = scene.event("thing.made").await;
        scene.claim(live).await;
        scene.sweep_past_everything().await;
        let before = scene.store.ledger(AGENT).await.unwrap();
        let run = scene.backfill(&all()).await;
        scene.prepare().await;
        scene.take_all().await;
        scene.claim_run(events[0], run).await;
        scene.park_as(events[1], run, None).await;
        scene.sweep_past_everything().await;
        assert_eq!(scene.store.ledger(AGENT).await.unwrap(), before);
        let progress = scene.progress().await;
        assert_eq!((progress.selected, progress.taken, progress.done), (5, 5, 1));
        assert_eq!((progress.pending, progress.parked, progress.numbered), (3, 1, 5));
    }

    async fn a_backfill_is_done_when_nothing_of_it_is_unfinished(scene: Scene) {
        let events = scene.histories(2).await;
        let run = scene.backfill(&all()).await;
        scene.prepare().await;
        scene.take_all().await;
        let ended = async || scene.store.take_backfill(AGENT, 10, 10).await.unwrap().state;
        scene.claim_run(events[0], run).await;
        assert_eq!(ended().await, BackfillState::Running);
        scene.park_as(events[1], run, None).await;
        assert_eq!(ended().await, BackfillState::Done, "what is parked is for a person, and hinders nothing");
        let progress = scene.progress().await;
        assert_eq!((progress.done, progress.parked, progress.ended_at.is_some()), (1, 1, true));
    }

    async fn what_a_backfill_has_parked_is_found_and_goes_back_like_anything_else(scene: Scene) {
        let event = scene.history("thing.made", 1).await;
        let run = scene.backfill(&all()).await;
        scene.prepare().await;
        scene.take_all().await;
        scene.park_as(event, run, None).await;
        scene.store.take_backfill(AGENT, 1, 1).await.unwrap();
        let groups = scene.store.parked(AGENT, &Selection::default()).await.unwrap();
        assert_eq!((groups.len(), groups[0].count), (1, 1));
        let page = scene.store.parked_deliveries(AGENT, &Selection::default(), None, 10).await.unwrap();
        assert_eq!((page[0].event_id, page[0].run), (event, run));
        let back = scene.store.redrive(AGENT, &Selection::default(), 0, "ada", "mended").await.unwrap();
        assert_eq!(back.len(), 1);
        assert_eq!(scene.due().await, [(event, run, 1)]);
        assert_eq!(scene.claim_run(event, run).await, Verdict::Take, "although the backfill is done");
        assert_eq!(scene.number("select count(*) from switchyard.late").await, 0, "nothing of it came too late");
    }

    async fn a_live_event_s_effect_is_not_overwritten_by_an_older_one(scene: Scene) {
        let thing = Uuid::new_v4();
        let old = scene.history_of("thing.made", 1, thing, "{}").await;
        let older = scene.history_of("thing.made", 0, thing, "{}").await;
        scene.backfill(&all()).await;
        scene.prepare().await;
        let live = scene.event_with("thing.made", thing, "{}").await;
        let mut passed = Vec::new();
        for event in [old, older, live, old] {
            let seq = scene.seq(event).await;
            let mut tx = scene.store.begin().await.unwrap();
            let (aggregate_type, aggregate_id) = ("thing", &*thing.to_string());
            let overwrite = Overwrite { record: 0, aggregate_type, aggregate_id, seq };
            passed.push(tx.superseded(AGENT, &[overwrite]).await.unwrap().is_empty());
            tx.commit().await.unwrap();
        }
        assert_eq!(passed, [true, false, true, false]);
    }

    async fn a_second_backfill_takes_what_the_first_has_not_done(scene: Scene) {
        let events = scene.histories(6).await;
        let first = scene.backfill(&all()).await;
        scene.prepare().await;
        scene.take(4).await;
        scene.claim_run(events[0], first).await;
        scene.park_as(events[1], first, None).await;
        assert_eq!(scene.store.cancel_backfill(AGENT, "ada").await.unwrap(), 3, "two under way and one parked");
        assert_eq!(scene.claim_run(events[2], first).await, Verdict::AlreadyDone, "what is still in a queue does nothing");
        assert_eq!(scene.backfill_done(&all()).await, events[1..]);
        assert!(scene.backfill_done(&all()).await.is_empty());
    }

    async fn what_was_superseded_in_a_backfill_is_settled_for_good(scene: Scene) {
        let event = scene.history("thing.made", 1).await;
        let run = scene.backfill(&all()).await;
        scene.prepare().await;
        scene.take_all().await;
        let mut tx = scene.store.begin().await.unwrap();
        let ask = Ask { event_id: event, run, epoch: None };
        tx.claim(AGENT, std::slice::from_ref(&ask)).await.unwrap();
        tx.settle(AGENT, &[ask], Settlement::Superseded, "newer").await.unwrap();
        tx.commit().await.unwrap();
        scene.store.take_backfill(AGENT, 1, 1).await.unwrap();
        assert_eq!(scene.progress().await.superseded, 1);
        assert!(scene.backfill_done(&all()).await.is_empty());
    }

    async fn a_backfill_takes_from_the_log_what_was_logged_before_the_agent_listened(scene: Scene) {
        let old = scene.history("thing.sold", 1).await;
        let logged = scene.event("thing.sold").await;
        let heard = scene.event("thing.made").await;
        scene.register(&["thing.made", "thing.changed", "thing.sold"], Mode::Full).await;
        let live = scene.event("thing.sold").await;
        assert_eq!(scene.backfill_done(&all()).await, [old, logged]);
        for event in [heard, live] {
            assert_eq!(scene.claim(event).await, Verdict::Take, "those are the live run's");
        }
    }

    async fn a_selection_is_of_types_projects_and_times(scene: Scene) {
        let mut wanted = Vec::new();
        for minutes in 0..6 {
            for (event_type, project) in [("thing.made", "p"), ("thing.made", "q"), ("thing.changed", "p"), ("other", "p")] {
                let metadata = format!(r#"{{"project_id":"{project}"}}"#);
                let event = scene.history_of(event_type, minutes, Uuid::new_v4(), &metadata).await;
                if event_type == "thing.changed" && project == "p" && (2..5).contains(&minutes) {
                    wanted.push(event);
                }
            }
        }
        let selection = BackfillSelection {
            types: vec!["thing.changed".into()],
            projects: vec!["p".into()],
            until: Some(minute(5)),
            ..since(&minute(2))
        };
        let preview = scene.store.preview_backfill(AGENT, &selection).await.unwrap();
        assert_eq!((preview.len(), preview[0].events, preview[0].event_type.as_str()), (1, 3, "thing.changed"));
        assert_eq!(scene.number("select count(*) from switchyard.event_log").await, 0, "a preview changes nothing");
        assert_eq!(scene.backfill_done(&selection).await, wanted);
        assert!(scene.store.preview_backfill(AGENT, &selection).await.unwrap().is_empty(), "they are done");
        let of_all = scene.store.preview_backfill(AGENT, &all()).await.unwrap();
        assert_eq!(of_all.iter().map(|one| one.events).sum::<i64>(), 15, "in the log and not in the log yet");
    }

    async fn only_what_the_routing_gives_the_agent_is_taken_and_a_later_one_takes_the_rest(scene: Scene) {
        for minutes in 0..40 {
            scene.history("thing.made", minutes).await;
        }
        scene.routing(Mode::Percent(50)).await;
        let first = scene.backfill_done(&all()).await;
        let progress = scene.progress().await;
        assert!((1..40).contains(&first.len()), "{}", first.len());
        assert_eq!((progress.selected, progress.left_out), (first.len() as i64, 40 - first.len() as i64));
        scene.routing(Mode::Full).await;
        let rest = scene.backfill_done(&all()).await;
        assert_eq!(first.len() + rest.len(), 40);
        assert!(rest.iter().all(|event| !first.contains(event)));
    }

    async fn a_rollback_stops_it_and_nothing_of_it_becomes_the_old_system_s(scene: Scene) {
        let events = scene.histories(4).await;
        let run = scene.backfill(&all()).await;
        scene.prepare().await;
        scene.take(2).await;
        scene.routing(Mode::Off).await;
        scene.reassign_completely().await;
        assert!(scene.take(2).await.is_empty());
        assert!(!scene.store.backfill_now(AGENT).await.unwrap().unwrap().owns);
        assert!(scene.delivery(events[0], run).await.unwrap().is("n", "a"));
        scene.routing(Mode::Full).await;
        assert_eq!(scene.take(2).await, events[2..]);
    }

    async fn retention_keeps_what_a_backfill_is_about_and_forgets_it_later(scene: Scene) {
        scene.run_sql("select switchyard.add_partition(9000001, 9000002)").await;
        let old = scene.history("thing.sold", 1).await;
        let logged = scene.event("thing.sold").await;
        scene.register(&["thing.made", "thing.changed", "thing.sold"], Mode::Full).await;
        scene.run_sql("select setval('switchyard.event_log_seq_seq', 1000005)").await;
        scene.event("thing.made").await;
        scene.sweep_past_everything().await;
        scene.run_sql("update switchyard.event_log set logged_at = '2020-02-01' where seq > 0").await;
        let run = scene.backfill(&all()).await;
        assert_eq!(scene.store.drop_oldest().await.unwrap(), Retention::Kept("a backfill".into()));
        scene.prepare().await;
        scene.take_all().await;
        for event in [old, logged] {
            scene.claim_run(event, run).await;
        }
        scene.store.take_backfill(AGENT, 1, 1).await.unwrap();
        assert_eq!(scene.store.drop_oldest().await.unwrap(), Retention::Kept("a backfill".into()), "its copies may still come");
        scene.run_sql("update switchyard.backfill set ended_at = ended_at - interval '46 days'").await;
        assert_eq!(scene.store.drop_oldest().await.unwrap(), Retention::Kept("what a backfill has done".into()));
        assert_eq!(scene.number("select seq from switchyard.floor").await, 1_000_001, "nothing else of that time is run again");
        for event in [old, logged] {
            assert_eq!(scene.claim_run(event, run).await, Verdict::AlreadyDone, "it is remembered for good");
        }
        assert!(scene.backfill_done(&all()).await.is_empty(), "nor does another backfill do it again");
    }

    async fn what_an_earlier_backfill_has_done_is_not_done_again_after_retention(scene: Scene) {
        let sold: [Uuid; 4] = std::array::from_fn(|_| Uuid::new_v4());
        for thing in sold {
            scene.event_with("thing.sold", thing, "{}").await;
        }
        let late = scene.event("thing.lost").await;
        scene.run_sql("select setval('switchyard.event_log_seq_seq', 1000005)").await;
        let later = scene.event("thing.sold").await;
        scene.register(&["thing.made", "thing.changed", "thing.sold"], Mode::Full).await;
        scene.run_sql("select setval('switchyard.event_log_seq_seq', 2000005)").await;
        scene.event("thing.made").await;
        scene.sweep_past_everything().await;
        scene.run_sql("update switchyard.event_log set logged_at = '2020-02-01'").await;
        // The first takes a part and is cancelled, the second leaves some to the old system.
        let run = scene.backfill(&all()).await;
        scene.prepare().await;
        let deadline = Deadline::new("taking one");
        let first = loop {
            deadline.check();
            scene.store.tick().await.unwrap();
            if let Some(event) = scene.take(1).await.first() {
                break *event;
            }
        };
        scene.claim_run(first, run).await;
        scene.store.cancel_backfill(AGENT, "ada").await.unwrap();
        scene.run_sql(&format!("update switchyard.agent set mode = 'percent', percent = 0, pinned_new = '{{q}}'; update switchyard.event_log set project_id = 'q' where event_id = '{later}'")).await;
        assert_eq!(scene.backfill_done(&all()).await, [later]);
        assert_eq!(scene.progress().await.left_out, 3);
        scene.run_sql("update switchyard.backfill set ended_at = ended_at - interval '46 days'").await;
        for _ in 0..2 {
            assert_eq!(scene.store.drop_oldest().await.unwrap(), Retention::Kept("what a backfill has done".into()));
        }
        scene.routing(Mode::Full).await;
        let rest = scene.backfill_done(&all()).await;
        assert_eq!((rest.len(), rest.contains(&first), rest.contains(&later)), (3, false, false));
        assert!(!rest.contains(&late));
    }

    async fn a_new_agent_can_backfill_dropped_events_between_kept_partitions(scene: Scene) {
        let lost = scene.event("thing.lost").await;
        scene.run_sql("select setval('switchyard.event_log_seq_seq', 1000005)").await;
        let sold = scene.event("thing.sold").await;
        scene.register(&["thing.made", "thing.changed", "thing.sold"], Mode::Full).await;
        scene.run_sql("select setval('switchyard.event_log_seq_seq', 2000005)").await;
        scene.event("thing.made").await;
        scene.sweep_past_everything().await;
        scene.run_sql("update switchyard.event_log set logged_at = '2020-02-01'").await;
        assert_eq!(scene.backfill_done(&all()).await, [sold]);
        scene.run_sql("update switchyard.backfill set ended_at = ended_at - interval '46 days'").await;
        assert!(matches!(scene.store.drop_oldest().await.unwrap(), Retention::Dropped(_)));
        assert!(matches!(scene.store.drop_oldest().await.unwrap(), Retention::Kept(_)));
        scene.register(&["thing.made", "thing.changed", "thing.sold", "thing.lost"], Mode::Full).await;
        assert_eq!(scene.backfill_done(&all()).await, [lost]);
        assert!(scene.backfill_done(&all()).await.is_empty());
    }

    async fn what_was_cancelled_is_left_out_and_what_waits_for_its_time_until_then(scene: Scene) {
        let later = r#"{"deliver_at": "2999-01-01T00:00:00Z"}"#;
        let [cancelled, waiting] = [
            scene.event_with("thing.sold", Uuid::new_v4(), later).await, scene.event_with("thing.sold", Uuid::new_v4(), later).await,
        ];
        let history_waiting = scene.history_of("thing.sold", 1, Uuid::new_v4(), later).await;
        let plain = scene.event("thing.sold").await;
        scene.store.cancel_delayed(&[cancelled], "ada", "sent by mistake").await.unwrap();
        scene.register(&["thing.made", "thing.changed", "thing.sold"], Mode::Full).await;
        let previewed = async || scene.store.preview_backfill(AGENT, &all()).await.unwrap().iter().map(|one| one.events).sum::<i64>();
        assert_eq!(previewed().await, 1);
        assert_eq!(scene.backfill_done(&all()).await, [plain]);
        assert_eq!(scene.progress().await.left_out, 3);
        scene.run_sql("update switchyard.event_log set due_at = '2020-02-01' where due_at is not null").await;
        assert_eq!(previewed().await, 2);
        assert_eq!(scene.backfill_done(&all()).await, [history_waiting, waiting]);
        assert_eq!(scene.progress().await.left_out, 1, "what was cancelled is nobody's");
    }

    async fn what_retention_has_dropped_can_still_be_backfilled_for_who_never_had_it(scene: Scene) {
        let logged = scene.event("thing.sold").await;
        scene.run_sql("select setval('switchyard.event_log_seq_seq', 1000005)").await;
        scene.event("thing.made").await;
        scene.sweep_past_everything().await;
        scene.run_sql("update switchyard.event_log set logged_at = '2020-02-01'").await;
        assert!(matches!(scene.store.drop_oldest().await.unwrap(), Retention::Dropped(_)));
        scene.register(&["thing.made", "thing.changed", "thing.sold"], Mode::Full).await;
        assert_eq!(scene.claim(logged).await, Verdict::TooOld);
        assert_eq!(scene.backfill_done(&all()).await, [logged]);
        assert!(!matches!(scene.store.drop_oldest().await.unwrap(), Retention::Dropped(_)), "it stays below the floor");
        assert_eq!(scene.number("select seq from switchyard.floor").await, 1_000_001);
        assert!(scene.backfill_done(&all()).await.is_empty());
    }

    async fn cancelling_the_run_cancels_the_backfill(scene: Scene) {
        scene.histories(3).await;
        let run = scene.backfill(&all()).await;
        scene.prepare().await;
        scene.store.cancel_run(run).await.unwrap();
        assert!(scene.take(3).await.is_empty());
        assert_eq!(scene.progress().await.state, BackfillState::Cancelled);
        assert!(matches!(scene.store.prepare_backfill(AGENT).await, Err(StoreError::Config { .. })));
    }
}
