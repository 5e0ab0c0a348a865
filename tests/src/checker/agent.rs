//! The new agent, as its runtime behaves: look, claim with effects, report, park.

use std::time::Duration;

use switchyard_store::{Ask, ClaimAnswer, Failed, Overwrite, ParkReport, Settlement, StoreError, Tx, Type, Verdict};
use uuid::Uuid;

use super::actors::Actor;
use super::plants::Client;

/// A message of the queue.
struct Message {
    id: i64,
    ask: Ask,
}

/// What a transaction came to.
enum Outcome {
    Committed,
    /// This one's handler failed; everything was rolled back.
    Failed(Ask),
}

pub(super) async fn agent(mut actor: Actor, name: &'static str) {
    while !actor.over() {
        let step = receive(&mut actor, name).await;
        actor.took(step);
        actor.nap(Duration::from_millis(25)).await;
    }
}

async fn receive(actor: &mut Actor, name: &str) -> Result<(), StoreError> {
    let most = actor.random.below(4) as i64 + 1;
    let rows = actor
        .query(
            "update checker.queue q set visible_at = clock_timestamp() + interval '250 ms'
               from (select id from checker.queue where agent = $1 and visible_at <= clock_timestamp()
                      order by random() limit $2 for update skip locked) c
              where q.id = c.id returning q.id, q.event_id, q.run, q.epoch",
            &[(&name, Type::TEXT), (&most, Type::INT8)],
        )
        .await?;
    let messages: Vec<Message> = rows
        .iter()
        .map(|r| Message { id: r.get(0), ask: Ask { event_id: r.get(1), run: r.get(2), epoch: Some(r.get(3)) } })
        .collect();
    if messages.is_empty() {
        return Ok(());
    }
    let asks: Vec<Ask> = messages.iter().map(|m| m.ask.clone()).collect();
    let answers = actor.store().preview(name, &asks).await?.answers;

    // What has used up its attempts is parked before it is tried: its last report may have got lost.
    let mut to_try = Vec::new();
    let mut handled = Vec::new();
    for (message, standing) in messages.into_iter().zip(answers) {
        // From here on it is about the row as it was looked at, unless the message says older.
        let ask = Ask { epoch: message.ask.epoch.map(|e| e.max(standing.epoch)), ..message.ask.clone() };
        if standing.verdict == Verdict::Take && standing.attempts >= standing.max_attempts {
            park(actor, name, ask).await?;
            handled.push(message.id);
        } else {
            to_try.push(Message { ask, ..message });
        }
    }

    match attempt(actor, name, &to_try).await? {
        Outcome::Committed => handled.extend(to_try.iter().map(|m| m.id)),
        Outcome::Failed(ask) => report(actor, name, ask).await?,
    }
    // An acknowledgement may get lost.
    if !(actor.chaos() && actor.random.chance(0.1)) {
        actor.query("delete from checker.queue where id = any($1)", &[(&handled, Type::INT8_ARRAY)]).await?;
    }
    Ok(())
}

/// One transaction for all of them: claims, effects, settlements.
async fn attempt(actor: &mut Actor, name: &str, messages: &[Message]) -> Result<Outcome, StoreError> {
    let asks: Vec<Ask> = messages.iter().map(|m| m.ask.clone()).collect();
    if asks.is_empty() {
        return Ok(Outcome::Committed);
    }
    if actor.plays(Client::SettleInASecondTransaction) {
        return effects_first(actor, name, &asks).await;
    }
    let mut tx = actor.store().begin().await?;
    let answers = tx.claim(name, &asks).await?;
    for (message, standing) in messages.iter().zip(&answers) {
        let ask = &message.ask;
        actor.count(format!("verdict {:?}", standing.verdict));
        let takes = match standing.verdict {
            Verdict::Take => true,
            Verdict::Unknown => {
                actor.world.violation("a published event is unknown".into());
                false
            }
            Verdict::Shadow => {
                tx.shadow(name, &[(ask.clone(), "{}".to_owned())]).await?;
                actor.plays(Client::ApplyInShadow)
            }
            Verdict::AlreadyDone => {
                // The fault: a message that was not seen before is taken for an event that was not.
                let see = "insert into checker.seen values ($1) on conflict do nothing";
                actor.plays(Client::DeduplicateByMessage) && tx.execute(see, &[(&message.id, Type::INT8)]).await? == 1
            }
            _ => false,
        };
        if takes && let Some(failed) = handle(actor, &mut tx, name, ask, standing).await? {
            tx.rollback().await?;
            return Ok(Outcome::Failed(failed));
        }
    }
    if actor.chaos() && actor.random.chance(0.2) {
        actor.nap(Duration::from_millis(150)).await; // a first ask that stays invisible for a while
    }
    tx.commit().await?;
    Ok(Outcome::Committed)
}

/// Work on one event. `Some` when it failed.
async fn handle(
    actor: &mut Actor,
    tx: &mut Tx,
    name: &str,
    ask: &Ask,
    standing: &ClaimAnswer,
) -> Result<Option<Ask>, StoreError> {
    if actor.random.chance(0.5) {
        actor.nap(Duration::from_millis(30)).await;
    }
    let fate = if actor.chaos() || actor.random.chance(0.2) { actor.random.fraction() } else { 1.0 };
    let honest = standing.verdict == Verdict::Take;
    if fate < 0.10 {
        return Ok(Some(Ask { epoch: Some(standing.epoch), ..ask.clone() }));
    }
    if fate < 0.14 {
        return die(tx).await;
    }
    if fate < 0.26 && honest {
        let settlement = actor.random.pick(&[
            Settlement::Superseded,
            Settlement::Expired,
            Settlement::Parked,
            Settlement::Parked,
            Settlement::Parked,
        ]);
        tx.settle(name, std::slice::from_ref(ask), settlement, "the handler says so").await?;
        return Ok(None);
    }
    let mut gated = None;
    if fate < 0.40 && honest && ask.run == 0 {
        // An effect that overwrites state: only in the order of the sequence.
        let aggregate = "one for all";
        let seq = standing.seq.unwrap_or(0);
        let overwrite = Overwrite { record: 0, aggregate_type: "x", aggregate_id: aggregate, seq };
        if !tx.superseded(name, &[overwrite]).await?.is_empty() {
            tx.settle(name, std::slice::from_ref(ask), Settlement::Superseded, "a newer one was applied").await?;
            return Ok(None);
        }
        gated = Some(aggregate);
    }
    effect(tx, name, ask.event_id, ask.run, "n", gated).await?;
    if (0.40..0.44).contains(&fate) {
        return die(tx).await;
    }
    if (0.44..0.48).contains(&fate) {
        return Ok(Some(Ask { epoch: Some(standing.epoch), ..ask.clone() }));
    }
    Ok(None)
}

/// The backend dies in the middle of the transaction.
async fn die(tx: &mut Tx) -> Result<Option<Ask>, StoreError> {
    tx.query("select pg_terminate_backend(pg_backend_pid())", &[]).await?;
    Ok(None)
}

pub(super) async fn effect(
    tx: &mut Tx,
    agent: &str,
    event: Uuid,
    run: i32,
    who: &str,
    gated: Option<&str>,
) -> Result<(), StoreError> {
    tx.execute(
        "insert into checker.effect (agent, event_id, run, who, gated) values ($1, $2, $3, $4::text::\"char\", $5)",
        &[(&agent, Type::TEXT), (&event, Type::UUID), (&run, Type::INT4), (&who, Type::TEXT), (&gated, Type::TEXT)],
    )
    .await?;
    Ok(())
}

async fn report(actor: &mut Actor, name: &str, ask: Ask) -> Result<(), StoreError> {
    if actor.chaos() && actor.random.chance(0.3) {
        actor.nap(Duration::from_millis(300)).await; // a late report
    }
    if !actor.random.chance(0.8) {
        return Ok(()); // died before reporting
    }
    if actor.random.chance(0.3) {
        return park(actor, name, ask).await; // a permanent failure
    }
    let told = ask.epoch;
    let delay_ms = actor.random.next() % 50;
    let failed = Failed { ask: ask.clone(), reason: "boom".into(), error: String::new(), delay_ms };
    for reported in actor.store().fail(name, &[failed]).await? {
        if reported.counted && told.is_some_and(|e| e != reported.epoch) {
            actor.world.violation("a failure of an older epoch was counted".into());
        }
        if reported.exhausted() && actor.random.chance(0.8) {
            park(actor, name, ask.clone()).await?;
        }
    }
    Ok(())
}

async fn park(actor: &mut Actor, name: &str, ask: Ask) -> Result<(), StoreError> {
    let told = ask.epoch;
    actor
        .query(
            "insert into checker.dead_letter values ($1, $2, $3)",
            &[(&name, Type::TEXT), (&ask.event_id, Type::UUID), (&ask.run, Type::INT4)],
        )
        .await?;
    if actor.chaos() && actor.random.chance(0.1) {
        return Ok(()); // died between the dead-letter queue and the row
    }
    let parked = ParkReport { ask, reason: "boom".into(), error: String::new() };
    for reported in actor.store().park(name, &[parked]).await? {
        if reported.counted && told.is_some_and(|e| e != reported.epoch) {
            actor.world.violation("a parking of an older epoch was counted".into());
        }
    }
    Ok(())
}

/// The fault: effects in one transaction, the settlement in the next.
async fn effects_first(actor: &mut Actor, name: &str, asks: &[Ask]) -> Result<Outcome, StoreError> {
    let answers = actor.store().preview(name, asks).await?.answers;
    let mut tx = actor.store().begin().await?;
    for (ask, standing) in asks.iter().zip(&answers) {
        if standing.verdict == Verdict::Take {
            effect(&mut tx, name, ask.event_id, ask.run, "n", None).await?;
        }
    }
    tx.commit().await?;
    actor.nap(Duration::from_millis(20)).await;
    let mut tx = actor.store().begin().await?;
    tx.claim(name, asks).await?;
    tx.commit().await?;
    Ok(Outcome::Committed)
}
