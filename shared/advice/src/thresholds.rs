//! Which thresholds a workload reaches.

use crate::{
    DataError,
    data::read,
    workload::{Measure, Way, Wishes, Workload},
};
use serde::{Deserialize, Serialize};
use std::fmt;

const FILE: &str = "shared/advice/thresholds.toml";

/// Where a threshold lies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// From here on.
    AtLeast(f64),
    /// Up to here, and not here.
    Below(f64),
}

impl Bound {
    /// Whether a value reaches it.
    #[must_use]
    pub fn is_reached_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::Below(bound) => value < bound,
        }
    }

    /// How much of the way to it a value is, from 0 to 1; 1 where it is reached.
    #[must_use]
    pub fn share(self, value: f64) -> f64 {
        let share = match self {
            Self::AtLeast(bound) => value / bound,
            Self::Below(bound) => bound / value,
        };
        if self.is_reached_by(value) { 1.0 } else { share.clamp(0.0, 1.0) }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "at least {bound}"),
            Self::Below(bound) => write!(f, "below {bound}"),
        }
    }
}

/// Whose a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The customer's.
    Customer,
    /// Ours, where the customer named the measure alone.
    Ours,
}

/// One threshold.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub(crate) struct Threshold {
    pub(crate) measure: Measure,
    pub(crate) bound: Bound,
    pub(crate) way: Way,
    source: Source,
    why: String,
}

/// A threshold as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    measure: Measure,
    at_least: Option<f64>,
    below: Option<f64>,
    way: Way,
    source: Source,
    why: String,
}

impl TryFrom<Written> for Threshold {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { measure, at_least, below, way, source, why } = written;
        let bound = match (at_least, below) {
            (Some(bound), None) => Bound::AtLeast(bound),
            (None, Some(bound)) => Bound::Below(bound),
            _ => return Err(format!("a threshold of {measure} needs at_least or below, and not both")),
        };
        Ok(Self { measure, bound, way, source, why })
    }
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Thresholds {
    /// What speaks for a way.
    threshold: Vec<Threshold>,
    /// What speaks against one, whatever else speaks for it.
    unfit: Vec<Threshold>,
}

/// A threshold that was reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reached {
    /// What it is set for.
    pub measure: Measure,
    /// What was measured, or is wanted.
    pub value: f64,
    /// Where it lies.
    pub bound: Bound,
    /// The way that it speaks for, or against.
    pub way: Way,
    /// Whose figure it is.
    pub source: Source,
    /// Why it is there.
    pub why: String,
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { measure, value, bound, source, why, .. } = self;
        let whose = match source {
            Source::Customer => "your",
            Source::Ours => "our",
        };
        write!(f, "{measure} is {} ({whose} threshold: {bound}): {why}", spoken(*value))
    }
}

/// A measure as a person reads it: two places after the point at most.
pub(crate) fn spoken(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{}", (value * 100.0).round() / 100.0) }
}

impl Thresholds {
    pub(crate) fn built_in() -> Result<Self, DataError> {
        let read: Self = read(FILE, include_str!("../thresholds.toml"))?;
        match read.threshold.iter().find(|threshold| threshold.way == Way::Stay) {
            Some(threshold) => Err(DataError::new(FILE, format!("a threshold of {} leads nowhere", threshold.measure))),
            None => Ok(read),
        }
    }

    /// What speaks for a way, the farthest way first.
    pub(crate) fn reached(&self, workload: &Workload, wishes: &Wishes) -> Vec<Reached> {
        let mut reached = reached_of(&self.threshold, workload, wishes);
        reached.sort_by_key(|one| std::cmp::Reverse(one.way));
        reached
    }

    /// What speaks against one.
    pub(crate) fn unfit(&self, workload: &Workload, wishes: &Wishes) -> Vec<Reached> {
        reached_of(&self.unfit, workload, wishes)
    }

    /// Those that speak for a way.
    pub(crate) fn all(&self) -> &[Threshold] {
        &self.threshold
    }
}

fn reached_of(thresholds: &[Threshold], workload: &Workload, wishes: &Wishes) -> Vec<Reached> {
    let reached = thresholds.iter().filter_map(|threshold| {
        let Threshold { measure, bound, way, source, why } = threshold;
        let value = measure.of(workload, wishes).filter(|value| bound.is_reached_by(*value))?;
        Some(Reached { measure: *measure, value, bound: *bound, way: *way, source: *source, why: why.clone() })
    });
    reached.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_measure_has_a_threshold_or_rules_a_way_out() {
        let thresholds = Thresholds::built_in().unwrap();
        let set: HashSet<Measure> =
            thresholds.threshold.iter().chain(&thresholds.unfit).map(|threshold| threshold.measure).collect();
        assert_eq!(set, HashSet::from(Measure::ALL));
    }

    #[test]
    fn the_page_for_readers_has_a_line_for_each_threshold_and_no_other() {
        let page = include_str!("../../../docs/when-to-move.md");
        let Thresholds { threshold, unfit } = Thresholds::built_in().unwrap();
        let lines = |title: &str| {
            let table = page.split_once(title).unwrap().1.split_once("\n\n").unwrap().0;
            table.lines().skip(2).map(str::to_owned).collect::<Vec<_>>()
        };
        let told = |all: &[Threshold]| {
            all.iter().map(|one| format!("| `{}` | {} | `{}` |", one.measure, one.bound, one.way)).collect::<Vec<_>>()
        };
        assert_eq!(lines("| measure | from | speaks for |"), told(&threshold));
        assert_eq!(lines("| measure | from | rules out |"), told(&unfit));
    }

    #[test]
    fn a_threshold_without_or_with_two_bounds_is_reported() {
        let written = |bound: &str| {
            let text =
                format!("[[threshold]]\nmeasure = \"agents\"\n{bound}\nway = \"stay\"\nsource = \"ours\"\nwhy = \"\"");
            read::<Thresholds>("x.toml", &text).unwrap_err().to_string()
        };
        for bound in ["", "at_least = 1\nbelow = 2"] {
            assert!(written(bound).contains("agents"), "{}", written(bound));
        }
        assert!(written("at_most = 1").contains("at_most"));
    }

    #[test]
    fn at_least_includes_the_bound_and_below_excludes_it() {
        assert!(Bound::AtLeast(10.0).is_reached_by(10.0) && !Bound::AtLeast(10.0).is_reached_by(9.9));
        assert!(!Bound::Below(10.0).is_reached_by(10.0) && Bound::Below(10.0).is_reached_by(9.9));
        for bound in [Bound::AtLeast(10.0), Bound::Below(10.0)] {
            assert!(!bound.is_reached_by(f64::NAN), "what is unknown reaches nothing");
        }
    }

    #[test]
    fn the_share_of_the_way_to_a_bound_is_computed_from_either_side() {
        assert_eq!((Bound::AtLeast(10.0).share(4.0), Bound::AtLeast(10.0).share(12.0)), (0.4, 1.0));
        assert_eq!((Bound::Below(100.0).share(400.0), Bound::Below(100.0).share(99.0)), (0.25, 1.0));
    }
}
