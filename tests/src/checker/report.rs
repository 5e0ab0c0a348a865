//! What the checker says.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// The outcome of one seed.
#[derive(Clone, Debug, Serialize)]
pub struct SeedReport {
    /// The seed.
    pub seed: u64,
    /// What was wrong: nothing, unless a fault was planted.
    pub violations: Vec<String>,
    /// What happened how often: verdicts, transitions, kills, errors.
    pub counts: BTreeMap<String, u64>,
}

/// The outcome of all.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The fault that was planted.
    pub plant: Option<&'static str>,
    /// How many seeds ran.
    pub seeds: usize,
    /// Those with violations.
    pub caught: Vec<SeedReport>,
    /// What went wrong with the checker itself.
    pub broken: Vec<String>,
    /// The sums over all seeds.
    pub counts: BTreeMap<String, u64>,
    /// Wall time.
    pub took: Duration,
}

impl SeedReport {
    #[allow(clippy::print_stdout, reason = "a command line's progress")]
    pub(super) fn print(&self) {
        if self.violations.is_empty() {
            println!("seed {}: ok, {} events", self.seed, self.counts.get("events").unwrap_or(&0));
        } else {
            println!("seed {}: VIOLATED {}", self.seed, self.violations.join("; "));
        }
    }
}

impl Report {
    pub(super) fn new(plant: Option<&'static str>) -> Self {
        Self { plant, seeds: 0, caught: Vec::new(), broken: Vec::new(), counts: BTreeMap::new(), took: Duration::ZERO }
    }

    pub(super) fn add(&mut self, seeds: Vec<SeedReport>) {
        for seed in seeds {
            self.seeds += 1;
            for (what, n) in &seed.counts {
                *self.counts.entry(what.clone()).or_default() += n;
            }
            if !seed.violations.is_empty() {
                self.caught.push(seed);
            }
        }
        self.caught.sort_by_key(|s| s.seed);
    }

    pub(super) fn broke(&mut self, how: String) {
        self.broken.push(how);
    }

    /// Whether this is what it should be: nothing found, or the planted fault found.
    pub fn is_as_it_should(&self) -> bool {
        self.broken.is_empty() && self.seeds > 0 && self.caught.is_empty() == self.plant.is_none()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = self.took.as_secs_f64();
        match self.plant {
            None => {
                writeln!(f, "contract: {} seeds in {took:.0} s, {} with violations", self.seeds, self.caught.len())?
            }
            Some(plant) => match self.caught.first() {
                Some(first) => writeln!(
                    f,
                    "plant {plant}: caught by {} of {} seeds in {took:.0} s, first by seed {}: {}",
                    self.caught.len(),
                    self.seeds,
                    first.seed,
                    first.violations.join("; ")
                )?,
                None => writeln!(f, "plant {plant}: NOT CAUGHT by {} seeds in {took:.0} s", self.seeds)?,
            },
        }
        if self.plant.is_none() {
            for seed in &self.caught {
                writeln!(f, "  seed {}: {}", seed.seed, seed.violations.join("; "))?;
            }
        }
        for broken in &self.broken {
            writeln!(f, "  the checker broke: {broken}")?;
        }
        let counts: Vec<String> = self.counts.iter().map(|(what, n)| format!("{what} {n}")).collect();
        write!(f, "  {}", counts.join(", "))
    }
}
