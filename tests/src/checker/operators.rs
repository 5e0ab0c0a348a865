//! Those who move levers: the routing, the reconciler's schedule, and people.

use std::time::Duration;

use switchyard_store::{AgentSpec, Mode, Overdue, Owner, RoutedBy, RoutingChange, Selection, Since, StoreError, Type};

use super::actors::{Actor, send};
use super::seed::Ending;

fn spec(agent: &str, types: &[&str], routed_by: RoutedBy) -> AgentSpec {
    AgentSpec {
        name: agent.into(),
        subscribes: types.iter().map(ToString::to_string).collect(),
        routed_by,
        max_attempts: 3,
    }
}

fn types(agent: &str) -> [&'static str; 2] {
    if agent == "A" { ["t1", "t2"] } else { ["t2", "t3"] }
}

/// Changes the routing, and holds `reassign` to its word. The only one who does, so that it can.
pub(super) async fn router(mut actor: Actor, endings: [(&'static str, Ending); 2]) {
    while actor.chaos() {
        let step = change(&mut actor).await;
        actor.took(step);
        actor.nap(Duration::from_millis(50)).await;
    }
    for (agent, ending) in endings {
        while !actor.over() {
            // In the end everybody listens to what they should, by the routing that is to hold.
            let all = spec(agent, &types(agent), RoutedBy::Aggregate);
            let since = if actor.random.chance(0.5) { Since::Beginning } else { Since::Now };
            let step = match register(&mut actor, &all, since).await {
                Ok(()) => {
                    set_routing(
                        &mut actor,
                        agent,
                        RoutingChange { mode: ending.mode, drain: ending.drain, beside: false },
                    )
                    .await
                }
                Err(e) => Err(e),
            };
            let done = step.is_ok();
            actor.took(step);
            if done {
                break;
            }
        }
    }
    // Where draining is a standing order, it must come true; where not, one round of passes by hand.
    let mut complete = [false; 2];
    while !actor.over() && complete != [true, true] {
        for (n, (agent, _)) in endings.iter().enumerate() {
            let step = reassign(&mut actor, agent, 40).await;
            complete[n] |= matches!(step, Ok(true));
            actor.took(step.map(drop));
        }
    }
    actor.world.settled();
}

async fn change(actor: &mut Actor) -> Result<(), StoreError> {
    let agent = actor.random.pick(&["A", "B"]);
    let mode = actor.random.pick(&[
        Mode::Off,
        Mode::Shadow,
        Mode::Percent(10),
        Mode::Percent(50),
        Mode::Percent(90),
        Mode::Full,
    ]);
    let drain = actor.random.chance(0.6);
    if actor.random.chance(0.35) {
        let routed_by = actor.random.pick(&[RoutedBy::Aggregate, RoutedBy::Project]);
        let [one, other] = types(agent);
        let listens = if actor.random.chance(0.4) { vec![one] } else { vec![one, other] };
        let since = if actor.random.chance(0.5) { Since::Beginning } else { Since::Now };
        register(actor, &spec(agent, &listens, routed_by), since).await?;
        confirm(actor).await?;
    }
    let beside = actor.random.chance(0.5);
    set_routing(actor, agent, RoutingChange { mode, drain, beside }).await?;
    if actor.random.chance(0.4) {
        let project = format!("p{}", actor.random.below(3));
        let to = actor.random.pick(&[Some(Owner::New), Some(Owner::Old), None]);
        actor.store().pin(agent, &project, to, "a router").await?;
        actor.count("project pinned");
        confirm(actor).await?;
    }
    if actor.random.chance(0.6) {
        let passes = actor.random.below(60);
        reassign(actor, agent, passes).await?;
    }
    Ok(())
}

async fn register(actor: &mut Actor, spec: &AgentSpec, since: Since) -> Result<(), StoreError> {
    let registered = actor.store().register(spec, Mode::Off, since).await?;
    if !registered.extended.is_empty() {
        actor.count("caught up from the beginning");
    }
    if !registered.added.is_empty() || !registered.removed.is_empty() {
        actor.count("subscription changed");
    }
    Ok(())
}

async fn set_routing(actor: &mut Actor, agent: &str, lever: RoutingChange) -> Result<(), StoreError> {
    if actor.random.chance(0.5) {
        // A change that takes its time to be committed: others read the old routing meanwhile.
        let mut tx = actor.store().begin().await?;
        let (name, percent) = (lever.mode.name(), i32::from(lever.mode.percent()));
        tx.query(
            "select switchyard.set_routing($1, $2, $3, $4, $5)",
            &[
                (&agent, Type::TEXT),
                (&name, Type::TEXT),
                (&percent, Type::INT4),
                (&lever.drain, Type::BOOL),
                (&lever.beside, Type::BOOL),
            ],
        )
        .await?;
        actor.nap(Duration::from_millis(80)).await;
        tx.commit().await?;
    } else {
        actor.store().set_routing(agent, lever, "a router").await?;
    }
    actor.count("routing changed");
    confirm(actor).await
}

/// From now on every routing that is in the table was committed before now.
async fn confirm(actor: &Actor) -> Result<(), StoreError> {
    actor.query("update checker.routing set committed_by = clock_timestamp() where committed_by is null", &[]).await?;
    Ok(())
}

/// Passes until one says that it is complete; then no row may have another owner than the routing names.
async fn reassign(actor: &mut Actor, agent: &str, passes: usize) -> Result<bool, StoreError> {
    for _ in 0..passes {
        if actor.over() {
            return Ok(false);
        }
        if actor.store().reassign(agent).await?.complete {
            actor.count("reassigned completely");
            let sql = "insert into checker.completed select id, routing_version, pg_current_snapshot() from switchyard.agent where name = $1";
            actor.query(sql, &[(&agent, Type::TEXT)]).await?;
            for _ in 0..3 {
                let wrong: i64 = actor
                    .query(
                        "select count(*) from switchyard.delivery d join switchyard.agent a on a.id = d.agent
                           join switchyard.event_log e using (seq)
                          where a.name = $1 and d.run = 0 and d.state in ('a', 'f', 'p')
                            and d.owner <> switchyard.owner_of(a, e.aggregate_id, e.project_id)",
                        &[(&agent, Type::TEXT)],
                    )
                    .await?[0]
                    .get(0);
                if wrong > 0 {
                    actor.world.violation("reassign said complete, and a row has another owner".into());
                }
                actor.nap(Duration::from_millis(20)).await;
            }
            return Ok(true);
        }
        actor.nap(Duration::from_millis(20)).await;
    }
    Ok(false)
}

/// The steward's schedule: tick, sweep, send what is due, drop what is old.
pub(super) async fn reconciler(mut actor: Actor) {
    while !actor.over() {
        let step = reconcile(&mut actor).await;
        actor.took(step);
        actor.nap(Duration::from_millis(80)).await;
    }
}

async fn reconcile(actor: &mut Actor) -> Result<(), StoreError> {
    actor.store().tick().await?;
    for agent in ["A", "B"] {
        actor.store().sweep(agent).await?;
        let due = actor.store().due(agent, 20, Overdue::Now).await?;
        let events = actor.store().events(&due.iter().map(|d| d.seq).collect::<Vec<_>>()).await?;
        for due in due {
            let Some(event) = events.iter().find(|e| e.seq == due.seq) else { continue };
            send(actor, agent, event.id, due.run, due.epoch).await?;
        }
    }
    if actor.random.chance(0.15) {
        let sql = "select coalesce(dropped, kept_because) from switchyard.drop_oldest(interval '0')";
        let answer: String = actor.query(sql, &[]).await?[0].get(0);
        actor.count(if answer.starts_with("delivery_") {
            "partition dropped".to_owned()
        } else {
            format!("partition kept: {answer}")
        });
    }
    Ok(())
}

/// People: redrive (and select too much), replay, cancel.
pub(super) async fn operator(mut actor: Actor) {
    let mut runs = Vec::new();
    while actor.chaos() {
        let step = intervene(&mut actor, &mut runs).await;
        actor.took(step);
        actor.nap(Duration::from_millis(120)).await;
    }
    // The faults are over: all that is parked is redriven, twice.
    let agents: &[&str] = if actor.random.chance(0.7) { &["A", "B", "A", "B"] } else { &[] };
    for agent in agents {
        let step = send_back(&mut actor, agent, &Selection::default(), 0).await;
        actor.took(step);
    }
}

/// By a selection that is more or less narrow, with messages from elsewhere or from the table.
async fn redrive(actor: &mut Actor, agent: &str) -> Result<(), StoreError> {
    let mut selection = Selection::default();
    if actor.random.chance(0.25) {
        let types = types(agent);
        selection.types.push(actor.random.pick(&types).to_owned());
    }
    if actor.random.chance(0.3) {
        selection.at_most = Some(3);
    }
    if actor.random.chance(0.2) {
        let rows = actor.query("select event_id from switchyard.event_log order by random() limit 6", &[]).await?;
        selection.events = rows.iter().map(|row| row.get(0)).collect();
    }
    let defer_secs = if actor.random.chance(0.3) { 1 } else { 0 };
    send_back(actor, agent, &selection, defer_secs).await
}

async fn send_back(actor: &mut Actor, agent: &str, selection: &Selection, defer_secs: u32) -> Result<(), StoreError> {
    if !actor.store().redrive(agent, selection, defer_secs, "an operator", "because").await?.is_empty() {
        actor.count("parked rows sent back");
    }
    Ok(())
}

async fn intervene(actor: &mut Actor, runs: &mut Vec<(&'static str, i32)>) -> Result<(), StoreError> {
    let agent = actor.random.pick(&["A", "B"]);
    if actor.random.chance(0.7) {
        redrive(actor, agent).await?;
    }
    if actor.random.chance(0.35) {
        let sql = "(select seq from switchyard.delivery d join switchyard.agent a on a.id = d.agent
                     where a.name = $1 and d.state in ('a', 'f', 'p') and d.run = 0 order by random() limit 4)
                   union (select seq from switchyard.event_log order by random() limit 2)";
        let seqs: Vec<i64> = actor.query(sql, &[(&agent, Type::TEXT)]).await?.iter().map(|r| r.get(0)).collect();
        let resent = actor.store().resend(agent, &seqs, 0, "redrive").await?;
        if resent.redriven > 0 {
            actor.count("redriven");
        }
    }
    if actor.random.chance(0.35) {
        if runs.is_empty() || actor.random.chance(0.4) {
            runs.push((agent, actor.store().new_run(agent, "replay").await?));
        }
        let (agent, run) = actor.random.pick(runs);
        // Half of the time what the run has already: repeating a replay must not redo it.
        let sql = "(select seq from switchyard.delivery where run = $1 order by random() limit $2)
                   union (select seq from switchyard.event_log order by random() limit 6)";
        let repeated: i64 = if actor.random.chance(0.5) { 4 } else { 0 };
        let rows = actor.query(sql, &[(&run, Type::INT4), (&repeated, Type::INT8)]).await?;
        let seqs: Vec<i64> = rows.iter().map(|r| r.get(0)).collect();
        match actor.store().resend(agent, &seqs, run, "replay").await {
            Ok(resent) if resent.added > 0 => actor.count("replayed"),
            // Cancelled before: taken back out of the hat only sometimes, so that this is tried too.
            Ok(_) | Err(StoreError::Config { .. }) => {}
            Err(e) => return Err(e),
        }
        if actor.random.chance(0.2) {
            actor.store().cancel_run(run).await?;
            actor.query("insert into checker.cancelled values ($1, clock_timestamp())", &[(&run, Type::INT4)]).await?;
            actor.count("run cancelled");
        }
    }
    Ok(())
}
