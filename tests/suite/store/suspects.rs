//! Deliveries that may have killed the process which tried them.

use switchyard_store::{Ask, Mode, Settlement, StoreError, Verdict};
use uuid::Uuid;

use super::directly_and_pooled;
use super::world::{AGENT, LedgerWorld};

impl LedgerWorld {
    async fn suspect(&self, event: Uuid) -> u16 {
        self.store.suspect(AGENT, &Ask::live(event)).await.unwrap()
    }

    async fn deaths(&self, event: Uuid) -> i64 {
        let seq = self.seq(event).await;
        self.number(&format!("select deaths from switchyard.delivery where seq = {seq} and run = 0")).await
    }
}

directly_and_pooled! {
    async fn each_trial_counts_beforehand_until_one_is_survived(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        assert_eq!([world.suspect(event).await, world.suspect(event).await], [1, 2]);
        assert_eq!(world.row(event).await.attempts, 0, "a death is no failed attempt");
        world.store.survived(AGENT, &[Ask::live(event)]).await.unwrap();
        assert_eq!(world.deaths(event).await, 0);
        assert_eq!(world.suspect(event).await, 1);
    }

    async fn a_trial_does_not_settle_anything(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.suspect(event).await;
        assert!(world.row(event).await.is("n", "a"));
        assert_eq!(world.claim(event).await, Verdict::Take);
        world.store.survived(AGENT, &[Ask::live(event)]).await.unwrap();
        assert_eq!((world.row(event).await.is("n", "d"), world.deaths(event).await), (true, 0));
    }

    async fn survivors_are_reported_in_one_call(world: LedgerWorld) {
        let [one, two, dead] = [world.event("thing.made").await, world.event("thing.made").await, world.event("thing.made").await];
        for event in [one, two, dead] {
            world.suspect(event).await;
        }
        world.store.survived(AGENT, &[Ask::live(two), Ask::live(one), Ask::live(Uuid::new_v4())]).await.unwrap();
        world.store.survived(AGENT, &[]).await.unwrap();
        assert_eq!([world.deaths(one).await, world.deaths(two).await, world.deaths(dead).await], [0, 0, 1]);
    }

    async fn a_settled_or_foreign_delivery_is_no_suspect(world: LedgerWorld) {
        let [done, expired, parked, unknown] =
            [world.event("thing.made").await, world.event("thing.made").await, world.event("thing.made").await, Uuid::new_v4()];
        world.claim(done).await;
        world.settle(expired, Settlement::Expired).await;
        world.park(parked).await;
        let unheard = world.event("thing.sold").await;
        for event in [done, expired, parked, unknown, unheard] {
            assert_eq!(world.suspect(event).await, 0);
        }
        world.routing(Mode::Off).await;
        let olds = world.event("thing.made").await;
        assert_eq!(world.suspect(olds).await, 0);
        assert!(world.row(olds).await.is("o", "a"));
    }

    async fn an_older_epoch_is_no_suspect(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.fail(event).await;
        world.resend(event, 0).await;
        let ask = |epoch| Ask { event_id: event, run: 0, epoch: Some(epoch) };
        assert_eq!(world.store.suspect(AGENT, &ask(0)).await.unwrap(), 0);
        assert_eq!(world.store.suspect(AGENT, &ask(1)).await.unwrap(), 1);
    }

    async fn a_redrive_and_a_resend_take_the_suspicion_back(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.suspect(event).await;
        world.resend(event, 0).await;
        assert_eq!(world.deaths(event).await, 0);
        world.suspect(event).await;
        world.park(event).await;
        world.store.redrive(AGENT, &switchyard_store::Selection::default(), 0, "alice", "mended").await.unwrap();
        assert_eq!(world.deaths(event).await, 0);
    }

    async fn a_replay_has_suspects_of_its_own(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.claim(event).await;
        let run = world.store.new_run(AGENT, "again").await.unwrap();
        let ask = Ask { event_id: event, run, epoch: None };
        assert_eq!(world.store.suspect(AGENT, &ask).await.unwrap(), 0, "a run is never joined by asking");
        world.resend(event, run).await;
        assert_eq!(world.store.suspect(AGENT, &ask).await.unwrap(), 1);
        assert_eq!(world.deaths(event).await, 0, "the live delivery is another");
        world.store.survived(AGENT, &[Ask::live(event)]).await.unwrap();
        assert_eq!(world.store.suspect(AGENT, &ask).await.unwrap(), 2, "surviving the one says nothing of the other");
    }

    async fn an_agent_that_is_not_registered_has_no_suspects(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        let refused = world.store.suspect("nobody", &Ask::live(event)).await;
        assert!(matches!(refused, Err(StoreError::Config { .. })));
    }

    async fn an_agent_in_shadow_mode_counts_what_the_old_system_owns_however_far_that_has_come(world: LedgerWorld) {
        world.routing(Mode::Shadow).await;
        let event = world.event("thing.made").await;
        assert_eq!([world.suspect(event).await, world.suspect(event).await], [1, 2]);
        assert_eq!(world.old_claim(event).await, "take");
        assert_eq!(world.suspect(event).await, 3);
        assert!(world.row(event).await.is("o", "d"), "nothing else has changed");
        world.store.survived(AGENT, &[Ask::live(event)]).await.unwrap();
        assert_eq!(world.deaths(event).await, 0);
    }
}
