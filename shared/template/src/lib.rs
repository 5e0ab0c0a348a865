#![doc = include_str!("../README.md")]

use std::fmt::Write;
use switchyard_agent::{Declaration, ExpressQueue, STOPPED_CHAIN};

/// How often a message may be received before the queue itself moves it to the dead-letter queue: the most that SQS takes. Only the net for what
/// kills every process that so much as reads it: the runtime counts attempts, tries alone what may have killed a process, and returns what costs
/// nothing. So it must outlast every outage: a record that comes again every 7 to 15 minutes is received 500 times in the queue's 4 days.
const MAX_RECEIVES: u32 = 1_000;

/// The function's timeout times this is the queue's visibility timeout (AWS Lambda Developer Guide, "Using Lambda with Amazon SQS").
const VISIBILITY_FACTOR: u32 = 6;

/// The block with its placeholders.
const BLOCK: &str = include_str!("block.yaml");

/// What is between these two is only in the block of an agent that asks for an express queue.
const EXPRESS_ONLY: (&str, &str) = ("{express}", "{/express}");

/// The agent's block of `template.yaml`, indented as it is under `Resources`: queues, subscription, role, function, alarms.
#[must_use]
pub fn block(agent: &Declaration) -> String {
    let types = agent.subscribes.iter().fold(String::new(), |mut list, name| {
        let _ = write!(list, "\n          - {name}");
        list
    });
    let (express, from) = match agent.express_queue {
        ExpressQueue::None => (false, String::new()),
        ExpressQueue::From { priority } => (true, priority.to_string()),
    };
    with_express(express)
        .replace("{from}", &from)
        .replace("{Id}", &logical_id(&agent.name))
        .replace("{name}", &agent.name)
        .replace("{stopped}", STOPPED_CHAIN)
        .replace("{types}", &types)
        .replace("{visibility}", &(agent.limits.timeout_secs * VISIBILITY_FACTOR).to_string())
        .replace("{receives}", &MAX_RECEIVES.to_string())
        .replace("{timeout}", &agent.limits.timeout_secs.to_string())
        .replace("{memory}", &agent.limits.memory_mb.to_string())
        .replace("{batch}", &agent.limits.batch_size.to_string())
        .replace("{concurrency}", &agent.limits.max_concurrency.to_string())
}

/// A name as CloudFormation spells names: `baseline-validation` becomes `BaselineValidation`.
fn logical_id(name: &str) -> String {
    name.split('-')
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
        })
        .collect()
}

/// The block with or without the parts for an express queue.
fn with_express(express: bool) -> String {
    let (begin, end) = EXPRESS_ONLY;
    let mut block = String::with_capacity(BLOCK.len());
    let mut rest = BLOCK;
    while let Some((before, after)) = rest.split_once(begin) {
        let (inside, after) = after.split_once(end).unwrap_or((after, ""));
        block.push_str(before);
        block.push_str(if express { inside } else { "" });
        rest = after;
    }
    block + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchyard_agent::{Limits, RoutedBy, Schedule};

    fn declaration() -> Declaration {
        Declaration {
            name: "baseline-validation".into(),
            subscribes: vec!["model.evaluated".into(), "clock.ticked".into()],
            routed_by: RoutedBy::Aggregate,
            max_attempts: 4,
            schedule: Schedule::DEFAULT,
            limits: Limits { timeout_secs: 20, ..Limits::DEFAULT },
            express_queue: ExpressQueue::None,
        }
    }

    #[test]
    fn the_block_carries_what_the_agent_declares_and_leaves_no_gap() {
        let block = block(&declaration());
        for part in [
            "  BaselineValidationQueue:",
            "VisibilityTimeout: 120",
            "- model.evaluated\n          - clock.ticked",
            "Timeout: 20",
        ] {
            assert!(block.contains(part), "{part}");
        }
        filled_in(&block);
    }

    fn filled_in(block: &str) {
        let known = ["{ numeric: ['<', 8] }", "{ numeric: ['>=', 8] }"];
        let rest = known.iter().fold(block.to_owned(), |block, known| block.replace(known, ""));
        let braces = rest.split('{').skip(1).zip(rest.split('{').map(|before| before.ends_with('$')));
        let unfilled: Vec<_> = braces.filter(|(_, of_cloudformation)| !of_cloudformation).collect();
        assert!(unfilled.is_empty(), "a placeholder was not filled in: {unfilled:?}");
    }

    #[test]
    fn an_agent_with_an_express_queue_receives_each_priority_on_one_queue_and_another_agent_has_one_queue() {
        let express = block(&Declaration { express_queue: ExpressQueue::DEFAULT, ..declaration() });
        for part in [
            "  BaselineValidationExpressQueue:",
            "        priority: !If [HasLanes, [{ numeric: ['<', 8] }], !Ref AWS::NoValue]",
            "        priority: [{ numeric: ['>=', 8] }]",
            "EXPRESS_QUEUE_URL: !If [HasLanes, !Ref BaselineValidationExpressQueue, '']",
            "Key: switchyard:express-from\n          Value: '8'\n",
        ] {
            assert!(express.contains(part), "{part}");
        }
        assert_eq!(
            express.matches("- model.evaluated\n          - clock.ticked").count(),
            2,
            "both subscribe to the same types"
        );
        filled_in(&express);
        let one = block(&declaration());
        for part in ["ExpressQueue", "ExpressSubscription", "ExpressMapping", "HasLanes"] {
            assert!(!one.contains(part), "{part}");
        }
    }

    #[test]
    fn every_queue_of_an_agent_is_fifo_where_the_topology_is() {
        let block = block(&declaration());
        let (queues, fifo) = ("Type: AWS::SQS::Queue\n", "FifoQueue: !If [IsFifo, true, !Ref AWS::NoValue]");
        assert_eq!(block.matches(queues).count(), block.matches(fifo).count());
    }

    #[test]
    fn a_queue_s_tags_name_its_agent_and_the_queue_of_undelivered_messages() {
        let block = block(&declaration());
        let queue = block.split("  BaselineValidationDeadLetterQueue:").next().unwrap_or_default();
        for tag in [
            "Key: switchyard:agent\n          Value: baseline-validation\n",
            "Key: switchyard:subscription-dead-letters\n          Value: !Ref BaselineValidationSubscriptionDeadLetterQueue\n",
        ] {
            assert!(queue.contains(tag), "{tag}");
        }
    }

    #[test]
    fn the_metric_filter_matches_the_words_that_the_runtime_logs() {
        assert!(block(&declaration()).contains(&format!("FilterPattern: '\"{STOPPED_CHAIN}\"'")));
    }
}
