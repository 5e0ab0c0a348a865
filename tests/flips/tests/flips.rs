//! Fewer flips than the program makes, with both ends; and the mistakes that the judge must find.
#![allow(clippy::unwrap_used, reason = "a test may fail by a panic")]

use flips::{Options, Report, old_system::Bug};
use std::path::PathBuf;

async fn run(flips: u32, seed: u64, bug: Option<Bug>) -> Report {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_flips"));
    flips::run(&Options { flips, seed, per_second: 40, program, bug }).await
}

#[tokio::test]
async fn the_last_owner_has_finished_every_event_once() {
    for seed in [2, 3] {
        let report = run(40, seed, None).await;
        assert!(report.is_as_it_should(), "{report}");
        // What did not happen was not shown.
        for what in [
            "events that have changed hands",
            "effects of the agent",
            "effects of the old system",
            "old system, route: not_yours",
        ] {
            assert!(report.count(what) > 0, "{what}: {report}");
        }
        assert!(report.count("processes of the old system that were killed") > 0, "{report}");
    }
}

#[tokio::test]
async fn an_old_system_that_makes_a_mistake_is_found_out() {
    for bug in [Bug::IgnoresTheAnswer, Bug::ClaimsBeforehand, Bug::ClaimsAfterwards] {
        let report = run(15, 2, Some(bug)).await;
        assert!(report.is_as_it_should(), "{report}");
    }
}
