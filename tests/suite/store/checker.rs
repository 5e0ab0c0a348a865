//! A small tier of the randomised checker; `ledger-checker` runs as many seeds as one likes.

use std::time::Duration;

use switchyard_tests::Database;
use switchyard_tests::checker::plants::{PLANTS, Plant};
use switchyard_tests::checker::{self, Options};

#[tokio::test]
async fn the_contract_holds_in_random_concurrent_worlds() {
    let report = checker::run(Options::new(0..=11, 4)).await;
    assert!(report.is_as_it_should(), "{report}");
    for what in [
        "verdict Take",
        "old take",
        "backend killed",
        "routing changed",
        "replayed",
        "redriven",
        "caught up from the beginning",
        "transition na -> nd",
    ] {
        assert!(report.counts.contains_key(what), "this never happened, so it was not checked: {what}\n{report}");
    }
}

#[tokio::test]
async fn planted_faults_are_found() {
    for name in ["dedup_by_message", "settle_second_tx", "sweep_after_the_end"] {
        let plant = Plant::named(name);
        assert!(plant.is_some(), "{name}");
        let options = Options { plant, chaos: Duration::from_millis(1_200), ..Options::new(0..=59, 4) };
        let report = checker::run(options).await;
        assert!(report.is_as_it_should(), "{report}");
    }
}

#[tokio::test]
async fn every_fault_can_still_be_planted() {
    for plant in PLANTS {
        let database = Database::migrated().await;
        let client = database.connect().await;
        client.batch_execute("create schema checker").await.unwrap();
        plant.apply(&client).await;
    }
}
