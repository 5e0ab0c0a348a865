//! One walk over a JSON text that finds what Postgres would refuse, or what two readers would read differently.
//!
//! Why not leave it to the parser: serde_json accepts `"\u0000"` (jsonb raises 22P05 and aborts the transaction), skips lone surrogates
//! inside raw values (jsonb raises 22P02), accepts any depth inside raw values and lets the last of two equal keys win in silence.
//! The walk is iterative, so that depth is a count and never the stack.

use std::collections::HashSet;
use thiserror::Error;

/// How deep a payload may nest. jsonb takes about 6,000 levels and serde_json's readers 128; what is deeper than this is a mistake or an attack.
pub const MAX_DEPTH: usize = 64;

/// A JSON text that is well-formed to some readers and must not enter. Says where and how long, never what: errors are logged, payloads are not.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JsonFault {
    /// `\u0000` in a string or key: Postgres cannot store it (SQLSTATE 22P05).
    #[error("holds the character NUL (\\u0000), which Postgres cannot store")]
    Nul,
    /// Half of a UTF-16 surrogate pair: no character (SQLSTATE 22P02).
    #[error("holds half of a surrogate pair, which is no character")]
    LoneSurrogate,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A key that one object has twice: readers disagree on which one counts.
    #[error("has a key twice in one object, the second time at byte {at}")]
    DuplicateKey {
        /// Where the second one begins.
        at: usize,
    },
    /// A number that overflows a 64-bit float, such as `1e400`.
    #[error("has a number at byte {at}, written with {length} characters, that is too large for a 64-bit float")]
    NumberTooLarge {
        /// Where it begins.
        at: usize,
        /// How many characters it is written with.
        length: usize,
    },
    /// An integer that no 64-bit type holds exactly, such as 2^64 + 1.
    #[error("has an integer at byte {at}, written with {length} characters, that no 64-bit type holds exactly")]
    NumberNotExact {
        /// Where it begins.
        at: usize,
        /// How many characters it is written with.
        length: usize,
    },
}

/// Finds what must not enter. `levels` is how many levels of nesting are accepted. Numbers are not judged here: they are carried as they are.
///
/// A text that is not JSON at all may pass: saying so is the parser's job.
pub(crate) fn check(text: &str, levels: usize) -> Result<(), JsonFault> {
    walk(text, levels, |_, _| Ok(()))
}

/// Finds the first number that Rust's 64-bit types would change or refuse.
pub(crate) fn inexact_number(text: &str) -> Option<JsonFault> {
    walk(text, usize::MAX, |at, number| {
        let integer = !number.contains(['.', 'e', 'E']);
        match number.parse::<f64>() {
            Ok(float) if float.is_infinite() => Err(JsonFault::NumberTooLarge { at, length: number.len() }),
            Ok(_) if integer && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() => {
                Err(JsonFault::NumberNotExact { at, length: number.len() })
            }
            _ => Ok(()),
        }
    })
    .err()
}

/// What a nesting level is: an object remembers its keys, and whether the next string is one.
struct Level<'a> {
    keys: Option<HashSet<std::borrow::Cow<'a, str>>>,
    key_next: bool,
}

fn walk(text: &str, levels: usize, number: impl Fn(usize, &str) -> Result<(), JsonFault>) -> Result<(), JsonFault> {
    let bytes = text.as_bytes();
    let mut open: Vec<Level<'_>> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' => {
                if open.len() == levels {
                    return Err(JsonFault::TooDeep);
                }
                let object = byte == b'{';
                open.push(Level { keys: object.then(HashSet::new), key_next: object });
                at += 1;
            }
            b'}' | b']' => {
                open.pop();
                at += 1;
            }
            b',' => {
                if let Some(level) = open.last_mut() {
                    level.key_next = level.keys.is_some();
                }
                at += 1;
            }
            b'"' => {
                let end = string_end(bytes, at)?;
                let quoted = text.get(at..end).unwrap_or_default();
                if let Some(level) = open.last_mut().filter(|level| level.key_next) {
                    level.key_next = false;
                    if let (Some(keys), Ok(key)) = (&mut level.keys, serde_json::from_str::<Key<'_>>(quoted))
                        && !keys.insert(key.0)
                    {
                        return Err(JsonFault::DuplicateKey { at });
                    }
                }
                at = end;
            }
            b'-' | b'0'..=b'9' => {
                let length = bytes[at..]
                    .iter()
                    .take_while(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))
                    .count();
                number(at, &text[at..at + length])?;
                at += length;
            }
            _ => at += 1,
        }
    }
    Ok(())
}

/// A key with its escapes resolved, borrowed where it has none: `"a"` and `"\u0061"` are one key.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);

/// The index behind the closing quote of the string that opens at `start`, having judged its escapes.
fn string_end(bytes: &[u8], start: usize) -> Result<usize, JsonFault> {
    let mut at = start + 1;
    loop {
        match bytes.get(at) {
            None => return Ok(bytes.len()),
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') if bytes.get(at + 1) == Some(&b'u') => match escape(bytes, at) {
                Some(0) => return Err(JsonFault::Nul),
                Some(0xD800..=0xDBFF) if matches!(escape(bytes, at + 6), Some(0xDC00..=0xDFFF)) => at += 12,
                Some(0xD800..=0xDFFF) => return Err(JsonFault::LoneSurrogate),
                _ => at += 6,
            },
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

/// The code unit of the `\uXXXX` at `at`, if there is one.
fn escape(bytes: &[u8], at: usize) -> Option<u16> {
    let text = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_named() {
        for (text, fault) in [
            (r#"{"a":"x\u0000y"}"#, JsonFault::Nul),
            (r#"{"a\u0000":1}"#, JsonFault::Nul),
            (r#"["\ud800"]"#, JsonFault::LoneSurrogate),
            (r#"["\ud800\ud800"]"#, JsonFault::LoneSurrogate),
            (r#"["\udc00"]"#, JsonFault::LoneSurrogate),
            (r#"{"a":{"b":1,"c":2,"b":3}}"#, JsonFault::DuplicateKey { at: 18 }),
            (r#"{"a":1,"\u0061":2}"#, JsonFault::DuplicateKey { at: 7 }),
        ] {
            assert_eq!(check(text, MAX_DEPTH), Err(fault), "{text}");
        }
    }

    #[test]
    fn valid_json_that_resembles_a_fault_passes() {
        for text in [
            r#"["\\u0000"]"#,
            r#"["\ud83d\ude00"]"#,
            r#"[{"a":1},{"a":1}]"#,
            r#"{"a":"a","b":{"a":["a","a"]}}"#,
            r#"["{[{[\"", 1e400]"#,
        ] {
            assert_eq!(check(text, MAX_DEPTH), Ok(()), "{text}");
        }
    }

    #[test]
    fn depth_is_counted_without_a_stack() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(check(&nested(MAX_DEPTH), MAX_DEPTH), Ok(()));
        assert_eq!(check(&nested(MAX_DEPTH + 1), MAX_DEPTH), Err(JsonFault::TooDeep));
        assert_eq!(check(&nested(1_000_000), MAX_DEPTH), Err(JsonFault::TooDeep));
    }

    #[test]
    fn numbers_that_a_float_would_change_are_found() {
        assert_eq!(inexact_number("[1e400]"), Some(JsonFault::NumberTooLarge { at: 1, length: 5 }));
        let (max, over) = ("18446744073709551615", "18446744073709551617");
        assert_eq!(inexact_number(&format!("[{over}]")), Some(JsonFault::NumberNotExact { at: 1, length: 20 }));
        assert_eq!(inexact_number(&format!("[{max},-9223372036854775808,0.1,1e300,\"1e400\"]")), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_walked_to_its_end_without_a_panic(text in ".*") {
            let _ = check(&text, MAX_DEPTH);
            let _ = inexact_number(&text);
        }

        #[test]
        fn any_text_inside_a_string_is_skipped(text in "[^\\x00]*") {
            let quoted = serde_json::to_string(&text).unwrap();
            proptest::prop_assert_eq!(check(&format!("{{\"k\":{quoted}}}"), 1), Ok(()));
        }
    }
}
