//! How a text feels: a list of words, turned around by negation and strengthened by emphasis.

use crate::words::words;
use serde::{Deserialize, Serialize};

/// How a text feels, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Label {
    /// It pleases.
    Positive,
    /// It does neither.
    Neutral,
    /// It hurts.
    Negative,
}

impl Label {
    /// The label as it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Positive => "positive",
            Self::Neutral => "neutral",
            Self::Negative => "negative",
        }
    }
}

/// How a text feels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sentiment {
    /// From -1 (as bad as can be) to 1.
    pub score: f64,
    /// The score in a word; neutral within 0.05 of zero.
    pub label: Label,
    /// From 0 to 1: how much of the text the list had a word for.
    pub confidence: f64,
}

const NEGATIONS: &[&str] = &[
    "not", "no", "never", "without", "cannot", "can't", "don't", "doesn't", "didn't", "isn't", "wasn't", "won't",
    "wouldn't", "couldn't", "aren't", "hardly", "nothing",
];

const EMPHASIS: &[&str] = &["very", "really", "so", "extremely", "absolutely", "totally", "too", "super", "incredibly"];

/// How many words before a word can turn it around or strengthen it.
const REACH: usize = 3;

/// Words and how they feel, from -4 to 4, for people who write about software. Sorted, for the search.
const FEELINGS: &[(&str, f64)] = &[
    ("amazing", 3.0),
    ("annoyed", -2.0),
    ("annoying", -2.2),
    ("awesome", 3.1),
    ("awful", -3.0),
    ("awkward", -1.3),
    ("bad", -2.5),
    ("beautiful", 2.8),
    ("best", 3.0),
    ("better", 1.6),
    ("broken", -2.4),
    ("bug", -1.8),
    ("buggy", -2.3),
    ("bugs", -1.8),
    ("clear", 1.4),
    ("clunky", -1.9),
    ("complicated", -1.4),
    ("confused", -1.6),
    ("confusing", -1.8),
    ("crash", -2.5),
    ("crashed", -2.5),
    ("crashes", -2.5),
    ("delight", 2.8),
    ("difficult", -1.5),
    ("disappointed", -2.2),
    ("disappointing", -2.2),
    ("easily", 1.6),
    ("easy", 1.9),
    ("elegant", 2.2),
    ("enjoy", 2.2),
    ("error", -1.7),
    ("errors", -1.7),
    ("excellent", 3.0),
    ("fail", -2.3),
    ("failed", -2.3),
    ("fails", -2.3),
    ("failure", -2.3),
    ("fantastic", 3.0),
    ("fast", 1.6),
    ("freezes", -2.2),
    ("friendly", 2.0),
    ("frustrated", -2.4),
    ("frustrating", -2.5),
    ("glad", 2.0),
    ("good", 1.9),
    ("great", 3.1),
    ("hang", -1.5),
    ("hangs", -1.9),
    ("happy", 2.7),
    ("hate", -2.9),
    ("helpful", 2.0),
    ("helps", 1.6),
    ("horrible", -3.0),
    ("impossible", -2.0),
    ("improved", 1.9),
    ("intuitive", 2.0),
    ("issue", -1.2),
    ("issues", -1.2),
    ("lag", -1.6),
    ("laggy", -1.9),
    ("like", 1.4),
    ("lose", -1.6),
    ("loses", -1.7),
    ("lost", -1.7),
    ("love", 3.2),
    ("lovely", 2.8),
    ("mess", -1.9),
    ("missing", -1.3),
    ("nice", 1.8),
    ("pain", -2.1),
    ("painful", -2.2),
    ("perfect", 2.9),
    ("pleasant", 2.1),
    ("poor", -2.1),
    ("powerful", 1.8),
    ("problem", -1.6),
    ("problems", -1.6),
    ("quick", 1.4),
    ("quickly", 1.4),
    ("reliable", 2.0),
    ("sad", -2.1),
    ("simple", 1.4),
    ("slick", 1.9),
    ("slow", -1.8),
    ("slower", -1.8),
    ("smooth", 1.9),
    ("solid", 1.6),
    ("stuck", -1.7),
    ("stupid", -2.4),
    ("terrible", -3.0),
    ("thank", 1.6),
    ("thanks", 1.9),
    ("ugly", -2.2),
    ("unable", -1.6),
    ("unreliable", -2.2),
    ("unusable", -2.9),
    ("useful", 1.9),
    ("useless", -2.4),
    ("waste", -2.0),
    ("wonderful", 2.9),
    ("works", 1.3),
    ("worse", -2.2),
    ("worst", -3.1),
    ("wrong", -2.0),
];

/// How a text feels. A text without a word from the list is neutral, and nothing is sure about it.
#[must_use]
pub fn sentiment(text: &str) -> Sentiment {
    let words = words(text);
    let mut sum = 0.0;
    let mut known = 0.0_f64;
    for (at, word) in words.iter().enumerate() {
        let Ok(found) = FEELINGS.binary_search_by(|(feeling, _)| (*feeling).cmp(word.as_str())) else { continue };
        let before = &words[at.saturating_sub(REACH)..at];
        let mut feeling = FEELINGS[found].1;
        if before.iter().any(|word| EMPHASIS.contains(&word.as_str())) {
            feeling *= 1.3;
        }
        if before.iter().any(|word| NEGATIONS.contains(&word.as_str())) {
            feeling *= -0.74; // "not good" is less than bad (Hutto and Gilbert, ICWSM 2014)
        }
        sum += feeling;
        known += 1.0;
    }
    // The normalisation of Hutto and Gilbert: approaches 1 with more feeling, 15 is their constant.
    let score = if known == 0.0 { 0.0 } else { sum / (sum * sum + 15.0_f64).sqrt() };
    let label = match score {
        score if score >= 0.05 => Label::Positive,
        score if score <= -0.05 => Label::Negative,
        _ => Label::Neutral,
    };
    let round = |n: f64| (n * 1_000.0).round() / 1_000.0;
    Sentiment { score: round(score), label, confidence: round(known / (known + 1.0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_for_the_search() {
        assert!(FEELINGS.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn plain_words_negation_and_emphasis() {
        assert_eq!(sentiment("I love this").label, Label::Positive);
        assert_eq!(sentiment("Checkout is slow and it crashes").label, Label::Negative);
        assert_eq!(sentiment("This is not good").label, Label::Negative);
        assert_eq!(sentiment("It doesn\u{2019}t crash, no problems").label, Label::Positive);
        assert!(sentiment("really great").score > sentiment("great").score);
    }

    #[test]
    fn a_text_without_feeling_is_neutral_and_unsure() {
        for text in ["", "The export has three columns", "\u{1F600}\u{0301}"] {
            assert_eq!(sentiment(text), Sentiment { score: 0.0, label: Label::Neutral, confidence: 0.0 }, "{text}");
        }
    }
}
