//! `switchyard backfill`: sends an agent the events from before it subscribed, at a rate.

use crate::{
    failure::Failure,
    functions::Stack,
    global::Global,
    style::{BOLD, DIM, GREEN, RED, YELLOW, cell, count, paint, print_line, table},
    when::{Ago, age, since},
};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use std::{str::FromStr, time::Duration};
use switchyard_operations::{
    backfill::{
        Act, BackfillAnswer, BackfillPhase, BackfillPreview, BackfillProgress, BackfillRequest, BackfillSelection,
        BackfillState, DEFAULT_PER_SECOND,
    },
    steward::Request,
};

/// How often `--watch` asks.
const PACE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  switchyard backfill sentiment --since 30d --dry-run     how many events that would be
  switchyard backfill sentiment --since 2025-01-01T00:00:00Z --rate 100/s
                                                          everything since then, 100 a second at most
  switchyard backfill sentiment --since 365d --type feedback.created --project P
                                                          a part of it
  switchyard backfill sentiment --progress --watch        how far it is, and follow
  switchyard backfill sentiment --pause                   stop it for now
  switchyard backfill sentiment --resume --rate 20/s      and let it go on, at another rate")]
pub(crate) struct Backfill {
    /// The agent
    pub(crate) agent: String,
    /// From then on: a time (2026-01-05T09:30:00Z) or how long ago (90m, 2h, 365d)
    #[arg(long, value_name = "WHEN", required_unless_present_any = ["progress", "pause", "resume", "cancel"])]
    pub(crate) since: Option<Ago>,
    /// Up to then [default: now]
    #[arg(long, value_name = "WHEN", requires = "since")]
    pub(crate) until: Option<Ago>,
    /// Only events of this type (repeat for more) [default: all that the agent listens to]
    #[arg(long = "type", value_name = "TYPE", requires = "since")]
    pub(crate) types: Vec<String>,
    /// Only events of this project (repeat for more)
    #[arg(long = "project", value_name = "PROJECT_ID", requires = "since")]
    pub(crate) projects: Vec<String>,
    /// At most so many a second, 1 to 1000 [default: 50]
    #[arg(long, value_name = "N/s", conflicts_with_all = ["progress", "pause", "cancel"])]
    pub(crate) rate: Option<Rate>,
    /// Say what would be taken, and do nothing
    #[arg(long, short = 'n', requires = "since")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) instead: Instead,
    /// Follow until it is done, or stands still
    #[arg(long, short, conflicts_with_all = ["dry_run", "pause", "cancel"])]
    pub(crate) watch: bool,
}

/// What else there is to say about a backfill.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Instead of starting one")]
#[group(multiple = false, conflicts_with_all = ["since", "until", "types", "projects", "dry_run"])]
pub(crate) struct Instead {
    /// How far the newest one is
    #[arg(long)]
    pub(crate) progress: bool,
    /// Take nothing more until it is let go on
    #[arg(long)]
    pub(crate) pause: bool,
    /// Let it go on, at another --rate if one is given
    #[arg(long)]
    pub(crate) resume: bool,
    /// End it: what is done stays done, what is unfinished or parked is given up
    #[arg(long)]
    pub(crate) cancel: bool,
}

/// `50`, or `50/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate(u16);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_suffix("/s").unwrap_or(text).parse() {
            Ok(per_second @ 1..=1_000) => Ok(Self(per_second)),
            _ => Err(format!("{text:?} is no rate: a whole number of events a second, from 1 to 1000, as in 50/s")),
        }
    }
}

/// Carries out one backfill command.
pub(crate) async fn run(stack: &Stack, options: Backfill, global: &Global) -> Result<(), Failure> {
    let (watch, rate) = (options.watch, options.rate);
    let request = request(options, &global.operator, Timestamp::now());
    let (act, agent) = (request.act, request.agent.clone());
    let asked = Request::Backfill(Box::new(request));
    let mut answer: BackfillAnswer = stack.ask_steward(&asked, global.json && !watch).await?;
    if watch {
        answer = until_it_stands(stack, &agent).await?;
        if global.json {
            stack.print(&answer)?;
        }
    }
    if !global.json {
        print_line(page(act, &answer, rate, Timestamp::now()));
    }
    if watch { ended_well(&answer) } else { Ok(()) }
}

/// The exit code says whether a followed backfill has ended.
fn ended_well(answer: &BackfillAnswer) -> Result<(), Failure> {
    let agent = &answer.agent;
    match answer.progress.as_ref().map(|progress| progress.state) {
        Some(BackfillState::Paused) => {
            Err(Failure::new(format!("it is paused, not done: switchyard backfill {agent} --resume --watch")))
        }
        Some(BackfillState::Cancelled) => Err(Failure::new("it was cancelled before it was done")),
        _ => Ok(()),
    }
}

fn request(options: Backfill, operator: &str, now: Timestamp) -> BackfillRequest {
    let Backfill { agent, since, until, types, projects, rate, dry_run, instead, watch: _ } = options;
    let act = match instead {
        Instead { pause: true, .. } => Act::Pause,
        Instead { resume: true, .. } => Act::Resume,
        Instead { cancel: true, .. } => Act::Cancel,
        Instead { progress: true, .. } => Act::Progress,
        _ if dry_run => Act::Preview,
        _ => Act::Start,
    };
    let selection = since.map(|since| BackfillSelection {
        types,
        projects,
        since: since.as_of(now),
        until: until.map(|until| until.as_of(now)),
    });
    let per_second = rate.filter(|_| act != Act::Preview).map(|rate| rate.0);
    BackfillRequest { agent, act, selection, per_second, operator: operator.to_owned() }
}

/// Asks until it is done, ended or paused. The last answer.
async fn until_it_stands(stack: &Stack, agent: &str) -> Result<BackfillAnswer, Failure> {
    // Hidden by itself where standard error is no terminal.
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent}%  {msg}") {
        bar.set_style(style);
    }
    let request = BackfillRequest {
        agent: agent.to_owned(),
        act: Act::Progress,
        selection: None,
        per_second: None,
        operator: String::new(),
    };
    let asked = Request::Backfill(Box::new(request));
    loop {
        let answer: BackfillAnswer = stack.ask_steward(&asked, false).await?;
        match &answer.progress {
            Some(now) if now.state == BackfillState::Running => {
                bar.set_length(of(now.selected));
                bar.set_position(of(now.taken));
                bar.set_message(doing(now));
            }
            _ => {
                bar.finish_and_clear();
                return Ok(answer);
            }
        }
        tokio::time::sleep(PACE).await;
    }
}

fn of(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

fn page(act: Act, answer: &BackfillAnswer, rate: Option<Rate>, now: Timestamp) -> String {
    let agent = &answer.agent;
    if let (Act::Preview, Some(preview)) = (act, &answer.preview) {
        return would_take(agent, preview, rate.map_or(DEFAULT_PER_SECOND, |rate| rate.0));
    }
    let Some(progress) = &answer.progress else {
        return format!("{agent} has had no backfill yet: switchyard backfill {agent} --since WHEN --dry-run");
    };
    let mut lines = status(agent, progress, now);
    if act == Act::Start {
        let follow = format!("it begins within a minute; follow it: switchyard backfill {agent} --progress --watch");
        lines.push(paint(DIM, follow));
    }
    if let Some(cancelled) = answer.cancelled.filter(|n| *n > 0) {
        lines.push(format!("given up: {}", count(cancelled, "unfinished or parked delivery")));
    }
    lines.join("\n")
}

fn would_take(agent: &str, preview: &[BackfillPreview], per_second: u16) -> String {
    let events: i64 = preview.iter().map(|one| one.events).sum();
    if events == 0 {
        return format!("{} there is nothing in that selection that {agent} has not had", paint(GREEN, "ok:"));
    }
    let rows = preview
        .iter()
        .map(|one| vec![cell(&one.event_type), cell(one.events), cell(&one.oldest), cell(&one.newest)])
        .collect();
    let takes = age(of(events) / u64::from(per_second));
    [
        paint(
            BOLD,
            format!("would take {} for {agent}: at {per_second} a second, {takes} at least", count(events, "event")),
        ),
        table(&["TYPE", "#EVENTS", "OLDEST", "NEWEST"], rows),
    ]
    .join("\n")
}

fn status(agent: &str, now: &BackfillProgress, at: Timestamp) -> Vec<String> {
    let began = since(&now.started_at, at);
    let headline = match now.state {
        BackfillState::Running => paint(GREEN, format!("{agent}: a backfill is running ({})", doing(now))),
        BackfillState::Paused => paint(YELLOW, format!("{agent}: a backfill is paused ({})", doing(now))),
        BackfillState::Done => paint(GREEN, format!("{agent}: a backfill is done {}", ended(now, at))),
        BackfillState::Cancelled => paint(RED, format!("{agent}: a backfill was cancelled {}", ended(now, at))),
    };
    let projects = if now.projects.is_empty() { String::new() } else { format!(" of {}", now.projects.join(", ")) };
    let mut lines = vec![
        format!("{headline}, begun {began}, run {}", now.run),
        format!(
            "selection: {}{projects} from {} to {}, {} a second at most",
            now.types.join(", "),
            now.since,
            now.until,
            now.per_second
        ),
        format!("taken: {} of {}{}", now.taken, now.selected, share(now)),
        format!("of these: {} done, {} under way, {} parked{}", now.done, now.pending, now.parked, others(now)),
    ];
    lines.extend(pace(now));
    lines.extend(now.waits.as_ref().map(|why| match now.state {
        BackfillState::Running => format!("waits: {why}"),
        _ => format!("because: {why}"),
    }));
    if now.left_out > 0 {
        lines.push(format!(
            "left out: {} of the old system's by the routing, cancelled, or before their time; another backfill takes what has become the agent's",
            count(now.left_out, "event")
        ));
    }
    match now.state {
        BackfillState::Paused => lines
            .push(format!("go on: switchyard backfill {agent} --resume; end it: switchyard backfill {agent} --cancel")),
        _ if now.parked > 0 => lines.push(format!("why they are parked: switchyard dlq {agent}")),
        _ => {}
    }
    lines
}

/// What it is about just now.
fn doing(now: &BackfillProgress) -> String {
    match now.phase {
        BackfillPhase::Numbering => format!("numbering history: {} so far", count(now.numbered, "event")),
        BackfillPhase::Counting => format!("counting its selection: {} so far", count(now.selected, "event")),
        BackfillPhase::Sending => format!("sending: {} of {}", now.taken, now.selected),
        BackfillPhase::Ending => format!("all sent: {} under way", now.pending),
    }
}

fn ended(now: &BackfillProgress, at: Timestamp) -> String {
    now.ended_at.as_deref().map(|ended| since(ended, at)).unwrap_or_default()
}

fn share(now: &BackfillProgress) -> String {
    if now.selected <= 0 || matches!(now.phase, BackfillPhase::Numbering | BackfillPhase::Counting) {
        return String::new();
    }
    format!(" ({:.1} %)", now.taken as f64 * 100.0 / now.selected as f64)
}

fn others(now: &BackfillProgress) -> String {
    let named = [(now.superseded, "superseded"), (now.expired, "expired")];
    named.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!(", {n} {what}")).collect()
}

fn pace(now: &BackfillProgress) -> Option<String> {
    let (pace, ends_at) = (now.pace?, now.ends_at.as_deref()?);
    let left = (now.selected - now.taken).max(0) as f64 / pace.max(f64::MIN_POSITIVE);
    Some(format!("pace: {pace:.1} a second; all taken in {} ({ends_at})", age(left as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use clap::Parser;

    fn asked(line: &str) -> Result<BackfillRequest, clap::Error> {
        let parsed = Arguments::try_parse_from(format!("switchyard backfill {line}").split_whitespace())?;
        let Command::Backfill(options) = parsed.command else { panic!("{line}") };
        Ok(request(*options, "ada", "2026-01-05T12:00:00Z".parse().unwrap()))
    }

    #[test]
    fn a_backfill_is_of_a_time_of_types_and_of_projects() {
        let line = "painter --since 2h --until 2026-01-05T11:00:00Z --type a.b --type c.d --project p --rate 20/s";
        let request = asked(line).unwrap();
        let selection = request.selection.unwrap();
        assert_eq!(
            (selection.since.as_str(), selection.until.as_deref()),
            ("2026-01-05T10:00:00Z", Some("2026-01-05T11:00:00Z"))
        );
        assert_eq!((selection.types, selection.projects), (vec!["a.b".to_owned(), "c.d".into()], vec!["p".to_owned()]));
        assert_eq!((request.act, request.per_second, request.operator.as_str()), (Act::Start, Some(20), "ada"));
    }

    #[test]
    fn what_is_done_about_one_is_said_instead_of_a_selection() {
        for (line, act, per_second) in [
            ("painter --since 2h --dry-run", Act::Preview, None),
            ("painter --since 2h -n --rate 20", Act::Preview, None),
            ("painter --progress", Act::Progress, None),
            ("painter --progress --watch", Act::Progress, None),
            ("painter --pause", Act::Pause, None),
            ("painter --resume", Act::Resume, None),
            ("painter --resume --rate 7", Act::Resume, Some(7)),
            ("painter --cancel", Act::Cancel, None),
        ] {
            let request = asked(line).unwrap();
            assert_eq!((request.act, request.per_second), (act, per_second), "{line}");
            assert_eq!(request.selection.is_some(), act == Act::Preview, "{line}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for wrong in [
            "",
            "painter",
            "painter --type a.b",
            "painter --since yesterday",
            "painter --since 2h --rate 0",
            "painter --since 2h --rate 1001",
            "painter --since 2h --rate 5/m",
            "painter --since 2h --cancel",
            "painter --progress --cancel",
            "painter --cancel --rate 5",
            "painter --cancel --type a.b",
            "painter --progress --dry-run",
            "painter --since 2h --dry-run --watch",
        ] {
            assert_eq!(asked(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    fn progress(state: BackfillState, phase: BackfillPhase) -> BackfillProgress {
        BackfillProgress {
            run: 7,
            state,
            phase,
            waits: None,
            per_second: 50,
            types: vec!["thing.made".into()],
            projects: vec![],
            since: "2025-01-01T00:00:00Z".into(),
            until: "2026-01-05T11:00:00Z".into(),
            numbered: 4_000,
            selected: 4_000,
            left_out: 12,
            taken: 1_000,
            done: 950,
            pending: 40,
            parked: 10,
            superseded: 0,
            expired: 0,
            pace: Some(40.0),
            ends_at: Some("2026-01-05T12:01:15Z".into()),
            started_at: "2026-01-05T11:50:00Z".into(),
            ended_at: None,
        }
    }

    fn answer(progress: BackfillProgress) -> BackfillAnswer {
        BackfillAnswer { agent: "painter".into(), preview: None, progress: Some(progress), cancelled: Some(3) }
    }

    fn report(act: Act, progress: BackfillProgress) -> String {
        page(act, &answer(progress), None, "2026-01-05T12:00:00Z".parse().unwrap())
    }

    #[test]
    fn who_follows_one_that_is_paused_or_cancelled_is_told_that_it_is_not_done() {
        let ended = |state| ended_well(&answer(progress(state, BackfillPhase::Sending)));
        assert!(ended(BackfillState::Done).is_ok());
        assert!(ended(BackfillState::Paused).unwrap_err().to_string().contains("--resume"));
        assert!(ended(BackfillState::Cancelled).unwrap_err().to_string().contains("cancelled"));
    }

    #[test]
    fn its_progress_says_how_many_of_how_many_how_fast_and_until_when() {
        let running = report(Act::Progress, progress(BackfillState::Running, BackfillPhase::Sending));
        for words in [
            "running (sending: 1000 of 4000)",
            "begun 10m 0s ago",
            "taken: 1000 of 4000 (25.0 %)",
            "950 done, 40 under way, 10 parked",
            "40.0 a second; all taken in 1m 15s (2026-01-05T12:01:15Z)",
            "12 events of the old system's",
            "switchyard dlq painter",
        ] {
            assert!(running.contains(words), "{words}: {running}");
        }
        let early = BackfillProgress {
            pace: None,
            ends_at: None,
            ..progress(BackfillState::Running, BackfillPhase::Numbering)
        };
        let early = report(Act::Start, early);
        assert!(
            early.contains("numbering history: 4000 events so far") && early.contains("within a minute"),
            "{early}"
        );
        assert!(!early.contains("pace") && !early.contains('%'), "{early}");
    }

    #[test]
    fn one_that_stands_still_says_why_and_the_way_on() {
        let waits = Some("its queue holds 300 other messages".to_owned());
        let waiting = BackfillProgress { waits, ..progress(BackfillState::Running, BackfillPhase::Sending) };
        assert!(report(Act::Progress, waiting.clone()).contains("waits: its queue holds 300 other messages"));
        let paused = report(Act::Pause, BackfillProgress { state: BackfillState::Paused, ..waiting });
        assert!(paused.contains("--resume") && paused.contains("because: its queue"), "{paused}");
        let ended_at = Some("2026-01-05T11:59:00Z".to_owned());
        let cancelled = BackfillProgress { ended_at, ..progress(BackfillState::Cancelled, BackfillPhase::Sending) };
        let cancelled = report(Act::Cancel, cancelled);
        assert!(cancelled.contains("cancelled 1m 0s ago") && cancelled.contains("given up: 3"), "{cancelled}");
    }

    #[test]
    fn a_preview_counts_by_type_and_says_how_long_it_takes() {
        let of = |event_type: &str, events| BackfillPreview {
            event_type: event_type.into(),
            events,
            oldest: "2025-01-01T00:00:00Z".into(),
            newest: "2026-01-01T00:00:00Z".into(),
        };
        let preview = would_take("painter", &[of("thing.made", 170_000), of("thing.sold", 10_000)], 50);
        assert!(preview.contains("would take 180000 events for painter: at 50 a second, 1h 0m at least"), "{preview}");
        assert!(preview.contains("thing.sold") && would_take("painter", &[], 50).contains("nothing"));
    }
}
