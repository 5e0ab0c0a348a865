//! How much two texts say the same.

use crate::words::words;
use std::collections::HashMap;

/// Words that say nothing about what a text is about.
const EMPTY: &[&str] = &[
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "can", "could", "do", "for", "from", "has", "have", "i",
    "if", "in", "is", "it", "its", "me", "my", "of", "on", "or", "our", "please", "so", "that", "the", "there", "they",
    "this", "to", "us", "was", "we", "when", "which", "with", "would", "you", "your",
];

/// How much two texts say the same, from 0 to 1: the cosine between their counts of word stems. Symmetric; 1 for the same words.
#[must_use]
pub fn similarity(one: &str, other: &str) -> f64 {
    let (one, other) = (counts(one), counts(other));
    let dot: f64 = one.iter().map(|(word, n)| n * other.get(word).copied().unwrap_or(0.0)).sum();
    let length = |counts: &HashMap<String, f64>| counts.values().map(|n| n * n).sum::<f64>().sqrt();
    let lengths = length(&one) * length(&other);
    if lengths == 0.0 { 0.0 } else { (dot / lengths).min(1.0) }
}

fn counts(text: &str) -> HashMap<String, f64> {
    let mut counts = HashMap::new();
    for word in words(text).iter().filter(|word| !EMPTY.contains(&word.as_str())) {
        *counts.entry(stem(word)).or_insert(0.0) += 1.0;
    }
    counts
}

/// The word without its commonest English endings.
fn stem(word: &str) -> String {
    ["ing", "ed", "es", "s"]
        .iter()
        .find_map(|end| word.strip_suffix(end).filter(|rest| rest.chars().count() >= 3))
        .unwrap_or(word)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_same_complaint_in_other_words_is_nearer_than_another_complaint() {
        let checkout = "Checkout is slow: paying takes ten seconds";
        let again = "The checkout takes ten seconds to pay, so slow";
        let export = "Export to CSV drops the last row";
        assert!(similarity(checkout, again) > 0.7, "{}", similarity(checkout, again));
        assert!(similarity(checkout, export) < 0.2, "{}", similarity(checkout, export));
    }

    proptest! {
        #[test]
        fn it_is_symmetric_and_between_nought_and_one(one in ".{0,80}", other in ".{0,80}") {
            let there = similarity(&one, &other);
            prop_assert!((0.0..=1.0).contains(&there));
            prop_assert!((there - similarity(&other, &one)).abs() < 1e-9);
        }
    }
}
