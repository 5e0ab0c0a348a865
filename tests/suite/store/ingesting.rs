//! Events that came as messages, each for itself.

use switchyard_store::{AppendEvent, Ingested, Type};
use uuid::Uuid;

use super::directly_and_pooled;
use super::world::LedgerWorld;

fn message(payload: &str) -> AppendEvent {
    AppendEvent {
        id: Uuid::new_v4(),
        event_type: "thing.made".into(),
        aggregate_type: "thing".into(),
        aggregate_id: "0b6f2c0e-3f1f-4a53-9c9b-0b6f2c0e3f1f".into(),
        payload: payload.into(),
        version: 1,
        metadata: r#"{"timestamp": "2026-01-02T03:04:05Z", "project_id": "p1"}"#.into(),
    }
}

fn word(answer: &Ingested) -> &str {
    match answer {
        Ingested::Appended => "appended",
        Ingested::Duplicate => "duplicate",
        Ingested::Conflict => "conflict",
        Ingested::Refused { reason, .. } => reason,
    }
}

impl LedgerWorld {
    async fn ingest(&self, events: &[AppendEvent]) -> Vec<String> {
        self.store.ingest(events).await.unwrap().iter().map(|a| word(a).to_owned()).collect()
    }

    async fn one_by_one(&self, event: &AppendEvent) -> String {
        self.ingest(std::slice::from_ref(event)).await.remove(0)
    }
}

directly_and_pooled! {
    async fn every_answer_in_one_call_and_in_its_order(world: LedgerWorld) {
        let known = message(r#"{"a": 1}"#);
        world.ingest(std::slice::from_ref(&known)).await;
        let fresh = message("{}");
        let poison = message(r#"{"a": "\u0000"}"#);
        let batch = [
            fresh.clone(), poison, known.clone(), AppendEvent { payload: r#"{"a": 2}"#.into(), ..known.clone() },
            AppendEvent { aggregate_id: "post 7".into(), ..message("{}") }, message("{\"cut"), message("{\"a\": \"\0\"}"),
            AppendEvent { metadata: "[]".into(), ..message("{}") }, fresh.clone(), AppendEvent { event_type: "thing.sold".into(), ..fresh }, message("{}"),
        ];
        let expected = ["appended", "nul", "duplicate", "conflict", "malformed", "malformed", "nul", "malformed", "duplicate", "conflict", "appended"];
        assert_eq!(world.ingest(&batch).await, expected);
        assert_eq!(world.number("select count(*) from events").await, 3);
        assert_eq!(world.number("select count(*) from switchyard.outbox").await, 3, "what was appended is published");
        assert!(world.ingest(&[]).await.is_empty());
    }

    async fn events_are_logged_in_the_order_in_which_they_came(world: LedgerWorld) {
        let batch: Vec<_> = (0..10).map(|_| message("{}")).collect();
        world.ingest(&batch).await;
        let rows = world.side.query_typed("select event_id from switchyard.event_log order by seq", &[]).await.unwrap();
        assert_eq!(rows.iter().map(|r| r.get(0)).collect::<Vec<Uuid>>(), batch.iter().map(|e| e.id).collect::<Vec<_>>());
    }

    async fn content_is_compared_as_the_table_sees_it(world: LedgerWorld) {
        let event = message(r#"{"b": 1, "a": [1.0, "x"]}"#);
        assert_eq!(world.one_by_one(&event).await, "appended");
        let same = [
            AppendEvent { payload: r#"{"a":[1.0,"x"],"b":1}"#.into(), ..event.clone() },
            AppendEvent { aggregate_id: event.aggregate_id.to_uppercase(), ..event.clone() },
            AppendEvent { metadata: r#"{"sequence": 9, "project_id": "p1", "timestamp": "2026-01-02T03:04:05Z"}"#.into(), ..event.clone() },
            // Without one, the publisher leaves the time to us.
            AppendEvent { metadata: r#"{"project_id": "p1"}"#.into(), ..event.clone() },
        ];
        assert_eq!(world.ingest(&same).await, ["duplicate"; 4]);
        let others = [
            AppendEvent { payload: r#"{"a":[1.0,"y"],"b":1}"#.into(), ..event.clone() },
            AppendEvent { version: 2, ..event.clone() },
            AppendEvent { event_type: "thing.changed".into(), ..event.clone() },
            AppendEvent { aggregate_type: "stuff".into(), ..event.clone() },
            AppendEvent { aggregate_id: Uuid::new_v4().to_string(), ..event.clone() },
            AppendEvent { metadata: r#"{"project_id": "p2", "timestamp": "2026-01-02T03:04:05Z"}"#.into(), ..event.clone() },
            AppendEvent { metadata: r#"{"project_id": "p1", "timestamp": "2026-01-02T03:04:06Z"}"#.into(), ..event.clone() },
            AppendEvent { metadata: r#"{"project_id": "p1", "user_id": "u", "timestamp": "2026-01-02T03:04:05Z"}"#.into(), ..event.clone() },
        ];
        assert_eq!(world.ingest(&others).await, ["conflict"; 8]);
    }

    async fn a_missing_timestamp_is_filled_in_and_a_sequence_dropped(world: LedgerWorld) {
        let event = AppendEvent { metadata: r#"{"sequence": 7, "odd": null}"#.into(), ..message("{}") };
        assert_eq!([world.one_by_one(&event).await, world.one_by_one(&event).await], ["appended", "duplicate"]);
        let metadata: String = world.one("select metadata::text from events where id = $1", &[(&event.id, Type::UUID)]).await.get(0);
        assert!(metadata.contains("\"timestamp\": \"20") && metadata.contains("\"odd\": null") && !metadata.contains("sequence"), "{metadata}");
    }

    async fn what_the_applications_own_rules_refuse_harms_no_other_event(world: LedgerWorld) {
        world.run_sql("alter table events add constraint short check (length(type) < 20)").await;
        world.run_sql("create function judge() returns trigger language plpgsql as $$ begin
            if new.type = 'thing.banned' then raise exception 'banned'; end if; return new; end $$;
            create trigger judge before insert on events for each row execute function judge()").await;
        let long = AppendEvent { event_type: "thing.with_a_very_long_name".into(), ..message("{}") };
        let banned = AppendEvent { event_type: "thing.banned".into(), ..message("{}") };
        // More than an index of the application's can hold, however it is compressed.
        let wide = AppendEvent { aggregate_type: (0..1_000).map(|_| Uuid::new_v4().to_string()).collect(), ..message("{}") };
        let answers = world.store.ingest(&[long, message("{}"), banned, wide, message("{}")]).await.unwrap();
        let words: Vec<_> = answers.iter().map(word).collect();
        assert_eq!(words, ["refused_by_the_table", "appended", "refused_by_the_table", "oversized", "appended"]);
        assert_eq!(answers[2], Ingested::Refused { reason: "refused_by_the_table".into(), error: "banned".into() });
    }

    async fn whatever_a_trigger_raises_refuses_one_row_but_what_is_the_databases_trouble_stops_all(world: LedgerWorld) {
        world.run_sql("create function judge() returns trigger language plpgsql as $$ begin
            if new.type like 'code.%' then raise exception 'no' using errcode = right(new.type, 5); end if; return new; end $$;
            create trigger judge before insert on events for each row execute function judge()").await;
        let coded = |code: &str| AppendEvent { event_type: format!("code.{code}"), ..message("{}") };
        for code in ["0A000", "AB123", "2F003"] {
            assert_eq!(world.ingest(&[coded(code), message("{}")]).await, ["refused_by_the_table", "appended"], "{code}");
        }
        let before = world.number("select count(*) from events").await;
        for code in ["08006", "25006", "40001", "42501", "42703", "42P01", "42883", "53100", "55P03", "57P01", "58030", "XX000"] {
            assert!(world.store.ingest(&[message("{}"), coded(code)]).await.is_err(), "{code}");
        }
        assert_eq!(world.number("select count(*) from events").await, before);
    }

    async fn a_body_too_deep_for_the_database_is_refused_alone(world: LedgerWorld) {
        let deep = message(&format!("{}{}", "[".repeat(200_000), "]".repeat(200_000)));
        assert_eq!(world.ingest(&[deep, message("{}")]).await, ["too_deep", "appended"]);
    }

    async fn an_error_does_not_repeat_the_payload(world: LedgerWorld) {
        let answers = world.store.ingest(&[message("{\"hush\": tru}"), message(r#""\ud800 hush""#)]).await.unwrap();
        for answer in answers {
            let Ingested::Refused { error, .. } = answer else { panic!("{answer:?}") };
            assert!(!error.is_empty() && !error.contains("hush"), "{error}");
        }
    }

    async fn the_same_events_twice_at_once_are_appended_once(world: LedgerWorld) {
        let batch: Vec<_> = (0..20).map(|_| message("{}")).collect();
        let mut backwards = batch.clone();
        backwards.reverse();
        let mut appended = 0;
        let mut duplicates = 0;
        let (a, b) = (world.store.clone(), world.store.clone());
        let (one, other) = tokio::join!(a.ingest(&batch), b.ingest(&backwards));
        for answer in one.unwrap().into_iter().chain(other.unwrap()) {
            match answer {
                Ingested::Appended => appended += 1,
                Ingested::Duplicate => duplicates += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((appended, duplicates), (20, 20));
        assert_eq!(world.number("select count(*) from events").await, 20);
    }

    async fn a_concurrent_append_waits_and_then_compares(world: LedgerWorld) {
        let event = message(r#"{"a": 1}"#);
        let mut first = world.store.begin().await.unwrap();
        first.append(std::slice::from_ref(&event)).await.unwrap();
        let (store, other) = (world.store.clone(), AppendEvent { payload: r#"{"a": 2}"#.into(), ..event.clone() });
        let second = tokio::spawn(async move { store.ingest(&[other]).await.unwrap() });
        world.lock_is_awaited().await;
        first.commit().await.unwrap();
        assert_eq!(second.await.unwrap(), [Ingested::Conflict]);
    }
}
