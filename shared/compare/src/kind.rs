//! As what two values are compared.

use crate::span::Span;
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde_json::Value;
use std::collections::BTreeSet;

/// As what two values are compared. No value agrees with no value and with nothing else; a value that is none of its kind (words, where a
/// number is due) agrees with nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Letter by letter. A number or a truth value counts as it is written, so that an id is the same id in any type.
    Text,
    /// As numbers, however they are written.
    Number(Tolerance),
    /// As truth values: also `t`, `yes`, `on`, `1`, and their opposites.
    Boolean,
    /// As points in time, RFC 3339; a time without an offset is in UTC. They may lie so far apart.
    Time(Span),
    /// As sets: order and repetition do not count. Their members are compared as text.
    Set,
}

/// How much two numbers may differ. What lies on the border agrees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tolerance {
    /// By so much.
    Absolute(f64),
    /// By this share of the larger of the two: 0.05 is five percent.
    Relative(f64),
}

/// Differences below this share of the larger number are the rounding of 0.1 + 0.2, and no difference: sixteen units in the last place.
const ROUNDING: f64 = 16.0 * f64::EPSILON;

impl Kind {
    /// Whether two values are the same.
    #[must_use]
    pub fn agrees(self, ours: &Value, theirs: &Value) -> bool {
        if ours.is_null() || theirs.is_null() {
            return ours.is_null() && theirs.is_null();
        }
        match self {
            Self::Text => text(ours) == text(theirs),
            Self::Number(tolerance) => match both(whole, ours, theirs) {
                Some((ours, theirs)) => tolerance.holds_of_whole(ours, theirs),
                None => both(number, ours, theirs).is_some_and(|(ours, theirs)| tolerance.holds(ours, theirs)),
            },
            Self::Boolean => both(boolean, ours, theirs).is_some_and(|(ours, theirs)| ours == theirs),
            Self::Time(within) => both(time, ours, theirs)
                .is_some_and(|(ours, theirs)| ours.abs_diff(theirs) <= within.micros().unsigned_abs().into()),
            Self::Set => both(set, ours, theirs).is_some_and(|(ours, theirs)| ours == theirs),
        }
    }
}

impl Tolerance {
    fn holds(self, ours: f64, theirs: f64) -> bool {
        let largest = ours.abs().max(theirs.abs());
        (ours - theirs).abs() <= self.of(largest) + largest * ROUNDING
    }

    /// Of whole numbers nothing was rounded, however large they are: two ids that differ by one differ. The tolerance may be, as a share of one is.
    fn holds_of_whole(self, ours: i128, theirs: i128) -> bool {
        let largest = ours.unsigned_abs().max(theirs.unsigned_abs()) as f64;
        ours.abs_diff(theirs) as f64 <= self.of(largest) * (1.0 + ROUNDING)
    }

    fn of(self, largest: f64) -> f64 {
        match self {
            Self::Absolute(within) => within,
            Self::Relative(share) => share * largest,
        }
    }
}

fn both<T>(read: impl Fn(&Value) -> Option<T>, ours: &Value, theirs: &Value) -> Option<(T, T)> {
    Some((read(ours)?, read(theirs)?))
}

/// A value as text; none for null. Lists and objects as JSON with sorted keys.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number: &f64| number.is_finite())
}

/// A number without a fraction that is small enough to be held as it is.
fn whole(value: &Value) -> Option<i128> {
    let number: i128 = match value {
        Value::Number(number) => number.as_i128()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    (number.unsigned_abs() <= u128::from(u64::MAX)).then_some(number)
}

fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(truth) => Some(*truth),
        other => match text(other)?.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
            "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
            _ => None,
        },
    }
}

/// Microseconds since 1970.
fn time(value: &Value) -> Option<i128> {
    let text = value.as_str()?.trim();
    let at = text.parse::<Timestamp>().ok().or_else(|| {
        let civil: DateTime = text.parse().ok()?;
        civil.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    })?;
    Some(at.as_nanosecond().div_euclid(1_000))
}

fn set(value: &Value) -> Option<BTreeSet<Option<String>>> {
    Some(value.as_array()?.iter().map(text).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const WITHIN: Kind = Kind::Number(Tolerance::Absolute(0.05));
    const SHARE: Kind = Kind::Number(Tolerance::Relative(0.1));
    const EXACTLY: Kind = Kind::Number(Tolerance::Absolute(0.0));

    fn second() -> Kind {
        Kind::Time("1s".parse().unwrap())
    }

    #[test]
    fn equal_values_in_different_notation_agree() {
        for (kind, ours, theirs) in [
            (Kind::Text, json!("a"), json!("a")),
            (Kind::Text, json!(7), json!("7")),
            (Kind::Text, json!({ "b": 1, "a": 2 }), json!({ "a": 2, "b": 1 })),
            (WITHIN, json!(0.5), json!("0.52")),
            (WITHIN, json!(0.30), json!(0.35)),
            (SHARE, json!(100), json!(90)),
            (Kind::Number(Tolerance::Relative(0.35)), json!(180), json!(117)),
            (SHARE, json!(-100), json!(-110)),
            (SHARE, json!(0), json!(0.0)),
            (EXACTLY, json!("1200000000000000001"), json!(1_200_000_000_000_000_001_u64)),
            (WITHIN, json!(7), json!("7.0")),
            (Kind::Number(Tolerance::Absolute(0.0)), json!(0.3), json!(0.1 + 0.2)),
            (Kind::Boolean, json!(true), json!("t")),
            (Kind::Boolean, json!("No"), json!(0)),
            (second(), json!("2026-01-05T10:00:00Z"), json!("2026-01-05T11:00:01+01:00")),
            (second(), json!("2026-01-05T10:00:00Z"), json!("2026-01-05T10:00:00.5")),
            (second(), json!("2026-01-05T00:00:00Z"), json!("2026-01-05")),
            (Kind::Set, json!(["a", "b", "a"]), json!(["b", "a"])),
            (Kind::Set, json!([1]), json!(["1"])),
        ] {
            assert!(kind.agrees(&ours, &theirs), "{kind:?}: {ours} and {theirs}");
        }
    }

    #[test]
    fn different_values_differ() {
        for (kind, ours, theirs) in [
            (Kind::Text, json!("a"), json!("A")),
            (Kind::Text, json!("1.0"), json!(1)),
            (WITHIN, json!(0.5), json!(0.5501)),
            (WITHIN, json!(0.5), json!("half")),
            (WITHIN, json!("NaN"), json!("NaN")),
            (SHARE, json!(100), json!(89)),
            (SHARE, json!(1), json!(-1)),
            (EXACTLY, json!(1_200_000_000_000_000_001_u64), json!(1_200_000_000_000_000_002_u64)),
            (EXACTLY, json!("1200000000000000001"), json!(1_200_000_000_000_000_002_u64)),
            (
                Kind::Number(Tolerance::Relative(0.0)),
                json!(1_200_000_000_000_000_001_u64),
                json!(1_200_000_000_000_000_002_u64),
            ),
            (Kind::Boolean, json!(true), json!("perhaps")),
            (second(), json!("2026-01-05T10:00:00Z"), json!("2026-01-05T10:00:01.000001Z")),
            (second(), json!("soon"), json!("soon")),
            (Kind::Set, json!(["a"]), json!(["a", "b"])),
            (Kind::Set, json!("a"), json!("a")),
        ] {
            assert!(!kind.agrees(&ours, &theirs), "{kind:?}: {ours} and {theirs}");
        }
    }

    #[test]
    fn a_missing_value_agrees_only_with_a_missing_value() {
        for kind in [Kind::Text, WITHIN, Kind::Boolean, second(), Kind::Set] {
            assert!(kind.agrees(&Value::Null, &Value::Null));
            for value in [json!(0), json!(""), json!(false), json!([])] {
                assert!(!kind.agrees(&Value::Null, &value) && !kind.agrees(&value, &Value::Null), "{kind:?}: {value}");
            }
        }
    }

    proptest! {
        #[test]
        fn two_numbers_agree_exactly_when_they_are_as_near_as_they_may_be(a in -1e6..1e6_f64, apart in 0.0..10.0_f64, within in 0.0..10.0_f64) {
            prop_assume!((apart - within).abs() > 1e-6);
            let kind = Kind::Number(Tolerance::Absolute(within));
            prop_assert_eq!(kind.agrees(&json!(a), &json!(a + apart)), apart < within);
            prop_assert_eq!(kind.agrees(&json!(a + apart), &json!(a)), apart < within);
        }

        #[test]
        fn comparing_is_symmetric(a in -1e3..1e3_f64, b in -1e3..1e3_f64, share in 0.0..1.0_f64) {
            let kind = Kind::Number(Tolerance::Relative(share));
            prop_assert_eq!(kind.agrees(&json!(a), &json!(b)), kind.agrees(&json!(b), &json!(a)));
        }
    }
}
