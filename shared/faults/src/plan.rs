//! What the variable says, as data. Reading it and drawing from it touch nothing outside.

use std::{collections::HashMap, time::Duration};

/// What is done to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Kill,
    Stop,
    Delay(Duration),
}

/// At which passings of a point.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    /// The nth passing only, counted from 1.
    Nth(u64),
    /// Each passing by itself, in percent.
    Percent(f64),
}

#[derive(Debug, PartialEq)]
struct Rule {
    action: Action,
    when: When,
    passed: u64,
}

/// Every rule by its point, and the mistakes that are switched on.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    seed: u64,
    rules: HashMap<String, Vec<Rule>>,
    pub(crate) bugs: Vec<String>,
}

impl Plan {
    /// Reads the text of the variable.
    ///
    /// # Errors
    ///
    /// When a term is not one of the README's; the text names the term.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut plan = Self::default();
        for term in text.split(';').map(str::trim).filter(|term| !term.is_empty()) {
            let unreadable = |why: &str| format!("SWITCHYARD_FAULTS: `{term}`: {why}");
            let (name, what) = term.split_once('=').ok_or_else(|| unreadable("expected NAME=ACTION"))?;
            match name {
                "bug" => plan.bugs.push(what.to_owned()),
                "seed" => plan.seed = what.parse().map_err(|_| unreadable("a seed is a number"))?,
                _ => plan.rules.entry(name.to_owned()).or_default().push(Rule::parse(what).map_err(unreadable)?),
            }
        }
        Ok(plan)
    }

    /// Counts a passing of the point and says what it is answered with: the first rule that applies.
    pub(crate) fn pass(&mut self, point: &str) -> Option<Action> {
        let seed = self.seed;
        let mut answer = None;
        for (place, rule) in self.rules.get_mut(point)?.iter_mut().enumerate() {
            rule.passed += 1;
            let applies = match rule.when {
                When::Nth(nth) => rule.passed == nth,
                When::Percent(percent) => drawn(seed, point, place as u64, rule.passed) < percent,
            };
            if applies && answer.is_none() {
                answer = Some(rule.action);
            }
        }
        answer
    }
}

impl Rule {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (action, when) = match (text.split_once('@'), text.split_once('%')) {
            (Some((action, nth)), None) => match nth.parse() {
                Ok(nth) if nth > 0 => (action, When::Nth(nth)),
                _ => return Err("passings are counted from 1"),
            },
            (None, Some((action, percent))) => match percent.parse() {
                Ok(percent) if (0.0..=100.0).contains(&percent) => (action, When::Percent(percent)),
                _ => return Err("a probability is 0 to 100 percent"),
            },
            (None, None) => (text, When::Nth(1)),
            (Some(_), Some(_)) => return Err("either @N or %P, not both"),
        };
        let action = match action.split_once('=') {
            None if action == "kill" => Action::Kill,
            None if action == "stop" => Action::Stop,
            Some(("delay", ms)) => Action::Delay(Duration::from_millis(ms.parse().map_err(|_| "a delay is in ms")?)),
            _ => return Err("expected kill, stop or delay=MS"),
        };
        Ok(Self { action, when, passed: 0 })
    }
}

/// A percentage drawn from the seed and where it is drawn for (FNV-1a, then the finaliser of SplitMix64), so that a process repeats its draws
/// whatever the other points were passed.
fn drawn(seed: u64, point: &str, place: u64, passing: u64) -> f64 {
    let words = [seed, place, passing].map(u64::to_le_bytes);
    let mut hash = point
        .bytes()
        .chain(words.into_iter().flatten())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((hash ^ (hash >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_without_a_rule_is_passed() {
        assert_eq!(Plan::parse("a=kill").unwrap().pass("b"), None);
        assert_eq!(Plan::parse("").unwrap().pass("a"), None);
    }

    #[test]
    fn a_rule_acts_at_its_passing_and_at_no_other() {
        let mut plan = Plan::parse("shim.after_publish=kill@3").unwrap();
        let answers: Vec<_> = (0..5).map(|_| plan.pass("shim.after_publish")).collect();
        assert_eq!(answers, [None, None, Some(Action::Kill), None, None]);
    }

    #[test]
    fn two_rules_of_one_point_count_the_same_passings() {
        let mut plan = Plan::parse("a=delay=5@1;a=stop@2").unwrap();
        assert_eq!(plan.pass("a"), Some(Action::Delay(Duration::from_millis(5))));
        assert_eq!(plan.pass("a"), Some(Action::Stop));
    }

    #[test]
    fn a_probability_strikes_about_as_often_as_it_says_and_the_same_passings_again() {
        let draws = |text: &str| {
            let mut plan = Plan::parse(text).unwrap();
            (0..10_000).map(|_| plan.pass("a").is_some()).collect::<Vec<_>>()
        };
        let struck = draws("seed=7;a=delay=1%20");
        assert!((1_800..2_200).contains(&struck.iter().filter(|struck| **struck).count()));
        assert_eq!(struck, draws("seed=7;a=delay=1%20"));
        assert_ne!(struck, draws("seed=8;a=delay=1%20"));
    }

    #[test]
    fn mistakes_are_listed_by_name() {
        assert_eq!(Plan::parse("bug=no_claim; bug=null_response").unwrap().bugs, ["no_claim", "null_response"]);
    }

    #[test]
    fn an_unreadable_plan_is_reported() {
        for text in ["kill", "a=die", "a=kill@0", "a=kill%101", "a=delay=soon", "seed=x", "a=kill@1%2"] {
            let error = Plan::parse(text).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }
}
