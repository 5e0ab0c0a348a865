//! Every statement has a time limit.

use std::time::Duration;
use switchyard_tests::{Database, eventually};

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_is_given_up_and_the_pool_goes_on() {
    let database = Database::migrated().await;
    let store = database.store();
    let hurried = store.within(Duration::from_millis(50));

    let error = hurried.query("select pg_sleep(600)", &[]).await.unwrap_err();

    assert!(error.is_unavailable(), "{error}");
    let answer = hurried.within(Duration::from_secs(60)).query("select 1", &[]).await.unwrap();
    assert_eq!(answer[0].get::<_, i32>(0), 1);
    assert!(store.query("select pg_sleep(0.1)", &[]).await.is_ok(), "who sets no limit has none");
}

#[tokio::test]
async fn an_abandoned_statement_is_cancelled_in_the_server() {
    let database = Database::migrated().await;
    let store = database.store();

    let answer = store.within(Duration::from_millis(50)).query("select pg_sleep(600) as nobody_waits", &[]).await;

    assert!(answer.is_err_and(|error| error.is_unavailable()));
    eventually("the statement is cancelled", async || {
        let sql = "select 1 from pg_stat_activity where state = 'active' and query like 'select pg_sleep(600) as nobody_waits%'";
        store.query(sql, &[]).await.ok()?.is_empty().then_some(())
    })
    .await;
}
