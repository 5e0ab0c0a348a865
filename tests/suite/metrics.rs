//! What is measured, against a ledger whose times are set by hand.

use crate::store::{
    directly_and_pooled,
    world::{AGENT, LedgerWorld, spec},
};
use std::time::Duration;
use switchyard_store::{AgentFigures, AgentSpec, Figures, Mode, Since};
use uuid::Uuid;

const DAY: Duration = Duration::from_secs(86_400);

/// What was measured of the last day, of a log that goes back for three.
async fn measured(world: &LedgerWorld) -> Figures {
    world.run_sql("update switchyard.logging set since = now() - interval '3 days'").await;
    world.store.figures(DAY).await.unwrap()
}

/// What was measured of the agent of the world.
async fn of_the_agent(world: &LedgerWorld) -> AgentFigures {
    let figures = measured(world).await;
    figures.agents.into_iter().find(|agent| agent.agent == AGENT).unwrap()
}

/// The event was logged earlier by so much.
async fn logged_before(world: &LedgerWorld, event: Uuid, interval: &str) {
    let back = format!(
        "update switchyard.event_log set logged_at = logged_at - interval '{interval}' where event_id = '{event}'"
    );
    world.run_sql(&back).await;
}

/// The event was settled so long after it was logged.
async fn settled_after(world: &LedgerWorld, event: Uuid, interval: &str) {
    assert!(world.row(event).await.is("n", "d"));
    let set = format!(
        "update switchyard.delivery d set at = l.logged_at + interval '{interval}' from switchyard.event_log l
          where l.seq = d.seq and l.event_id = '{event}'"
    );
    world.run_sql(&set).await;
}

directly_and_pooled! {
    async fn an_empty_log_has_no_figures(world: LedgerWorld) {
        let figures = measured(&world).await;
        assert_eq!((figures.events, figures.events_estimated, figures.events_sampled, figures.unpublished), (0, false, 0, 0));
        assert_eq!((figures.peak_per_second, figures.event_bytes, figures.oldest_unpublished_secs), (0.0, 0.0, 0.0));
        assert_eq!(figures.window_secs, 86_400.0);
        assert!((1..=figures.max_connections).contains(&figures.connections), "{figures:?}");
        let nothing = AgentFigures { agent: AGENT.into(), mode: "full".into(), ..AgentFigures::default() };
        assert_eq!(figures.agents, [nothing]);
    }

    async fn it_looks_back_for_as_long_as_it_is_told_and_never_further_than_events_are_logged(world: LedgerWorld) {
        for hours in [50, 26, 2] {
            let event = world.event("thing.made").await;
            logged_before(&world, event, &format!("{hours} hours")).await;
        }
        // History, as a backfill logs it: below every sequence that was drawn.
        world.run_sql("insert into switchyard.event_log (seq, event_id, type) overriding system value values (-7, gen_random_uuid(), 'thing.made')").await;

        assert_eq!(measured(&world).await.events, 1);
        assert_eq!(world.store.figures(2 * DAY).await.unwrap().events, 2);
        assert_eq!(world.store.figures(30 * DAY).await.unwrap().events, 3);
        world.run_sql("update switchyard.logging set since = now() - interval '1 hour'").await;
        let figures = world.store.figures(DAY).await.unwrap();
        assert!(figures.events == 0 && (3_600.0..3_700.0).contains(&figures.window_secs), "{figures:?}");
    }

    async fn the_place_where_a_window_begins_is_found_among_holes(world: LedgerWorld) {
        world.run_sql(
            "insert into switchyard.event_log (event_id, type, logged_at)
             select gen_random_uuid(), 'thing.made', now() - (1000 - i) * interval '1 minute' from generate_series(1, 1000) i;
             delete from switchyard.event_log where seq % 7 in (0, 3) or seq between 200 and 600 or seq > 990",
        ).await;
        let wrong = "select count(*)
            from generate_series(-5, 1005) m
            cross join lateral (select now() - m * interval '1 minute' as at) p
            cross join lateral (select switchyard._seq_logged_from(p.at) as first) f
           where exists (select 1 from switchyard.event_log l where (l.seq >= f.first) <> (l.logged_at >= p.at))";
        assert_eq!(world.number(wrong).await, 0);
    }

    async fn the_peak_is_the_fullest_second_of_any_minute(world: LedgerWorld) {
        // Two events a minute for an hour, forty in one second of one of them, and seventy in a minute, none of them in the same second.
        world.run_sql(
            "insert into switchyard.event_log (event_id, type, logged_at)
             select gen_random_uuid(), 'thing.made', at from (
               select date_trunc('minute', now()) - m * interval '1 minute' + interval '1 s' * s as at
                 from generate_series(1, 60) m, generate_series(5, 25, 20) s
               union all
               select date_trunc('minute', now()) - interval '29 minutes 50 s' + n * interval '10 ms' from generate_series(1, 40) n
               union all
               select date_trunc('minute', now()) - interval '39 minutes 55 s' + n * interval '700 ms' from generate_series(1, 70) n) e
              order by at;
             insert into switchyard.fence (seq, xid, at)
             select (select max(l.seq) from switchyard.event_log l where l.logged_at < t.at), pg_current_xact_id(), t.at
               from (select date_trunc('minute', now()) - m * interval '1 minute' as at from generate_series(0, 59) m) t",
        ).await;
        assert_eq!(measured(&world).await.peak_per_second, 40.0);
    }

    async fn latency_is_from_the_log_to_the_settlement_of_what_was_to_go_at_once(world: LedgerWorld) {
        for interval in ["1 s", "3 s"] {
            let event = world.event("thing.made").await;
            logged_before(&world, event, "10 s").await;
            world.claim(event).await;
            settled_after(&world, event, interval).await;
        }
        // None of these is a latency: it was to wait, it is not done, a person has sent it again.
        let later = world.event_with("thing.made", Uuid::new_v4(), r#"{"deliver_at":"2026-01-05T09:30:00Z"}"#).await;
        world.claim(later).await;
        for _ in 0..2 {
            let failing = world.event("thing.made").await;
            world.fail(failing).await;
        }
        let parked = world.event("thing.made").await;
        let redriven = world.event("thing.made").await;
        world.park(parked).await;
        world.park(redriven).await;
        world.resend(redriven, 0).await;
        world.claim(redriven).await;
        settled_after(&world, redriven, "1 hour").await;
        settled_after(&world, later, "1 hour").await;

        let agent = of_the_agent(&world).await;
        assert_eq!((agent.done, agent.avg_latency_ms, agent.p95_latency_ms), (2, Some(2_000.0), Some(2_900.0)));
        assert_eq!((agent.sampled, agent.failed, agent.parked, agent.failed_attempts), (7, 4, 1, 4));
    }

    async fn untried_deliveries_do_not_count_in_the_error_rate(world: LedgerWorld) {
        let failing = world.event("thing.made").await;
        world.fail(failing).await;
        for _ in 0..3 {
            world.event("thing.made").await;
        }
        world.publish_all().await;
        world.sweep().await;
        assert_eq!(world.number("select count(*) from switchyard.delivery").await, 4);
        let agent = of_the_agent(&world).await;
        assert_eq!((agent.sampled, agent.failed), (1, 1));
    }

    async fn figures_use_only_the_newest_deliveries(world: LedgerWorld) {
        world.run_sql(
            "insert into switchyard.event_log (event_id, type) select gen_random_uuid(), 'thing.made' from generate_series(1, 1500);
             insert into switchyard.delivery (seq, run, agent, owner, state, attempts, at)
             select l.seq, 0, a.id, 'n', 'd', (l.seq <= 500)::int, l.logged_at + interval '20 ms' from switchyard.event_log l, switchyard.agent a",
        ).await;
        let agent = of_the_agent(&world).await;
        assert_eq!((agent.sampled, agent.failed, agent.avg_latency_ms), (1_000, 0, Some(20.0)));
    }

    async fn figures_cover_each_agent_with_a_subscription(world: LedgerWorld) {
        let register = async |name: &str, types: &[&str]| {
            let spec = AgentSpec { name: name.into(), ..spec(types) };
            world.store.register(&spec, Mode::Off, Since::Now).await.unwrap();
        };
        register("critic", &["thing.burnt"]).await;
        register("critic", &["thing.made", "thing.shown"]).await;
        register("retired", &["thing.made"]).await;
        register("retired", &[]).await;
        for event_type in ["thing.made", "thing.made", "thing.shown", "thing.burnt"] {
            world.event(event_type).await;
        }
        let figures = measured(&world).await;
        let heard: Vec<_> = figures.agents.iter().map(|agent| (agent.agent.as_str(), agent.mode.as_str(), agent.heard)).collect();
        assert_eq!((figures.events_sampled, heard), (4, vec![("critic", "off", 3), (AGENT, "full", 2)]));
    }

    async fn what_the_shim_has_not_taken_yet_waits_unless_it_is_to_wait(world: LedgerWorld) {
        let first = world.event("thing.made").await;
        world.event("thing.made").await;
        world.event_with("thing.made", Uuid::new_v4(), r#"{"deliver_at":"2126-01-05T09:30:00Z"}"#).await;
        let aside = world.event("thing.made").await;
        logged_before(&world, first, "90 s").await;
        logged_before(&world, aside, "1 day").await;
        let aside = format!("update switchyard.outbox set parked_at = now() where seq = {}", world.seq(aside).await);
        world.run_sql(&aside).await;

        let figures = measured(&world).await;
        assert_eq!(figures.unpublished, 2);
        assert!((90.0..150.0).contains(&figures.oldest_unpublished_secs), "{figures:?}");
        world.publish_all().await;
        let figures = measured(&world).await;
        assert_eq!((figures.unpublished, figures.oldest_unpublished_secs), (0, 0.0));
    }

    async fn where_there_are_too_many_to_count_it_is_an_estimate_that_knows_of_holes(world: LedgerWorld) {
        // A quarter of a million within an hour, and as many sequences that were drawn for nothing.
        world.run_sql(
            "insert into switchyard.event_log (seq, event_id, type, logged_at) overriding system value
             select 2 * i, gen_random_uuid(), 'thing.made', now() - (250000 - i) * interval '14.4 ms' from generate_series(1, 250000) i;
             select setval('switchyard.event_log_seq_seq', 500000)",
        ).await;
        let figures = measured(&world).await;
        assert!(figures.events_estimated && (249_999..=250_001).contains(&figures.events), "{figures:?}");
        assert!((69.0..=71.0).contains(&figures.peak_per_second), "{figures:?}");
        assert_eq!(figures.events_sampled, 10_000);
    }
}
