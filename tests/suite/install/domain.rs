//! A domain of another application than the sample: its tables, its events, and how they change.

use super::shop::empty;
use switchyard_store::{
    DatabaseUrl, Domain, DomainSet, EventsTable, Replace, WaitPolicy, migrate, migrate_with, set_domain,
};
use switchyard_tests::database::Database;
use tokio_postgres::Client;

const TABLES: &str = "create schema stock;
    create table orders (id uuid primary key default gen_random_uuid(), state text);
    create table stock.parcels (no bigint primary key, order_id uuid, weight int)";

const ORDERS: &str = r#"{"table": "orders", "aggregate_type": "order", "by_value": {"column": "state",
    "events": {"placed": "order.placed", "paid": "order.paid"}}}"#;
const PARCELS: &str = r#"{"schema": "stock", "table": "parcels", "key": "no", "aggregate_type": "order", "aggregate_id": "order_id",
    "insert": "order.packed", "update": "order.repacked"}"#;

fn domain(name: &str, tables: &[&str]) -> Domain {
    Domain::parse(&format!(r#"{{"name": "{name}", "tables": [{}]}}"#, tables.join(","))).unwrap()
}

async fn given(url: &DatabaseUrl, domain: &Domain) -> DomainSet {
    set_domain(url, domain, Replace::Any, &WaitPolicy::default()).await.unwrap()
}

/// A shop with this domain.
async fn shop(tables: &[&str]) -> (Database, Client, DatabaseUrl) {
    let (database, client) = empty(TABLES).await;
    let url = database.url().parse().unwrap();
    migrate(&url).await.unwrap();
    given(&url, &domain("shop", tables)).await;
    (database, client, url)
}

/// The types of the events so far, in their order.
async fn types(client: &Client) -> String {
    let sql = "select coalesce(string_agg(type, ' ' order by seq), '') from switchyard.event_log";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_change_of_a_table_or_of_one_column_is_an_event_of_its_aggregate() {
    let (_database, client, _) = shop(&[ORDERS, PARCELS]).await;
    client
        .batch_execute(
            "insert into orders (state) values ('basket');
             update orders set state = 'placed';
             update orders set state = 'placed';
             insert into stock.parcels select 1, id, 3 from orders;
             update stock.parcels set weight = 4;
             update orders set state = 'paid'",
        )
        .await
        .unwrap();
    assert_eq!(types(&client).await, "order.placed order.packed order.repacked order.paid");
    let all_of_one = "select count(distinct l.aggregate_id) = 1 and min(l.aggregate_id) = (select id::text from orders)
        and (select bool_and(aggregate_type = 'order') from events) from switchyard.event_log l";
    assert!(client.query_one(all_of_one, &[]).await.unwrap().get::<_, bool>(0));
}

#[tokio::test]
async fn a_domain_that_changes_replaces_and_drops_its_triggers() {
    let (_database, client, url) = shop(&[ORDERS, PARCELS]).await;
    assert_eq!(given(&url, &domain("shop", &[ORDERS, PARCELS])).await.triggers, [""; 0], "nothing has changed");

    let renamed = PARCELS.replace("order.packed", "parcel.packed");
    let changed = given(&url, &domain("shop", &[&renamed])).await;
    assert_eq!(changed.triggers, ["stock.parcels insert", "orders insert (dropped)", "orders update (dropped)"]);
    client
        .batch_execute(
            "insert into orders (state) values ('placed'); insert into stock.parcels select 1, id, 3 from orders",
        )
        .await
        .unwrap();
    assert_eq!(types(&client).await, "parcel.packed");

    let nothing = given(&url, &Domain::none()).await;
    assert_eq!(nothing.triggers, ["stock.parcels insert (dropped)", "stock.parcels update (dropped)"]);
}

#[tokio::test]
async fn a_domain_that_a_program_brings_along_replaces_only_an_older_version_of_itself() {
    let (_database, _client, url) = shop(&[ORDERS]).await;
    let brought =
        async |domain: Domain| set_domain(&url, &domain, Replace::OwnVersion, &WaitPolicy::default()).await.unwrap();
    let other = brought(domain("sample", &[PARCELS])).await;
    assert_eq!((other.name.as_str(), other.triggers.len()), ("shop", 0));
    let newer = brought(domain("shop", &[PARCELS])).await;
    assert_eq!((newer.name.as_str(), newer.triggers.len()), ("shop", 4), "{newer:?}");
    assert_eq!(brought(Domain::none()).await.name, "shop");
}

#[tokio::test]
async fn a_trigger_whose_table_does_not_fit_is_named_and_comes_when_it_does() {
    let (_database, client, url) = shop(&[]).await;
    client.batch_execute("create view returns as select id from orders").await.unwrap();
    let tables = [
        r#"{"table": "returns", "aggregate_type": "return", "insert": "return.made"}"#,
        r#"{"table": "customers", "aggregate_type": "customer", "insert": "customer.registered"}"#,
        r#"{"table": "orders", "aggregate_type": "order", "aggregate_id": "state", "insert": "order.made"}"#,
        r#"{"schema": "stock", "table": "parcels", "aggregate_type": "order", "aggregate_id": "order_id", "update": "order.repacked"}"#,
    ];
    let set = given(&url, &domain("shop", &tables)).await;
    let mut left_out = set.without_table;
    left_out.sort();
    assert_eq!(left_out, ["customers insert", "orders insert", "returns insert", "stock.parcels update"]);
    assert_eq!(set.triggers, [""; 0]);
    client.batch_execute("create table customers (id uuid primary key)").await.unwrap();
    assert_eq!(migrate(&url).await.unwrap().triggers, ["customers insert"]);
}

#[tokio::test]
async fn ids_are_what_the_events_table_has() {
    let tables = "create table log (id uuid primary key, type text, aggregate_id bigint, payload jsonb);
        create table orders (id int primary key); create table customers (id uuid primary key)";
    let (database, client) = empty(tables).await;
    let url = database.url().parse().unwrap();
    let events = EventsTable::parse(r#"{"table": "log"}"#).unwrap();
    migrate_with(&url, Some(&events), &WaitPolicy::default()).await.unwrap();
    let tables = ["orders", "customers"]
        .map(|table| format!(r#"{{"table": "{table}", "aggregate_type": "{table}", "insert": "{table}.made"}}"#));
    let set = given(&url, &domain("shop", &[&tables[0], &tables[1]])).await;
    assert_eq!(
        (set.triggers, set.without_table),
        (vec!["orders insert".to_owned()], vec!["customers insert".to_owned()])
    );
    client.batch_execute("insert into orders values (7)").await.unwrap();
    let logged: (String, String) = {
        let row = client.query_one("select type, aggregate_id from switchyard.event_log", &[]).await.unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!(logged, ("orders.made".to_owned(), "7".to_owned()));
}
