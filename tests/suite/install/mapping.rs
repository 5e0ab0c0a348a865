//! Another team's table: its names, its types, and what it has no column for.

use super::shop::{AGENT, BARE, BARE_MAPPING, FULL, FULL_MAPPING, Shop, empty, install};
use switchyard_store::{
    AppendEvent, Ask, BackfillPhase, BackfillSelection, Cancellation, Delays, Ingested, Known, Page, Progress,
    Publication, StoreError, Type, Verdict, WaitPolicy, migrate, migrate_with,
};
use tokio::sync::Notify;
use uuid::Uuid;

fn child_of(cause: Uuid, subject: &str) -> AppendEvent {
    AppendEvent {
        id: Uuid::new_v4(),
        event_type: "order.packed".into(),
        aggregate_type: "order".into(),
        aggregate_id: subject.into(),
        payload: r#"{"boxes": 2}"#.into(),
        version: 3,
        metadata: format!(r#"{{"causation_id": "{cause}", "hops": 1, "project_id": "p1"}}"#),
    }
}

/// From the application's insert to the agent's own event on its way, whatever the table lacks.
async fn the_whole_way(shop: &Shop, spaced: &str) {
    let event = shop.event(7, r#"{"project_id": "p1",  "total": 1.50}"#).await;
    let on_its_way = shop.pending().await.remove(0);
    assert_eq!(
        (on_its_way.id, on_its_way.event_type.as_str(), on_its_way.aggregate_id.as_str()),
        (event, "order.placed", "7")
    );
    assert_eq!((on_its_way.payload.as_deref(), on_its_way.version), (Some(spaced), on_its_way.version));
    assert_eq!(on_its_way.project_id.as_deref(), Some("p1"));
    assert!(on_its_way.created_at.is_some_and(|time| time.ends_with('Z')));

    let mut tx = shop.store.begin().await.unwrap();
    assert_eq!(tx.claim(AGENT, &[Ask::live(event)]).await.unwrap()[0].verdict, Verdict::Take);
    let child = child_of(event, "7");
    assert_eq!(tx.append(std::slice::from_ref(&child)).await.unwrap(), 1);
    assert_eq!(tx.append(std::slice::from_ref(&child)).await.unwrap(), 0, "its id is in the table");
    tx.commit().await.unwrap();
    assert_eq!(shop.number(&format!("select count(*) from {}", shop.events)).await, 2);

    let said = shop.pending().await.remove(1);
    assert_eq!((said.id, said.aggregate_type.as_str(), said.version), (child.id, "order", Some(3)));
    assert_eq!((said.payload.as_deref(), said.project_id.as_deref()), (Some(r#"{"boxes": 2}"#), Some("p1")));
    let metadata: serde_json::Value = serde_json::from_str(said.metadata.as_ref().unwrap()).unwrap();
    assert_eq!((metadata["causation_id"].as_str(), &metadata["hops"]), (Some(event.to_string().as_str()), &1.into()));
    assert!(metadata["timestamp"].is_string());

    let chain = shop.store.chain(child.id, 10).await.unwrap();
    assert_eq!(chain.iter().map(|link| link.id).collect::<Vec<_>>(), [event, child.id]);
    assert_eq!(shop.store.stream(0, 10).await.unwrap()[0].children[0].id, child.id);
    assert_eq!(shop.store.revise(event, r#"{"total": 2}"#, "ada", "a typo").await.unwrap(), 1);
    assert_eq!(shop.store.events(&[on_its_way.seq]).await.unwrap()[0].payload.as_deref(), Some(r#"{"total": 2}"#));
    assert_eq!(shop.store.payloads(&[child.id], 1_000).await.unwrap().len(), 1);
    shop.store.tick().await.unwrap();
    assert_eq!(shop.store.ledger(AGENT).await.unwrap().done, 1);
}

#[tokio::test]
async fn an_event_goes_its_whole_way_from_a_table_of_other_names_and_types() {
    let shop = Shop::full().await;
    // JSON, not JSONB: as the application has written it.
    the_whole_way(&shop, r#"{"project_id": "p1",  "total": 1.50}"#).await;
    let row = shop.one(r#"select body::text, about ->> 'hops', revision::int, tenant, happened is not null from shop."Order Events" where kind = 'order.packed'"#).await;
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), (r#"{"boxes": 2}"#, "1"));
    assert_eq!((row.get::<_, i32>(2), row.get::<_, &str>(3), row.get::<_, bool>(4)), (3, "main", true));
}

#[tokio::test]
async fn an_event_goes_its_whole_way_from_a_table_that_has_no_more_than_four_columns() {
    let shop = Shop::bare().await;
    the_whole_way(&shop, r#"{"total": 1.50, "project_id": "p1"}"#).await;
    let first = shop.pending().await.remove(0);
    assert_eq!((first.version, first.aggregate_type.as_str(), first.metadata), (Some(1), "", None), "the defaults");
}

#[tokio::test]
async fn publishing_takes_what_the_table_wants_and_refuses_the_rest() {
    for shop in [Shop::full().await, Shop::bare().await] {
        let mut event = Publication::new("order.placed", "order", "42", r#"{"a": 1}"#);
        (event.idempotency_key, event.project_id, event.version) = (Some("k"), Some("p9"), 2);
        event.metadata = r#"{"max_attempts": 9, "deliver_at": "2999-01-01T00:00:00Z"}"#;
        let id = shop.store.publish(&event).await.unwrap();
        assert_eq!(shop.store.publish(&event).await.unwrap(), id);
        let log = "select project_id, max_attempts::int, due_at is not null, aggregate_id from switchyard.event_log";
        let log = shop.one(log).await;
        assert_eq!((log.get::<_, &str>(0), log.get::<_, i32>(1)), ("p9", 9), "what the trigger keeps of the metadata");
        assert_eq!((log.get::<_, bool>(2), log.get::<_, &str>(3)), (true, "42"));
        let waits = shop.store.delayed(10, &Delays::default()).await.unwrap();
        assert_eq!(waits.iter().map(|event| event.event_id).collect::<Vec<_>>(), [id]);
        assert_eq!(shop.store.cancel_delayed(&[id], "ada", "no more").await.unwrap(), [(id, Cancellation::Cancelled)]);
        event.aggregate_id = "forty-two";
        event.idempotency_key = None;
        assert!(
            matches!(shop.store.publish(&event).await, Err(StoreError::Refused { .. })),
            "its column takes numbers"
        );
    }
}

#[tokio::test]
async fn what_comes_as_a_message_is_compared_as_the_column_has_it() {
    for shop in [Shop::full().await, Shop::bare().await] {
        let cause = Uuid::new_v4();
        let event = child_of(cause, "007");
        let other = AppendEvent { version: 4, ..event.clone() };
        let wrong = AppendEvent { id: Uuid::new_v4(), ..child_of(cause, "seven") };
        let answers = shop.store.ingest(&[event.clone(), event, other, wrong]).await.unwrap();
        assert_eq!(answers[..3], [Ingested::Appended, Ingested::Duplicate, Ingested::Conflict]);
        assert!(matches!(answers[3], Ingested::Refused { .. }), "{:?}", answers[3]);
        assert_eq!(shop.pending().await[0].aggregate_id, "7");
    }
}

#[tokio::test]
async fn what_came_past_the_trigger_is_found_where_there_is_an_index_on_its_time() {
    let shop = Shop::full().await;
    shop.side.batch_execute(r#"alter table shop."Order Events" disable trigger switchyard_log"#).await.unwrap();
    let past = shop.event(1, "{}").await;
    shop.side.batch_execute(r#"alter table shop."Order Events" enable always trigger switchyard_log"#).await.unwrap();
    assert_eq!(shop.store.tick().await.unwrap().logged_late, 1);
    assert_eq!(shop.pending().await[0].id, past);

    let shop = Shop::bare().await;
    shop.event(1, "{}").await;
    assert_eq!(shop.store.tick().await.unwrap().logged_late, 0, "nobody can look for it there, and the tick goes on");
}

#[tokio::test]
async fn a_payload_that_cannot_be_looked_into_does_not_fail_the_insert() {
    let shop = Shop::full().await;
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    for body in [
        r#"{"project_id": "p1", "z": "\u0000"}"#,
        r#"{"project_id": "p\u00002"}"#,
        r#"{"a": "\\u0000", "project_id": "p1"}"#,
        "7",
        &deep,
    ] {
        shop.event(1, body).await;
    }
    let projects = "select string_agg(coalesce(project_id, '-'), ' ' order by seq) from switchyard.event_log";
    assert_eq!(shop.one(projects).await.get::<_, &str>(0), "p1 p2 p1 - -");
}

#[tokio::test]
async fn every_spelling_of_a_name_works() {
    let names = [r#"e"v;--%I $$ 'x'"#, "n", "body", "p_ids", r"new.\ %1$s $sql$"];
    let [table, id, kind, subject, payload] = names.map(|name| format!("\"{}\"", name.replace('"', "\"\"")));
    let create = format!(
        "create table {table} ({id} uuid primary key, {kind} text, {subject} text, {payload} jsonb, about timestamptz, u text)"
    );
    let (database, side) = empty(&create).await;
    let columns =
        serde_json::json!({ "id": names[1], "type": names[2], "aggregate_id": names[3], "payload": names[4] });
    let mapping = serde_json::json!({ "table": names[0], "columns": columns });
    install(&database, &mapping.to_string()).await.unwrap();
    side.batch_execute(&format!("insert into {table} ({id}, {kind}) values (gen_random_uuid(), 'x')")).await.unwrap();
    let store = database.store();
    store.publish(&Publication::new("x", "y", "z", "{}")).await.unwrap();
    let row = side.query_one("select count(*) from switchyard.event", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 2);
    let row = side.query_one("select count(*) from switchyard.outbox", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 2);
}

#[tokio::test]
async fn a_mapping_cannot_be_changed_later() {
    let (database, side) = empty(FULL).await;
    side.batch_execute("create table shop.log (id uuid primary key, kind text, subject bigint, body jsonb)")
        .await
        .unwrap();
    install(&database, FULL_MAPPING).await.unwrap();
    assert!(install(&database, FULL_MAPPING).await.unwrap().applied.is_empty(), "the same again");
    let unnamed = migrate(&database.url().parse().unwrap()).await.unwrap();
    assert_eq!(unnamed.events.table, "Order Events", "it is remembered");
    let public = side.query_one("select to_regclass('public.events') is null", &[]).await.unwrap();
    assert!(public.get::<_, bool>(0), "and no other table was made");

    let moved = install(&database, BARE_MAPPING).await.unwrap_err().to_string();
    assert!(
        moved.contains("installed on shop.Order Events")
            && moved.contains("this is shop.log")
            && moved.contains("--remove"),
        "{moved}"
    );
    side.batch_execute(r#"alter table shop."Order Events" add column other text"#).await.unwrap();
    let renamed = FULL_MAPPING.replace(r#""aggregate_type": "of""#, r#""aggregate_type": "other""#);
    assert!(matches!(install(&database, &renamed).await, Err(StoreError::Config { .. })), "nor does a column change");
}

#[tokio::test]
async fn an_unsuitable_table_is_left_unchanged() {
    let (database, side) = empty(&BARE.replace("id uuid", "id bigint")).await;
    let refused = install(&database, BARE_MAPPING).await.unwrap_err().to_string();
    assert_eq!(refused, "shop.log.id is int8, and it must be uuid");
    let missing = install(&database, r#"{"schema": "shop", "table": "Log"}"#).await.unwrap_err().to_string();
    assert!(missing.contains("there is no table shop.Log"), "{missing}");
    let ours = side.query_one("select to_regnamespace('switchyard') is null", &[]).await.unwrap();
    assert!(ours.get::<_, bool>(0));
}

#[tokio::test]
async fn a_column_that_changes_its_type_is_bound_anew() {
    let shop = Shop::full().await;
    shop.event(7, "{}").await;
    let change = r#"alter table shop."Order Events" alter column subject type text"#;
    assert!(shop.side.batch_execute(change).await.is_err(), "not behind our back");
    let bound = format!("begin; select switchyard.unbind(); {change}; select switchyard.bind(); commit");
    shop.side.batch_execute(&bound).await.unwrap();
    shop.store.publish(&Publication::new("order.placed", "order", "seven", "{}")).await.unwrap();
    assert_eq!(
        shop.pending().await.iter().map(|event| event.aggregate_id.as_str()).collect::<Vec<_>>(),
        ["7", "seven"]
    );
}

#[tokio::test]
async fn a_table_and_columns_that_get_other_names_fail_no_insert_and_are_followed() {
    for shop in [Shop::full().await, Shop::bare().await] {
        let before = shop.event(7, r#"{"project_id": "p1"}"#).await;
        let (rename, insert) = if shop.events == "shop.log" {
            (
                "alter table shop.log rename kind to name; alter table shop.log rename id to event_id; alter table shop.log rename to journal",
                "insert into shop.journal (event_id, name, subject, body) values ($1, $2, 8, '{\"project_id\": \"p2\"}')",
            )
        } else {
            (
                r#"alter table shop."Order Events" rename kind to name; alter table shop."Order Events" rename about to meta;
                   alter table shop."Order Events" rename to journal; alter schema shop rename to store"#,
                r#"insert into store.journal ("event id", name, subject, body) values ($1, $2, 8, '{"project_id": "p2"}')"#,
            )
        };
        shop.side.batch_execute(rename).await.unwrap();
        let after = Uuid::new_v4();
        let parameters = [(&after as _, Type::UUID), (&"order.placed" as _, Type::TEXT)];
        shop.side.query_typed(insert, &parameters).await.unwrap();
        let pending = shop.pending().await;
        assert_eq!(pending.iter().map(|event| event.id).collect::<Vec<_>>(), [before, after]);
        assert_eq!((pending[1].event_type.as_str(), pending[1].project_id.as_deref()), ("order.placed", Some("p2")));
        let say = Publication::new("order.placed", "order", "9", "{}");
        assert!(shop.store.publish(&say).await.is_err(), "what we append ourselves waits for a set-up");

        let url = shop.database.url().parse().unwrap();
        let migrated = migrate(&url).await.unwrap();
        assert!(migrated.renamed && migrated.events.to_string().contains("type as name"), "{}", migrated.events);
        assert!(!migrate(&url).await.unwrap().renamed);
        shop.store.publish(&say).await.unwrap();
        assert_eq!(shop.pending().await.len(), 3);
    }
}

#[tokio::test]
async fn new_names_are_adopted_after_open_readers_have_ended() {
    let shop = Shop::full().await;
    shop.side.batch_execute(r#"alter table shop."Order Events" rename kind to name"#).await.unwrap();
    let reader = shop.client().await;
    reader.batch_execute("begin; select from switchyard.event").await.unwrap();
    let busy = Notify::new();
    let report = |progress: Progress<'_>| {
        if matches!(progress, Progress::Busy { what, .. } if what.contains("new names")) {
            busy.notify_one();
        }
    };
    let (url, patience) =
        (shop.database.url().parse().unwrap(), WaitPolicy { report: &report, ..WaitPolicy::default() });

    let mut following = std::pin::pin!(migrate_with(&url, None, &patience));
    tokio::select! {
        early = &mut following => panic!("it has not waited: {early:?}"),
        () = busy.notified() => {}
    }
    reader.batch_execute("commit").await.unwrap();

    assert!(following.await.unwrap().renamed);
}

#[tokio::test]
async fn what_is_bound_can_be_read_again_from_a_dump() {
    for shop in [Shop::full().await, Shop::bare().await] {
        let dumped = "select pg_get_functiondef('switchyard._logged'::regproc)";
        let sql: String = shop.one(dumped).await.get(0);
        shop.side.batch_execute(&sql).await.unwrap();
        shop.event(7, "{}").await;
        // A restored table is another one to the database, under the names that came along; this one had got another before, and nobody knew.
        let restored = format!(
            "alter table {} rename to journal; update switchyard.mapping set relation = 1, attnums = '{{}}'",
            shop.events
        );
        shop.side.batch_execute(&restored).await.unwrap();
        assert!(migrate(&shop.database.url().parse().unwrap()).await.unwrap().renamed);
        let known = "select count(*) from switchyard.mapping where relation = switchyard._events() and attnums <> '{}'";
        assert_eq!(shop.number(known).await, 1);
        assert_eq!(shop.pending().await.len(), 1);
    }
}

#[tokio::test]
async fn a_time_without_a_zone_is_in_utc_whatever_the_sessions_is() {
    let shop = Shop::full().await;
    let name: String = shop.one("select current_database()::text").await.get(0);
    shop.side.batch_execute(&format!("alter database {name} set timezone = 'Asia/Tokyo'")).await.unwrap();
    let (store, side) = (shop.database.store(), shop.client().await);
    side.batch_execute(
        r#"alter table shop."Order Events" disable trigger switchyard_log;
           insert into shop."Order Events" ("event id", kind, subject, body, happened)
           values (gen_random_uuid(), 'order.placed', 1, '{}', '2020-01-01'),
                  (gen_random_uuid(), 'order.placed', 2, '{}', date_trunc('day', now() at time zone 'UTC') + interval '30 hours');
           alter table shop."Order Events" enable always trigger switchyard_log"#,
    )
    .await
    .unwrap();
    assert_eq!(store.tick().await.unwrap().logged_late, 1, "the one of this installation");
    let pending = store.pending(&Known::default(), Page::of(10)).await.unwrap();
    assert!(pending[0].created_at.as_ref().is_some_and(|time| time.ends_with("T06:00:00.000000Z")), "{pending:?}");
    let selection = BackfillSelection {
        types: Vec::new(),
        projects: Vec::new(),
        since: "2020-01-01T00:00:00Z".into(),
        until: Some("2020-01-01T00:00:01Z".into()),
    };
    assert_eq!(store.preview_backfill(AGENT, &selection).await.unwrap()[0].oldest, "2020-01-01T00:00:00.000000Z");
    store.start_backfill(AGENT, &selection, 50, "ada").await.unwrap();
    assert_eq!(store.prepare_backfill(AGENT).await.unwrap().phase, BackfillPhase::Counting);
    let logged = "select switchyard.rfc3339(logged_at) from switchyard.event_log where seq < 0";
    assert_eq!(shop.one(logged).await.get::<_, &str>(0), "2020-01-01T00:00:00.000000Z");
}

#[tokio::test]
async fn a_large_table_in_partitions_needs_the_index_too_and_ours_cannot_be_made() {
    let partitioned = "create table public.events (id uuid primary key, type text, aggregate_type text, aggregate_id uuid, payload jsonb,
        metadata jsonb, version integer, created_at timestamptz default now()) partition by hash (id);
        create table events_0 partition of events for values with (modulus 1, remainder 0);
        alter table events_0 alter payload set storage plain;
        insert into events (id, type, payload, created_at)
        select gen_random_uuid(), 'order.placed', to_jsonb(repeat('x', 7000)), '2020-01-01' from generate_series(1, 9000)";
    let (database, side) = empty(partitioned).await;
    let url = database.url().parse().unwrap();
    migrate(&url).await.unwrap();
    let ready = "select switchyard._history_is_ready('2019-01-01')";
    assert!(side.batch_execute(ready).await.is_err(), "its own size is nought, that of its partitions is not");
    let refused = switchyard_store::index_history(&url).await.unwrap_err().to_string();
    assert!(refused.contains("on each partition concurrently"), "{refused}");
    side.batch_execute("create index on events (created_at, id)").await.unwrap();
    assert!(!switchyard_store::index_history(&url).await.unwrap(), "there is one");
    side.batch_execute(ready).await.unwrap();
}
