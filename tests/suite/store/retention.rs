//! What is forgotten, and when.

use switchyard_store::{Ask, Retention, Selection, Settlement, Verdict};
use uuid::Uuid;

use super::directly_and_pooled;
use super::world::{AGENT, LedgerWorld};

/// Small partitions, an old event in the first, and a watermark that has passed it.
async fn with_an_old_event(world: &LedgerWorld) -> Uuid {
    world.run_sql("do $$ declare p record; begin for p in select name from switchyard.delivery_partitions() loop execute 'drop table switchyard.' || p.name; end loop; end $$").await;
    world.run_sql("select switchyard.add_partition(1, 3), switchyard.add_partition(3, 1000)").await;
    let event = world.event("thing.made").await;
    for _ in 0..4 {
        let other = world.event("thing.made").await;
        world.claim(other).await;
    }
    world.run_sql("update switchyard.event_log set logged_at = logged_at - interval '46 days'").await;
    event
}

async fn drop_oldest(world: &LedgerWorld) -> Retention {
    world.store.drop_oldest().await.unwrap()
}

directly_and_pooled! {
    async fn the_oldest_partition_goes_once_everything_in_it_is_settled_and_swept(world: LedgerWorld) {
        let event = with_an_old_event(&world).await;
        assert_eq!(drop_oldest(&world).await, Retention::Kept("not swept".into()));
        world.sweep_past_everything().await;
        assert_eq!(drop_oldest(&world).await, Retention::Kept("unfinished rows".into()));
        world.settle(event, Settlement::Expired).await;
        let before = world.store.ledger(AGENT).await.unwrap();
        assert_eq!(drop_oldest(&world).await, Retention::Dropped("delivery_1".into()));
        assert_eq!(world.store.ledger(AGENT).await.unwrap(), before, "its counts are kept");
        assert_eq!(world.claim(event).await, Verdict::TooOld);
        assert_eq!(drop_oldest(&world).await, Retention::Kept("in use".into()));
    }

    async fn a_partition_with_events_of_the_last_45_days_stays(world: LedgerWorld) {
        let event = with_an_old_event(&world).await;
        world.claim(event).await;
        world.sweep_past_everything().await;
        world.run_sql("update switchyard.event_log set logged_at = now() - interval '44 days' where seq = 2").await;
        assert_eq!(drop_oldest(&world).await, Retention::Kept("too young".into()));
    }

    async fn a_sweep_never_brings_back_what_is_below_the_floor(world: LedgerWorld) {
        let event = with_an_old_event(&world).await;
        world.claim(event).await;
        world.sweep_past_everything().await;
        assert_eq!(drop_oldest(&world).await, Retention::Dropped("delivery_1".into()));
        assert_eq!(world.sweep().await, 0);
        let seq = world.seq(event).await;
        let resent = world.store.resend(AGENT, &[seq], 0, "please").await.unwrap();
        assert_eq!((resent.added, resent.redriven), (0, 0));
    }

    async fn a_drop_gives_way_to_a_claim_that_is_in_flight_and_kills_none(world: LedgerWorld) {
        let event = with_an_old_event(&world).await;
        world.claim(event).await;
        world.sweep_past_everything().await;
        let [first, second] = [world.event("thing.made").await, world.event("thing.made").await];
        let mut in_flight = world.store.begin().await.unwrap();
        in_flight.claim(AGENT, &[Ask::live(first)]).await.unwrap();
        // Long enough to be seen waiting, however slow the machine.
        let body: String = world.one("select pg_get_functiondef('switchyard.drop_oldest'::regproc)", &[]).await.get(0);
        assert!(body.contains("'200ms'"));
        world.run_sql(&body.replace("'200ms'", "'2s'")).await;
        // Touches the old partition while the drop wants it.
        let claiming = async {
            world.lock_is_awaited().await;
            in_flight.claim(AGENT, &[Ask::live(event), Ask::live(second)]).await
        };
        let (dropped, taken) = tokio::join!(world.store.drop_oldest(), claiming);
        assert!(matches!(&dropped, Err(e) if e.is_conflict()), "{dropped:?}");
        assert_eq!(taken.unwrap().iter().map(|s| s.verdict).collect::<Vec<_>>(), [Verdict::AlreadyDone, Verdict::Take]);
        in_flight.commit().await.unwrap();
        assert_eq!(drop_oldest(&world).await, Retention::Dropped("delivery_1".into()));
    }

    async fn a_partition_that_stays_is_not_even_locked(world: LedgerWorld) {
        with_an_old_event(&world).await;
        let mut in_flight = world.store.begin().await.unwrap();
        in_flight.claim(AGENT, &[Ask::live(world.event("thing.made").await)]).await.unwrap();
        assert_eq!(drop_oldest(&world).await, Retention::Kept("not swept".into()));
        in_flight.rollback().await.unwrap();
    }

    async fn what_is_dismissed_holds_retention_up_no_longer(world: LedgerWorld) {
        let event = with_an_old_event(&world).await;
        world.park(event).await;
        world.sweep_past_everything().await;
        assert_eq!(drop_oldest(&world).await, Retention::Kept("unfinished rows".into()));
        assert_eq!(world.store.dismiss(AGENT, &Selection::default(), "alice", "of no use").await.unwrap(), 1);
        assert_eq!(drop_oldest(&world).await, Retention::Dropped("delivery_1".into()));
    }

    async fn failures_and_audit_rows_go_after_a_year_and_late_arrivals_with_the_deliveries(world: LedgerWorld) {
        let [old, young] = [world.event("thing.made").await, world.event("thing.made").await];
        for event in [old, young] {
            world.fail(event).await;
            world.run_sql(&format!("insert into switchyard.late (agent, event_id, run) values (1, '{event}', 0)")).await;
        }
        let rows = "select (select count(*) from switchyard.failure) + (select count(*) from switchyard.late) + (select count(*) from switchyard.audit)";
        let before = world.number(rows).await;
        assert_eq!(world.store.prune().await.unwrap(), 0);
        world.run_sql(&format!("update switchyard.failure set at = at - interval '366 days' where event_id = '{old}'")).await;
        world.run_sql("update switchyard.audit set at = at - interval '366 days' where id = (select min(id) from switchyard.audit)").await;
        world.run_sql(&format!("update switchyard.late set first_at = first_at - interval '46 days' where event_id = '{old}'")).await;
        assert_eq!(world.store.prune().await.unwrap(), 3);
        assert_eq!(world.number(rows).await, before - 3);
        assert_eq!(world.store.failures(AGENT, 10).await.unwrap()[0].event_id, Some(young));
    }

    async fn the_hourly_check_runs_once_an_hour(world: LedgerWorld) {
        let hour = std::time::Duration::from_secs(3_600);
        let (one, other) = tokio::join!(world.store.deeper(hour), world.store.deeper(hour));
        assert!(one.unwrap() ^ other.unwrap());
        assert!(!world.store.deeper(hour).await.unwrap());
        world.run_sql("update switchyard.hourly_check set at = at - interval '61 minutes'").await;
        assert!(world.store.deeper(hour).await.unwrap());
    }
}
