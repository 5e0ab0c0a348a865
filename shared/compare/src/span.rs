//! Spans of time as people write them: `500ms`, `90s`, `15m`, `2h`.

use std::{fmt, str::FromStr};

/// A span of time, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Its length.
    pub millis: u32,
}

impl Span {
    /// Its length in microseconds, the unit of a database's clock.
    #[must_use]
    pub fn micros(self) -> i64 {
        i64::from(self.millis) * 1_000
    }
}

const UNITS: [(&str, u32); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no span of time: a whole number and a unit, as in 500ms, 90s, 15m or 2h");
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(digits);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let number: u32 = number.parse().map_err(|_| wrong())?;
        Ok(Self { millis: number.checked_mul(*factor).ok_or_else(wrong)? })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) =
            UNITS.iter().rev().find(|(_, factor)| self.millis.is_multiple_of(*factor)).unwrap_or(&UNITS[0]);
        write!(f, "{}{unit}", self.millis / factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_prints_as_it_was_written() {
        for text in ["500ms", "90s", "15m", "2h"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("2h".parse::<Span>().unwrap().millis, 7_200_000);
        for wrong in ["", "m", "15", "15 m", "-1m", "1.5h", "2000h", "1é", "2d"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }
}
