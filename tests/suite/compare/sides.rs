//! Both sides against a real Postgres: which row answers which event, what is refused, and what is kept.

use super::{report, set, step};
use crate::store::{
    directly_and_pooled,
    world::{AGENT, LedgerWorld},
};
use serde_json::{Value, json};
use steward::compare::{advance, answer};
use switchyard_compare::Mapping;
use switchyard_operations::compare::{Answered, CompareRequest};
use switchyard_store::{AgentSpec, Ask, Mode, RoutedBy, Since, Store, StoreError};
use uuid::Uuid;

/// Rows pile up in it.
const NOTES: &str = "create table notes (thing uuid not null, label text, at timestamptz not null)";
/// Each row is written over the one before it.
const LATEST: &str = "create table notes (thing uuid primary key, label text, at timestamptz not null)";

fn mapping() -> Value {
    json!({ "wait": "1m", "answers": [{
        "name": "note",
        "ours": { "effect": "any" },
        "theirs": { "table": "notes", "key": { "thing": "aggregate_id" }, "at": "at" },
        "fields": [{ "ours": "label", "theirs": "label" }]
    }] })
}

/// In shadow mode beside a table of the old system.
async fn beside(world: &LedgerWorld, tables: &str) {
    world.routing(Mode::Shadow).await;
    world.run_sql(tables).await;
}

/// An event of so long ago, about which the agent decided at once; they come in the order in which they happened.
async fn decided(world: &LedgerWorld, thing: Uuid, secs_ago: i64, label: &str) -> Uuid {
    let event = world.event_with("thing.made", thing, r#"{"correlation_id":"chain-7"}"#).await;
    decide(world, event, secs_ago, &json!({ "effects": [{ "label": label }], "events": [] })).await;
    event
}

async fn decide(world: &LedgerWorld, event: Uuid, secs_ago: i64, decision: &Value) {
    world
        .run_sql(&format!(
            "update switchyard.event_log set logged_at = now() - interval '{secs_ago} s' where event_id = '{event}';
             insert into switchyard.shadow (agent, event_id, run, at, decision)
             values (switchyard._agent_id('{AGENT}'), '{event}', 0, now() - interval '{secs_ago} s', '{decision}')"
        ))
        .await;
}

async fn noted(world: &LedgerWorld, thing: Uuid, secs_ago: i64, label: &str) {
    world
        .run_sql(&format!(
            "insert into notes (thing, label, at) values ('{thing}', '{label}', now() - interval '{secs_ago} s')"
        ))
        .await;
}

async fn outcome(world: &LedgerWorld, event: Uuid) -> String {
    let row = world.one(&format!("select outcome from switchyard.shadow where event_id = '{event}'"), &[]).await;
    row.get::<_, Option<String>>(0).unwrap_or_default()
}

directly_and_pooled! {
    async fn where_answers_are_written_over_one_that_may_have_been_there_is_not_called_missing(world: LedgerWorld) {
        beside(&world, LATEST).await;
        let (thing, other, silent) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
        let first = decided(&world, thing, 400, "a").await;
        let rewritten = decided(&world, other, 390, "a").await;
        let missed = decided(&world, silent, 380, "a").await;
        let second = decided(&world, thing, 300, "b").await;
        noted(&world, thing, 290, "b").await;
        noted(&world, other, 200, "a").await;

        set(&world.store, AGENT, &mapping()).await.unwrap();

        assert_eq!([outcome(&world, first).await, outcome(&world, second).await], ["overtaken", "agreed"]);
        assert_eq!(outcome(&world, rewritten).await, "overtaken", "a late answer, or one of in time that was written once more");
        assert_eq!(outcome(&world, missed).await, "only_new", "there never was one");
    }

    async fn an_event_that_the_agent_has_done_is_not_compared(world: LedgerWorld) {
        beside(&world, NOTES).await;
        let thing = Uuid::new_v4();
        let event = decided(&world, thing, 400, "a").await;
        world.sweep().await;
        world.routing(Mode::Full).await;
        world.reassign_completely().await;
        noted(&world, thing, 390, "a").await;

        set(&world.store, AGENT, &mapping()).await.unwrap();

        assert_eq!(outcome(&world, event).await, "", "whoever wrote that row");
        let done = world.event("thing.made").await;
        world.claim(done).await;
        world.routing(Mode::Shadow).await;
        let report = report(&world.store, AGENT, 0).await;
        assert_eq!(report.line.compared.not_yet, 0, "nothing more comes of either");
    }

    async fn in_a_table_of_many_rows_a_missing_answer_is_only_new(world: LedgerWorld) {
        beside(&world, NOTES).await;
        let thing = Uuid::new_v4();
        let first = decided(&world, thing, 400, "a").await;
        let second = decided(&world, thing, 300, "b").await;
        noted(&world, thing, 290, "b").await;

        set(&world.store, AGENT, &mapping()).await.unwrap();

        assert_eq!([outcome(&world, first).await, outcome(&world, second).await], ["only_new", "agreed"]);
    }

    async fn a_view_is_taken_for_a_table_that_is_written_over_unless_the_mapping_says_otherwise(world: LedgerWorld) {
        beside(&world, NOTES).await;
        world.run_sql("create view seen as select * from notes").await;
        let thing = Uuid::new_v4();
        let first = decided(&world, thing, 400, "a").await;
        decided(&world, thing, 300, "b").await;
        noted(&world, thing, 290, "b").await;
        let mut by_view = mapping();
        by_view["answers"][0]["theirs"]["table"] = json!("seen");

        set(&world.store, AGENT, &by_view).await.unwrap();
        assert_eq!(outcome(&world, first).await, "overtaken");

        by_view["answers"][0]["theirs"]["overwritten"] = json!(false);
        set(&world.store, AGENT, &by_view).await.unwrap();
        assert_eq!(outcome(&world, first).await, "only_new");
    }

    async fn a_decision_is_not_yet_compared_while_the_old_system_has_time(world: LedgerWorld) {
        beside(&world, NOTES).await;
        let over = decided(&world, Uuid::new_v4(), 70, "a").await;
        let under_way = decided(&world, Uuid::new_v4(), 30, "a").await;
        world.event("thing.made").await; // not even decided

        let report = set(&world.store, AGENT, &mapping()).await.unwrap();

        assert_eq!([outcome(&world, over).await, outcome(&world, under_way).await], ["only_new", ""]);
        assert_eq!((report.line.compared.only_new, report.line.compared.not_yet), (1, 2));
        assert_eq!(report.line.mismatch, Some(1.0));
    }

    async fn what_was_compared_stays_what_it_was_and_is_counted_once(world: LedgerWorld) {
        beside(&world, NOTES).await;
        let event = decided(&world, Uuid::new_v4(), 120, "a").await;
        let open = decided(&world, Uuid::new_v4(), 10, "a").await;
        set(&world.store, AGENT, &mapping()).await.unwrap();

        let again = json!({ "effects": [], "events": [] }).to_string();
        let mut tx = world.store.begin().await.unwrap();
        tx.shadow(AGENT, &[(Ask::live(event), again.clone()), (Ask::live(open), again)]).await.unwrap();
        tx.commit().await.unwrap();

        let kept = "select count(*) from switchyard.shadow where times = 2 and decision::text like '%label%'";
        assert_eq!(world.number(kept).await, 1, "the one that was compared");
        assert_eq!(step(&world.store).await.compared, 0);
        assert_eq!(report(&world.store, AGENT, 3).await.line.compared.judged(), 1);
    }

    async fn an_answer_is_found_by_any_key(world: LedgerWorld) {
        beside(&world, "create table notes (tenant int, number bigint, thing text, chain varchar(20), label text, at timestamp not null)").await;
        let thing = Uuid::new_v4();
        let event = decided(&world, thing, 120, "a").await;
        world.run_sql(&format!("update events set payload = '{{\"tenant\": 3, \"note\": {{\"number\": \"12\"}}}}' where id = '{event}'")).await;
        world.run_sql(&format!(
            "insert into notes values (3, 12, '{event}', 'chain-7', 'a', (now() - interval '100 s') at time zone 'UTC'),
                                      (3, 13, 'x', 'chain-8', 'b', (now() - interval '99 s') at time zone 'UTC')"
        )).await;
        for key in [
            json!({ "thing": "id" }),
            json!({ "tenant": "payload.tenant", "number": "payload.note.number" }),
            json!({ "chain": "correlation_id" }),
            json!({ "chain": ["metadata", "correlation_id"] }),
        ] {
            let mut mapping = mapping();
            mapping["answers"][0]["theirs"]["key"] = key.clone();
            let report = set(&world.store, AGENT, &mapping).await.unwrap();
            assert_eq!((report.line.compared.agreed, report.line.compared.only_new), (1, 0), "{key}: {report:?}");
        }
        // What can be no key of the column belongs to no event.
        let mut mapping = mapping();
        mapping["answers"][0]["theirs"]["key"] = json!({ "number": "aggregate_id" });
        assert_eq!(set(&world.store, AGENT, &mapping).await.unwrap().line.compared.only_new, 1);
    }

    async fn an_unreadable_event_does_not_stop_the_comparison(world: LedgerWorld) {
        beside(&world, "create table notes (thing uuid not null, detail json, at timestamptz not null)").await;
        world.run_sql("begin; select switchyard.unbind(); alter table events alter column payload type json; select switchyard.bind(); commit").await;
        let decision = json!({ "effects": [{ "label": "a" }], "events": [] });
        let [plain, nul, broken, urn] = std::array::from_fn(|_| Uuid::new_v4());
        for (thing, payload) in [
            (plain, format!(r#"{{"key": "{plain}"}}"#)),
            (nul, format!(r#"{{"key": "{nul}", "z": "\u0000"}}"#)),
            (broken, format!(r#"{{"key": "{broken}", "z": "\ud800"}}"#)),
            (urn, format!(r#"{{"key": "urn:uuid:{urn}"}}"#)),
        ] {
            let event = world.event_with("thing.made", thing, "{}").await;
            world.run_sql(&format!(
                r#"update events set payload = '{payload}' where id = '{event}';
                   insert into notes values ('{thing}', '{{"label": "a", "z": "\u0000"}}', now() - interval '110 s')"#
            )).await;
            decide(&world, event, 120, &decision).await;
        }
        let mut mapping = mapping();
        mapping["answers"][0]["theirs"]["key"] = json!({ "thing": "payload.key" });
        mapping["answers"][0]["fields"][0]["theirs"] = json!("detail.label");
        let compared = set(&world.store, AGENT, &mapping).await.unwrap().line.compared;
        assert_eq!((compared.agreed, compared.only_new, compared.not_yet), (2, 2, 0), "{compared:?}");
    }

    async fn an_old_system_may_answer_by_an_event(world: LedgerWorld) {
        beside(&world, "").await;
        let thing = Uuid::new_v4();
        let event = decided(&world, thing, 120, "a").await;
        let said = world.event_with("old.noted", thing, &format!(r#"{{"causation_id":"{event}","correlation_id":"chain-7"}}"#)).await;
        world.run_sql(&format!(
            "update events set payload = '{{\"label\": \"a\"}}' where id = '{said}';
             update switchyard.event_log set logged_at = now() - interval '110 s' where event_id = '{said}'"
        )).await;
        for by in ["causation", "correlation", "aggregate"] {
            let mapping = json!({ "wait": "1m", "answers": [{
                "name": "note", "ours": { "effect": "any" }, "theirs": { "event": "old.noted", "by": by },
                "fields": [{ "ours": "label", "theirs": "payload.label" }]
            }] });
            let report = set(&world.store, AGENT, &mapping).await.unwrap();
            assert_eq!((report.line.compared.agreed, report.line.compared.only_new), (1, 0), "{by}: {report:?}");
        }
    }

    async fn names_of_the_team_are_names_whatever_they_hold(world: LedgerWorld) {
        let table = r#"notes"; drop table events; --"#;
        beside(&world, &format!("create schema \"Old $1\"; create table \"Old $1\".\"{}\" (\"the id\" text, \"La\"\"bel'\" text, \"at\" timestamptz)", table.replace('"', "\"\""))).await;
        let event = decided(&world, Uuid::new_v4(), 120, "a").await;
        world.run_sql(&format!("insert into \"Old $1\".\"{}\" values ('{event}', 'a', now() - interval '110 s')", table.replace('"', "\"\""))).await;
        let mapping = json!({ "wait": "1m", "answers": [{
            "name": "note", "ours": { "effect": "any" },
            "theirs": { "schema": "Old $1", "table": table, "key": { "the id": "id" }, "at": "at" },
            "fields": [{ "ours": "label", "theirs": ["La\"bel'"] }]
        }] });
        assert_eq!(set(&world.store, AGENT, &mapping).await.unwrap().line.compared.agreed, 1);
    }

    async fn rows_too_large_to_hold_at_once_are_compared_a_few_at_a_time(world: LedgerWorld) {
        beside(&world, NOTES).await;
        for _ in 0..5 {
            let thing = Uuid::new_v4();
            decided(&world, thing, 120, "a").await;
            world.run_sql(&format!("insert into notes select '{thing}', repeat('x', 3000000), now() - interval '110 s'")).await;
        }
        let report = set(&world.store, AGENT, &mapping()).await.unwrap();
        assert_eq!((report.line.compared.differed, report.line.trouble), (5, None));
    }

    async fn a_mapping_that_the_database_does_not_bear_out_is_refused_and_names_what_is_missing(world: LedgerWorld) {
        beside(&world, "create table notes (thing uuid not null, label text, day date, at timestamptz not null)").await;
        let kept = set(&world.store, AGENT, &mapping()).await.unwrap();
        for (place, value, says) in [
            ("/answers/0/theirs/table", json!("nowhere"), vec!["answers[0].theirs.table", "public.nowhere"]),
            ("/answers/0/theirs/schema", json!("old"), vec!["answers[0].theirs.table", "old.notes"]),
            ("/answers/0/fields/0/theirs", json!("lable.x"), vec!["answers[0].fields[0].theirs", "\"lable\"", "at, day, label, thing"]),
            ("/answers/0/theirs/key", json!({ "thingy": "id" }), vec!["answers[0].theirs.key.thingy", "\"thingy\""]),
            ("/answers/0/theirs/at", json!("day"), vec!["answers[0].theirs.at", "date"]),
            ("/wait", json!("soon"), vec!["wait", "90s"]),
        ] {
            let mut wrong = mapping();
            match wrong.pointer_mut(place) {
                Some(there) => *there = value,
                None => wrong["answers"][0]["theirs"]["schema"] = value,
            }
            let refused = set(&world.store, AGENT, &wrong).await.unwrap_err();
            assert!(says.iter().all(|words| refused.contains(words)) && refused.lines().count() == 1, "{place}: {refused}");
        }
        let now = report(&world.store, AGENT, 0).await;
        assert_eq!(now.mapping_since, kept.mapping_since, "what was refused has changed nothing");
        let nobody = set(&world.store, "nobody", &mapping()).await.unwrap_err();
        assert!(nobody.contains("nobody"), "{nobody}");
    }

    async fn a_broken_mapping_is_reported_until_it_is_fixed_and_delays_no_other_agent(world: LedgerWorld) {
        beside(&world, &format!("{NOTES}; create table others (like notes)")).await;
        let other = AgentSpec { name: "other".into(), subscribes: vec!["thing.made".into()], routed_by: RoutedBy::Aggregate, max_attempts: 4 };
        world.store.register(&other, Mode::Shadow, Since::Now).await.unwrap();
        set(&world.store, AGENT, &mapping()).await.unwrap();
        let mut others = mapping();
        others["answers"][0]["theirs"]["table"] = json!("others");
        set(&world.store, "other", &others).await.unwrap();

        world.run_sql("alter table notes rename column label to name").await;
        let troubles: Vec<Option<String>> = advance(&world.store, super::soon()).await.unwrap().into_iter().map(|done| done.trouble).collect();
        assert!(troubles[0].is_none() && troubles[1].as_ref().is_some_and(|trouble| trouble.contains("\"label\"")), "{troubles:?}");
        assert!(report(&world.store, AGENT, 0).await.line.trouble.is_some());

        world.run_sql("alter table notes rename column name to label").await;
        advance(&world.store, super::soon()).await.unwrap();
        assert_eq!(report(&world.store, AGENT, 0).await.line.trouble, None);
    }

    async fn a_row_that_answers_no_event_counts_only_while_all_events_are_the_old_system_s(world: LedgerWorld) {
        beside(&world, NOTES).await;
        set(&world.store, AGENT, &mapping()).await.unwrap();
        let back = "update switchyard.compare_mapping set unmatched_to = now() - interval '10 min'";
        world.run_sql(back).await;
        let unmatched = Uuid::new_v4();
        noted(&world, unmatched, 300, "a").await;
        noted(&world, Uuid::new_v4(), 5, "a").await; // an event may still be on its way

        assert_eq!(step(&world.store).await.unmatched, 1);
        let found = report(&world.store, AGENT, 3).await;
        assert_eq!((found.line.compared.only_old, found.line.compared.unmatched, found.unmatched_rows[0].key.clone()), (1, 1, vec![unmatched.to_string()]));

        world.routing(Mode::Percent(50)).await;
        world.run_sql(back).await;
        noted(&world, Uuid::new_v4(), 290, "a").await;
        assert_eq!(step(&world.store).await.unmatched, 0, "it may be the agent's own");
    }

    async fn showing_values_leaves_an_audit_row_and_values_are_stored_nowhere_else(world: LedgerWorld) {
        beside(&world, NOTES).await;
        let thing = Uuid::new_v4();
        decided(&world, thing, 120, "our secret").await;
        noted(&world, thing, 110, "their secret").await;
        let bare = set(&world.store, AGENT, &mapping()).await.unwrap();
        assert!(bare.examples[0].values.is_none() && bare.examples[0].example.differs == ["note.label"]);
        let inspected = "select count(*) from switchyard.audit where by = 'ada' and action = 'compare' and detail ? 'values_shown'";
        assert_eq!(world.number(inspected).await, 0);

        let found = report(&world.store, AGENT, 3).await;
        let values = found.examples[0].values.as_ref().unwrap();
        assert_eq!((&values[0].ours, &values[0].theirs), (&json!("our secret"), &json!("their secret")));
        assert_eq!(world.number(inspected).await, 1);
        let kept = "select (select count(*) from switchyard.comparison c where c::text like '%secret%')
                         + (select count(*) from switchyard.unmatched_row s where s::text like '%secret%')
                         + (select count(*) from switchyard.audit a where a::text like '%secret%')
                         + (select count(*) from switchyard.shadow s where s.differs::text like '%secret%')";
        assert_eq!(world.number(kept).await, 0);

        // The old system changes its mind: the count stays, and the example says that it is no longer so.
        world.run_sql("update notes set label = 'our secret'").await;
        assert_eq!(report(&world.store, AGENT, 3).await.examples[0].by_now.as_deref(), Some("agreed"));
    }

    async fn an_agent_that_is_compared_no_longer_is_forgotten(world: LedgerWorld) {
        beside(&world, NOTES).await;
        decided(&world, Uuid::new_v4(), 120, "a").await;
        set(&world.store, AGENT, &mapping()).await.unwrap();
        let drop = || answer(&world.store, CompareRequest::Drop { agent: AGENT.into(), operator: "ada".into() }, super::soon());
        let Answered::Report(report) = drop().await.unwrap() else { panic!() };
        assert_eq!((report.mapping, report.line.compared.judged()), (None, 0));
        assert!(drop().await.unwrap_err().contains(AGENT));
        assert!(advance(&world.store, super::soon()).await.unwrap().is_empty());
        assert_eq!(world.number("select count(*) from switchyard.audit where action = 'compare'").await, 2);
    }

    async fn decisions_are_forgotten_after_45_days_and_counts_after_90(world: LedgerWorld) {
        beside(&world, NOTES).await;
        decided(&world, Uuid::new_v4(), 120, "a").await;
        let old = decided(&world, Uuid::new_v4(), 110, "a").await;
        world.run_sql(&format!("update switchyard.shadow set at = now() - interval '46 days' where event_id = '{old}'")).await;
        world.run_sql(&format!(
            "insert into switchyard.comparison (agent, minute, agreed)
             select switchyard._agent_id('{AGENT}'), date_trunc('minute', now()) - n * interval '1 day', 1 from unnest(array[89, 91]) n"
        )).await;
        assert_eq!(world.store.prune_compared().await.unwrap(), 2);
        assert_eq!(world.number("select count(*) from switchyard.shadow").await, 1);
        let unknown = world.store.compared("nobody", "2026-01-01T00:00:00Z").await;
        assert!(matches!(unknown, Err(StoreError::Config { .. })), "{unknown:?}");
    }
}

/// A role without rights. Roles belong to the cluster, and are shared.
const READER: &str = "switchyard_test_reader";

#[tokio::test]
async fn the_right_to_select_what_the_mapping_names_is_enough_and_what_is_missing_is_named() {
    let world = LedgerWorld::direct().await;
    beside(
        &world,
        "create schema legacy; create table legacy.notes (thing uuid, label text, at timestamptz, price numeric)",
    )
    .await;
    world
        .run_sql(&format!(
            "do $$ begin create role {READER} login; exception when duplicate_object or unique_violation then null; end $$"
        ))
        .await;
    let admin: tokio_postgres::Config = switchyard_tests::admin_url().parse().unwrap();
    let name: String = world.one("select current_database()::text", &[]).await.get(0);
    let reader = format!("postgresql://{READER}@127.0.0.1:{}/{name}", admin.get_ports()[0]).parse().unwrap();
    let reader = Store::open(&reader, 1).unwrap();
    let mut mapping = mapping();
    mapping["answers"][0]["theirs"]["schema"] = json!("legacy");
    let mapping = Mapping::read(&mapping).unwrap();
    let refused = async || reader.old_tables(&mapping).await.unwrap_err().to_string();

    assert!(refused().await.contains("usage on the schema"));
    world
        .run_sql(&format!(
            "grant usage on schema legacy to {READER}; grant select (thing, at) on legacy.notes to {READER}"
        ))
        .await;
    let column = refused().await;
    assert!(
        column.contains("\"label\"") && column.contains(READER) && column.contains("answers[0].fields[0].theirs"),
        "{column}"
    );
    world.run_sql(&format!("grant select (label) on legacy.notes to {READER}")).await;
    assert!(!reader.old_tables(&mapping).await.unwrap()[0].is_overwritten());
    world.run_sql("create unique index on legacy.notes (thing, at)").await;
    assert!(!reader.old_tables(&mapping).await.unwrap()[0].is_overwritten(), "two rows of a thing may stand there");
    world.run_sql("create unique index on legacy.notes (thing) include (price)").await;
    assert!(reader.old_tables(&mapping).await.unwrap()[0].is_overwritten());
    world.run_sql("alter table legacy.notes enable row level security").await;
    assert!(refused().await.contains("row-level security"));
}
