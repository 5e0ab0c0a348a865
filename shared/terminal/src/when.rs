//! Times and durations, as an operator writes and reads them.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use std::str::FromStr;

/// A duration: `90s`, `15m`, `2h`, `3d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duration {
    /// Its length in seconds.
    pub secs: u32,
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a duration: write a number and a unit, as in 90s, 15m, 2h or 3d");
        let unit = text.chars().last().ok_or_else(wrong)?;
        let seconds: u32 = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        let number: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
        Ok(Self { secs: number.checked_mul(seconds).ok_or_else(wrong)? })
    }
}

/// A moment: a time in RFC 3339, or how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ago {
    /// That time.
    At(Timestamp),
    /// So long before now.
    Before(Duration),
}

impl FromStr for Ago {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(at) = text.parse() {
            return Ok(Self::At(at));
        }
        text.parse().map(Self::Before).map_err(|_: String| {
            format!("{text:?} is not a time: write 2026-01-05T09:30:00Z, or how long ago: 90m, 2h, 3d")
        })
    }
}

impl Ago {
    /// The moment in RFC 3339.
    pub fn as_of(self, now: Timestamp) -> String {
        match self {
            Self::At(at) => at,
            Self::Before(span) => now - SignedDuration::from_secs(i64::from(span.secs)),
        }
        .to_string()
    }
}

/// An age in the two largest units that matter: `45s`, `3m 20s`, `5h 2m`, `12d 1h`.
pub fn age(secs: u64) -> String {
    let (days, hours, minutes) = (secs / 86_400, secs / 3_600 % 24, secs / 60 % 60);
    match (days, hours, minutes, secs % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (0, hours, minutes, _) => format!("{hours}h {minutes}m"),
        (days, hours, ..) => format!("{days}d {hours}h"),
    }
}

/// How long ago a time in RFC 3339 is; any other text unchanged.
pub fn since(text: &str, now: Timestamp) -> String {
    let Ok(then) = text.parse::<Timestamp>() else { return text.to_owned() };
    format!("{} ago", age(u64::try_from(now.duration_since(then).as_secs()).unwrap_or(0)))
}

/// The time of day where the machine is, `14:03:07.250`, of milliseconds since 1970.
#[must_use]
pub fn of_millis(millis: i64) -> String {
    Timestamp::from_millisecond(millis).map_or_else(|_| millis.to_string(), |at| in_zone(at, TimeZone::system()))
}

fn in_zone(at: Timestamp, zone: TimeZone) -> String {
    at.to_zoned(zone).strftime("%H:%M:%S%.3f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        let secs = |text: &str| text.parse::<Duration>().map(|span| span.secs);
        assert_eq!([secs("90s"), secs("15m"), secs("2h"), secs("3d")], [Ok(90), Ok(900), Ok(7_200), Ok(259_200)]);
        for wrong in ["", "m", "15", "15 m", "-1m", "1.5h", "99999999d", "1é"] {
            assert!(secs(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_moment_is_a_time_or_how_long_ago() {
        let now: Timestamp = "2026-01-05T12:00:00Z".parse().unwrap();
        let at = |text: &str| text.parse::<Ago>().map(|ago| ago.as_of(now));
        assert_eq!(at("2h"), Ok("2026-01-05T10:00:00Z".into()));
        assert_eq!(at("2026-01-05T10:30:00+01:00"), Ok("2026-01-05T09:30:00Z".into()));
        assert!(at("yesterday").unwrap_err().contains("how long ago"));
    }

    #[test]
    fn a_time_of_day_is_printed_to_the_millisecond() {
        assert_eq!(in_zone(Timestamp::from_millisecond(1_700_000_000_250).unwrap(), TimeZone::UTC), "22:13:20.250");
    }

    #[test]
    fn an_age_is_printed_in_two_units() {
        assert_eq!([age(45), age(200), age(18_120), age(1_040_400)], ["45s", "3m 20s", "5h 2m", "12d 1h"]);
        let now: Timestamp = "2026-01-05T12:00:00Z".parse().unwrap();
        assert_eq!(since("2026-01-05T11:59:00Z", now), "1m 0s ago");
        assert_eq!(since("never", now), "never");
    }
}
