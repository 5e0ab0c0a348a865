//! The live view's source.

use switchyard_store::{State, Verdict};
use uuid::Uuid;

use super::directly_and_pooled;
use super::world::AGENT;

directly_and_pooled! {
    async fn the_stream_shows_an_event_s_deliveries_and_children(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        let child = world.event_with("thing.painted", Uuid::new_v4(), &format!(r#"{{"causation_id": "{event}"}}"#)).await;
        let before = world.store.stream(0, 10).await.unwrap();
        assert_eq!(before.len(), 2);
        assert!(!before[0].published);
        assert_eq!((before[0].deliveries[0].agent.as_str(), before[0].deliveries[0].state), (AGENT, None));
        assert_eq!(world.claim(event).await, Verdict::Take);
        world.publish_all().await;
        let after = world.store.stream(0, 10).await.unwrap();
        assert!(after[0].published);
        assert_eq!(after[0].deliveries[0].state, Some(State::Done));
        assert!(!after[0].deliveries[0].owned_by_old);
        assert_eq!(after[0].children.iter().map(|c| (c.id, c.event_type.as_str())).collect::<Vec<_>>(), [(child, "thing.painted")]);
        assert_eq!(after[1].causation_id, Some(event.to_string()));
        assert!(after[1].deliveries.is_empty(), "nobody listens");
        assert_eq!(world.store.stream(after[0].seq, 10).await.unwrap().len(), 1);
    }
}
