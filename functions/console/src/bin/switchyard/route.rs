//! `switchyard route`: whose turn it is, shown or set.

use crate::{
    failure::Failure,
    functions::Stack,
    global::Global,
    style::{BOLD, count, paint, print_line},
};
use clap::{Args, ValueEnum};
use std::str::FromStr;
use switchyard_operations::{
    cutover::CutoverState,
    routing::{self, Owner, RouteRequest, Routed},
    steward::Request,
};

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  switchyard route sentiment                           whose turn it is, and what is unfinished with whom
  switchyard route sentiment shadow                    the old system works, the agent decides beside it
  switchyard route sentiment percent 25                the agent has a quarter of the aggregates
  switchyard route sentiment percent 25 --pin P=new    and this project, whatever its hash says
  switchyard route sentiment off --drain               the old system works again, on what is unfinished, too")]
pub(crate) struct Route {
    /// The agent
    pub(crate) agent: String,
    /// Whose turn it is to be; shown when left out
    #[arg(value_enum)]
    pub(crate) mode: Option<Mode>,
    /// With `percent`: how many, 0 to 100
    #[arg(value_name = "N", value_parser = clap::value_parser!(u8).range(0..=100), required_if_eq("mode", "percent"))]
    pub(crate) percent: Option<u8>,
    /// What is unfinished follows, now and at every later change, until a change without it
    #[arg(long)]
    pub(crate) drain: bool,
    /// Beside a percentage: decide in shadow what the old system owns, so that the two can be compared
    #[arg(long)]
    pub(crate) beside: bool,
    /// Put a project on one side while there is a percentage, or let go of it (repeat for more)
    #[arg(long = "pin", value_name = "PROJECT=new|old|none")]
    pub(crate) pins: Vec<Pin>,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// The old system does everything
    Off,
    /// The old system does everything, and the agent decides beside it without applying anything
    Shadow,
    /// The agent has a share of the aggregates or projects
    Percent,
    /// The agent does everything
    Full,
}

/// A project and its side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pin {
    project: String,
    to: Option<Owner>,
}

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no pin: write PROJECT=new, PROJECT=old or PROJECT=none");
        let (project, to) = text.rsplit_once('=').filter(|(project, _)| !project.is_empty()).ok_or_else(wrong)?;
        let to = match to {
            "new" => Some(Owner::New),
            "old" => Some(Owner::Old),
            "none" => None,
            _ => return Err(wrong()),
        };
        Ok(Self { project: project.to_owned(), to })
    }
}

/// Pins first, so that a percentage that is set with them never acts without them.
pub(crate) async fn run(stack: &Stack, options: Route, global: &Global) -> Result<(), Failure> {
    if options.percent.is_some() && options.mode != Some(Mode::Percent) {
        return Err(Failure::new("a number belongs to `percent`: switchyard route AGENT percent 25"));
    }
    let mut pinned: Option<Routed> = None;
    for Pin { project, to } in &options.pins {
        let (agent, operator) = (options.agent.clone(), global.operator.clone());
        let pin = routing::Pin { agent, project: project.clone(), to: *to, operator };
        pinned = Some(stack.ask_steward(&Request::Pin(pin), false).await?);
    }
    let changes = options.mode.is_some() || options.drain || options.beside;
    let routed = match pinned {
        Some(routed) if !changes => routed,
        _ => stack.ask_steward(&Request::Route(request(&options, &global.operator)), false).await?,
    };
    if global.json {
        return stack.print(&routed);
    }
    print_line(page(&routed));
    Ok(())
}

fn request(options: &Route, operator: &str) -> RouteRequest {
    let mode = options.mode.map(|mode| match mode {
        Mode::Off => routing::Mode::Off,
        Mode::Shadow => routing::Mode::Shadow,
        Mode::Percent => routing::Mode::Percent(options.percent.unwrap_or(0)),
        Mode::Full => routing::Mode::Full,
    });
    // Without a mode only what is said changes.
    let flag = |text: bool| (mode.is_some() || text).then_some(text);
    let (drain, beside) = (flag(options.drain), flag(options.beside));
    let changes = mode.is_some() || drain.is_some() || beside.is_some();
    let operator = if changes { operator.to_owned() } else { String::new() };
    RouteRequest { agent: options.agent.clone(), mode, drain, beside, operator }
}

fn page(routed: &Routed) -> String {
    let Routed { agent, mode, percent, drain, beside, pinned_new, pinned_old, moves, moved, cutover, .. } = routed;
    let turn = match mode.as_str() {
        "off" => "off: the old system does everything".to_owned(),
        "shadow" => "shadow: the old system does everything, the agent decides beside it".to_owned(),
        "full" => "full: the agent does everything".to_owned(),
        _ => format!("{percent} percent: the agent has that share of what it is routed by"),
    };
    let mut lines = vec![paint(BOLD, format!("{agent}: {turn}"))];
    if *beside {
        lines.push("what the old system owns, the agent decides in shadow".to_owned());
    }
    let only_then = if mode == "percent" { "" } else { " (once there is a percentage)" };
    for (projects, whom) in [(pinned_new, "the agent"), (pinned_old, "the old system")] {
        if !projects.is_empty() {
            lines.push(format!("pinned to {whom}{only_then}: {}", projects.join(", ")));
        }
    }
    match cutover {
        Some(CutoverState::Running) => lines.push(format!(
            "a cutover plan is under way, and pauses when an operator sets the routing: switchyard cutover {agent} status"
        )),
        Some(CutoverState::Paused) => {
            lines.push(format!("its cutover plan is paused: switchyard cutover {agent} resume, or rollback"));
        }
        _ => {}
    }
    if let Some(moved) = moved.filter(|moved| moved.deliveries > 0 || !moved.all) {
        let more = if moved.all { "" } else { "; there was no time for all of it, the steward goes on" };
        lines.push(format!("moved: {}{more}", count(moved.deliveries, "delivery")));
    }
    lines.push(format!(
        "unfinished: {} with the agent, {} with the old system",
        moves.stay_new + moves.to_old,
        moves.stay_old + moves.to_new
    ));
    let wrong = moves.to_new + moves.to_old;
    if wrong > 0 {
        let follow = if *drain {
            "they follow within a minute, once no transaction works on them".to_owned()
        } else {
            format!("they stay where they are; `switchyard route {agent} --drain` lets them follow")
        };
        lines.push(format!(
            "of these {} to the agent by this routing, {} to the old system: {follow}",
            belongs(moves.to_new),
            moves.to_old
        ));
    }
    if moves.touched > 0 {
        let touched = count(moves.touched, "delivery");
        lines.push(format!(
            "{touched} that the old system has failed are parked on the way: it may have done half of each"
        ));
    }
    lines.join("\n")
}

fn belongs(n: i64) -> String {
    if n == 1 { "1 belongs".to_owned() } else { format!("{n} belong") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use clap::Parser;
    use serde_json::json;
    use switchyard_operations::routing::{Moved, Moves};

    fn parse(line: &str) -> Result<Route, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace()).map(|parsed| {
            let Command::Route(route) = parsed.command else { panic!("{line}") };
            route
        })
    }

    #[test]
    fn a_routing_is_shown_or_set_and_projects_are_pinned() {
        let request = |line: &str| serde_json::to_value(Request::Route(request(&parse(line).unwrap(), "ada"))).unwrap();
        assert_eq!(request("switchyard route painter"), json!({ "action": "routing", "agent": "painter" }));
        let set = json!({ "action": "routing", "agent": "painter", "mode": "percent", "percent": 25, "drain": true, "beside": false, "operator": "ada" });
        assert_eq!(request("switchyard route painter percent 25 --drain"), set);
        let drained = json!({ "action": "routing", "agent": "painter", "drain": true, "operator": "ada" });
        assert_eq!(request("switchyard route painter --drain"), drained);
        let pins = parse("switchyard route painter --pin a=b=new --pin c=none").unwrap().pins;
        assert_eq!(
            pins,
            [("a=b", Some(Owner::New)), ("c", None)].map(|(project, to)| Pin { project: project.into(), to })
        );
        for wrong in ["percent", "percent 101", "half", "--pin x", "--pin x=both", "--pin =new"] {
            assert!(parse(&format!("switchyard route painter {wrong}")).is_err(), "{wrong}");
        }
    }

    fn routed() -> Routed {
        Routed {
            agent: "painter".into(),
            mode: "percent".into(),
            percent: 25,
            drain: false,
            beside: false,
            pinned_new: vec!["pilot".into()],
            pinned_old: vec![],
            version: 3,
            moves: Moves { to_new: 1, to_old: 2, touched: 1, stay_new: 3, stay_old: 4 },
            moved: None,
            cutover: None,
        }
    }

    #[test]
    fn a_change_says_what_it_moves_and_what_it_leaves() {
        let stays = page(&routed());
        for words in [
            "25 percent",
            "pinned to the agent: pilot",
            "5 with the agent, 5 with the old system",
            "1 belongs to the agent",
            "switchyard route painter --drain",
            "1 delivery that the old system has failed",
        ] {
            assert!(stays.contains(words), "{words}: {stays}");
        }
        let moved = Some(Moved { deliveries: 7, all: true });
        let follows = page(&Routed { drain: true, moved, ..routed() });
        assert!(follows.contains("moved: 7 deliveries") && follows.contains("within a minute"), "{follows}");
        let paused = page(&Routed { cutover: Some(CutoverState::Paused), ..routed() });
        assert!(paused.contains("switchyard cutover painter resume"), "{paused}");
        let off = page(&Routed { mode: "off".into(), moves: Moves::default(), ..routed() });
        assert!(off.contains("once there is a percentage") && !off.contains("of these"), "{off}");
    }
}
