//! `docs/old-system.md` against a database: its grants suffice, its functions are there, its answers are those that there are.

use crate::store::world::{AGENT, LedgerWorld};
use std::collections::BTreeSet;
use switchyard_store::Mode;
use uuid::Uuid;

const PAGE: &str = include_str!("../../../docs/old-system.md");

/// The blocks of code of one language.
fn blocks(language: &str) -> Vec<&'static str> {
    let opening = format!("```{language}");
    let blocks: Vec<&str> = PAGE.split(&opening).skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty(), "{language}");
    blocks
}

/// The first words of the rows of a table of the page whose header begins so.
fn first_column(header: &str) -> BTreeSet<&'static str> {
    let table = PAGE.split_once(header).expect("the table").1;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.split('`').nth(1).expect("a word in the first column")).collect()
}

/// What a claim has answered to the old system in each of the cases that there are.
async fn answers(world: &LedgerWorld) -> BTreeSet<String> {
    let mut answers = BTreeSet::new();
    world.routing(Mode::Off).await;
    let (taken, parked) = (world.event("thing.made").await, world.event("thing.made").await);
    world.run_sql(&format!("select switchyard.park('{AGENT}', '{parked}', 'for a person')")).await;
    for event in [taken, taken, parked, world.event("thing.sold").await, Uuid::new_v4()] {
        answers.insert(world.old_claim(event).await);
    }
    world.routing(Mode::Full).await;
    answers.insert(world.old_claim(world.event("thing.made").await).await);
    let forgotten = world.event("thing.made").await;
    world.run_sql("update switchyard.floor set seq = switchyard.last_seq() + 1").await;
    answers.insert(world.old_claim(forgotten).await);
    answers
}

#[tokio::test]
async fn every_answer_of_a_claim_stands_on_the_page_and_in_its_type_and_no_other() {
    let world = LedgerWorld::direct().await;
    let told = answers(&world).await;
    let told: BTreeSet<&str> = told.iter().map(String::as_str).collect();
    assert_eq!(first_column("| answer |"), told);
    let types = blocks("ts claimed.ts")[0].split_once("export type Answer =").unwrap().1.split("\n\n").next().unwrap();
    assert_eq!(types.split('\'').skip(1).step_by(2).collect::<BTreeSet<_>>(), told);
}

#[tokio::test]
async fn with_the_page_s_grants_a_role_may_call_what_the_page_calls_and_nothing_else_of_ours() {
    let world = LedgerWorld::direct().await;
    world
        .run_sql(
            "do $$ begin create role my_server; exception when duplicate_object or unique_violation then null; end $$",
        )
        .await;
    world.run_sql(blocks("sql\n")[0]).await;

    let called: BTreeSet<&str> = PAGE
        .split("switchyard.")
        .skip(1)
        .filter_map(|rest| rest.split_once('(').map(|(name, _)| name))
        .filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .collect();
    let rights = "select p.proname::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
                   where n.nspname = 'switchyard' and has_function_privilege('my_server', p.oid, 'execute')";
    let may: Vec<String> = world.side.query(rights, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();

    // The role is the application's, so it may publish, too, and sign what wakes the shim.
    let other = BTreeSet::from(["publish", "sign"]);
    assert_eq!(may.iter().map(String::as_str).collect::<BTreeSet<_>>(), &called | &other);
    world.run_sql("drop owned by my_server").await;
}

#[tokio::test]
async fn the_page_s_function_for_a_gateway_claims_and_works_in_one_call() {
    let world = LedgerWorld::direct().await;
    world.run_sql(switchyard_feedback::TABLES).await;
    world.run_sql(&blocks("sql\n")[1].replace("'sentiment'", &format!("'{AGENT}'"))).await;
    world.routing(Mode::Off).await;
    let post = Uuid::new_v4();
    world.run_sql(&format!("insert into posts (id, project_id, title) values ('{post}', '{post}', 'Nice')")).await;
    let (created, updated) =
        (world.event_with("thing.made", post, "{}").await, world.event_with("thing.made", post, "{}").await);
    for (event, label, expected) in
        [(created, "neutral", "take"), (created, "neutral", "already_done"), (updated, "positive", "take")]
    {
        let call = format!("select analysed('{event}', '{label}', 0, 1)");
        assert_eq!(world.one(&call, &[]).await.get::<_, String>(0), expected);
        let written = format!("select count(*) from sentiment_analysis where label = '{label}'");
        assert_eq!(world.number(&written).await, 1, "a post that is analysed again has one analysis");
    }
}
