//! Which agents a stack has, with their queues, functions and mappings. There is no list of agents: what is deployed is the list.

use crate::BusError;
use aws_sdk_lambda::types::EventSourceMappingConfiguration;
use aws_sdk_sqs::types::QueueAttributeName;
use futures_util::future::join_all;
use std::collections::HashMap;

/// The tag of an agent's queue that holds the agent's name.
const AGENT_TAG: &str = "switchyard:agent";

/// The tag of an agent's queue that holds the URL of the queue for messages that SNS could not deliver to it.
const SUBSCRIPTION_TAG: &str = "switchyard:subscription-dead-letters";

/// The tag of an agent's express queue that holds the least priority which goes there.
const EXPRESS_TAG: &str = "switchyard:express-from";

/// CloudFormation's own tag. It distinguishes the stack `dev` from the stack `dev-two`, whose queues begin with `dev-` as well.
const STACK_TAG: &str = "aws:cloudformation:stack-name";

/// One agent's queues, function and mappings. `ingest` is no agent, but operated like one, and is in the directory too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentPlaces {
    /// The agent's name.
    pub agent: String,
    /// Its queue.
    pub queue_url: String,
    /// The ARN of its queue, for moves.
    pub queue_arn: String,
    /// Its dead-letter queue.
    pub dead_letter_url: String,
    /// The ARN of its dead-letter queue, for moves.
    pub dead_letter_arn: String,
    /// The queue for messages that SNS could not deliver to its queue; `None` where the deployment has none.
    pub subscription_dead_letter_url: Option<String>,
    /// The ARN of its function.
    pub function: String,
    /// The UUID of the event source mapping that feeds its function.
    pub mapping: String,
    /// Its express queue; `None` for an agent that has not asked for one.
    pub express: Option<Express>,
}

/// The express queue of an agent, for urgent messages. It shares the agent's function and dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Express {
    /// The least priority that goes here.
    pub from: u8,
    /// The queue.
    pub queue_url: String,
    /// The ARN of the queue, for moves.
    pub queue_arn: String,
    /// The UUID of the event source mapping that feeds the agent's function from it.
    pub mapping: String,
}

impl AgentPlaces {
    /// The UUIDs of all event source mappings that feed its function from its queues.
    pub fn mappings(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.mapping.as_str()).chain(self.express.iter().map(|express| express.mapping.as_str()))
    }
}

/// What a directory has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// Every agent once, by name, and complete: an agent with a queue that could not be inspected is left out, since without its express queue it
    /// would look like an agent with one queue.
    pub agents: Vec<AgentPlaces>,
    /// One line for each queue whose agent or dead-letter queue could not be found out: it has no dead-letter queue, or did not answer. While there
    /// is one, an agent that is not among `agents` may still be deployed.
    pub troubles: Vec<String>,
}

/// The agents of a stack.
#[allow(async_fn_in_trait)]
pub trait Directory {
    /// The agents that are deployed now; none where the stack has none. Ask again rather than remember. A queue that is set up wrongly leaves out its
    /// own agent and no other: it is among the troubles.
    ///
    /// # Errors
    /// [`BusError`] where the list itself is not available.
    async fn places(&self) -> Result<Places, BusError>;
}

/// The agents of a stack, by Lambda's event source mappings and the tags of their queues.
///
/// A mapping whose queue CloudFormation may have named for the stack is a candidate; the queue's tag `switchyard:agent` makes it an agent's. A queue without that
/// tag is left out. CloudFormation shortens long names, so the stack's name must be short enough to be whole in the names of its queues: up to 28
/// characters always is.
#[derive(Debug, Clone)]
pub struct LambdaDirectory {
    lambda: aws_sdk_lambda::Client,
    sqs: aws_sdk_sqs::Client,
    stack: String,
}

impl LambdaDirectory {
    /// The agents of the stack with this name, in the account and region of these settings.
    #[must_use]
    pub fn new(settings: &aws_config::SdkConfig, stack: String) -> Self {
        let (lambda, sqs) = (aws_sdk_lambda::Client::new(settings), aws_sdk_sqs::Client::new(settings));
        Self { lambda, sqs, stack }
    }

    async fn candidates(&self) -> Result<Vec<Candidate>, BusError> {
        let mut found = Vec::new();
        let mut marker = None;
        loop {
            let call = self.lambda.list_event_source_mappings().set_marker(marker);
            let page = Box::pin(call.send()).await.map_err(|error| BusError::of("ListEventSourceMappings", &error))?;
            let mappings = page.event_source_mappings.unwrap_or_default().into_iter();
            found.extend(mappings.filter_map(|mapping| candidate(mapping, &self.stack)));
            marker = page.next_marker.filter(|marker| !marker.is_empty());
            if marker.is_none() {
                return Ok(found);
            }
        }
    }

    /// Whose queue this is, if it is an agent's.
    async fn owned(&self, candidate: Candidate) -> Result<Option<Owned>, BusError> {
        let queue_url = self.url(&candidate.queue_arn).await?;
        let call = self.sqs.list_queue_tags().queue_url(&queue_url);
        let answer = Box::pin(call.send()).await.map_err(|error| BusError::of("ListQueueTags", &error))?;
        let tag = |name: &str| answer.tags().and_then(|tags| tags.get(name)).filter(|value| !value.is_empty()).cloned();
        let elsewhere = tag(STACK_TAG).is_some_and(|stack| stack != self.stack);
        let Some(agent) = tag(AGENT_TAG).filter(|_| !elsewhere) else {
            return Ok(None);
        };
        if let Some(from) = tag(EXPRESS_TAG) {
            let from = least_priority(&from, &candidate.queue_arn)?;
            let Candidate { queue_arn, function, mapping } = candidate;
            let express = Express { from, queue_url, queue_arn, mapping };
            return Ok(Some(Owned::Express { agent, function, express }));
        }
        let dead_letter_arn = self.dead_letter_arn(&queue_url, &candidate.queue_arn).await?;
        Ok(Some(Owned::Agent(AgentPlaces {
            agent,
            queue_url,
            queue_arn: candidate.queue_arn,
            dead_letter_url: self.url(&dead_letter_arn).await?,
            dead_letter_arn,
            subscription_dead_letter_url: tag(SUBSCRIPTION_TAG),
            function: candidate.function,
            mapping: candidate.mapping,
            express: None,
        })))
    }

    async fn url(&self, arn: &str) -> Result<String, BusError> {
        const OPERATION: &str = "GetQueueUrl";
        let call = self.sqs.get_queue_url().queue_name(queue_name(arn));
        let answer = Box::pin(call.send()).await.map_err(|error| BusError::of(OPERATION, &error))?;
        answer.queue_url.ok_or_else(|| BusError::refused(OPERATION, "the answer has no URL", true))
    }

    async fn dead_letter_arn(&self, queue_url: &str, queue_arn: &str) -> Result<String, BusError> {
        const OPERATION: &str = "GetQueueAttributes";
        let call = self.sqs.get_queue_attributes().queue_url(queue_url);
        let call = call.attribute_names(QueueAttributeName::RedrivePolicy);
        let answer = Box::pin(call.send()).await.map_err(|error| BusError::of(OPERATION, &error))?;
        let policy = answer.attributes().and_then(|all| all.get(&QueueAttributeName::RedrivePolicy));
        policy.and_then(|policy| target(policy)).ok_or_else(|| BusError {
            operation: OPERATION,
            detail: format!("the queue {} has no dead-letter queue: deploy the template again", queue_name(queue_arn)),
            transient: false,
            setup: true,
        })
    }
}

impl Directory for LambdaDirectory {
    async fn places(&self) -> Result<Places, BusError> {
        let one = async |candidate: Candidate| {
            let (queue, function) = (queue_name(&candidate.queue_arn).to_owned(), candidate.function.clone());
            self.owned(candidate)
                .await
                .map_err(|error| Uninspected { function, trouble: format!("the queue {queue}: {error}") })
        };
        Ok(gathered(join_all(self.candidates().await?.into_iter().map(one)).await))
    }
}

/// A queue with its owner.
#[derive(Debug)]
enum Owned {
    /// The queue of this agent, without its express queue.
    Agent(AgentPlaces),
    /// The express queue of the agent with this name, which feeds this function.
    Express { agent: String, function: String, express: Express },
}

/// A queue that could not be inspected. The function that it feeds identifies its agent: all queues of an agent feed the same function.
#[derive(Debug)]
struct Uninspected {
    function: String,
    trouble: String,
}

/// The complete agents, and what is wrong with the queues of the others.
fn gathered(candidates: Vec<Result<Option<Owned>, Uninspected>>) -> Places {
    let (mut agents, mut express_queues, mut uninspected) = (Vec::new(), HashMap::new(), Vec::new());
    for candidate in candidates {
        match candidate {
            Ok(Some(Owned::Agent(agent))) => agents.push(agent),
            Ok(Some(Owned::Express { agent, function, express })) => {
                drop(express_queues.insert(agent, (function, express)))
            }
            Ok(None) => {}
            Err(trouble) => uninspected.push(trouble),
        }
    }
    let is_complete = |function: &str| uninspected.iter().all(|queue| queue.function != function);
    express_queues.retain(|_, (function, _)| is_complete(function));
    let (complete, incomplete): (Vec<_>, Vec<_>) =
        in_order(agents).into_iter().partition(|agent| is_complete(&agent.function));
    let agents: Vec<_> = complete
        .into_iter()
        .map(|agent| AgentPlaces { express: express_queues.remove(&agent.agent).map(|(_, express)| express), ..agent })
        .collect();
    let mut troubles: Vec<String> = uninspected.into_iter().map(|queue| queue.message(&incomplete)).collect();
    troubles.extend(express_queues.into_iter().map(|(agent, (_, express))| {
        let queue = queue_name(&express.queue_arn);
        format!(
            "the queue {queue} is the express queue of {agent}, which has no other queue: deploy the template again"
        )
    }));
    troubles.sort();
    Places { agents, troubles }
}

impl Uninspected {
    /// One line, with the agent that is left out because of it, where that is known.
    fn message(self, incomplete: &[AgentPlaces]) -> String {
        match incomplete.iter().find(|agent| agent.function == self.function) {
            Some(AgentPlaces { agent, .. }) => {
                format!("{}; until it can be inspected, {agent} is left out", self.trouble)
            }
            None => self.trouble,
        }
    }
}

/// The priority in the tag of an express queue.
fn least_priority(tag: &str, queue_arn: &str) -> Result<u8, BusError> {
    let queue = queue_name(queue_arn);
    tag.parse().ok().filter(|from| (1..=10).contains(from)).ok_or_else(|| BusError {
        operation: "ListQueueTags",
        detail: format!(
            "the tag {EXPRESS_TAG} of {queue} is {tag:?}, not a priority from 1 to 10: deploy the template again"
        ),
        transient: false,
        setup: true,
    })
}

/// A mapping that may be an agent's.
#[derive(Debug, PartialEq, Eq)]
struct Candidate {
    queue_arn: String,
    function: String,
    mapping: String,
}

fn candidate(mapping: EventSourceMappingConfiguration, stack: &str) -> Option<Candidate> {
    let queue_arn = mapping.event_source_arn.filter(|arn| arn.contains(":sqs:"))?;
    let candidate = |queue_arn| Some(Candidate { queue_arn, function: mapping.function_arn?, mapping: mapping.uuid? });
    if is_of_stack(queue_name(&queue_arn), stack) { candidate(queue_arn) } else { None }
}

/// Whether CloudFormation may have named the queue for this stack: the stack's name, a logical name, and characters of its own, or `.fifo`. A logical
/// name has no hyphen, so the queues of `dev-two` are not those of `dev`, which may not even read their tags.
fn is_of_stack(queue: &str, stack: &str) -> bool {
    let Some(rest) = queue.strip_prefix(stack).and_then(|rest| rest.strip_prefix('-')) else { return false };
    match rest.strip_suffix(".fifo") {
        Some(name) => !name.contains('-'),
        None => rest.matches('-').count() <= 1,
    }
}

/// The last part of a queue's ARN.
fn queue_name(arn: &str) -> &str {
    arn.rsplit_once(':').map_or(arn, |(_, name)| name)
}

/// The dead-letter queue that a redrive policy names.
fn target(policy: &str) -> Option<String> {
    let policy: serde_json::Value = serde_json::from_str(policy).ok()?;
    Some(policy.get("deadLetterTargetArn")?.as_str()?.to_owned())
}

/// By name, and each agent once. A second queue with the same tag was made by hand; it is ignored.
fn in_order(mut places: Vec<AgentPlaces>) -> Vec<AgentPlaces> {
    places.sort_by(|a, b| (&a.agent, &a.queue_arn).cmp(&(&b.agent, &b.queue_arn)));
    places.dedup_by(|later, first| {
        let same = later.agent == first.agent;
        if same {
            tracing::warn!(
                agent = first.agent,
                used = first.queue_arn,
                ignored = later.queue_arn,
                "two queues have the tag of one agent; the second is ignored"
            );
        }
        same
    });
    places
}

/// A directory in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryDirectory {
    places: Places,
}

impl MemoryDirectory {
    /// These agents.
    #[must_use]
    pub fn of(places: Vec<AgentPlaces>) -> Self {
        Self { places: Places { agents: in_order(places), troubles: Vec::new() } }
    }

    /// The same with a queue that could not be inspected.
    #[must_use]
    pub fn with_trouble(mut self, trouble: impl Into<String>) -> Self {
        self.places.troubles.push(trouble.into());
        self
    }
}

impl Directory for MemoryDirectory {
    async fn places(&self) -> Result<Places, BusError> {
        Ok(self.places.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(arn: &str) -> EventSourceMappingConfiguration {
        EventSourceMappingConfiguration::builder().event_source_arn(arn).function_arn("f").uuid("u").build()
    }

    #[test]
    fn a_queue_of_the_stack_is_named_after_it() {
        let of = |arn: &str| candidate(mapping(arn), "dev").is_some();
        assert!(of("arn:aws:sqs:eu-west-1:000000000000:dev-SentimentQueue-1A"));
        assert!(of("arn:aws:sqs:eu-west-1:000000000000:dev-SentimentQueue.fifo"));
        assert!(!of("arn:aws:sqs:eu-west-1:000000000000:develop-SentimentQueue-1A"));
        assert!(!of("arn:aws:sqs:eu-west-1:000000000000:dev-two-SentimentQueue-1A"));
        assert!(!of("arn:aws:sqs:eu-west-1:000000000000:dev-two-SentimentQueue.fifo"));
        assert!(!of("arn:aws:sqs:eu-west-1:000000000000:dev"));
        assert!(!of("arn:aws:dynamodb:eu-west-1:000000000000:dev-table"));
    }

    fn agent(name: &str) -> AgentPlaces {
        AgentPlaces {
            agent: name.into(),
            queue_url: String::new(),
            queue_arn: name.into(),
            dead_letter_url: String::new(),
            dead_letter_arn: String::new(),
            subscription_dead_letter_url: None,
            function: format!("{name}-function"),
            mapping: "usual".into(),
            express: None,
        }
    }

    fn own(name: &str) -> Result<Option<Owned>, Uninspected> {
        Ok(Some(Owned::Agent(agent(name))))
    }

    fn express_queue(agent: &str) -> Result<Option<Owned>, Uninspected> {
        let queue_arn = format!("arn:aws:sqs:eu-west-1:000000000000:dev-{agent}");
        let express = Express { from: 8, queue_url: String::new(), queue_arn, mapping: "express".into() };
        Ok(Some(Owned::Express { agent: agent.into(), function: format!("{agent}-function"), express }))
    }

    fn broken(agent: &str) -> Result<Option<Owned>, Uninspected> {
        Err(Uninspected { function: format!("{agent}-function"), trouble: "the queue dev-x: broken".into() })
    }

    fn names(found: &Places) -> Vec<&str> {
        found.agents.iter().map(|agent| agent.agent.as_str()).collect()
    }

    #[test]
    fn a_broken_queue_is_reported_and_hides_no_other_agent() {
        let found = gathered(vec![own("b"), broken("c"), Ok(None), own("a")]);
        assert_eq!(
            found,
            Places { agents: vec![agent("a"), agent("b")], troubles: vec!["the queue dev-x: broken".into()] }
        );
    }

    #[test]
    fn an_agent_with_a_queue_that_could_not_be_inspected_is_left_out_rather_than_shown_without_its_express_queue() {
        let found = gathered(vec![own("a"), broken("a"), own("b"), express_queue("b")]);
        assert_eq!(names(&found), ["b"]);
        assert_eq!(found.troubles, ["the queue dev-x: broken; until it can be inspected, a is left out"]);

        let found = gathered(vec![broken("a"), express_queue("a"), own("b")]);
        assert_eq!(names(&found), ["b"]);
        assert_eq!(found.troubles, ["the queue dev-x: broken"], "its express queue is set up well");
    }

    #[test]
    fn an_express_queue_belongs_to_its_agent_and_one_without_an_agent_is_reported() {
        let found = gathered(vec![express_queue("b"), express_queue("a"), own("a")]);
        assert_eq!(found.agents[0].mappings().collect::<Vec<_>>(), ["usual", "express"]);
        assert!(found.troubles.len() == 1 && found.troubles[0].contains("dev-b"), "{:?}", found.troubles);
    }

    #[test]
    fn a_tag_that_is_no_priority_is_a_fault_of_the_set_up() {
        assert_eq!(least_priority("8", "arn:q"), Ok(8));
        for tag in ["0", "11", "high", ""] {
            assert!(least_priority(tag, "arn:q").is_err_and(|error| error.setup), "{tag}");
        }
    }

    #[test]
    fn a_redrive_policy_names_the_dead_letter_queue() {
        assert_eq!(target(r#"{"deadLetterTargetArn":"arn:x","maxReceiveCount":1000}"#).as_deref(), Some("arn:x"));
        for none in ["", "{}", "null", r#"{"deadLetterTargetArn":7}"#] {
            assert_eq!(target(none), None, "{none}");
        }
    }
}
