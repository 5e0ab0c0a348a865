//! Events that could not be published: listed with their reason, and published again on request.

use uuid::Uuid;

use super::directly_and_pooled;
use super::world::LedgerWorld;

impl LedgerWorld {
    async fn refused(&self, event: Uuid, times: usize) {
        let refusal = [(self.seq(event).await, "too large \0 by far".to_owned())];
        for _ in 0..times {
            self.store.refused(&refusal, 3).await.unwrap();
        }
    }
}

directly_and_pooled! {
    async fn an_event_refused_too_often_is_listed_as_unpublishable(world: LedgerWorld) {
        let [twice, thrice] = [world.event("thing.made").await, world.event("thing.sold").await];
        world.refused(twice, 2).await;
        assert!(world.store.unpublishable(10).await.unwrap().is_empty());
        world.refused(thrice, 4).await;
        let told = world.store.unpublishable(10).await.unwrap();
        assert_eq!((told.len(), world.store.unpublishable_count().await.unwrap()), (1, 1));
        assert_eq!((told[0].seq, told[0].event_id, told[0].event_type.as_str()), (world.seq(thrice).await, thrice, "thing.sold"));
        assert_eq!((told[0].reason.as_str(), told[0].attempts), ("too large \u{fffd} by far", 3));
        let failures = world.store.failures("shim", 10).await.unwrap();
        let kept: Vec<_> = failures.iter().map(|f| (f.event_id, f.attempt, f.parked, f.reason.as_str(), f.error.as_deref())).collect();
        assert_eq!(kept, [(Some(thrice), 3, true, "unpublishable", Some("too large \u{fffd} by far"))]);
    }

    async fn the_age_of_the_outbox_is_that_of_the_first_event_that_waits_for_the_shim(world: LedgerWorld) {
        let age = async || world.store.oldest_unpublished_secs().await.unwrap();
        assert_eq!(age().await, 0.0, "nothing waits");
        let event = world.event("thing.made").await;
        world.event("thing.made").await;
        let seq = world.seq(event).await;
        world.run_sql(&format!("update switchyard.event_log set logged_at = now() - interval '10 minutes' where seq = {seq}")).await;
        assert!((600.0..700.0).contains(&age().await));
        world.run_sql(&format!("update switchyard.outbox set due_at = now() + interval '1 hour' where seq = {seq}")).await;
        assert!(age().await < 100.0, "what waits for its own time does not wait for the shim");
        world.run_sql(&format!("update switchyard.outbox set due_at = now() - interval '5 minutes' where seq = {seq}")).await;
        assert!((300.0..400.0).contains(&age().await), "it has waited since its time");
        world.run_sql("update switchyard.outbox set parked_at = now()").await;
        assert_eq!(age().await, 0.0, "what could not be published has an alarm of its own");
    }

    async fn a_retried_outbox_row_starts_with_no_refusals(world: LedgerWorld) {
        let [one, other] = [world.event("thing.made").await, world.event("thing.made").await];
        world.refused(one, 3).await;
        world.refused(other, 3).await;
        assert!(world.pending(10).await.is_empty());
        assert_eq!(world.store.retry_publishing(&[world.seq(one).await], "alice").await.unwrap(), 1);
        assert_eq!(world.pending(10).await.iter().map(|p| p.id).collect::<Vec<_>>(), [one]);
        let row = world.store.audit(1).await.unwrap().remove(0);
        assert_eq!((row.by.as_str(), row.action.as_str(), &row.detail["rows"]), ("alice", "retry_publishing", &1.into()));
        world.refused(one, 2).await;
        assert_eq!(world.store.unpublishable_count().await.unwrap(), 1, "it counts anew");
        assert_eq!(world.store.retry_publishing(&[], "alice").await.unwrap(), 1, "none named: all of them");
        assert_eq!(world.store.retry_publishing(&[], "alice").await.unwrap(), 0);
        assert_eq!(world.pending(10).await.len(), 2);
    }

    async fn what_waited_for_its_time_comes_in_the_order_of_the_sequence_with_the_rest(world: LedgerWorld) {
        let later = world.event_with("thing.made", Uuid::new_v4(), r#"{"deliver_at": "2999-01-01T00:00:00Z"}"#).await;
        let past = world.event_with("thing.made", Uuid::new_v4(), r#"{"deliver_at": "2001-01-01T00:00:00Z"}"#).await;
        let plain = world.event("thing.made").await;
        let again = world.event_with("thing.made", Uuid::new_v4(), r#"{"deliver_at": "2000-01-01T00:00:00Z"}"#).await;
        assert_eq!(world.pending(10).await.iter().map(|p| p.id).collect::<Vec<_>>(), [past, plain, again]);
        assert_eq!(world.pending(2).await.iter().map(|p| p.id).collect::<Vec<_>>(), [past, plain]);
        world.run_sql(&format!("update switchyard.outbox set due_at = now() where seq = {}", world.seq(later).await)).await;
        assert_eq!(world.pending(1).await[0].id, later);
    }
}
