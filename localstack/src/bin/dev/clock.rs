//! Moments as a person reads them: the time of day where the machine is.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `14:03:07.250` for milliseconds since 1970.
pub(crate) fn of_millis(millis: i64) -> String {
    Timestamp::from_millisecond(millis).map_or_else(|_| millis.to_string(), |at| in_zone(at, TimeZone::system()))
}

fn in_zone(at: Timestamp, zone: TimeZone) -> String {
    at.to_zoned(zone).strftime("%H:%M:%S%.3f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_to_the_millisecond() {
        assert_eq!(in_zone(Timestamp::from_millisecond(1_700_000_000_250).unwrap(), TimeZone::UTC), "22:13:20.250");
    }
}
