//! How an event came about, as far as the table tells.

use switchyard_store::Type;
use uuid::Uuid;

use super::directly_and_pooled;
use super::world::LedgerWorld;

impl LedgerWorld {
    async fn caused(&self, by: &str, hops: &str) -> Uuid {
        self.event_with("thing.made", Uuid::new_v4(), &format!(r#"{{"causation_id": "{by}", "hops": {hops}}}"#)).await
    }

    async fn chain(&self, of: Uuid, at_most: i64) -> Vec<Uuid> {
        self.store.chain(of, at_most).await.unwrap().into_iter().map(|link| link.id).collect()
    }
}

directly_and_pooled! {
    async fn a_chain_runs_from_the_first_cause_to_the_event(world: LedgerWorld) {
        let aggregate = Uuid::new_v4();
        let first = world.event_with("thing.made", aggregate, "{}").await;
        let second = world.caused(&first.to_string(), "1").await;
        let third = world.caused(&second.to_string().to_uppercase(), "2").await;
        assert_eq!(world.chain(third, 16).await, [first, second, third]);
        let links = world.store.chain(third, 16).await.unwrap();
        assert_eq!(links.iter().map(|l| l.hops).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((links[0].event_type.as_str(), &links[0].aggregate_id), ("thing.made", &aggregate.to_string()));
        assert!(links.iter().all(|l| l.at.ends_with('Z')), "{links:?}");
    }

    async fn a_chain_ends_where_a_cause_is_missing_or_is_no_id(world: LedgerWorld) {
        let gone = world.caused(&Uuid::new_v4().to_string(), "7").await;
        assert_eq!(world.chain(gone, 16).await, [gone]);
        let odd = world.caused("the moon", r#""many""#).await;
        assert_eq!(world.chain(odd, 16).await, [odd]);
        assert_eq!(world.store.chain(odd, 16).await.unwrap()[0].hops, 0);
        assert!(world.store.chain(Uuid::new_v4(), 16).await.unwrap().is_empty());
    }

    async fn a_circle_is_walked_once(world: LedgerWorld) {
        let one = world.event("thing.made").await;
        let other = world.caused(&one.to_string(), "1").await;
        world.side.execute_typed("update events set metadata = jsonb_build_object('causation_id', $2) where id = $1",
            &[(&one, Type::UUID), (&other.to_string(), Type::TEXT)]).await.unwrap();
        assert_eq!(world.chain(one, 16).await, [other, one]);
        let itself = world.event("thing.made").await;
        world.run_sql(&format!("update events set metadata = '{{\"causation_id\": \"{itself}\"}}' where id = '{itself}'")).await;
        assert_eq!(world.chain(itself, 16).await, [itself]);
    }

    async fn a_long_chain_is_cut_at_the_far_end(world: LedgerWorld) {
        let mut all = vec![world.event("thing.made").await];
        for hops in 1..30 {
            let cause = all[hops - 1].to_string();
            all.push(world.caused(&cause, &hops.to_string()).await);
        }
        assert_eq!(world.chain(all[29], 16).await, all[14..]);
        assert!(world.chain(all[29], 0).await.is_empty());
    }
}
