//! Every parser that meets the outside, with whatever can be made of what it knows: it must not panic, its errors are short, and no value of a
//! payload is in them.

mod mutate;
mod targets;

use serde::Serialize;
use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Once,
    time::{Duration, Instant},
};
use targets::{TARGETS, Target};

/// A value that the corpus is full of and that no error may repeat.
const SECRET: &str = "hunter2-hunter2";

/// The longest that an error may be, in bytes: what fits into a message's attribute and onto a screen.
const ERROR_BYTES: usize = 2_048;

/// What became of one target.
#[derive(Debug, Clone, Serialize)]
pub struct Fuzzed {
    /// Its name.
    pub target: &'static str,
    /// How many inputs it was given.
    pub inputs: u64,
    /// How many of them it accepted: none would mean that the fuzzing stops at the door.
    pub accepted: u64,
    /// What must not be, with the input that shows it; the first few.
    pub findings: Vec<String>,
}

/// Fuzzes every target for a share of the time. What is tried follows from the seed, as far as the time goes.
#[must_use]
pub fn fuzz(seed: u64, time: Duration) -> Vec<Fuzzed> {
    keep_panics_quiet();
    let share = time.div_f64(TARGETS.len() as f64);
    TARGETS.iter().map(|target| one(target, seed, share)).collect()
}

fn one(target: &Target, seed: u64, time: Duration) -> Fuzzed {
    let mut random = fastrand::Rng::with_seed(seed);
    let corpus = (target.corpus)();
    let mut fuzzed = Fuzzed { target: target.name, inputs: 0, accepted: 0, findings: Vec::new() };
    let began = Instant::now();
    // What it knows comes first, as it is.
    let mut known = corpus.iter();
    while began.elapsed() < time && fuzzed.findings.len() < 5 {
        let input = known.next().cloned().unwrap_or_else(|| mutate::mutated(&corpus, &mut random));
        fuzzed.inputs += 1;
        match tried(target, &input) {
            Ok(accepted) => fuzzed.accepted += u64::from(accepted),
            Err(wrong) => fuzzed.findings.push(format!("{wrong}: {}", shown(&input))),
        }
    }
    fuzzed
}

/// Whether the input was accepted; or what must not be.
fn tried(target: &Target, input: &str) -> Result<bool, String> {
    QUIET.set(true);
    let answer = catch_unwind(AssertUnwindSafe(|| (target.parse)(input)));
    QUIET.set(false);
    match answer {
        Err(_) => Err("it panicked".into()),
        Ok(Ok(())) => Ok(true),
        Ok(Err(error)) if error.len() > ERROR_BYTES => Err(format!("an error of {} bytes", error.len())),
        Ok(Err(error)) if error.contains(SECRET) => Err("the error repeats a value of the payload".into()),
        Ok(Err(_)) => Ok(false),
    }
}

/// An input as a line, cut where it is long.
fn shown(input: &str) -> String {
    let line = format!("{input:?}");
    line.chars().take(500).collect()
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// A panic that is caught here is a finding and told as one; the others are told as ever.
fn keep_panics_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                usual(panic);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(parse: fn(&str) -> Result<(), String>) -> Target {
        Target { name: "test", corpus: || vec![format!(r#"{{"a": "{SECRET}"}}"#)], parse }
    }

    fn findings(parse: fn(&str) -> Result<(), String>) -> Vec<String> {
        keep_panics_quiet();
        one(&target(parse), 1, Duration::from_millis(200)).findings
    }

    #[test]
    fn a_panic_a_long_error_and_an_indiscreet_one_are_found() {
        assert!(findings(|_| panic!("no"))[0].starts_with("it panicked"));
        assert!(findings(|_| Err("x".repeat(3_000)))[0].starts_with("an error of 3000 bytes"));
        assert!(findings(|input| Err(input.chars().take(1_000).collect()))[0].starts_with("the error repeats"));
    }

    #[test]
    fn every_parser_survives_half_a_second() {
        for fuzzed in fuzz(7, Duration::from_millis(500) * u32::try_from(TARGETS.len()).unwrap()) {
            assert_eq!(fuzzed.findings, Vec::<String>::new(), "{}", fuzzed.target);
            assert!(
                fuzzed.accepted > 0 && fuzzed.accepted < fuzzed.inputs,
                "{}: {} of {}",
                fuzzed.target,
                fuzzed.accepted,
                fuzzed.inputs
            );
        }
    }
}
