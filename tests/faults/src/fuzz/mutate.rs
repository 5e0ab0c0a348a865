//! Inputs made of what a parser knows: bytes turned, pieces of one put into another, and what parsers have always stumbled over.

/// What parsers have always stumbled over.
const STUMBLING: [&str; 34] = [
    "",
    "null",
    "true",
    "0",
    "-0",
    "-1",
    "1e400",
    "1e-400",
    "18446744073709551616",
    "9223372036854775808",
    "2147483648",
    "0.1e",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\udc00\\ud800\"",
    "\u{0}",
    "\u{feff}",
    "\u{ffff}",
    "é",
    "\u{1F600}",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "%00",
    "+",
    "9999-12-31T23:59:60Z",
    "0000-00-00T00:00:00+99:99",
    "2026-01-01T00:00:00.000000000000001Z",
    "00000000-0000-0000-0000-000000000000",
];

/// An input made of the corpus.
pub(super) fn mutated(corpus: &[String], random: &mut fastrand::Rng) -> String {
    let mut input = random.choice(corpus).cloned().unwrap_or_default();
    for _ in 0..random.usize(1..4) {
        input = match random.u8(..10) {
            0 | 1 => replaced(&input, random.choice(&STUMBLING).copied().unwrap_or_default(), random),
            2 => value_replaced(&input, random),
            3 => cut(&input, random),
            4 => doubled(&input, random),
            5 => {
                let other = random.choice(corpus).cloned().unwrap_or_default();
                spliced(&input, &other, random)
            }
            6 => nested(&input, random),
            7 => replaced(&input, &"x".repeat(random.usize(..5_000)), random),
            _ => turned(&input, random),
        };
    }
    input
}

/// A place in a text at which it may be cut.
fn place(text: &str, random: &mut fastrand::Rng) -> usize {
    let mut at = random.usize(..=text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn range(text: &str, random: &mut fastrand::Rng) -> (usize, usize) {
    let (a, b) = (place(text, random), place(text, random));
    (a.min(b), a.max(b))
}

fn replaced(text: &str, with: &str, random: &mut fastrand::Rng) -> String {
    let from = place(text, random);
    let to = text.char_indices().map(|(at, _)| at).find(|at| *at > from + random.usize(..8)).unwrap_or(text.len());
    format!("{}{with}{}", &text[..from], &text[to.max(from)..])
}

/// Puts something else where a JSON value stands, so that the outside stays whole.
fn value_replaced(text: &str, random: &mut fastrand::Rng) -> String {
    let colons: Vec<usize> = text.match_indices(':').map(|(at, _)| at + 1).collect();
    let Some(&from) = random.choice(&colons) else { return text.to_owned() };
    let to = text[from..].find([',', '}']).map_or(text.len(), |length| from + length);
    let with = random.choice(&STUMBLING).copied().unwrap_or_default();
    format!("{}{with}{}", &text[..from], &text[to..])
}

fn cut(text: &str, random: &mut fastrand::Rng) -> String {
    let (from, to) = range(text, random);
    format!("{}{}", &text[..from], &text[to..])
}

fn doubled(text: &str, random: &mut fastrand::Rng) -> String {
    let (from, to) = range(text, random);
    format!("{}{}{}", &text[..to], &text[from..to], &text[to..])
}

fn spliced(text: &str, other: &str, random: &mut fastrand::Rng) -> String {
    format!("{}{}", &text[..place(text, random)], &other[place(other, random)..])
}

fn nested(text: &str, random: &mut fastrand::Rng) -> String {
    let depth = random.usize(1..300);
    let at = place(text, random);
    format!("{}{}{}{}", &text[..at], "[".repeat(depth), "]".repeat(depth), &text[at..])
}

fn turned(text: &str, random: &mut fastrand::Rng) -> String {
    let mut bytes = text.as_bytes().to_vec();
    if let Some(at) = (!bytes.is_empty()).then(|| random.usize(..bytes.len())) {
        bytes[at] = random.u8(..);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
