//! An edited payload: the event stays as it was, and the newest revision is read.

use switchyard_store::{Revised, StoreError, StoredPayload, Type};
use uuid::Uuid;

use super::directly_and_pooled;
use super::world::{AGENT, LedgerWorld};

impl LedgerWorld {
    async fn payload_is(&self, event: Uuid, payload: &str) {
        self.side
            .execute_typed(
                "update events set payload = $2::text::jsonb where id = $1",
                &[(&event, Type::UUID), (&payload, Type::TEXT)],
            )
            .await
            .unwrap();
    }

    async fn payload(&self, event: Uuid) -> Option<StoredPayload> {
        self.store.payloads(&[event], 1_000).await.unwrap().remove(0)
    }

    async fn revise(&self, event: Uuid, payload: &str) -> Result<i32, StoreError> {
        self.store.revise(event, payload, "alice", "the title was cut off").await
    }
}

fn text(payload: &str) -> Option<StoredPayload> {
    revised(0, payload)
}

fn revised(revision: i32, payload: &str) -> Option<StoredPayload> {
    Some(StoredPayload { revision, bytes: i64::try_from(payload.len()).unwrap(), text: Some(payload.into()) })
}

directly_and_pooled! {
    async fn payloads_come_in_the_order_asked_as_the_table_prints_them(world: LedgerWorld) {
        let [one, none, other] = [world.event("thing.made").await, Uuid::new_v4(), world.event("thing.made").await];
        world.payload_is(one, r#"{"b":1.0,"a":"ü"}"#).await;
        world.run_sql(&format!("update events set payload = null where id = '{other}'")).await;
        let payloads = world.store.payloads(&[other, none, one, one], 1_000).await.unwrap();
        let printed = text(r#"{"a": "ü", "b": 1.0}"#);
        assert_eq!(payloads, [text("null"), None, printed.clone(), printed]);
        assert!(world.store.payloads(&[], 1_000).await.unwrap().is_empty());
    }

    async fn a_payload_over_the_limit_is_told_by_its_size_alone(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.payload_is(event, &format!("\"{}\"", "ü".repeat(49))).await;
        assert_eq!(world.store.payloads(&[event], 100).await.unwrap(), [text(&format!("\"{}\"", "ü".repeat(49)))]);
        assert_eq!(world.store.payloads(&[event], 99).await.unwrap(), [Some(StoredPayload { revision: 0, bytes: 100, text: None })]);
    }

    async fn a_revision_is_what_is_read_and_sent_and_the_event_stays_what_it_was(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.payload_is(event, r#"{"title": "Slo"}"#).await;
        assert_eq!(world.revise(event, r#"{"title":"Slow"}"#).await.unwrap(), 1);
        assert_eq!(world.revise(event, r#"{"title":"Slow!"}"#).await.unwrap(), 2);
        assert_eq!(world.payload(event).await, revised(2, r#"{"title": "Slow!"}"#));
        assert_eq!(world.preview(event).await.revision, 2);
        let seq = world.seq(event).await;
        let sent = world.store.events(&[seq]).await.unwrap().remove(0);
        assert_eq!(sent.payload.as_deref(), Some(r#"{"title": "Slow!"}"#));
        let kept: String = world.one("select payload::text from events where id = $1", &[(&event, Type::UUID)]).await.get(0);
        assert_eq!(kept, r#"{"title": "Slo"}"#);
        assert_eq!(world.number("select count(*) from switchyard.revision").await, 2, "every revision is kept");
    }

    async fn a_payload_of_null_can_be_a_revision(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.revise(event, "null").await.unwrap();
        assert_eq!(world.payload(event).await, revised(1, "null"));
    }

    async fn who_edited_is_on_record_and_the_payload_is_not(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.revise(event, r#"{"title": "hush"}"#).await.unwrap();
        let row = world.store.audit(1).await.unwrap().remove(0);
        assert_eq!((row.by.as_str(), row.action.as_str()), ("alice", "revise"));
        assert_eq!(row.detail, serde_json::json!({"event_id": event, "revision": 1, "reason": "the title was cut off"}));
    }

    async fn what_cannot_be_a_payload_is_refused_in_words_that_do_not_repeat_it(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for (payload, words) in [
            ("{\"hush\": \"\\u0000\"}", "escaped NUL"), ("{\"hush\": \"\0\"}", "a NUL"), ("{\"hush\"", "not JSON"),
            ("", "not JSON"), ("\"\\ud800 hush\"", "not JSON"), (deep.as_str(), "not JSON"),
        ] {
            let refused = world.revise(event, payload).await.unwrap_err();
            assert!(matches!(refused, StoreError::Config { .. }), "{refused:?}");
            let said = refused.to_string();
            assert!(said.contains(words) && !said.contains("hush"), "{said}");
        }
        assert_eq!(world.number("select count(*) from switchyard.revision").await, 0);
    }

    async fn an_event_that_is_not_there_cannot_be_edited(world: LedgerWorld) {
        let nobody = Uuid::new_v4();
        assert_eq!(world.revise(nobody, "{}").await.unwrap_err().to_string(), format!("the event log has no event with the id {nobody}: check the id"));
        let deleted = world.event("thing.made").await;
        world.run_sql(&format!("delete from events where id = '{deleted}'")).await;
        assert!(world.revise(deleted, "{}").await.is_err());
    }

    async fn two_who_edit_at_once_both_count(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        let mut first = world.store.begin().await.unwrap();
        first.query("select switchyard.revise($1, '1', 'alice', 'first')", &[(&event, Type::UUID)]).await.unwrap();
        let store = world.store.clone();
        let second = tokio::spawn(async move { store.revise(event, "2", "bob", "second").await });
        world.lock_is_awaited().await;
        first.commit().await.unwrap();
        assert_eq!(second.await.unwrap().unwrap(), 2);
        assert_eq!(world.payload(event).await, revised(2, "2"));
    }

    async fn what_is_parked_gets_another_payload_and_goes_back_at_once(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.publish_all().await;
        world.park(event).await;
        let done = world.store.revise_and_redrive(AGENT, event, r#"{"n":2}"#, "alice", "a typo").await.unwrap();
        assert_eq!(done, Revised { revision: 1, seq: world.seq(event).await });
        assert_eq!(world.payload(event).await, revised(1, r#"{"n": 2}"#));
        let trail = world.store.audit(2).await.unwrap();
        assert_eq!(trail.iter().map(|r| (r.by.as_str(), r.action.as_str())).collect::<Vec<_>>(), [("alice", "redrive"), ("alice", "revise")]);
        assert_eq!(world.due().await, [(event, 0, 1)]);
    }

    async fn what_is_not_parked_or_no_json_is_refused_whole(world: LedgerWorld) {
        let [done, parked] = [world.event("thing.made").await, world.event("thing.made").await];
        world.claim(done).await;
        world.park(parked).await;
        for (event, payload) in [(done, "{}"), (Uuid::new_v4(), "{}"), (parked, "{"), (parked, "\"\\u0000\""), (parked, "\"\0\"")] {
            let refused = world.store.revise_and_redrive(AGENT, event, payload, "alice", "a typo").await.unwrap_err();
            assert!(matches!(refused, StoreError::Config { .. }), "{refused}");
        }
        let refused = world.store.revise_and_redrive(AGENT, done, "{}", "alice", "a typo").await.unwrap_err();
        assert_eq!(refused.to_string(), format!("event {done} is not parked for {AGENT}, so nothing was changed: edit only parked deliveries"));
        assert_eq!(world.number("select count(*) from switchyard.revision").await, 0);
        assert!(world.row(parked).await.is("n", "p"));
    }

    async fn of_two_edits_at_once_the_second_finds_nothing_parked(world: LedgerWorld) {
        let event = world.event("thing.made").await;
        world.park(event).await;
        let mut first = world.store.begin().await.unwrap();
        first.query("select revision from switchyard.revise_and_redrive($1, $2, '1', 'alice', 'first')", &[(&AGENT, Type::TEXT), (&event, Type::UUID)]).await.unwrap();
        let store = world.store.clone();
        let second = tokio::spawn(async move { store.revise_and_redrive(AGENT, event, "2", "bob", "second").await });
        world.lock_is_awaited().await;
        first.commit().await.unwrap();
        assert!(second.await.unwrap().is_err());
        assert_eq!(world.payload(event).await, revised(1, "1"));
    }
}
