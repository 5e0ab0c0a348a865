//! What the ledger says of a backfill's deliveries.

use super::world::{all, minute, since};
use crate::store::{
    directly_and_pooled,
    world::{AGENT, Deadline},
};
use switchyard_store::{
    Ask, BackfillSelection, BackfillState, Mode, Overwrite, Retention, Selection, Settlement, StoreError, Verdict,
};
use uuid::Uuid;

directly_and_pooled! {
    async fn every_selected_event_is_taken_once_the_oldest_first(world: LedgerWorld) {
        let events = world.histories(25).await;
        world.history("other.type", 3).await;
        let run = world.backfill(&all()).await;
        world.prepare().await;
        let mut taken = Vec::new();
        for _ in 0..4 {
            taken.extend(world.take(10).await);
        }
        assert_eq!(taken, events);
        for event in &events {
            assert!(world.delivery(*event, run).await.unwrap().is("n", "a"));
            assert_eq!(world.claim_run(*event, run).await, Verdict::Take);
            assert_eq!(world.claim_run(*event, run).await, Verdict::AlreadyDone);
        }
    }

    async fn a_backfill_emits_events_and_a_replay_does_not(world: LedgerWorld) {
        let event = world.history("thing.made", 1).await;
        let live = world.event("thing.made").await;
        let run = world.backfill(&all()).await;
        world.prepare().await;
        world.take_all().await;
        world.claim(live).await;
        let replay = world.store.new_run(AGENT, "again").await.unwrap();
        world.resend(live, replay).await;
        let asks = [(event, run), (live, replay), (live, 0)].map(|(event_id, run)| Ask { event_id, run, epoch: None });
        let emits: Vec<bool> =
            world.store.preview(AGENT, &asks).await.unwrap().answers.iter().map(|standing| standing.emits).collect();
        assert_eq!(emits, [true, false, true]);
    }

    async fn a_step_whose_connection_is_lost_before_its_commit_has_not_happened(world: LedgerWorld) {
        let events = world.histories(10).await;
        world.backfill(&all()).await;
        world.prepare().await;
        assert_eq!(world.take(4).await, events[..4]);
        world.fill_bucket().await;
        let mut dies = world.store.begin().await.unwrap();
        let taken = dies.query("select cardinality(seqs) from switchyard.take_backfill('painter', 4, 1000)", &[]).await.unwrap();
        assert_eq!(taken[0].get::<_, i32>(0), 4);
        drop(dies);
        assert_eq!(world.take_all().await, events[4..], "the same ones again, and none of them lost");
        assert_eq!(world.number("select count(*) from switchyard.delivery where run > 0").await, 10);
    }

    async fn what_was_taken_and_never_sent_is_due_when_its_lease_runs_out(world: LedgerWorld) {
        let events = world.histories(3).await;
        let run = world.backfill(&all()).await;
        world.prepare().await;
        world.take_all().await;
        assert!(world.due().await.is_empty(), "leased");
        world.let_time_pass().await;
        assert_eq!(world.due().await, events.iter().map(|event| (*event, run, 0)).collect::<Vec<_>>());
    }

    async fn two_concurrent_takers_take_each_event_once(world: LedgerWorld) {
        let events = world.histories(40).await;
        world.backfill(&all()).await;
        world.prepare().await;
        world.fill_bucket().await;
        let taking = (0..4).map(|_| {
            let store = world.store.clone();
            tokio::spawn(async move { store.take_backfill(AGENT, 10, 1_000).await.unwrap().due })
        });
        let mut seqs = Vec::new();
        for some in taking.collect::<Vec<_>>() {
            seqs.extend(some.await.unwrap().iter().map(|due| due.seq));
        }
        seqs.sort_unstable();
        assert_eq!(seqs, (-40..0).collect::<Vec<i64>>());
        assert_eq!(world.progress().await.taken, i64::try_from(events.len()).unwrap());
    }

    async fn a_backfill_never_exceeds_its_unfinished_limit(world: LedgerWorld) {
        let events = world.histories(10).await;
        let run = world.backfill(&all()).await;
        world.prepare().await;
        world.fill_bucket().await;
        let take = async || world.store.take_backfill(AGENT, 100, 4).await.unwrap().due.len();
        assert_eq!((take().await, take().await), (4, 0));
        world.claim_run(events[0], run).await;
        world.fail_as(events[1], run, None).await;
        world.park_as(events[2], run, None).await;
        assert_eq!(take().await, 2, "done and parked make room, what is to be tried again does not");
    }

    async fn a_rate_lets_pass_what_time_has_brought_and_never_more_than_a_minute_of_it(world: LedgerWorld) {
        let allowed = async |since: &str| {
            world.number(&format!("select switchyard._allowance('2026-01-01 12:00:00', {since}, 10, '1 minute')")).await
        };
        assert_eq!(allowed("timestamptz '2026-01-01 11:59:58.55'").await, 14);
        assert_eq!(allowed("timestamptz '2026-01-01 10:00:00'").await, 600);
        assert_eq!(allowed("timestamptz '2026-01-01 12:00:05'").await, 0);
    }

    async fn whatever_is_taken_uses_up_its_share_of_the_rate(world: LedgerWorld) {
        world.histories(30).await;
        world.store.start_backfill(AGENT, &all(), 2, "ada").await.unwrap();
        world.prepare().await;
        world.fill_bucket().await;
        let before: f64 = world.one("select extract(epoch from spent_until)::float8 from switchyard.backfill", &[]).await.get(0);
        world.store.take_backfill(AGENT, 20, 1_000).await.unwrap();
        let after: f64 = world.one("select extract(epoch from spent_until)::float8 from switchyard.backfill", &[]).await.get(0);
        // What is older than a minute is forfeited, so a little more than the ten seconds that twenty are worth.
        assert!((10.0..20.0).contains(&(after - before)), "{}", after - before);
        let left = world.store.backfill_now(AGENT).await.unwrap().unwrap().allowance;
        assert!((98..=110).contains(&left), "{left}");
    }

    async fn the_live_ledger_does_not_count_a_backfill_and_its_progress_does(world: LedgerWorld) {
        let events = world.histories(5).await;
        let live = world.event("thing.made").await;
        world.claim(live).await;
        world.sweep_past_everything().await;
        let before = world.store.ledger(AGENT).await.unwrap();
        let run = world.backfill(&all()).await;
        world.prepare().await;
        world.take_all().await;
        world.claim_run(events[0], run).await;
        world.park_as(events[1], run, None).await;
        world.sweep_past_everything().await;
        assert_eq!(world.store.ledger(AGENT).await.unwrap(), before);
        let progress = world.progress().await;
        assert_eq!((progress.selected, progress.taken, progress.done), (5, 5, 1));
        assert_eq!((progress.pending, progress.parked, progress.numbered), (3, 1, 5));
    }

    async fn a_backfill_is_done_when_nothing_of_it_is_unfinished(world: LedgerWorld) {
        let events = world.histories(2).await;
        let run = world.backfill(&all()).await;
        world.prepare().await;
        world.take_all().await;
        let ended = async || world.store.take_backfill(AGENT, 10, 10).await.unwrap().state;
        world.claim_run(events[0], run).await;
        assert_eq!(ended().await, BackfillState::Running);
        world.park_as(events[1], run, None).await;
        assert_eq!(ended().await, BackfillState::Done, "what is parked is for a person, and hinders nothing");
        let progress = world.progress().await;
        assert_eq!((progress.done, progress.parked, progress.ended_at.is_some()), (1, 1, true));
    }

    async fn what_a_backfill_has_parked_is_found_and_goes_back_like_anything_else(world: LedgerWorld) {
        let event = world.history("thing.made", 1).await;
        let run = world.backfill(&all()).await;
        world.prepare().await;
        world.take_all().await;
        world.park_as(event, run, None).await;
        world.store.take_backfill(AGENT, 1, 1).await.unwrap();
        let groups = world.store.parked(AGENT, &Selection::default()).await.unwrap();
        assert_eq!((groups.len(), groups[0].count), (1, 1));
        let page = world.store.parked_deliveries(AGENT, &Selection::default(), None, 10).await.unwrap();
        assert_eq!((page[0].event_id, page[0].run), (event, run));
        let back = world.store.redrive(AGENT, &Selection::default(), 0, "ada", "mended").await.unwrap();
        assert_eq!(back.len(), 1);
        assert_eq!(world.due().await, [(event, run, 1)]);
        assert_eq!(world.claim_run(event, run).await, Verdict::Take, "although the backfill is done");
        assert_eq!(world.number("select count(*) from switchyard.late").await, 0, "nothing of it came too late");
    }

    async fn a_live_event_s_effect_is_not_overwritten_by_an_older_one(world: LedgerWorld) {
        let thing = Uuid::new_v4();
        let old = world.history_of("thing.made", 1, thing, "{}").await;
        let older = world.history_of("thing.made", 0, thing, "{}").await;
        world.backfill(&all()).await;
        world.prepare().await;
        let live = world.event_with("thing.made", thing, "{}").await;
        let mut passed = Vec::new();
        for event in [old, older, live, old] {
            let seq = world.seq(event).await;
            let mut tx = world.store.begin().await.unwrap();
            let (aggregate_type, aggregate_id) = ("thing", &*thing.to_string());
            let overwrite = Overwrite { record: 0, aggregate_type, aggregate_id, seq };
            passed.push(tx.superseded(AGENT, &[overwrite]).await.unwrap().is_empty());
            tx.commit().await.unwrap();
        }
        assert_eq!(passed, [true, false, true, false]);
    }

    async fn a_second_backfill_takes_what_the_first_has_not_done(world: LedgerWorld) {
        let events = world.histories(6).await;
        let first = world.backfill(&all()).await;
        world.prepare().await;
        world.take(4).await;
        world.claim_run(events[0], first).await;
        world.park_as(events[1], first, None).await;
        assert_eq!(world.store.cancel_backfill(AGENT, "ada").await.unwrap(), 3, "two under way and one parked");
        assert_eq!(world.claim_run(events[2], first).await, Verdict::AlreadyDone, "what is still in a queue does nothing");
        assert_eq!(world.backfill_done(&all()).await, events[1..]);
        assert!(world.backfill_done(&all()).await.is_empty());
    }

    async fn what_was_superseded_in_a_backfill_is_settled_for_good(world: LedgerWorld) {
        let event = world.history("thing.made", 1).await;
        let run = world.backfill(&all()).await;
        world.prepare().await;
        world.take_all().await;
        let mut tx = world.store.begin().await.unwrap();
        let ask = Ask { event_id: event, run, epoch: None };
        tx.claim(AGENT, std::slice::from_ref(&ask)).await.unwrap();
        tx.settle(AGENT, &[ask], Settlement::Superseded, "newer").await.unwrap();
        tx.commit().await.unwrap();
        world.store.take_backfill(AGENT, 1, 1).await.unwrap();
        assert_eq!(world.progress().await.superseded, 1);
        assert!(world.backfill_done(&all()).await.is_empty());
    }

    async fn a_backfill_takes_from_the_log_what_was_logged_before_the_agent_listened(world: LedgerWorld) {
        let old = world.history("thing.sold", 1).await;
        let logged = world.event("thing.sold").await;
        let heard = world.event("thing.made").await;
        world.register(&["thing.made", "thing.changed", "thing.sold"], Mode::Full).await;
        let live = world.event("thing.sold").await;
        assert_eq!(world.backfill_done(&all()).await, [old, logged]);
        for event in [heard, live] {
            assert_eq!(world.claim(event).await, Verdict::Take, "those are the live run's");
        }
    }

    async fn a_selection_is_of_types_projects_and_times(world: LedgerWorld) {
        let mut wanted = Vec::new();
        for minutes in 0..6 {
            for (event_type, project) in [("thing.made", "p"), ("thing.made", "q"), ("thing.changed", "p"), ("other", "p")] {
                let metadata = format!(r#"{{"project_id":"{project}"}}"#);
                let event = world.history_of(event_type, minutes, Uuid::new_v4(), &metadata).await;
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
        let preview = world.store.preview_backfill(AGENT, &selection).await.unwrap();
        assert_eq!((preview.len(), preview[0].events, preview[0].event_type.as_str()), (1, 3, "thing.changed"));
        assert_eq!(world.number("select count(*) from switchyard.event_log").await, 0, "a preview changes nothing");
        assert_eq!(world.backfill_done(&selection).await, wanted);
        assert!(world.store.preview_backfill(AGENT, &selection).await.unwrap().is_empty(), "they are done");
        let of_all = world.store.preview_backfill(AGENT, &all()).await.unwrap();
        assert_eq!(of_all.iter().map(|one| one.events).sum::<i64>(), 15, "in the log and not in the log yet");
    }

    async fn only_what_the_routing_gives_the_agent_is_taken_and_a_later_one_takes_the_rest(world: LedgerWorld) {
        for minutes in 0..40 {
            world.history("thing.made", minutes).await;
        }
        world.routing(Mode::Percent(50)).await;
        let first = world.backfill_done(&all()).await;
        let progress = world.progress().await;
        assert!((1..40).contains(&first.len()), "{}", first.len());
        assert_eq!((progress.selected, progress.left_out), (first.len() as i64, 40 - first.len() as i64));
        world.routing(Mode::Full).await;
        let rest = world.backfill_done(&all()).await;
        assert_eq!(first.len() + rest.len(), 40);
        assert!(rest.iter().all(|event| !first.contains(event)));
    }

    async fn a_rollback_stops_it_and_nothing_of_it_becomes_the_old_system_s(world: LedgerWorld) {
        let events = world.histories(4).await;
        let run = world.backfill(&all()).await;
        world.prepare().await;
        world.take(2).await;
        world.routing(Mode::Off).await;
        world.reassign_completely().await;
        assert!(world.take(2).await.is_empty());
        assert!(!world.store.backfill_now(AGENT).await.unwrap().unwrap().owns);
        assert!(world.delivery(events[0], run).await.unwrap().is("n", "a"));
        world.routing(Mode::Full).await;
        assert_eq!(world.take(2).await, events[2..]);
    }

    async fn retention_keeps_what_a_backfill_is_about_and_forgets_it_later(world: LedgerWorld) {
        world.run_sql("select switchyard.add_partition(9000001, 9000002)").await;
        let old = world.history("thing.sold", 1).await;
        let logged = world.event("thing.sold").await;
        world.register(&["thing.made", "thing.changed", "thing.sold"], Mode::Full).await;
        world.run_sql("select setval('switchyard.event_log_seq_seq', 1000005)").await;
        world.event("thing.made").await;
        world.sweep_past_everything().await;
        world.run_sql("update switchyard.event_log set logged_at = '2020-02-01' where seq > 0").await;
        let run = world.backfill(&all()).await;
        assert_eq!(world.store.drop_oldest().await.unwrap(), Retention::Kept("a backfill".into()));
        world.prepare().await;
        world.take_all().await;
        for event in [old, logged] {
            world.claim_run(event, run).await;
        }
        world.store.take_backfill(AGENT, 1, 1).await.unwrap();
        assert_eq!(world.store.drop_oldest().await.unwrap(), Retention::Kept("a backfill".into()), "its copies may still come");
        world.run_sql("update switchyard.backfill set ended_at = ended_at - interval '46 days'").await;
        assert_eq!(world.store.drop_oldest().await.unwrap(), Retention::Kept("what a backfill has done".into()));
        assert_eq!(world.number("select seq from switchyard.floor").await, 1_000_001, "nothing else of that time is run again");
        for event in [old, logged] {
            assert_eq!(world.claim_run(event, run).await, Verdict::AlreadyDone, "it is remembered for good");
        }
        assert!(world.backfill_done(&all()).await.is_empty(), "nor does another backfill do it again");
    }

    async fn what_an_earlier_backfill_has_done_is_not_done_again_after_retention(world: LedgerWorld) {
        let sold: [Uuid; 4] = std::array::from_fn(|_| Uuid::new_v4());
        for thing in sold {
            world.event_with("thing.sold", thing, "{}").await;
        }
        let late = world.event("thing.lost").await;
        world.run_sql("select setval('switchyard.event_log_seq_seq', 1000005)").await;
        let later = world.event("thing.sold").await;
        world.register(&["thing.made", "thing.changed", "thing.sold"], Mode::Full).await;
        world.run_sql("select setval('switchyard.event_log_seq_seq', 2000005)").await;
        world.event("thing.made").await;
        world.sweep_past_everything().await;
        world.run_sql("update switchyard.event_log set logged_at = '2020-02-01'").await;
        // The first takes a part and is cancelled, the second leaves some to the old system.
        let run = world.backfill(&all()).await;
        world.prepare().await;
        let deadline = Deadline::new("taking one");
        let first = loop {
            deadline.check();
            world.store.tick().await.unwrap();
            if let Some(event) = world.take(1).await.first() {
                break *event;
            }
        };
        world.claim_run(first, run).await;
        world.store.cancel_backfill(AGENT, "ada").await.unwrap();
        world.run_sql(&format!("update switchyard.agent set mode = 'percent', percent = 0, pinned_new = '{{q}}'; update switchyard.event_log set project_id = 'q' where event_id = '{later}'")).await;
        assert_eq!(world.backfill_done(&all()).await, [later]);
        assert_eq!(world.progress().await.left_out, 3);
        world.run_sql("update switchyard.backfill set ended_at = ended_at - interval '46 days'").await;
        for _ in 0..2 {
            assert_eq!(world.store.drop_oldest().await.unwrap(), Retention::Kept("what a backfill has done".into()));
        }
        world.routing(Mode::Full).await;
        let rest = world.backfill_done(&all()).await;
        assert_eq!((rest.len(), rest.contains(&first), rest.contains(&later)), (3, false, false));
        assert!(!rest.contains(&late));
    }

    async fn a_new_agent_can_backfill_dropped_events_between_kept_partitions(world: LedgerWorld) {
        let lost = world.event("thing.lost").await;
        world.run_sql("select setval('switchyard.event_log_seq_seq', 1000005)").await;
        let sold = world.event("thing.sold").await;
        world.register(&["thing.made", "thing.changed", "thing.sold"], Mode::Full).await;
        world.run_sql("select setval('switchyard.event_log_seq_seq', 2000005)").await;
        world.event("thing.made").await;
        world.sweep_past_everything().await;
        world.run_sql("update switchyard.event_log set logged_at = '2020-02-01'").await;
        assert_eq!(world.backfill_done(&all()).await, [sold]);
        world.run_sql("update switchyard.backfill set ended_at = ended_at - interval '46 days'").await;
        assert!(matches!(world.store.drop_oldest().await.unwrap(), Retention::Dropped(_)));
        assert!(matches!(world.store.drop_oldest().await.unwrap(), Retention::Kept(_)));
        world.register(&["thing.made", "thing.changed", "thing.sold", "thing.lost"], Mode::Full).await;
        assert_eq!(world.backfill_done(&all()).await, [lost]);
        assert!(world.backfill_done(&all()).await.is_empty());
    }

    async fn what_was_cancelled_is_left_out_and_what_waits_for_its_time_until_then(world: LedgerWorld) {
        let later = r#"{"deliver_at": "2999-01-01T00:00:00Z"}"#;
        let [cancelled, waiting] = [
            world.event_with("thing.sold", Uuid::new_v4(), later).await, world.event_with("thing.sold", Uuid::new_v4(), later).await,
        ];
        let history_waiting = world.history_of("thing.sold", 1, Uuid::new_v4(), later).await;
        let plain = world.event("thing.sold").await;
        world.store.cancel_delayed(&[cancelled], "ada", "sent by mistake").await.unwrap();
        world.register(&["thing.made", "thing.changed", "thing.sold"], Mode::Full).await;
        let previewed = async || world.store.preview_backfill(AGENT, &all()).await.unwrap().iter().map(|one| one.events).sum::<i64>();
        assert_eq!(previewed().await, 1);
        assert_eq!(world.backfill_done(&all()).await, [plain]);
        assert_eq!(world.progress().await.left_out, 3);
        world.run_sql("update switchyard.event_log set due_at = '2020-02-01' where due_at is not null").await;
        assert_eq!(previewed().await, 2);
        assert_eq!(world.backfill_done(&all()).await, [history_waiting, waiting]);
        assert_eq!(world.progress().await.left_out, 1, "what was cancelled is nobody's");
    }

    async fn what_retention_has_dropped_can_still_be_backfilled_for_who_never_had_it(world: LedgerWorld) {
        let logged = world.event("thing.sold").await;
        world.run_sql("select setval('switchyard.event_log_seq_seq', 1000005)").await;
        world.event("thing.made").await;
        world.sweep_past_everything().await;
        world.run_sql("update switchyard.event_log set logged_at = '2020-02-01'").await;
        assert!(matches!(world.store.drop_oldest().await.unwrap(), Retention::Dropped(_)));
        world.register(&["thing.made", "thing.changed", "thing.sold"], Mode::Full).await;
        assert_eq!(world.claim(logged).await, Verdict::TooOld);
        assert_eq!(world.backfill_done(&all()).await, [logged]);
        assert!(!matches!(world.store.drop_oldest().await.unwrap(), Retention::Dropped(_)), "it stays below the floor");
        assert_eq!(world.number("select seq from switchyard.floor").await, 1_000_001);
        assert!(world.backfill_done(&all()).await.is_empty());
    }

    async fn cancelling_the_run_cancels_the_backfill(world: LedgerWorld) {
        world.histories(3).await;
        let run = world.backfill(&all()).await;
        world.prepare().await;
        world.store.cancel_run(run).await.unwrap();
        assert!(world.take(3).await.is_empty());
        assert_eq!(world.progress().await.state, BackfillState::Cancelled);
        assert!(matches!(world.store.prepare_backfill(AGENT).await, Err(StoreError::Config { .. })));
    }
}
