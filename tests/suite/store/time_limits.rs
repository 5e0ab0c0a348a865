//! A statement that nobody waits for for ever.

use std::time::Duration;
use switchyard_tests::Database;

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
