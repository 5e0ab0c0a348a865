//! What the two sides made of an event, as each of them writes it down.

use fastrand::Rng;
use serde::Serialize;

/// A finding about a thing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Appraisal {
    pub(crate) label: String,
    /// In hundredths.
    pub(crate) price: i64,
    pub(crate) weight: f64,
    pub(crate) fragile: bool,
    /// Milliseconds since 1970.
    pub(crate) seen_at: i64,
    pub(crate) tags: Vec<String>,
}

/// A row of the old system. Only what is written differs from an appraisal: everything is as a database of its own has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    pub(crate) thing: uuid::Uuid,
    pub(crate) label: String,
    /// A decimal.
    pub(crate) price: String,
    pub(crate) weight: f64,
    pub(crate) details: serde_json::Value,
    /// Milliseconds since 1970.
    pub(crate) seen_at: i64,
    /// The same.
    pub(crate) noted_at: i64,
}

const LABELS: [&str; 5] = ["chair", "Table", "lamp, small", "\"quoted\"", "größer"];
const TAGS: [&str; 8] = ["old", "new", "oak", "iron", "blue", "red", "for sale", "kept"];

impl Appraisal {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let mut tags = TAGS.map(str::to_owned).to_vec();
        rng.shuffle(&mut tags);
        tags.truncate(rng.usize(1..6));
        Self {
            label: LABELS[rng.usize(..LABELS.len())].to_owned(),
            price: rng.i64(-100_000..10_000_000),
            weight: 0.5 + rng.f64() * 400.0,
            fragile: rng.bool(),
            seen_at: 1_760_000_000_000 + rng.i64(0..10_000_000_000),
            tags,
        }
    }

    /// As the agent decides it.
    pub(crate) fn effect(&self) -> serde_json::Value {
        serde_json::json!({ "Appraise": {
            "label": self.label,
            "worth": { "price": self.price as f64 / 100.0 },
            "weight": self.weight,
            "fragile": self.fragile,
            "seen_at": rfc3339(self.seen_at),
            "tags": self.tags,
        } })
    }

    /// As the old system writes it.
    pub(crate) fn row(&self, thing: uuid::Uuid, noted_at: i64) -> Row {
        Row {
            thing,
            label: self.label.clone(),
            price: format!(
                "{}{}.{:02}",
                if self.price < 0 { "-" } else { "" },
                self.price.abs() / 100,
                self.price.abs() % 100
            ),
            weight: self.weight,
            details: serde_json::json!({ "fragile": if self.fragile { "yes" } else { "no" }, "tags": self.tags }),
            seen_at: self.seen_at,
            noted_at,
        }
    }

    /// The same with the tolerances of the mapping.
    pub(crate) fn nearly(&self, rng: &mut Rng) -> Self {
        let mut tags = self.tags.clone();
        tags.push(tags[rng.usize(..tags.len())].clone());
        rng.shuffle(&mut tags);
        Self {
            label: self.label.clone(),
            // The border itself is within.
            price: self.price + rng.i64(-5..=5),
            weight: self.weight * (1.0 + 0.048 * (2.0 * rng.f64() - 1.0)),
            fragile: self.fragile,
            seen_at: self.seen_at + rng.i64(-2_000..=2_000),
            tags,
        }
    }

    /// One field further away than the mapping allows; the field's name.
    pub(crate) fn move_away(&mut self, field: usize, rng: &mut Rng) -> &'static str {
        let sign = if rng.bool() { 1 } else { -1 };
        match field {
            0 => {
                self.label.push(if rng.bool() { ' ' } else { 's' });
                "label"
            }
            1 => {
                self.price += sign * rng.i64(6..500);
                "price"
            }
            2 => {
                self.weight *= if sign > 0 { 1.06 + rng.f64() } else { 0.94 - 0.5 * rng.f64() };
                "weight"
            }
            3 => {
                self.fragile = !self.fragile;
                "fragile"
            }
            4 => {
                self.seen_at += sign * rng.i64(2_001..900_000);
                "seen_at"
            }
            _ => {
                if self.tags.len() > 1 && rng.bool() {
                    self.tags.pop();
                } else {
                    self.tags.push("seen nowhere else".to_owned());
                }
                "tags"
            }
        }
    }
}

/// How many fields an appraisal has that [`Appraisal::move_away`] knows.
pub(crate) const FIELDS: usize = 6;

/// A time as the agent writes it. The civil calendar by Howard Hinnant's `civil_from_days`.
fn rfc3339(millis: i64) -> String {
    let (days, rest) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hours, minutes, seconds) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", rest % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_the_calendar_has_it() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_709_210_096_789), "2024-02-29T12:34:56.789Z");
    }
}
