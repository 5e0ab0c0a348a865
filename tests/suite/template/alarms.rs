//! Alarms by what they do: each is played a course of its metric, and must be raised by it, or not.

use super::{
    Finding,
    flow::{FUNCTION, QUEUE, binary, dead_letters, mappings, subscriptions},
    stack::{Stack, by_ref, entries, list, number, target, text, texts},
};
use serde_json::Value;
use std::collections::BTreeSet;

const ALARM: &str = "AWS::CloudWatch::Alarm";
const FILTER: &str = "AWS::Logs::MetricFilter";

/// A figure of the steward's pass: what it is called in the log, its course in peace, and one that somebody must hear of.
const FIGURES: [(&str, &[i64], &[i64]); 9] = [
    ("held_back_secs", &[60; 9], &[3600; 9]),
    ("old_waits_secs", &[60; 9], &[3600; 9]),
    ("oldest_unpublished_secs", &[60; 9], &[3600; 9]),
    ("room", &[50_000_000; 9], &[1000; 9]),
    ("logged_late", &[0; 9], ONE_MORE),
    ("unpublishable", &[3; 9], ONE_MORE),
    ("parked_in_all", &[3; 9], ONE_MORE),
    ("troubles", &[0; 9], &[1; 9]),
    ("breakers_open", &[0; 9], &[1; 9]),
];

/// Words of a function's log that somebody must hear of.
const WORDS: [(&str, &str); 1] = [("shim", shim::COULD_NOT_BE_PUBLISHED)];

const NOTHING: &[i64] = &[0; 9];
/// Two were there, and then a third.
const ONE_MORE: &[i64] = &[2, 2, 2, 2, 3, 3, 3, 3, 3];
const ALWAYS_ONE: &[i64] = &[1; 9];
/// Somebody reads one of two messages, which hides it for a while.
const READ: [&[i64]; 2] = [&[2, 2, 1, 1, 1, 2, 2, 2, 2], &[0, 0, 1, 1, 1, 0, 0, 0, 0]];

/// What each metric does, by its name. Any other is nought.
type Courses<'a> = Vec<(String, &'a [i64])>;

/// One metric of an alarm.
struct Metric {
    id: String,
    namespace: String,
    name: String,
    /// The resource that the one dimension names.
    of: String,
    statistic: String,
    period: i64,
}

/// The resource of a dimension, if it is the resource's name that the dimension takes.
fn resource(dimension: &Value) -> &str {
    let id = target(&dimension["Value"]).unwrap_or("something else");
    let wanted = match text(&dimension["Name"]).as_str() {
        "QueueName" => format!("${{{id}.QueueName}}"),
        "FunctionName" => format!("${{{id}}}"),
        _ => String::new(),
    };
    if dimension["Value"] == wanted { id } else { "something else" }
}

struct Alarm<'a> {
    id: &'a str,
    metrics: Vec<Metric>,
    /// What is compared with the threshold: an expression over the metrics' ids.
    expression: String,
    properties: &'a Value,
}

impl<'a> Alarm<'a> {
    fn of(id: &'a str, properties: &'a Value) -> Self {
        let metric = |id: &Value, metric: &Value, statistic: &Value, period: &Value| Metric {
            id: text(id),
            namespace: text(&metric["Namespace"]),
            name: text(&metric["MetricName"]),
            of: list(&metric["Dimensions"]).into_iter().map(resource).collect::<Vec<_>>().join(","),
            statistic: text(statistic),
            period: number(period).unwrap_or_default(),
        };
        let many = list(&properties["Metrics"]);
        let returned = |query: &&&Value| query["ReturnData"] != false;
        let expression = match many.iter().filter(returned).collect::<Vec<_>>().as_slice() {
            [] if many.is_empty() => String::new(),
            [one] if one["Expression"].is_string() => text(&one["Expression"]),
            [one] => text(&one["Id"]),
            _ => "several".into(),
        };
        let metrics = if many.is_empty() {
            vec![metric(&Value::Null, properties, &properties["Statistic"], &properties["Period"])]
        } else {
            let stats = many.iter().filter(|query| !query["MetricStat"].is_null());
            stats
                .map(|query| {
                    let stat = &query["MetricStat"];
                    metric(&query["Id"], &stat["Metric"], &stat["Stat"], &stat["Period"])
                })
                .collect()
        };
        Self { id, metrics, expression, properties }
    }

    /// Whether it is raised while its first metric takes the first of these courses and the second the other, by name.
    fn is_raised(&self, courses: &Courses<'_>) -> Option<bool> {
        let value = |id: &str| -> Option<Vec<i64>> {
            let name = &self.metrics.iter().find(|metric| metric.id == id)?.name;
            let course = courses.iter().find(|(of, _)| of == name);
            Some(course.map_or_else(|| vec![0; NOTHING.len()], |(_, course)| course.to_vec()))
        };
        let values = evaluated(&self.expression, &value)?;
        let threshold = number(&self.properties["Threshold"])?;
        let breaches = |value: &i64| match text(&self.properties["ComparisonOperator"]).as_str() {
            "GreaterThanThreshold" => Some(*value > threshold),
            "GreaterThanOrEqualToThreshold" => Some(*value >= threshold),
            "LessThanThreshold" => Some(*value < threshold),
            "LessThanOrEqualToThreshold" => Some(*value <= threshold),
            _ => None,
        };
        let breaching = values.iter().map(breaches).collect::<Option<Vec<bool>>>()?;
        let periods =
            usize::try_from(number(&self.properties["EvaluationPeriods"])?).ok().filter(|periods| *periods > 0)?;
        let points = number(&self.properties["DatapointsToAlarm"])
            .map_or(Some(periods), |points| usize::try_from(points).ok())?;
        Some(breaching.windows(periods).any(|window| window.iter().filter(|one| **one).count() >= points))
    }
}

/// A metric's id, a sum of them, or the `DIFF` of either.
fn evaluated(expression: &str, value: &dyn Fn(&str) -> Option<Vec<i64>>) -> Option<Vec<i64>> {
    if let Some(inner) = expression.strip_prefix("DIFF(").and_then(|rest| rest.strip_suffix(')')) {
        let values = evaluated(inner, value)?;
        return Some(values.windows(2).map(|pair| pair[1] - pair[0]).collect());
    }
    let mut sum: Option<Vec<i64>> = None;
    for part in expression.split('+').map(str::trim) {
        let part = value(part)?;
        sum = Some(match sum {
            None => part,
            Some(sum) => sum.iter().zip(&part).map(|(a, b)| a + b).collect(),
        });
    }
    sum
}

/// What there must be an alarm for.
struct Demand<'a> {
    on: String,
    namespace: &'a str,
    metric: String,
    of: &'a str,
    statistic: &'a [&'a str],
    peace: &'a [i64],
    trouble: &'a [i64],
    missing: &'a str,
    /// Whether it is of messages that stay, and that somebody looks at.
    is_parked: bool,
}

const WAITING: &str = "ApproximateNumberOfMessagesVisible";
const HIDDEN: &str = "ApproximateNumberOfMessagesNotVisible";

const COUNT: &[&str] = &["Sum"];
const GAUGE: &[&str] = &["Maximum"];
/// The steward's figures: one a minute, of which an alarm may wait until all of five minutes are bad.
const FIGURE: &[&str] = &["Maximum", "Minimum"];

pub(super) fn there(stack: &Stack, found: &mut Vec<Finding>) {
    let alarms: Vec<Alarm<'_>> = stack.all(ALARM).map(|(id, properties)| Alarm::of(id, properties)).collect();
    let demands = demands(stack, found);
    for demand in &demands {
        let watches = |alarm: &&Alarm<'_>| {
            let first = alarm.metrics.first();
            first.is_some_and(|metric| {
                metric.namespace == demand.namespace && metric.name == demand.metric && metric.of == demand.of
            })
        };
        let on_it: Vec<_> = alarms.iter().filter(watches).collect();
        let does = |alarm: &&&Alarm<'_>| {
            let by_name = |course| vec![(demand.metric.clone(), course)];
            alarm.is_raised(&by_name(demand.trouble)) == Some(true)
                && alarm.is_raised(&by_name(demand.peace)) == Some(false)
                && (!demand.is_parked
                    || alarm.is_raised(&vec![(WAITING.into(), READ[0]), (HIDDEN.into(), READ[1])]) == Some(false))
                && alarm.metrics.iter().all(|metric| demand.statistic.contains(&metric.statistic.as_str()))
                && alarm.metrics.iter().all(|metric| [60, 300].contains(&metric.period))
                && text(&alarm.properties["TreatMissingData"]) == demand.missing
        };
        if on_it.is_empty() {
            found.push(Finding::new("alarm", &demand.on, format!("has no alarm on {}", demand.metric)));
        } else if !on_it.iter().any(|alarm| does(&alarm)) {
            let says = format!(
                "must be raised by {:?} of {} of {} and not by {:?} ({:?}, missing data {})",
                demand.trouble, demand.metric, demand.on, demand.peace, demand.statistic, demand.missing
            );
            found.push(Finding::new("alarm", on_it[0].id, says));
        }
    }
    let filters = filters(stack);
    for alarm in &alarms {
        let is_wanted = |metric: &Metric| {
            let by_filter =
                metric.namespace == "Switchyard" && filters.iter().any(|filter| filter.metric == metric.name);
            by_filter || demands.iter().any(|demand| demand.namespace == metric.namespace && demand.of == metric.of)
        };
        let is_of_one = alarm.metrics.windows(2).all(|pair| pair[0].of == pair[1].of);
        if !alarm.metrics.iter().all(is_wanted) || !is_of_one {
            found.push(Finding::new("alarm", alarm.id, "is on a metric that nothing of this stack writes"));
        }
        let actions = texts(&alarm.properties["AlarmActions"]);
        let topic = stack.parameter("AlarmTopicArn");
        if actions != (if topic.is_empty() { vec![] } else { vec![topic] })
            || alarm.properties["ActionsEnabled"] == false
        {
            found.push(Finding::new("alarm", alarm.id, "does not notify the topic of the parameter AlarmTopicArn"));
        }
    }
}

/// A metric that is read out of a log.
struct Filter<'a> {
    id: &'a str,
    log: &'a str,
    pattern: String,
    metric: String,
    value: String,
}

fn filters(stack: &Stack) -> Vec<Filter<'_>> {
    let mut all = Vec::new();
    for (id, filter) in stack.all(FILTER) {
        for made in
            list(&filter["MetricTransformations"]).into_iter().filter(|made| made["MetricNamespace"] == "Switchyard")
        {
            all.push(Filter {
                id,
                log: by_ref(&filter["LogGroupName"]).unwrap_or_default(),
                pattern: text(&filter["FilterPattern"]),
                metric: text(&made["MetricName"]),
                value: text(&made["MetricValue"]),
            });
        }
    }
    all
}

fn demands<'a>(stack: &'a Stack, found: &mut Vec<Finding>) -> Vec<Demand<'a>> {
    let mut demands = Vec::new();
    let quiet = "notBreaching";
    for (id, function) in stack.all(FUNCTION) {
        let of = |metric: &str, peace, trouble, missing| Demand {
            on: id.into(),
            namespace: "AWS/Lambda",
            metric: metric.into(),
            of: id,
            statistic: COUNT,
            peace,
            trouble,
            missing,
            is_parked: false,
        };
        demands.push(of("Errors", NOTHING, ALWAYS_ONE, quiet));
        demands.push(of("Throttles", NOTHING, ALWAYS_ONE, quiet));
        if entries(&function["Events"]).any(|(_, event)| event["Type"] == "Schedule") {
            demands.push(of("Invocations", ALWAYS_ONE, NOTHING, "breaching"));
        }
    }
    let of_queue = |id: &'a str, metric: &str, peace, trouble| Demand {
        on: id.into(),
        namespace: "AWS/SQS",
        metric: metric.into(),
        of: id,
        statistic: GAUGE,
        peace,
        trouble,
        missing: quiet,
        is_parked: false,
    };
    let (mut parked, mut undelivered) = (BTreeSet::new(), BTreeSet::new());
    for mapping in mappings(stack) {
        demands.push(of_queue(mapping.queue, "ApproximateAgeOfOldestMessage", NOTHING, &[3600; 9]));
        parked.extend(dead_letters(stack, mapping.queue));
    }
    undelivered.extend(
        subscriptions(stack).iter().filter_map(|one| one.dead_letters).filter(|id| stack.get(id, QUEUE).is_some()),
    );
    // What is parked stays until somebody acts: the alarm is on what is new. What SNS could not deliver goes within a minute.
    demands.extend(parked.iter().map(|id| Demand { is_parked: true, ..of_queue(id, WAITING, ALWAYS_ONE, ONE_MORE) }));
    demands.extend(undelivered.iter().map(|id| of_queue(id, WAITING, NOTHING, ALWAYS_ONE)));
    let filters = filters(stack);
    let log_of =
        |function: &str| stack.get(function, FUNCTION).and_then(|all| by_ref(&all["LoggingConfig"]["LogGroup"]));
    let by_binary = |name: &str| stack.all(FUNCTION).find(|(id, _)| binary(stack, id) == name).map(|(id, _)| id);
    let mut demand = |on: String, metric: &str, statistic, peace, trouble| {
        demands.push(Demand {
            on,
            namespace: "Switchyard",
            metric: metric.into(),
            of: "",
            statistic,
            peace,
            trouble,
            missing: quiet,
            is_parked: false,
        });
    };
    for (figure, peace, trouble) in FIGURES {
        let log = by_binary("steward").and_then(log_of);
        let reads = |filter: &&Filter<'_>| {
            Some(filter.log) == log
                && filter.pattern == format!("{{ $.{figure} = * }}")
                && filter.value == format!("$.{figure}")
        };
        match filters.iter().find(reads) {
            Some(filter) => demand(filter.id.into(), &filter.metric, FIGURE, peace, trouble),
            None => found.push(Finding::new("alarm", "StewardFunction", format!("has no metric of {figure}"))),
        }
    }
    let mut words: Vec<(&str, &str)> =
        mappings(stack).iter().map(|mapping| (mapping.function, switchyard_agent::STOPPED_CHAIN)).collect();
    words.extend(WORDS.iter().filter_map(|(name, words)| Some((by_binary(name)?, *words))));
    for (function, words) in words {
        let log = log_of(function);
        match filters
            .iter()
            .find(|filter| Some(filter.log) == log && filter.pattern == format!("\"{words}\"") && filter.value == "1")
        {
            Some(filter) => demand(filter.id.into(), &filter.metric, COUNT, NOTHING, ALWAYS_ONE),
            None => found.push(Finding::new("alarm", function, format!("has no metric of {words:?} in its log"))),
        }
    }
    demands
}
