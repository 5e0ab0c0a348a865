//! Leases, by the database's clock.

use uuid::Uuid;

use super::directly_and_pooled;

directly_and_pooled! {
    async fn one_holder_at_a_time_and_the_holder_learns_that_it_is_wanted(scene: Scene) {
        let [one, two] = [Uuid::new_v4(), Uuid::new_v4()];
        let first = scene.store.lease("shard-1", one, 30).await.unwrap();
        assert!(first.held && !first.wanted);
        assert!((29_000..=30_000).contains(&first.until_ms_left), "{first:?}");
        assert!(!scene.store.lease("shard-1", one, 30).await.unwrap().wanted);
        let second = scene.store.lease("shard-1", two, 30).await.unwrap();
        assert!(!second.held && second.until_ms_left > 29_000);
        let renewed = scene.store.lease("shard-1", one, 60).await.unwrap();
        assert!(renewed.held && renewed.wanted && renewed.until_ms_left > 59_000);
        assert!(scene.store.lease("shard-2", two, 30).await.unwrap().held, "another shard is another lease");
    }

    async fn a_lease_that_was_given_back_is_free(scene: Scene) {
        let [one, two] = [Uuid::new_v4(), Uuid::new_v4()];
        scene.store.lease("shard", one, 30).await.unwrap();
        assert!(!scene.store.release("shard", two).await.unwrap(), "only its holder can give it back");
        assert!(scene.store.release("shard", one).await.unwrap());
        let taken = scene.store.lease("shard", two, 30).await.unwrap();
        assert!(taken.held && !taken.wanted);
    }

    async fn a_lease_that_ran_out_goes_to_the_next(scene: Scene) {
        let [one, two] = [Uuid::new_v4(), Uuid::new_v4()];
        scene.store.lease("shard", one, 30).await.unwrap();
        scene.store.lease("shard", two, 30).await.unwrap();
        scene.run_sql("update switchyard.lease set until = clock_timestamp() - interval '1 ms'").await;
        let taken = scene.store.lease("shard", two, 30).await.unwrap();
        assert!(taken.held && !taken.wanted, "{taken:?}");
        assert!(!scene.store.lease("shard", one, 30).await.unwrap().held);
    }

    async fn of_many_askers_at_once_one_gets_it(scene: Scene) {
        let mut askers = Vec::new();
        for _ in 0..8 {
            let store = scene.store.clone();
            askers.push(tokio::spawn(async move { store.lease("shard", Uuid::new_v4(), 30).await.unwrap().held }));
        }
        let mut held = 0;
        for asker in askers {
            held += u32::from(asker.await.unwrap());
        }
        assert_eq!(held, 1);
    }
}
