//! What a run has shown.

use crate::{
    Options,
    ending::{Ending, RollBack},
    old_system::Bug,
    world::World,
};
use std::{collections::BTreeMap, fmt, time::Duration};

/// The report of a run.
#[derive(Debug)]
pub struct Report {
    seed: u64,
    flips: u32,
    bug: Option<Bug>,
    ending: Ending,
    measured: Option<RollBack>,
    took: Duration,
    /// What is wrong, in words.
    pub wrong: Vec<String>,
    /// What happened how often.
    pub counts: BTreeMap<String, u64>,
}

/// What the database can be asked for when it is over.
const AFTERWARDS: &[(&str, &str)] = &[
    ("events", "select 'events', count(*) from public.events"),
    (
        "effects",
        "select 'effects of the ' || case by when 'new' then 'agent' else 'old system' end, count(*) from public.effect group by by",
    ),
    ("hands", "select 'events that have changed hands', count(*) from switchyard.delivery where epoch > 0"),
    ("answers", "select 'old system, ' || answer, sum(n)::bigint from public.told group by answer"),
    (
        "parked",
        "select 'parked on the way, touched by the old system', count(*) from switchyard.failure where parked and reason = 'touched_by_the_old_system'",
    ),
    ("failed", "select 'failed and parked attempts', count(*) from switchyard.failure"),
    ("shadow", "select 'decisions in shadow', count(*) from switchyard.shadow"),
];

impl Report {
    pub(crate) async fn of(
        world: &World,
        options: &Options,
        ending: Ending,
        measured: Option<RollBack>,
        wrong: Vec<String>,
        took: Duration,
    ) -> Self {
        let mut counts = world.counts();
        for (_, sql) in AFTERWARDS {
            for row in world.side.query(*sql, &[]).await.expect("a question afterwards") {
                counts.insert(row.get(0), row.get::<_, i64>(1).unsigned_abs());
            }
        }
        let Options { seed, flips, bug, .. } = *options;
        Self { seed, flips, bug, ending, measured, took, wrong, counts }
    }

    /// Whether it is as it should be: nothing wrong, or the mistake found.
    #[must_use]
    pub fn is_as_it_should(&self) -> bool {
        self.wrong.is_empty() == self.bug.is_none()
    }

    /// How often something happened.
    #[must_use]
    pub fn count(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, flips, bug, ending, measured, took, wrong, counts } = self;
        let finishes = match ending {
            Ending::Agent => "the agent finishes",
            Ending::OldSystem => "the old system finishes",
        };
        let bug = bug.map(|bug| format!(", with the mistake {bug:?}")).unwrap_or_default();
        writeln!(f, "seed {seed}: {flips} flips in {:.0} s, {finishes}{bug}", took.as_secs_f64())?;
        for (what, n) in counts {
            writeln!(f, "  {n:>7}  {what}")?;
        }
        if let Some(RollBack { answered_after, last_effect_after_ms, moved, left_to_the_old }) = measured {
            writeln!(
                f,
                "  a roll-back under load: answered after {} ms; the agent's last effect {last_effect_after_ms:.0} ms after it was asked for; \
                 {moved} deliveries moved at once, {left_to_the_old} unfinished were the old system's then",
                answered_after.as_millis()
            )?;
        }
        match wrong.as_slice() {
            [] => write!(f, "  every event has one owner, and one effect, by its owner; nothing was left behind"),
            wrong => write!(f, "  WRONG: {}", wrong.join("; ")),
        }
    }
}
