//! Messages that were given back without an attempt: nothing is lost, and nothing has failed.

use std::time::Duration;

use switchyard_store::{Ask, Mode, Selection, StoreError, Verdict};
use uuid::Uuid;

use super::directly_and_pooled;
use super::world::{AGENT, LedgerWorld};

const MINUTE: Duration = Duration::from_secs(60);

impl LedgerWorld {
    async fn give_back(&self, asks: &[Ask], delay: Duration) {
        self.store.returned(AGENT, asks, delay).await.unwrap();
    }

    async fn returns(&self, event: Uuid) -> u16 {
        self.preview(event).await.returns
    }

    async fn waits_secs(&self, event: Uuid) -> i64 {
        let seq = self.seq(event).await;
        self.number(&format!(
            "select extract(epoch from next_attempt_at - now()) from switchyard.delivery where seq = {seq} and run = 0"
        ))
        .await
    }
}

directly_and_pooled! {
    async fn a_return_counts_as_an_answer_and_is_due_only_after_its_delay_and_the_grace(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.publish_all().await;
        world.sweep().await;
        world.store.set_grace(AGENT, 60_000).await.unwrap();
        world.due().await;
        world.let_time_pass().await;
        world.give_back(&[Ask::live(event)], 10 * MINUTE).await;
        assert_eq!(world.number("select sends from switchyard.delivery").await, 0);
        assert!((655..=660).contains(&world.waits_secs(event).await));
        assert_eq!((world.returns(event).await, world.row(event).await.attempts), (1, 0));
        world.give_back(&[Ask::live(event)], MINUTE).await;
        assert!(world.waits_secs(event).await > 600, "never sooner than it was");
        assert!(world.due().await.is_empty());
        assert_eq!(world.claim(event).await, Verdict::Take);
    }

    async fn returns_are_reported_in_one_call(world: LedgerWorld) {
        let [one, other] = [world.event("thing.made").await, world.event("thing.made").await];
        let unheard = world.event("thing.sold").await;
        world.give_back(&[Ask::live(other), Ask::live(one), Ask::live(unheard), Ask::live(one), Ask::live(Uuid::new_v4())], MINUTE).await;
        world.give_back(&[], MINUTE).await;
        assert_eq!([world.returns(one).await, world.returns(other).await], [2, 1]);
        assert!(world.row(one).await.is("n", "a"));
        assert!(world.delivery(unheard, 0).await.is_none());
    }

    async fn what_is_settled_parked_or_of_another_epoch_is_left_alone(world: LedgerWorld) {
        let [done, parked, failing] = [world.event("thing.made").await, world.event("thing.made").await, world.event("thing.made").await];
        world.claim(done).await;
        world.park(parked).await;
        world.fail(failing).await;
        world.resend(failing, 0).await;
        let stale = Ask { event_id: failing, run: 0, epoch: Some(0) };
        world.give_back(&[Ask::live(done), Ask::live(parked), stale], MINUTE).await;
        assert_eq!(world.number("select sum(returns) from switchyard.delivery").await, 0);
        world.give_back(&[Ask { event_id: failing, run: 0, epoch: Some(1) }], MINUTE).await;
        assert_eq!(world.returns(failing).await, 1);
    }

    async fn a_redrive_counts_anew_and_so_does_a_resend(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.give_back(&[Ask::live(event)], MINUTE).await;
        world.resend(event, 0).await;
        assert_eq!(world.returns(event).await, 0);
        world.give_back(&[Ask::live(event)], MINUTE).await;
        world.park(event).await;
        world.store.redrive(AGENT, &Selection::default(), 0, "alice", "mended").await.unwrap();
        assert_eq!(world.returns(event).await, 0);
    }

    async fn in_shadow_mode_it_is_counted_and_the_old_system_is_not_held_up(world: LedgerWorld) {
        world.routing(Mode::Shadow).await;
        let event = world.event("thing.made").await;
        world.give_back(&[Ask::live(event)], 10 * MINUTE).await;
        assert_eq!(world.returns(event).await, 1);
        assert!(world.waits_secs(event).await <= 120, "its own grace and no more");
    }

    async fn a_locked_delivery_is_skipped(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.sweep().await;
        let mut tx = world.store.begin().await.unwrap();
        tx.claim(AGENT, &[Ask::live(event)]).await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), world.give_back(&[Ask::live(event)], MINUTE)).await.expect("it waits");
        tx.commit().await.unwrap();
        assert!(world.row(event).await.is("n", "d"));
        assert!(matches!(world.store.returned("nobody", &[Ask::live(event)], MINUTE).await, Err(StoreError::Config { .. })));
    }
}
