//! States, modes and reasons: what SQL writes is what Rust knows.

use std::collections::BTreeSet;

use switchyard_compare::Outcome;
use switchyard_event::Reason;
use switchyard_store::{
    BackfillPhase, BackfillState, BreakerState, Cancellation, CutoverState, Mode, Owner, RoutedBy, Settlement, State,
    Verdict,
};
use switchyard_tests::database::Database;
use tokio_postgres::Client;

/// The words that a check lets into a column.
async fn allowed(client: &Client, table: &str, column: &str) -> BTreeSet<String> {
    let sql = format!(
        "select pg_get_constraintdef(c.oid) from pg_constraint c join pg_attribute a on a.attrelid = c.conrelid and a.attname = '{column}'
          where c.conrelid = 'switchyard.{table}'::regclass and c.contype = 'c' and c.conkey = array[a.attnum]"
    );
    let checks = client.query(&sql, &[]).await.unwrap();
    let check: String =
        checks.iter().map(|row| row.get::<_, String>(0)).find(|check| check.contains("ANY (ARRAY")).unwrap();
    quoted(&check)
}

fn quoted(text: &str) -> BTreeSet<String> {
    // A comment may hold an apostrophe.
    let text: String = text.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    text.split('\'').skip(1).step_by(2).map(str::to_owned).collect()
}

fn set(words: impl IntoIterator<Item = &'static str>) -> BTreeSet<String> {
    words.into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn every_state_that_a_table_takes_is_one_that_rust_knows() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    let modes = [Mode::Off, Mode::Shadow, Mode::Percent(1), Mode::Full].map(Mode::name);
    for (table, column, known) in [
        ("agent", "mode", set(modes)),
        ("agent", "routed_by", set(RoutedBy::ALL.iter().map(|word| word.name()))),
        ("breaker", "state", set(BreakerState::ALL.iter().map(|word| word.name()))),
        ("backfill", "state", set(BackfillState::ALL.iter().map(|word| word.name()))),
        ("backfill", "phase", set(BackfillPhase::ALL.iter().map(|word| word.name()))),
        ("cutover", "state", set(CutoverState::ALL.iter().map(|word| word.name()))),
        ("shadow", "outcome", set(Outcome::ALL.map(Outcome::name))),
        ("delivery", "owner", set([Owner::New, Owner::Old].map(Owner::letter))),
        ("delivery", "state", set(State::ALL.iter().map(|word| word.name()))),
    ] {
        assert_eq!(allowed(&client, table, column).await, known, "{table}.{column}");
    }

    let settle: String =
        client.query_one("select pg_get_functiondef('switchyard.settle'::regproc)", &[]).await.unwrap().get(0);
    let (_, list) = settle.split_once("p_state not in (").unwrap();
    assert_eq!(quoted(list.split_once(')').unwrap().0), set(Settlement::ALL.iter().map(|word| word.name())));
}

/// A claim's answers, of which the old system gets all but the agent's own two; and the one that only a preview gives.
#[tokio::test]
async fn every_verdict_is_one_that_rust_knows() {
    let database = Database::migrated().await;
    let sql = "select pg_get_functiondef('switchyard._claim_answers'::regproc), pg_get_functiondef('switchyard.preview'::regproc)";
    let row = database.connect().await.query_one(sql, &[]).await.unwrap();
    let (body, preview): (String, String) = (row.get(0), row.get(1));
    let (_, own) = preview.split_once("is distinct from").unwrap();
    let (own, _) = own.split_once("else s.verdict").unwrap();
    let (_, answers) = body.split_once("select u.ord,").unwrap();
    let (answers, _) = answers.split_once("e.seq, coalesce(d.epoch").unwrap();
    let dead_letters = set(["n", "o", "p", "d", "s", "e"]);
    let mut written: BTreeSet<String> = quoted(answers).difference(&dead_letters).cloned().collect();
    written.extend(quoted(own));
    assert_eq!(written, set(Verdict::ALL.iter().map(|word| word.name())));
}

/// `reason` of `failure`, and what an automatic redrive takes.
#[tokio::test]
async fn every_reason_that_a_function_writes_is_one_that_rust_knows() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    let body = async |function: &str| -> String {
        let sql = format!("select pg_get_functiondef('switchyard.{function}'::regproc)");
        client.query_one(&sql, &[]).await.unwrap().get(0)
    };
    let redrive = body("auto_redrive").await;
    let (_, list) = redrive.split_once("d.reason in (").unwrap();
    let passing: BTreeSet<String> =
        Reason::ALL.iter().filter(|reason| reason.may_pass()).map(|reason| reason.as_str().to_owned()).collect();
    assert_eq!(quoted(list.split_once(')').unwrap().0), passing);

    let all = "select p.proname::text, pg_get_functiondef(p.oid) from pg_proc p
                where p.pronamespace = 'switchyard'::regnamespace and p.prokind = 'f'";
    let mut written: BTreeSet<(String, String)> = BTreeSet::new();
    for row in client.query(all, &[]).await.unwrap() {
        let (function, body): (String, String) = (row.get(0), row.get(1));
        let words = WRITTEN_AFTER.iter().flat_map(|before| body.split(before).skip(1));
        written.extend(words.map(|rest| (function.clone(), rest.split('\'').next().unwrap().to_owned())));
    }
    for (function, word) in &written {
        assert!(Reason::of(word).is_some(), "{function} writes the reason {word}");
    }
    let expected = [
        ("_cancel_delayed", Reason::Cancelled),
        ("_expire_deleted", Reason::Cancelled),
        ("cancel_run", Reason::RunCancelled),
        ("dismiss", Reason::Dismissed),
        ("due", Reason::Unanswered),
        ("ingest", Reason::RefusedByTheTable),
        ("reassign", Reason::TouchedByTheOldSystem),
        ("refused", Reason::Unpublishable),
        ("sweep", Reason::Missing),
    ];
    for (function, reason) in expected {
        let found = written.contains(&(function.to_owned(), reason.as_str().to_owned()));
        assert!(found, "{function} does not write {reason}, or not where this test looks: {written:?}");
    }
    assert!(body("_expire_deleted").await.contains(&format!("else '{}' end", Reason::EventDeleted)));
    assert!(body("_create_deliveries").await.contains(&format!("then '{}' else p_reason end", Reason::Cancelled)));
}

/// What stands before a reason that a function writes.
const WRITTEN_AFTER: &[&str] = &[
    "reason = '",
    "reason := '",
    "p_reason => '",
    "reason = case when exists (select 1 from switchyard.cancelled c where c.seq = d.seq) then '",
    "c.attempts, true, '",
    "array_fill('",
];

/// The answers to a cancellation, each in the function that gives it.
#[tokio::test]
async fn every_answer_to_a_cancellation_is_one_that_rust_knows() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    let mut answers = BTreeSet::new();
    for function in ["_cancel_delayed", "cancel_delayed"] {
        let sql = format!("select pg_get_functiondef('switchyard.{function}'::regproc)");
        let body: String = client.query_one(&sql, &[]).await.unwrap().get(0);
        let lines = body.lines().filter(|line| line.contains("return ") || line.contains("answer := "));
        answers.extend(lines.flat_map(quoted));
    }
    assert_eq!(answers, set(Cancellation::ALL.iter().map(|word| word.name())));
}

/// Each batch writes to these, and the check of a foreign key would lock the agent's row each time.
const WITHOUT_A_FOREIGN_KEY: [&str; 3] = ["delivery", "gate", "shadow"];

#[tokio::test]
async fn every_column_named_agent_refers_to_an_agent_by_its_id() {
    let database = Database::migrated().await;
    let sql = "select c.relname::text, format_type(a.atttypid, null), exists (
                 select from pg_constraint k where k.contype = 'f' and k.conrelid = c.oid and k.conkey = array[a.attnum]
                    and k.confrelid = 'switchyard.agent'::regclass)
                 from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'agent' and not a.attisdropped
                where c.relnamespace = 'switchyard'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
                order by 1";
    let columns = database.connect().await.query(sql, &[]).await.unwrap();
    assert!(columns.len() >= 12, "{}", columns.len());
    for column in columns {
        let (table, r#type, refers): (String, String, bool) = (column.get(0), column.get(1), column.get(2));
        assert_eq!(r#type, "smallint", "{table}.agent");
        assert_eq!(refers, !WITHOUT_A_FOREIGN_KEY.contains(&table.as_str()), "a foreign key of {table}.agent");
    }
}
