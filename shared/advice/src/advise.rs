//! The recommendation: which way, because of which threshold, and what each would cost.

use crate::{
    DataError,
    cost::{Cost, cost},
    prices::Prices,
    thresholds::{Bound, Reached, Thresholds, spoken},
    work::Work,
    workload::{Measure, Way, Wishes, Workload},
};
use serde::{Deserialize, Serialize};

/// Everything that advice is given from, read once.
#[derive(Debug, Clone)]
pub struct Advisor {
    thresholds: Thresholds,
    prices: Prices,
    work: Work,
}

/// A recommendation, and what led to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    /// The way to take.
    pub recommendation: Way,
    /// Why, in one line that names the threshold.
    pub reason: String,
    /// Every threshold that was reached, those of the farthest way first.
    pub triggers: Vec<Reached>,
    /// What does not fit, and why.
    pub unfit: Vec<Reached>,
    /// Where none was reached: the threshold that is the nearest.
    pub nearest: Option<Nearest>,
    /// What was judged.
    pub workload: Workload,
    /// What is wanted.
    pub wishes: Wishes,
    /// What each way costs a month for this workload.
    pub costs: Vec<Cost>,
    /// The prices that were reckoned with.
    pub prices: PricesUsed,
}

/// A threshold that was not reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Nearest {
    /// What it is set for.
    pub measure: Measure,
    /// What was measured, or is wanted.
    pub value: f64,
    /// Where it lies.
    pub bound: Bound,
    /// The way that it would speak for.
    pub way: Way,
    /// How much of the way to it that is, from 0 to 1.
    pub share: f64,
}

/// Which prices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PricesUsed {
    /// Of which region.
    pub region: String,
    /// In which currency.
    pub currency: String,
    /// Of which day.
    pub as_of: String,
    /// The pages that those stand on which were not verified.
    pub unverified: Vec<String>,
}

impl Advisor {
    /// The advisor of this build's data.
    ///
    /// # Errors
    /// [`DataError`] where a file that was compiled in is not what it should be.
    pub fn built_in() -> Result<Self, DataError> {
        Ok(Self { thresholds: Thresholds::built_in()?, prices: Prices::built_in()?, work: Work::built_in()? })
    }

    /// Advice for a workload.
    ///
    /// # Errors
    /// [`DataError`] where a price is missing, which [`Advisor::built_in`] has excluded.
    pub fn advise(&self, workload: &Workload, wishes: &Wishes) -> Result<Advice, DataError> {
        let triggers = self.thresholds.reached(workload, wishes);
        let unfit = self.thresholds.unfit(workload, wishes);
        let recommendation = choose(&triggers, &unfit);
        let nearest = if triggers.is_empty() { self.nearest(workload, wishes) } else { None };
        let costs = Way::ALL.iter().map(|way| cost(*way, workload, wishes, &self.prices, &self.work));
        Ok(Advice {
            recommendation,
            reason: reason(recommendation, &triggers, &unfit, nearest.as_ref()),
            costs: costs.collect::<Result<_, _>>()?,
            triggers,
            unfit,
            nearest,
            workload: *workload,
            wishes: *wishes,
            prices: PricesUsed {
                region: self.prices.region.clone(),
                currency: self.prices.currency.clone(),
                as_of: self.prices.as_of.clone(),
                unverified: self.prices.unverified(),
            },
        })
    }

    fn nearest(&self, workload: &Workload, wishes: &Wishes) -> Option<Nearest> {
        let all = self.thresholds.all().iter().filter_map(|threshold| {
            let value = threshold.measure.of(workload, wishes)?;
            let share = threshold.bound.share(value);
            Some(Nearest { measure: threshold.measure, value, bound: threshold.bound, way: threshold.way, share })
        });
        all.max_by(|one, other| one.share.total_cmp(&other.share))
    }
}

/// The farthest way that something speaks for. Where that does not fit, the other of the two that are worth a move, if it does.
fn choose(triggers: &[Reached], unfit: &[Reached]) -> Way {
    let wanted = triggers.iter().map(|one| one.way).max().unwrap_or(Way::Stay);
    let fits = |way: Way| unfit.iter().all(|one| one.way != way);
    let other = match wanted {
        Way::Stay => Way::Stay,
        Way::RedisStreams => Way::SnsSqs,
        Way::SnsSqs => Way::RedisStreams,
    };
    if !fits(wanted) && fits(other) { other } else { wanted }
}

fn reason(recommendation: Way, triggers: &[Reached], unfit: &[Reached], nearest: Option<&Nearest>) -> String {
    let Some(trigger) = triggers.first() else {
        let nearest = nearest.map(|nearest| {
            let Nearest { measure, value, bound, share, .. } = nearest;
            format!("; the nearest is {measure}, {} of {bound}: {:.0} % of the way", spoken(*value), share * 100.0)
        });
        return format!("no threshold is reached{}", nearest.unwrap_or_default());
    };
    let against = |way: Way| unfit.iter().find(|one| one.way == way);
    match (against(trigger.way), against(recommendation)) {
        // Nothing fits; what speaks for the move says which of the two it is.
        (Some(_), Some(no)) => format!("{trigger}; but nothing fits all that is wanted: {no}"),
        (Some(no), None) => format!("{trigger}; {} does not fit: {no}", trigger.way),
        (None, _) => trigger.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        thresholds::Source,
        workload::{Delivery, Ordering},
    };
    use proptest::prelude::*;

    const QUIET: Workload = Workload {
        events_per_day: 1_000.0,
        peak_per_second: 2.0,
        agents: 2,
        deliveries_per_event: 2.0,
        event_bytes: 600.0,
        connections: 0.1,
    };

    fn advise(workload: &Workload, wishes: &Wishes) -> Advice {
        Advisor::built_in().unwrap().advise(workload, wishes).unwrap()
    }

    fn wanted(latency_wanted_ms: u64) -> Wishes {
        Wishes { latency_wanted_ms: Some(latency_wanted_ms), ..Wishes::default() }
    }

    /// The same with one measure set.
    fn with(measure: Measure, value: f64) -> (Workload, Wishes) {
        let (mut workload, mut wishes) = (QUIET, Wishes::default());
        match measure {
            Measure::EventsPerDay => workload.events_per_day = value,
            Measure::PeakPerSecond => workload.peak_per_second = value,
            Measure::Agents => workload.agents = value as u32,
            Measure::Connections => workload.connections = value,
            Measure::LatencyWantedMs => wishes.latency_wanted_ms = Some(value as u64),
            Measure::Regions => wishes.regions = Some(value as u32),
            Measure::Ordering => wishes.ordering = Some([Ordering::None, Ordering::Aggregate][value as usize]),
            Measure::Delivery => {
                wishes.delivery =
                    Some([Delivery::BestEffort, Delivery::AtLeastOnce, Delivery::EffectsOnce][value as usize]);
            }
        }
        (workload, wishes)
    }

    #[test]
    fn a_small_workload_stays_and_names_the_nearest_threshold() {
        let advice = advise(&QUIET, &Wishes::default());
        assert_eq!((advice.recommendation, advice.triggers.len()), (Way::Stay, 0));
        let nearest = advice.nearest.unwrap();
        assert_eq!((nearest.measure, nearest.share), (Measure::Agents, 0.4));
        assert_eq!(advice.reason, "no threshold is reached; the nearest is agents, 2 of at least 5: 40 % of the way");
    }

    #[test]
    fn every_threshold_fires_on_its_side_and_not_on_the_other() {
        for threshold in Advisor::built_in().unwrap().thresholds.all() {
            // The smallest step that the measure knows.
            let step = if threshold.measure == Measure::Connections { 0.001 } else { 1.0 };
            let (on, off) = match threshold.bound {
                Bound::AtLeast(bound) => (bound, bound - step),
                Bound::Below(bound) => (bound - step, bound),
            };
            let fires = |value: f64| {
                let (workload, wishes) = with(threshold.measure, value);
                let advice = advise(&workload, &wishes);
                advice.triggers.iter().any(|one| (one.measure, one.bound) == (threshold.measure, threshold.bound))
            };
            assert!(fires(on), "{} {}: {on}", threshold.measure, threshold.bound);
            assert!(!fires(off), "{} {}: {off}", threshold.measure, threshold.bound);
        }
    }

    #[test]
    fn the_farthest_way_with_a_reached_threshold_is_taken() {
        for (measure, value, way) in [
            (Measure::EventsPerDay, 100_000.0, Way::RedisStreams),
            (Measure::EventsPerDay, 1_000_000.0, Way::SnsSqs),
            (Measure::PeakPerSecond, 50.0, Way::RedisStreams),
            (Measure::PeakPerSecond, 500.0, Way::SnsSqs),
            (Measure::Agents, 10.0, Way::SnsSqs),
            (Measure::Connections, 0.8, Way::SnsSqs),
            (Measure::LatencyWantedMs, 999.0, Way::RedisStreams),
            (Measure::Regions, 2.0, Way::SnsSqs),
            (Measure::Ordering, 1.0, Way::Stay),
            (Measure::Delivery, 2.0, Way::Stay),
        ] {
            let (workload, wishes) = with(measure, value);
            assert_eq!(advise(&workload, &wishes).recommendation, way, "{measure} {value}");
        }
    }

    #[test]
    fn at_least_once_or_order_by_aggregate_rules_out_redis_streams() {
        for wishes in [
            Wishes { delivery: Some(Delivery::AtLeastOnce), ..wanted(500) },
            Wishes { ordering: Some(Ordering::Aggregate), ..wanted(500) },
        ] {
            let advice = advise(&QUIET, &wishes);
            assert_eq!(advice.recommendation, Way::SnsSqs);
            assert!(advice.reason.contains("redis_streams does not fit"), "{}", advice.reason);
        }
        let wishes = Wishes { delivery: Some(Delivery::BestEffort), ordering: Some(Ordering::None), ..wanted(500) };
        assert_eq!(advise(&QUIET, &wishes).recommendation, Way::RedisStreams);
    }

    #[test]
    fn a_latency_below_100_ms_leads_to_redis_streams_at_any_volume() {
        let busy = Workload { events_per_day: 5e6, ..QUIET };
        assert_eq!(advise(&busy, &wanted(100)).recommendation, Way::SnsSqs);
        assert_eq!(advise(&busy, &wanted(99)).recommendation, Way::RedisStreams);
    }

    #[test]
    fn if_no_way_fits_the_advice_says_so() {
        let wishes = Wishes { delivery: Some(Delivery::AtLeastOnce), ..wanted(50) };
        let advice = advise(&QUIET, &wishes);
        assert!(advice.reason.contains("nothing fits"), "{}", advice.reason);
        assert!(advice.reason.contains("latency_wanted_ms is 50"), "{}", advice.reason);
    }

    #[test]
    fn unverified_prices_are_named_with_their_day() {
        let advice = advise(&QUIET, &Wishes::default());
        assert_eq!(advice.prices.as_of, "2026-11-21");
        let unverified = advice.costs.iter().flat_map(|cost| &cost.lines).any(|line| !line.verified);
        assert_eq!(unverified, !advice.prices.unverified.is_empty());
    }

    #[test]
    fn advice_comes_back_from_json_as_it_went() {
        let busy = Workload { events_per_day: 5e6, ..QUIET };
        let advice = advise(&busy, &wanted(500));
        assert!(advice.triggers.iter().all(|one| one.source == Source::Ours));
        let text = serde_json::to_string(&advice).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["recommendation"], "sns_sqs");
        let back: Advice = serde_json::from_str(&text).unwrap();
        assert_eq!((back.triggers, back.recommendation), (advice.triggers, advice.recommendation));
    }

    #[test]
    fn an_unknown_wish_is_reported() {
        let wrong = serde_json::from_str::<Wishes>(r#"{"latency":5}"#).unwrap_err().to_string();
        assert!(wrong.contains("latency_wanted_ms"), "{wrong}");
    }

    prop_compose! {
        fn wishes()(
            latency_wanted_ms in prop::option::of(0..10_000_u64),
            regions in prop::option::of(1..5_u32),
            ordering in prop::option::of(prop_oneof![Just(Ordering::None), Just(Ordering::Aggregate)]),
            delivery in prop::option::of(prop_oneof![Just(Delivery::BestEffort), Just(Delivery::AtLeastOnce), Just(Delivery::EffectsOnce)]),
        ) -> Wishes {
            Wishes { latency_wanted_ms, regions, ordering, delivery }
        }
    }

    proptest! {
        #[test]
        fn the_reason_names_a_threshold_and_a_move_has_a_trigger(
            events_per_day in 0.0..1e7, peak_per_second in 0.0..2e3, agents in 0..30_u32, connections in 0.0..1.0, wishes in wishes(),
        ) {
            let workload = Workload { events_per_day, peak_per_second, agents, connections, ..QUIET };
            let advice = advise(&workload, &wishes);
            prop_assert_eq!(advice.recommendation == Way::Stay, advice.triggers.is_empty());
            let named = match (&advice.nearest, advice.triggers.first()) {
                (Some(nearest), None) => nearest.measure,
                (None, Some(trigger)) => trigger.measure,
                other => panic!("either a trigger or what is nearest: {other:?}"),
            };
            prop_assert!(advice.reason.contains(named.as_str()), "{}", advice.reason);
            let fitting = |way: Way| advice.unfit.iter().all(|one| one.way != way);
            let moves = [Way::RedisStreams, Way::SnsSqs];
            prop_assert!(
                advice.recommendation == Way::Stay || fitting(advice.recommendation) || !moves.into_iter().any(fitting),
                "what does not fit is recommended only where nothing does",
            );
        }

        #[test]
        fn more_events_never_change_the_advice_back(events_per_day in 0.0..1e7, more in 1.0..100.0) {
            let at = |events_per_day| advise(&Workload { events_per_day, ..QUIET }, &Wishes::default()).recommendation;
            prop_assert!(at(events_per_day * more) >= at(events_per_day));
        }
    }
}
