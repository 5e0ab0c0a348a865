//! Deliveries that may have killed the process which tried them.

use switchyard_store::{Ask, Mode, Settlement, StoreError, Verdict};
use uuid::Uuid;

use super::directly_and_pooled;
use super::scene::{AGENT, Scene};

impl Scene {
    async fn suspect(&self, event: Uuid) -> u16 {
        self.store.suspect(AGENT, &Ask::live(event)).await.unwrap()
    }

    async fn deaths(&self, event: Uuid) -> i64 {
        let seq = self.seq(event).await;
        self.number(&format!("select deaths from switchyard.delivery where seq = {seq} and run = 0")).await
    }
}

directly_and_pooled! {
    async fn each_trial_counts_beforehand_until_one_is_survived(scene: Scene) {
        let event = scene.event("thing.made").await;
        assert_eq!([scene.suspect(event).await, scene.suspect(event).await], [1, 2]);
        assert_eq!(scene.row(event).await.attempts, 0, "a death is no failed attempt");
        scene.store.survived(AGENT, &[Ask::live(event)]).await.unwrap();
        assert_eq!(scene.deaths(event).await, 0);
        assert_eq!(scene.suspect(event).await, 1);
    }

    async fn a_trial_does_not_settle_anything(scene: Scene) {
        let event = scene.event("thing.made").await;
        scene.suspect(event).await;
        assert!(scene.row(event).await.is("n", "a"));
        assert_eq!(scene.claim(event).await, Verdict::Take);
        scene.store.survived(AGENT, &[Ask::live(event)]).await.unwrap();
        assert_eq!((scene.row(event).await.is("n", "d"), scene.deaths(event).await), (true, 0));
    }

    async fn survivors_are_reported_in_one_call(scene: Scene) {
        let [one, two, dead] = [scene.event("thing.made").await, scene.event("thing.made").await, scene.event("thing.made").await];
        for event in [one, two, dead] {
            scene.suspect(event).await;
        }
        scene.store.survived(AGENT, &[Ask::live(two), Ask::live(one), Ask::live(Uuid::new_v4())]).await.unwrap();
        scene.store.survived(AGENT, &[]).await.unwrap();
        assert_eq!([scene.deaths(one).await, scene.deaths(two).await, scene.deaths(dead).await], [0, 0, 1]);
    }

    async fn a_settled_or_foreign_delivery_is_no_suspect(scene: Scene) {
        let [done, expired, parked, unknown] =
            [scene.event("thing.made").await, scene.event("thing.made").await, scene.event("thing.made").await, Uuid::new_v4()];
        scene.claim(done).await;
        scene.settle(expired, Settlement::Expired).await;
        scene.park(parked).await;
        let unheard = scene.event("thing.sold").await;
        for event in [done, expired, parked, unknown, unheard] {
            assert_eq!(scene.suspect(event).await, 0);
        }
        scene.routing(Mode::Off).await;
        let olds = scene.event("thing.made").await;
        assert_eq!(scene.suspect(olds).await, 0);
        assert!(scene.row(olds).await.is("o", "a"));
    }

    async fn an_older_epoch_is_no_suspect(scene: Scene) {
        let event = scene.event("thing.made").await;
        scene.fail(event).await;
        scene.resend(event, 0).await;
        let ask = |epoch| Ask { event_id: event, run: 0, epoch: Some(epoch) };
        assert_eq!(scene.store.suspect(AGENT, &ask(0)).await.unwrap(), 0);
        assert_eq!(scene.store.suspect(AGENT, &ask(1)).await.unwrap(), 1);
    }

    async fn a_redrive_and_a_resend_take_the_suspicion_back(scene: Scene) {
        let event = scene.event("thing.made").await;
        scene.suspect(event).await;
        scene.resend(event, 0).await;
        assert_eq!(scene.deaths(event).await, 0);
        scene.suspect(event).await;
        scene.park(event).await;
        scene.store.redrive(AGENT, &switchyard_store::Selection::default(), 0, "alice", "mended").await.unwrap();
        assert_eq!(scene.deaths(event).await, 0);
    }

    async fn a_replay_has_suspects_of_its_own(scene: Scene) {
        let event = scene.event("thing.made").await;
        scene.claim(event).await;
        let run = scene.store.new_run(AGENT, "again").await.unwrap();
        let ask = Ask { event_id: event, run, epoch: None };
        assert_eq!(scene.store.suspect(AGENT, &ask).await.unwrap(), 0, "a run is never joined by asking");
        scene.resend(event, run).await;
        assert_eq!(scene.store.suspect(AGENT, &ask).await.unwrap(), 1);
        assert_eq!(scene.deaths(event).await, 0, "the live delivery is another");
        scene.store.survived(AGENT, &[Ask::live(event)]).await.unwrap();
        assert_eq!(scene.store.suspect(AGENT, &ask).await.unwrap(), 2, "surviving the one says nothing of the other");
    }

    async fn an_agent_that_is_not_registered_has_no_suspects(scene: Scene) {
        let event = scene.event("thing.made").await;
        let refused = scene.store.suspect("nobody", &Ask::live(event)).await;
        assert!(matches!(refused, Err(StoreError::Config { .. })));
    }

    async fn an_agent_in_shadow_mode_counts_what_the_old_system_owns_however_far_that_has_come(scene: Scene) {
        scene.routing(Mode::Shadow).await;
        let event = scene.event("thing.made").await;
        assert_eq!([scene.suspect(event).await, scene.suspect(event).await], [1, 2]);
        assert_eq!(scene.old_claim(event).await, "take");
        assert_eq!(scene.suspect(event).await, 3);
        assert!(scene.row(event).await.is("o", "d"), "nothing else has changed");
        scene.store.survived(AGENT, &[Ask::live(event)]).await.unwrap();
        assert_eq!(scene.deaths(event).await, 0);
    }
}
