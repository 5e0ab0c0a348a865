//! The system that is being replaced: it asks in its own transactions, and often long after it has looked.

use std::time::Duration;

use switchyard_store::{StoreError, Type};
use uuid::Uuid;

use super::actors::Actor;
use super::agent::effect;

pub(super) async fn old_system(mut actor: Actor) {
    while !actor.over() {
        if actor.chaos() || actor.world.old_lives {
            let step = work(&mut actor).await;
            actor.took(step);
        }
        actor.nap(Duration::from_millis(40)).await;
    }
}

async fn work(actor: &mut Actor) -> Result<(), StoreError> {
    let agent = actor.random.pick(&["A", "B"]);
    let events: Vec<Uuid> = if !actor.chaos() || actor.random.chance(0.4) {
        let rows = actor.query("select * from switchyard.todo_old($1, 3)", &[(&agent, Type::TEXT)]).await?;
        rows.iter().map(|r| r.get(0)).collect()
    } else {
        let types = if agent == "A" { vec!["t1", "t2"] } else { vec!["t2", "t3"] };
        let sql = "select event_id from switchyard.event_log where type = any($1) order by random() limit 3";
        actor.query(sql, &[(&types, Type::TEXT_ARRAY)]).await?.iter().map(|r| r.get(0)).collect()
    };
    if events.is_empty() {
        return Ok(());
    }
    if actor.chaos() {
        let nap = actor.random.pick(&[10, 50, 600]);
        actor.nap(Duration::from_millis(nap)).await;
    }
    let mut tx = actor.store().begin().await?;
    for event in events {
        let sql = "select switchyard.claim($1, $2)";
        let answer: String = tx.query(sql, &[(&agent, Type::TEXT), (&event, Type::UUID)]).await?[0].get(0);
        actor.count(format!("old {answer}"));
        if answer != "take" {
            continue;
        }
        if actor.random.chance(0.5) {
            actor.nap(Duration::from_millis(30)).await;
        }
        let fate = if actor.chaos() { actor.random.fraction() } else { 1.0 };
        if fate < 0.10 {
            tx.rollback().await?;
            let report = if actor.random.chance(0.1) { "park" } else { "fail" };
            let sql = format!("select switchyard.{report}($1, $2, 'boom')");
            actor.query(&sql, &[(&agent, Type::TEXT), (&event, Type::UUID)]).await?;
            return Ok(());
        }
        if fate < 0.15 {
            tx.query("select pg_terminate_backend(pg_backend_pid())", &[]).await?;
        }
        effect(&mut tx, agent, event, 0, "o", None).await?;
        if fate < 0.20 {
            return tx.rollback().await;
        }
    }
    tx.commit().await
}
