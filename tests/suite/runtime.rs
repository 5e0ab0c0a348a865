//! The runtime's layers with an agent that does what its events say, a real Postgres, and queues in memory.

mod breaker;
mod budgets;
mod costs;
mod forged;
mod payloads;
mod resend;
mod round_trips;
mod sets;
mod suspects;
mod versions;
pub(crate) mod world;

use std::time::Duration;
use switchyard_event::Event;
use switchyard_store::Mode;
use world::{PLENTY, RuntimeWorld, orders, published};

#[tokio::test]
async fn every_kind_of_failure_takes_only_its_own_record() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let list = [
        ("gather", "work"),
        ("gather", "retry"),
        ("gather", "panic"),
        ("gather", "reject"),
        ("gather", "supersede"),
        ("gather", "be without the model"),
        ("apply", "retry"),
        ("apply", "panic"),
        ("apply", "work"),
    ];
    let bodies = world.give(&orders(list)).await;

    let again = world.handle(&bodies, PLENTY).await;

    assert_eq!(again, [1, 2, 4, 5, 6, 7]);
    assert_eq!(world.reasons(), ["told_to"]);
    assert_eq!(world.count("done").await, 2, "what was refused has left nothing behind");
    // In the order of the log: done, failing, failing, parked, failing, returned, failing, failing, done.
    assert_eq!(world.states().await, "dffpfaffd");
    assert_eq!(world.queues.visibilities().len(), 6);
}

#[tokio::test]
async fn the_last_attempt_goes_to_the_dead_letter_queue_and_is_acknowledged() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let bodies = world.give(&orders([("gather", "retry"), ("apply", "panic")])).await;
    assert_eq!(world.handle(&bodies, PLENTY).await, [0, 1]);
    assert!(world.queues.dead_letters().is_empty());

    assert!(world.handle(&bodies, PLENTY).await.is_empty());

    assert_eq!(world.reasons(), ["attempts_used_up", "attempts_used_up"]);
    let letter = &world.queues.dead_letters()[1];
    assert_eq!((letter.attribute("attempts"), letter.attribute("error")), (Some("2"), Some("panicked: told to")));
    assert_eq!(world.states().await, "pp");
    assert!(world.handle(&bodies, PLENTY).await.is_empty(), "a copy of what is parked is acknowledged");
    assert_eq!(world.queues.dead_letters().len(), 2);
}

#[tokio::test]
async fn who_gathers_for_ever_while_the_others_are_answered_has_had_an_attempt() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let bodies = world.give(&orders([("gather", "hang"), ("gather", "work")])).await;

    let again = world.handle(&bodies, Duration::from_secs(14)).await;

    assert_eq!((again, world.count("done").await), (vec![0], 1));
    assert_eq!(world.count("switchyard.failure").await, 1, "a person sees it");
}

#[tokio::test]
async fn where_no_record_is_answered_the_dependency_is_down_and_it_costs_no_attempt() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let bodies = world.give(&orders([("gather", "hang"), ("gather", "hang")])).await;

    let again = world.handle(&bodies, Duration::from_secs(12)).await;

    assert_eq!((again, world.count("switchyard.failure").await), (vec![0, 1], 0));
}

#[tokio::test]
async fn a_commit_that_does_not_end_in_time_is_undone_and_returned_without_an_attempt() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let bodies = world.give(&orders([("apply", "wait for ever"), ("apply", "work")])).await;

    let again = world.handle(&bodies, Duration::from_secs(12)).await;

    assert_eq!(again, [0, 1]);
    assert_eq!((world.count("done").await, world.count("switchyard.failure").await), (0, 0));
    assert!(world.handle(&bodies[1..], PLENTY).await.is_empty(), "nothing is held any more");
    assert_eq!(world.count("done").await, 1);
}

#[tokio::test]
async fn a_connection_that_is_lost_in_the_middle_costs_no_attempt() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let bodies = world.give(&orders([("apply", "work"), ("apply", "lose the connection"), ("apply", "work")])).await;

    let again = world.handle(&bodies, PLENTY).await;

    assert!(again.contains(&1) && !again.contains(&0), "{again:?}");
    assert_eq!((world.count("switchyard.failure").await, world.queues.dead_letters().len()), (0, 0));
    assert!(world.handle(&bodies[2..], PLENTY).await.is_empty());
    assert_eq!(world.count("done").await, 2, "each once");
}

#[tokio::test]
async fn a_copy_in_the_same_batch_waits_as_long_as_the_record_that_it_is_a_copy_of() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let body = world.give(&orders([("gather", "retry")])).await.remove(0);

    assert_eq!(world.handle(&[body.clone(), body], PLENTY).await, [0, 1]);

    let held = world.queues.visibilities();
    assert_eq!((held.len(), held[0].delay), (2, held[1].delay));
}

#[tokio::test]
async fn a_ledger_that_stops_answering_leaves_the_time_to_say_what_must_come_again() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let bodies = world.give(&orders([("gather", "retry"), ("gather", "work")])).await;
    let other = world.database.connect().await;
    // Failures can neither be counted nor reported while their table is locked.
    other.batch_execute("begin; lock table switchyard.failure in access exclusive mode").await.unwrap();

    let started = tokio::time::Instant::now();
    let again = world.handle(&bodies, Duration::from_secs(12)).await;

    assert!(started.elapsed() < Duration::from_secs(12));
    assert_eq!(again, [0], "what is not known to be settled");
    assert_eq!(world.count("done").await, 1);
}

#[tokio::test]
async fn shadow_stores_what_would_have_been_a_refusal_too_and_touches_nothing() {
    let world = RuntimeWorld::new(Mode::Shadow).await;
    let list = [("apply", "work"), ("gather", "retry"), ("gather", "reject"), ("gather", "panic")];
    let bodies = world.give(&orders(list)).await;

    assert!(world.handle(&bodies, PLENTY).await.is_empty());

    assert_eq!(world.count("switchyard.shadow").await, 4);
    assert_eq!(world.count("switchyard.shadow where decision::jsonb ? 'refused'").await, 3);
    assert_eq!((world.count("done").await, world.count("switchyard.failure").await), (0, 0));
    assert!(world.queues.dead_letters().is_empty(), "the old system's events fill no dead-letter queue");
}

/// Makes the first commit of a shadow decision come too late.
const CONFLICT: &str = "
    create sequence stored;
    create function conflict() returns trigger language plpgsql as $$
    begin
      if nextval('public.stored') = 1 then raise exception 'no' using errcode = '40001'; end if;
      return new;
    end $$;
    create trigger conflict before insert on switchyard.shadow for each row execute function conflict();";

#[tokio::test]
async fn a_refusal_stays_what_is_compared_when_it_is_decided_anew() {
    for refusal in ["reject", "retry"] {
        let world = RuntimeWorld::new(Mode::Shadow).await;
        world.client.batch_execute(CONFLICT).await.unwrap();
        let bodies = world.give(&orders([("gather", refusal)])).await;

        assert!(world.handle(&bodies, PLENTY).await.is_empty());

        assert_eq!(world.count("switchyard.shadow where decision::jsonb ? 'refused'").await, 1, "{refusal}");
        assert!(world.queues.dead_letters().is_empty() && world.agent.gathered.get() == 2, "{refusal}");
    }
}

#[tokio::test]
async fn of_two_events_in_one_batch_the_older_is_applied_first_and_alone_it_comes_too_late() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let mut bodies =
        world.give(&orders([("apply", "overwrite"), ("apply", "overwrite"), ("apply", "overwrite")])).await;
    let late = bodies.remove(0);
    bodies.reverse();

    assert!(world.handle(&bodies, PLENTY).await.is_empty());
    assert_eq!(world.states().await, "dd", "newest first in the batch, in order in the log");
    assert!(world.handle(&[late], PLENTY).await.is_empty());

    assert_eq!(world.states().await, "sdd");
    assert_eq!(world.count("done").await, 2);
}

#[tokio::test]
async fn in_one_batch_what_is_too_late_is_superseded_and_the_others_are_done() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let list = [("apply", "overwrite"), ("apply", "overwrite"), ("apply", "work"), ("apply", "supersede")];
    let bodies = world.give(&orders(list)).await;
    assert!(world.handle(&bodies[1..=1], PLENTY).await.is_empty());

    assert!(world.handle(&bodies, PLENTY).await.is_empty());

    assert_eq!((world.states().await, world.count("done").await), ("sdds".to_owned(), 2));
    assert_eq!(world.agent.gathered.get(), 4, "none is decided anew");
}

#[tokio::test]
async fn a_version_that_the_agent_does_not_know_is_parked_with_that_reason() {
    let world = RuntimeWorld::new(Mode::Full).await;
    world.give(&orders([("apply", "work")])).await;
    world.client.batch_execute("update events set version = 2").await.unwrap();
    let newer: Vec<String> = published(&world.store).await.into_iter().map(|message| message.body).collect();

    assert!(world.handle(&newer, PLENTY).await.is_empty());

    assert_eq!((world.reasons(), world.states().await), (vec!["unknown_version".to_owned()], "p".to_owned()));
}

#[tokio::test]
async fn a_spoilt_copy_leaves_a_failure_behind_and_its_event_s_delivery_alone() {
    let world = RuntimeWorld::new(Mode::Full).await;
    let bodies = world.give(&orders([("apply", "work")])).await;
    let nul = bodies[0].replace("\"k\"", "\"\\u0000\"");

    assert!(world.handle(&[nul], PLENTY).await.is_empty());

    assert_eq!((world.reasons(), world.states().await), (vec!["nul".to_owned()], String::new()));
    let error: String =
        world.client.query_one("select error from switchyard.failure where reason = 'nul'", &[]).await.unwrap().get(0);
    let id = Event::id_of(&bodies[0]).unwrap().to_string();
    assert!(error.contains(&id), "a person finds the event: {error}");
    assert!(world.handle(&bodies, PLENTY).await.is_empty());
    assert_eq!((world.states().await, world.count("done").await), ("d".to_owned(), 1), "the healthy copy is handled");
}

#[tokio::test]
async fn a_body_without_a_name_leaves_a_failure_behind_too() {
    let world = RuntimeWorld::new(Mode::Full).await;

    assert!(world.handle(&["{ no event".to_owned()], PLENTY).await.is_empty());

    assert_eq!(world.reasons(), ["malformed"]);
    assert_eq!(world.count("switchyard.failure where reason = 'malformed' and parked and event_id is null").await, 1);
}
