//! Failures are kind: one bad record never fails its batch, and what is parked says why.

use switchyard_tests::{World, eventually};

/// Makes the database refuse what the agent wants to write about posts that say so.
pub(crate) const REFUSE: &str = "
    create function refuse() returns trigger language plpgsql as $$
    begin
      if exists (select 1 from posts where id = new.post_id and title like 'Refused%') then
        raise exception 'no' using errcode = '23514';
      end if;
      return new;
    end $$;
    create trigger refuse before insert or update on sentiment_analysis for each row execute function refuse();";

#[tokio::test]
async fn a_batch_of_ten_with_two_bad_records_retries_exactly_those() {
    let world = World::at_rest().await;
    world.database.batch_execute(REFUSE).await.unwrap();
    // As many attempts as it takes until this test has looked.
    world.database.batch_execute("update switchyard.agent set max_attempts = 100").await.unwrap();
    for number in 0..10 {
        let title = if number % 5 == 3 { format!("Refused {number}") } else { format!("Good {number}") };
        world.post(&title, "words").await;
    }

    world.wake_shim();

    eventually("eight done, two failing", async || {
        let done = world.count(&states("sentiment", "d")).await;
        let failing = world.count(&states("sentiment", "f")).await;
        (done == 8 && failing == 2).then_some(())
    })
    .await;
    world.database.batch_execute("drop trigger refuse on sentiment_analysis").await.unwrap();
    world.settled().await;
    world.drained("Sentiment").await;

    assert_eq!(world.count("select count(*) from events where type = 'sentiment.analyzed'").await, 10);
    let tried_again = world
        .count(
            "select count(distinct (f.event_id)) from switchyard.failure f join posts p on p.title like 'Refused%'
              join events e on e.id = f.event_id and e.aggregate_id = p.id",
        )
        .await;
    assert_eq!((tried_again, world.count("select count(distinct event_id) from switchyard.failure").await), (2, 2));
    assert_eq!(world.count("select count(*) from switchyard.delivery where attempts > 0").await, 2);
}

#[tokio::test]
async fn a_record_that_always_fails_is_in_its_dead_letter_queue_after_its_attempts_with_its_reason() {
    let world = World::new().await;
    world.database.batch_execute(REFUSE).await.unwrap();

    let post = world.post("Refused", "words").await.to_string();

    let (event, _) = world.event("feedback.created", &post).await;
    let dead_letters = world.dead_letters("Sentiment", 1).await;
    let attributes = dead_letters[0].message_attributes.as_ref().unwrap();
    let text = |name: &str| attributes[name].string_value.as_deref().unwrap_or_default();
    assert_eq!((text("reason"), text("attempts"), text("agent")), ("attempts_used_up", "4", "sentiment"));
    assert_eq!(text("event_id"), event.to_string());
    assert!(text("error").contains("23514"), "{}", text("error"));
    assert!(text("failed_at").contains('T'));
    world.settled().await;
    assert_eq!(world.count(&states("sentiment", "p")).await, 1);
    assert_eq!(world.count("select max(attempts)::bigint from switchyard.delivery").await, 4);
}

#[tokio::test]
async fn what_can_never_succeed_is_parked_at_once_each_with_its_own_reason() {
    let world = World::new().await;
    let stranger = include_str!("../../shared/feedback/fixtures/feedback.created.v1.json");

    world.send("Sentiment", "{ no event").await;
    world.send("Sentiment", &stranger.replace("Checkout", "\\u0000")).await;
    world.send("Sentiment", stranger).await;
    world.post("", "").await;

    let dead_letters = world.dead_letters("Sentiment", 4).await;
    let mut reasons: Vec<_> = dead_letters
        .iter()
        .map(|letter| letter.message_attributes.as_ref().unwrap()["reason"].string_value.clone().unwrap())
        .collect();
    reasons.sort();
    assert_eq!(reasons, ["malformed", "no_text", "not_in_table", "nul"]);
    world.drained("Sentiment").await;
    let rows =
        world.database.query("select reason from switchyard.failure where parked order by reason", &[]).await.unwrap();
    let recorded: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(recorded, reasons, "a person sees each without opening a queue");
}

#[tokio::test]
async fn the_answer_names_exactly_the_records_that_must_come_again_and_is_never_empty_by_accident() {
    let world = World::at_rest().await;
    world.database.batch_execute(REFUSE).await.unwrap();
    let tap = world.tap().await;
    world.deaf("Sentiment").await;
    let titles = ["Good", "Refused one", "Nice", "Refused two", "Great", "Bad", "Slow", "Fast"];
    for title in titles {
        world.post(title, "words").await;
    }
    world.wake_shim();
    let mut bodies = tap.hear(titles.len(), |body| body.contains("feedback.created")).await;
    bodies.push("{ no event".into());
    bodies.push(bodies[0].clone());

    let again = world.handle("sentiment", &bodies);

    let refused: Vec<String> = (0..10).filter(|n| bodies[*n].contains("Refused")).map(|n| n.to_string()).collect();
    assert_eq!(again, refused);
    assert_eq!(world.count(&states("sentiment", "d")).await, 6);
    assert!(world.handle("sentiment", &bodies[..1]).is_empty(), "a second delivery is acknowledged");
    assert!(world.handle("sentiment", &[]).is_empty());
}

#[tokio::test]
async fn a_database_that_is_down_costs_no_attempt_and_fills_no_dead_letter_queue() {
    let world = World::at_rest().await;
    let tap = world.tap().await;
    world.deaf("Sentiment").await;
    for number in 0..3 {
        world.post(&format!("Post {number}"), "words").await;
    }
    world.wake_shim();
    let bodies = tap.hear(3, |body| body.contains("feedback.created")).await;

    world.database_goes_down().await;
    let again = world.handle("sentiment", &bodies);
    world.database_comes_back().await;

    assert_eq!(again, ["0", "1", "2"], "all come again");
    assert_eq!(world.waiting("SentimentDeadLetterQueue").await, 0);
    assert_eq!(world.count("select count(*) from switchyard.failure").await, 0);
    assert!(world.handle("sentiment", &bodies).is_empty(), "they are handled once the database is back");
    assert_eq!(world.count(&states("sentiment", "d")).await, 3);
    assert_eq!(world.count("select coalesce(sum(attempts), 0)::bigint from switchyard.delivery").await, 0);
}

/// Counts an agent's deliveries in a state.
fn states(agent: &str, state: &str) -> String {
    format!(
        "select count(*) from switchyard.delivery d join switchyard.agent a on a.id = d.agent
          where a.name = '{agent}' and d.state::text = '{state}'"
    )
}
