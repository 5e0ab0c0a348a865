//! What a tier reports: figures for people and for programs.

use crate::{
    checker::{Check, Tally, Verdict},
    host::Counts,
};
use serde::Serialize;
use std::{collections::BTreeMap, fmt, time::Duration};

/// What a tier found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Which tier, or scenario of one.
    pub tier: String,
    /// What carried the messages: the stand-in broker, or LocalStack.
    pub transport: String,
    /// What it was drawn from.
    pub seeds: String,
    /// How many runs it consists of.
    pub runs: u64,
    /// Events in the tables.
    pub events: u64,
    /// Sums by agent.
    pub agents: BTreeMap<String, Tally>,
    /// Faults by kind.
    pub faults: BTreeMap<String, u64>,
    /// What must not be, and was found. Empty: all is well.
    pub violations: BTreeMap<Check, u64>,
    /// The first few of each, in words.
    pub examples: BTreeMap<Check, Vec<String>>,
    /// Seeds of runs in which something was found.
    pub failed_seeds: Vec<u64>,
    /// Figures of this tier alone, in words and units.
    pub figures: BTreeMap<String, String>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Processor time of the whole machine meanwhile, in seconds.
    pub cpu_seconds: f64,
}

impl Report {
    /// An empty one.
    #[must_use]
    pub fn of(tier: &str, transport: &str, seeds: impl Into<String>) -> Self {
        Self { tier: tier.into(), transport: transport.into(), seeds: seeds.into(), ..Self::default() }
    }

    /// Notes that a fault did not happen, or not as it should, where `holds` is not so.
    pub fn require(&mut self, holds: bool, what: impl Into<String>) {
        if !holds {
            *self.violations.entry(Check::NotBroken).or_default() += 1;
            self.examples.entry(Check::NotBroken).or_default().push(what.into());
        }
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// Takes in what was found in one run.
    pub fn add(&mut self, seed: u64, verdict: &Verdict, faults: &BTreeMap<String, u64>) {
        self.runs += 1;
        self.events += verdict.events;
        for (name, tally) in &verdict.agents {
            self.agents.entry(name.clone()).or_default().add(tally);
        }
        for (name, count) in faults.iter().filter(|(_, count)| **count > 0) {
            *self.faults.entry(name.clone()).or_default() += count;
        }
        for (check, count) in &verdict.violations {
            *self.violations.entry(*check).or_default() += count;
        }
        for (check, lines) in &verdict.examples {
            let examples = self.examples.entry(*check).or_default();
            let room = 5_usize.saturating_sub(examples.len());
            examples.extend(lines.iter().take(room).map(|line| format!("seed {seed}: {line}")));
        }
        if !verdict.is_clean() {
            self.failed_seeds.push(seed);
        }
    }

    /// Notes a figure of this tier.
    pub fn figure(&mut self, name: &str, value: impl fmt::Display) {
        self.figures.insert(name.into(), value.to_string());
    }

    /// Notes how long it took, and what processor time since `cpu_before`.
    pub fn took(&mut self, duration: Duration, cpu_before: f64) {
        self.seconds = duration.as_secs_f64();
        self.cpu_seconds = cpu_seconds() - cpu_before;
    }

    fn count(&self, check: Check) -> u64 {
        self.violations.get(&check).copied().unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} through {} (seeds {}, {} runs)", self.tier, self.transport, self.seeds, self.runs)?;
        let (lost, doubled, inverted) =
            (self.count(Check::Lost), self.count(Check::Doubled), self.count(Check::Inverted));
        writeln!(f, "  events {}  lost {lost}  doubled {doubled}  inverted {inverted}", self.events)?;
        for (name, tally) in &self.agents {
            let share = 100.0 * tally.settled_share();
            let Tally { subscribed, done, superseded, parked, pending } = tally;
            writeln!(
                f,
                "  {name}: in {subscribed}  done {done}  superseded {superseded}  pending {pending}  settled {share:.4} %"
            )?;
            for (reason, count) in parked {
                writeln!(f, "    parked as {reason}: {count}")?;
            }
        }
        let faults: Vec<String> = self.faults.iter().map(|(name, count)| format!("{name} {count}")).collect();
        if !faults.is_empty() {
            writeln!(f, "  faults: {}", faults.join(", "))?;
        }
        for (name, value) in &self.figures {
            writeln!(f, "  {name}: {value}")?;
        }
        writeln!(f, "  took {:.1} s, {:.1} s of the machine's processors", self.seconds, self.cpu_seconds)?;
        for (check, count) in &self.violations {
            writeln!(f, "  FOUND {check:?}: {count}")?;
            for line in self.examples.get(check).into_iter().flatten() {
                writeln!(f, "    {line}")?;
            }
        }
        if self.is_clean() { write!(f, "  nothing found") } else { write!(f, "  seeds {:?}", self.failed_seeds) }
    }
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.subscribed += other.subscribed;
        self.done += other.done;
        self.superseded += other.superseded;
        self.pending += other.pending;
        for (reason, count) in &other.parked {
            *self.parked.entry(reason.clone()).or_default() += count;
        }
    }
}

/// Faults that show in what became of the functions' invocations.
pub fn of_functions(counts: &BTreeMap<&'static str, Counts>) -> BTreeMap<String, u64> {
    let mut faults = BTreeMap::new();
    for (name, counts) in counts {
        faults.insert(format!("{name} died at work"), counts.died);
        faults.insert(format!("{name} killed at its deadline"), counts.timed_out);
        faults.insert(format!("{name} killed by a signal"), counts.killed);
        faults.insert(format!("{name} stopped and continued"), counts.stalled);
    }
    faults
}

/// Processor time that this machine has spent since it was started, in seconds: of everybody, since the functions' processes are killed together with
/// those that would account for them. The unit of `/proc` is a hundredth on Linux.
#[must_use]
pub fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<f64> = fields.filter_map(|ticks| ticks.parse().ok()).collect();
    // user, nice, system; then idle and waiting, which are none; then interrupts.
    ticks.iter().take(3).chain(ticks.iter().skip(5).take(2)).sum::<f64>() / 100.0
}
