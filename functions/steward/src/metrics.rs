//! The figures of a team's own page (`/api/admin/metrics`), from what the ledger measured. What each field is stands in `docs/when-to-move.md`.

use switchyard_advice::{Advice, Workload};
use switchyard_operations::metrics::{AgentMetrics, Metrics};
use switchyard_store::{AgentFigures, Figures};

/// A day has so many seconds.
const DAY_SECS: f64 = 86_400.0;
/// What is measured over less time than this counts as if it had taken so long: the first minutes of an installation are no tenth of a day.
const SHORTEST_SECS: f64 = 3_600.0;

/// What advice is given for, of what was measured.
pub(crate) fn workload(figures: &Figures) -> Workload {
    Workload {
        events_per_day: events_per_day(figures),
        peak_per_second: figures.peak_per_second,
        agents: u32::try_from(figures.agents.len()).unwrap_or(u32::MAX),
        deliveries_per_event: deliveries_per_event(figures),
        event_bytes: figures.event_bytes,
        connections: share(figures.connections, figures.max_connections).unwrap_or_default(),
    }
}

/// The page's figures, with the advice that they led to.
pub(crate) fn measured(figures: &Figures, advice: &Advice) -> Metrics {
    let agents: Vec<AgentMetrics> = figures.agents.iter().map(|agent| of_agent(agent, figures)).collect();
    let Workload { events_per_day, peak_per_second, agents: agents_active, deliveries_per_event, event_bytes, .. } =
        advice.workload;
    Metrics {
        at: figures.at.clone(),
        window_secs: figures.window_secs,
        events_per_day,
        events_estimated: figures.events_estimated,
        events_per_second_peak: peak_per_second,
        avg_event_bytes: event_bytes,
        agents_active,
        deliveries_per_event,
        avg_latency_ms: by_events(&agents, |agent| agent.avg_latency_ms),
        p95_latency_ms: agents.iter().filter_map(|agent| agent.p95_latency_ms).max_by(f64::total_cmp),
        error_rate: by_events(&agents, |agent| agent.error_rate),
        parked: agents.iter().map(|agent| agent.parked).sum(),
        unpublished: figures.unpublished,
        oldest_unpublished_secs: figures.oldest_unpublished_secs,
        connections: figures.connections,
        max_connections: figures.max_connections,
        recommendation: advice.recommendation,
        recommendation_reason: advice.reason.clone(),
        cost_usd_per_month: advice.costs.iter().map(|cost| (cost.way, cost.usd_per_month)).collect(),
        prices_as_of: advice.prices.as_of.clone(),
        prices_verified: advice.prices.unverified.is_empty(),
        agents,
    }
}

fn of_agent(agent: &AgentFigures, figures: &Figures) -> AgentMetrics {
    AgentMetrics {
        agent: agent.agent.clone(),
        mode: agent.mode.clone(),
        events_per_day: events_per_day(figures) * share(agent.heard, figures.events_sampled).unwrap_or_default(),
        avg_latency_ms: agent.avg_latency_ms,
        p95_latency_ms: agent.p95_latency_ms,
        error_rate: share(agent.failed, agent.sampled),
        failed_attempts: agent.failed_attempts,
        parked: agent.parked,
    }
}

/// By the share of the newest events that each agent hears of.
fn deliveries_per_event(figures: &Figures) -> f64 {
    let heard: i64 = figures.agents.iter().map(|agent| agent.heard).sum();
    share(heard, figures.events_sampled).unwrap_or_default()
}

fn events_per_day(figures: &Figures) -> f64 {
    figures.events as f64 * DAY_SECS / figures.window_secs.max(SHORTEST_SECS)
}

/// `None` of nothing.
fn share(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The average over the agents, each by how many events it hears of; `None` where none has the figure.
fn by_events(agents: &[AgentMetrics], of: impl Fn(&AgentMetrics) -> Option<f64>) -> Option<f64> {
    // One that hears of next to nothing still counts for something: it may be the only one that has the figure.
    let known = agents.iter().filter_map(|agent| Some((of(agent)?, agent.events_per_day.max(1.0))));
    let (sum, events) = known.fold((0.0, 0.0), |(sum, all), (figure, events)| (sum + figure * events, all + events));
    (events > 0.0).then(|| sum / events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchyard_advice::{Advisor, Way, Wishes};

    fn agent(name: &str, heard: i64, latency: Option<f64>, failed: i64) -> AgentFigures {
        AgentFigures {
            agent: name.into(),
            mode: "full".into(),
            heard,
            sampled: 100,
            failed,
            done: 100,
            avg_latency_ms: latency,
            p95_latency_ms: latency.map(|ms| ms * 2.0),
            parked: 1,
            failed_attempts: failed,
        }
    }

    fn figures(events: i64, window_secs: f64, agents: Vec<AgentFigures>) -> Figures {
        Figures {
            at: "2026-01-05T09:30:00Z".into(),
            window_secs,
            events,
            events_sampled: 100,
            peak_per_second: 7.0,
            event_bytes: 500.0,
            connections: 30,
            max_connections: 100,
            agents,
            ..Figures::default()
        }
    }

    fn metrics(figures: &Figures) -> Metrics {
        let advice = Advisor::built_in().unwrap().advise(&workload(figures), &Wishes::default()).unwrap();
        measured(figures, &advice)
    }

    #[test]
    fn agents_count_by_how_many_events_they_hear_of() {
        let agents = vec![agent("busy", 90, Some(10.0), 9), agent("idle", 10, Some(110.0), 59)];
        let metrics = metrics(&figures(1_000, 86_400.0, agents));
        assert_eq!((metrics.avg_latency_ms, metrics.p95_latency_ms), (Some(20.0), Some(220.0)));
        assert_eq!(metrics.error_rate, Some(0.14));
        assert_eq!((metrics.deliveries_per_event, metrics.agents_active, metrics.parked), (1.0, 2, 2));
        assert_eq!(metrics.agents.iter().map(|agent| agent.events_per_day).collect::<Vec<_>>(), [900.0, 100.0]);
    }

    #[test]
    fn what_was_not_measured_is_none_and_not_zero() {
        let nothing = metrics(&Figures::default());
        assert_eq!((nothing.avg_latency_ms, nothing.p95_latency_ms, nothing.error_rate), (None, None, None));
        assert_eq!((nothing.events_per_day, nothing.recommendation), (0.0, Way::Stay));
        let new = AgentFigures { sampled: 0, done: 0, ..agent("new", 0, None, 0) };
        let one = metrics(&figures(10, 86_400.0, vec![agent("old", 100, Some(5.0), 0), new]));
        assert_eq!((one.avg_latency_ms, one.error_rate), (Some(5.0), Some(0.0)));
        assert_eq!(one.agents[1].error_rate, None);
    }

    #[test]
    fn a_burst_right_after_the_installation_is_no_day_of_bursts() {
        assert_eq!(metrics(&figures(50, 10.0, vec![])).events_per_day, 1_200.0);
        assert_eq!(metrics(&figures(50, 7_200.0, vec![])).events_per_day, 600.0);
    }

    #[test]
    fn the_keys_are_those_of_the_customer() {
        let page =
            serde_json::to_value(metrics(&figures(1_000, 86_400.0, vec![agent("a", 100, Some(10.0), 0)]))).unwrap();
        for key in ["events_per_day", "avg_latency_ms", "error_rate"] {
            assert!(page[key].is_number(), "{key}: {page}");
        }
        assert_eq!(page["recommendation"], "stay");
        assert!(page["cost_usd_per_month"]["sns_sqs"].as_f64().unwrap() > 0.0);
        assert_eq!(page["agents"][0]["agent"], "a");
    }
}
