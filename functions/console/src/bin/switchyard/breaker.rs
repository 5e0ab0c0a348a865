//! `switchyard breaker`: the breakers, and a hand on one.

use crate::{
    failure::Failure,
    functions::Stack,
    global::Global,
    status,
    style::{cell, print_line, short, table},
    when::{age, since},
};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::Value;
use switchyard_operations::{breaker::BreakerState, status::Status, steward::Request};

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// The agent; all breakers when left out
    #[arg(requires = "set")]
    pub(crate) agent: Option<String>,
    /// What to set it to
    #[arg(value_enum)]
    pub(crate) set: Option<Set>,
}

/// What a breaker is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Set {
    /// The agent stops, until this is changed
    Open,
    /// The agent works, whatever fails
    Close,
    /// The runtime and the steward decide again
    Auto,
}

/// All of them, or one set.
pub(crate) async fn run(stack: &Stack, options: Options, global: &Global) -> Result<(), Failure> {
    if let (Some(agent), Some(set)) = (options.agent, options.set) {
        let to = match set {
            Set::Open => Some(BreakerState::Open),
            Set::Close => Some(BreakerState::Closed),
            Set::Auto => None,
        };
        let request = Request::Breaker { agent: agent.clone(), set: to, operator: global.operator.clone() };
        let _: Value = stack.ask_steward(&request, global.json).await?;
        if !global.json {
            print_line(report(&agent, set));
        }
        return Ok(());
    }
    let status: Status = stack.ask_steward(&Request::Status, global.json).await?;
    if !global.json {
        print_line(page(&status, Timestamp::now()));
    }
    Ok(())
}

fn report(agent: &str, set: Set) -> String {
    match set {
        Set::Open => format!(
            "{agent} stops: its records wait in the queue, and no attempt is spent. `switchyard breaker {agent} auto` lets it go on"
        ),
        Set::Close => format!("{agent} works, whatever fails, until `switchyard breaker {agent} auto`"),
        Set::Auto => format!("the breaker of {agent} opens and closes by itself"),
    }
}

fn page(status: &Status, now: Timestamp) -> String {
    let rows = status.agents.iter().filter_map(|agent| {
        let breaker = agent.breaker.as_ref()?;
        let closed = breaker.state == BreakerState::Closed;
        let probed = (breaker.state == BreakerState::Open && !breaker.forced)
            .then(|| age(breaker.retry_in_secs.max(0.0).ceil() as u64))
            .map(|wait| format!("in {wait}"));
        Some(vec![
            cell(&agent.agent),
            status::breaker(breaker),
            cell(if closed && !breaker.forced { String::new() } else { since(&breaker.since, now) }),
            cell(probed.unwrap_or_default()),
            cell(short(breaker.reason.as_deref().unwrap_or_default(), 120)),
        ])
    });
    table(&["AGENT", "BREAKER", "SINCE", "PROBED", "REASON"], rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchyard_operations::{breaker::Breaker, status::Standing};

    #[test]
    fn an_open_breaker_says_why_and_when_it_is_probed() {
        let breaker = Breaker {
            state: BreakerState::Open,
            forced: false,
            reason: Some("the model does not answer".into()),
            since: "2026-01-05T11:59:00Z".into(),
            opens: 1,
            retry_in_secs: 29.5,
        };
        let agent = Standing { agent: "sentiment".into(), breaker: Some(breaker), ..Standing::default() };
        let page = page(&Status { agents: vec![agent], ..Status::default() }, "2026-01-05T12:00:00Z".parse().unwrap());
        for words in ["open", "1m 0s ago", "in 30s", "the model does not answer"] {
            assert!(page.contains(words), "{words}: {page}");
        }
    }
}
