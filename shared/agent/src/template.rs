//! The agent's block of `template.yaml`, rendered from what it declares. Pure text, so that a test can compare it to the file.

use crate::{Declaration, Lanes};
use std::fmt::Write;

/// How often a message may be received before the queue itself moves it to the dead-letter queue: the most that SQS takes. Only the net for what
/// kills every process that so much as reads it: the runtime counts attempts, tries alone what may have killed a process, and returns what costs
/// nothing. So it must outlast every outage: a record that comes again every 7 to 15 minutes is received 500 times in the queue's 4 days.
const MAX_RECEIVES: u32 = 1_000;

/// What stands in a block only where the agent has asked for an express lane: a line between these two and they themselves go, or stay.
const EXPRESS_ONLY: (&str, &str) = ("{express}", "{/express}");

/// What the runtime logs when it parks an event because its chain is too long or too old. The agents' metric filters look for these words, so
/// they are said in one place.
pub const STOPPED_CHAIN: &str = "a chain was stopped";

impl Declaration {
    /// The agent's block: queues, subscription, role, function, alarms. Indented as it stands under `Resources`.
    #[must_use]
    pub fn template_block(&self) -> String {
        let types = self.subscribes.iter().fold(String::new(), |mut list, name| {
            let _ = write!(list, "\n          - {name}");
            list
        });
        let visibility = self.limits.timeout_secs * 6;
        let (express, from) = match self.lanes {
            Lanes::One => (false, String::new()),
            Lanes::Express { from } => (true, from.to_string()),
        };
        lanes(express)
            .replace("{from}", &from)
            .replace("{Id}", &self.logical_id())
            .replace("{name}", &self.name)
            .replace("{stopped}", STOPPED_CHAIN)
            .replace("{types}", &types)
            .replace("{visibility}", &visibility.to_string())
            .replace("{receives}", &MAX_RECEIVES.to_string())
            .replace("{timeout}", &self.limits.timeout_secs.to_string())
            .replace("{memory}", &self.limits.memory_mb.to_string())
            .replace("{batch}", &self.limits.batch_size.to_string())
            .replace("{concurrency}", &self.limits.max_concurrency.to_string())
    }

    /// The agent's name as CloudFormation spells names: `baseline-validation` becomes `BaselineValidation`.
    #[must_use]
    pub fn logical_id(&self) -> String {
        self.name
            .split('-')
            .map(|word| {
                let mut letters = word.chars();
                letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
            })
            .collect()
    }
}

/// The block with or without what is for an express lane.
fn lanes(express: bool) -> String {
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

const BLOCK: &str =
    "  # agent {name}: rendered by `cargo run -p {name} -- template`; edit the agent's declarations, not this block
  {Id}Queue:
    Type: AWS::SQS::Queue
    Properties:
      # Named on FIFO alone: a name that CloudFormation makes up can become longer than the 80 characters that SQS takes, with `.fifo` behind it
      QueueName: !If [IsFifo, !Sub '${AWS::StackName}-{Id}Queue.fifo', !Ref AWS::NoValue]
      FifoQueue: !If [IsFifo, true, !Ref AWS::NoValue]
      DeduplicationScope: !If [IsFifo, messageGroup, !Ref AWS::NoValue]
      FifoThroughputLimit: !If [IsFifo, perMessageGroupId, !Ref AWS::NoValue]
      # Six times the function's timeout (AWS Lambda Developer Guide, \"Using Lambda with Amazon SQS\")
      VisibilityTimeout: {visibility}
      MessageRetentionPeriod: 345600 # 4 days
      SqsManagedSseEnabled: true
      RedrivePolicy:
        deadLetterTargetArn: !GetAtt {Id}DeadLetterQueue.Arn
        maxReceiveCount: {receives} # only for processes that die; attempts are counted in the ledger
      Tags: # how the operating functions find the agents of a stack: there is no list
        - Key: switchyard:agent
          Value: {name}
        - Key: switchyard:subscription-dead-letters
          Value: !Ref {Id}SubscriptionDeadLetterQueue
  {Id}DeadLetterQueue:
    Type: AWS::SQS::Queue
    Properties:
      QueueName: !If [IsFifo, !Sub '${AWS::StackName}-{Id}DeadLetterQueue.fifo', !Ref AWS::NoValue]
      FifoQueue: !If [IsFifo, true, !Ref AWS::NoValue]
      DeduplicationScope: !If [IsFifo, messageGroup, !Ref AWS::NoValue]
      FifoThroughputLimit: !If [IsFifo, perMessageGroupId, !Ref AWS::NoValue]
      MessageRetentionPeriod: 1209600 # 14 days; a message keeps the timestamp of its first queue
      SqsManagedSseEnabled: true
  {Id}QueuePolicy:
    Type: AWS::SQS::QueuePolicy
    Properties:
      Queues:
        - !Ref {Id}Queue
        - !Ref {Id}SubscriptionDeadLetterQueue
      PolicyDocument:
        Version: '2012-10-17'
        Statement:
          - Effect: Allow
            Principal:
              Service: sns.amazonaws.com
            Action: sqs:SendMessage
            Resource:
              - !GetAtt {Id}Queue.Arn
              - !GetAtt {Id}SubscriptionDeadLetterQueue.Arn
            Condition:
              ArnEquals:
                aws:SourceArn: !Ref Topic
  {Id}Subscription:
    Type: AWS::SNS::Subscription
    Properties:
      TopicArn: !Ref Topic
      Protocol: sqs
      Endpoint: !GetAtt {Id}Queue.Arn
      RawMessageDelivery: true
      FilterPolicyScope: MessageAttributes
      FilterPolicy:
        event_type:{types}
{express}        priority: !If [HasLanes, [{ numeric: ['<', {from}] }], !Ref AWS::NoValue]
{/express}      RedrivePolicy:
        deadLetterTargetArn: !GetAtt {Id}SubscriptionDeadLetterQueue.Arn
{express}  # What is urgent: priority {from} and above. With the function and the dead-letter queue of the rest, and a mapping of its own
  {Id}ExpressQueue:
    Type: AWS::SQS::Queue
    Condition: HasLanes
    Properties:
      VisibilityTimeout: {visibility}
      MessageRetentionPeriod: 345600 # 4 days
      SqsManagedSseEnabled: true
      RedrivePolicy:
        deadLetterTargetArn: !GetAtt {Id}DeadLetterQueue.Arn
        maxReceiveCount: {receives}
      Tags:
        - Key: switchyard:agent
          Value: {name}
        - Key: switchyard:express-from
          Value: '{from}'
  {Id}ExpressQueuePolicy:
    Type: AWS::SQS::QueuePolicy
    Condition: HasLanes
    Properties:
      Queues: [!Ref {Id}ExpressQueue]
      PolicyDocument:
        Version: '2012-10-17'
        Statement:
          - Effect: Allow
            Principal:
              Service: sns.amazonaws.com
            Action: sqs:SendMessage
            Resource: !GetAtt {Id}ExpressQueue.Arn
            Condition:
              ArnEquals:
                aws:SourceArn: !Ref Topic
  {Id}ExpressSubscription:
    Type: AWS::SNS::Subscription
    Condition: HasLanes
    Properties:
      TopicArn: !Ref Topic
      Protocol: sqs
      Endpoint: !GetAtt {Id}ExpressQueue.Arn
      RawMessageDelivery: true
      FilterPolicyScope: MessageAttributes
      FilterPolicy:
        event_type:{types}
        priority: [{ numeric: ['>=', {from}] }]
      RedrivePolicy:
        deadLetterTargetArn: !GetAtt {Id}SubscriptionDeadLetterQueue.Arn
  {Id}ExpressMapping:
    Type: AWS::Lambda::EventSourceMapping
    Condition: HasLanes
    Properties:
      EventSourceArn: !GetAtt {Id}ExpressQueue.Arn
      FunctionName: !Ref {Id}Function
      BatchSize: {batch}
      FunctionResponseTypes: [ReportBatchItemFailures]
      ScalingConfig:
        MaximumConcurrency: {concurrency}
{/express}  {Id}SubscriptionDeadLetterQueue: # what SNS could not deliver to the queue
    Type: AWS::SQS::Queue
    Properties:
      QueueName: !If [IsFifo, !Sub '${AWS::StackName}-{Id}Undelivered.fifo', !Ref AWS::NoValue]
      FifoQueue: !If [IsFifo, true, !Ref AWS::NoValue]
      DeduplicationScope: !If [IsFifo, messageGroup, !Ref AWS::NoValue]
      FifoThroughputLimit: !If [IsFifo, perMessageGroupId, !Ref AWS::NoValue]
      MessageRetentionPeriod: 1209600
      SqsManagedSseEnabled: true
  {Id}LogGroup:
    Type: AWS::Logs::LogGroup
    DeletionPolicy: Delete
    UpdateReplacePolicy: Delete
    Properties:
      RetentionInDays: !Ref LogRetentionDays
  {Id}Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Version: '2012-10-17'
        Statement:
          - Effect: Allow
            Principal:
              Service: lambda.amazonaws.com
            Action: sts:AssumeRole
      Policies:
        - PolicyName: {name}
          PolicyDocument:
            Version: '2012-10-17'
            Statement:
              - Effect: Allow
                Action: [sqs:ReceiveMessage, sqs:DeleteMessage, sqs:GetQueueAttributes, sqs:ChangeMessageVisibility]
                Resource:
                  - !GetAtt {Id}Queue.Arn
{express}                  - !If [HasLanes, !GetAtt {Id}ExpressQueue.Arn, !Ref AWS::NoValue]
{/express}              - Effect: Allow
                Action: sqs:SendMessage
                Resource: !GetAtt {Id}DeadLetterQueue.Arn
              - Effect: Allow
                Action: [logs:CreateLogStream, logs:PutLogEvents]
                Resource: !GetAtt {Id}LogGroup.Arn
  {Id}Function:
    Type: AWS::Serverless::Function
    Metadata:
      BuildMethod: rust-cargolambda
      BuildProperties:
        Binary: {name}
    Properties:
      CodeUri: .
      Timeout: {timeout}
      MemorySize: {memory}
      Role: !GetAtt {Id}Role.Arn
      LoggingConfig:
        LogGroup: !Ref {Id}LogGroup
      Environment:
        Variables:
          QUEUE_URL: !Ref {Id}Queue
{express}          EXPRESS_QUEUE_URL: !If [HasLanes, !Ref {Id}ExpressQueue, '']
{/express}          DEAD_LETTER_URL: !Ref {Id}DeadLetterQueue
          MAX_HOPS: !Ref MaxHops
          CHAIN_HOURS: !Ref ChainHours
      Events:
        Queue:
          Type: SQS
          Properties:
            Queue: !GetAtt {Id}Queue.Arn
            BatchSize: {batch}
            FunctionResponseTypes: [ReportBatchItemFailures]
            ScalingConfig:
              MaximumConcurrency: {concurrency}
  {Id}DeadLetterAlarm:
    Type: AWS::CloudWatch::Alarm
    Properties:
      AlarmDescription: Events of the agent {name} are parked; their reasons stand in switchyard.failure
      Namespace: AWS/SQS
      MetricName: ApproximateNumberOfMessagesVisible
      Dimensions:
        - Name: QueueName
          Value: !GetAtt {Id}DeadLetterQueue.QueueName
      Statistic: Maximum
      Period: 60
      EvaluationPeriods: 1
      Threshold: 0
      ComparisonOperator: GreaterThanThreshold
      TreatMissingData: notBreaching
      AlarmActions: !If [HasAlarmTopic, [!Ref AlarmTopicArn], []]
  {Id}SubscriptionDeadLetterAlarm:
    Type: AWS::CloudWatch::Alarm
    Properties:
      AlarmDescription: SNS could not deliver events to the queue of {name}; the ledger does not know it yet
      Namespace: AWS/SQS
      MetricName: ApproximateNumberOfMessagesVisible
      Dimensions:
        - Name: QueueName
          Value: !GetAtt {Id}SubscriptionDeadLetterQueue.QueueName
      Statistic: Maximum
      Period: 60
      EvaluationPeriods: 1
      Threshold: 0
      ComparisonOperator: GreaterThanThreshold
      TreatMissingData: notBreaching
      AlarmActions: !If [HasAlarmTopic, [!Ref AlarmTopicArn], []]
  {Id}LagAlarm:
    Type: AWS::CloudWatch::Alarm
    Properties:
      AlarmDescription: The agent {name} has not caught up for a quarter of an hour
      Namespace: AWS/SQS
      MetricName: ApproximateAgeOfOldestMessage
      Dimensions:
        - Name: QueueName
          Value: !GetAtt {Id}Queue.QueueName
      Statistic: Maximum
      Period: 60
      EvaluationPeriods: 5
      Threshold: 900
      ComparisonOperator: GreaterThanThreshold
      TreatMissingData: notBreaching
      AlarmActions: !If [HasAlarmTopic, [!Ref AlarmTopicArn], []]
{express}  {Id}ExpressLagAlarm:
    Type: AWS::CloudWatch::Alarm
    Condition: HasLanes
    Properties:
      AlarmDescription: What is urgent has waited for the agent {name} for more than a minute
      Namespace: AWS/SQS
      MetricName: ApproximateAgeOfOldestMessage
      Dimensions:
        - Name: QueueName
          Value: !GetAtt {Id}ExpressQueue.QueueName
      Statistic: Maximum
      Period: 60
      EvaluationPeriods: 5
      Threshold: 60
      ComparisonOperator: GreaterThanThreshold
      TreatMissingData: notBreaching
      AlarmActions: !If [HasAlarmTopic, [!Ref AlarmTopicArn], []]
{/express}  {Id}StoppedChainMetric: # every agent feeds the one metric that StoppedChainsAlarm watches
    Type: AWS::Logs::MetricFilter
    Properties:
      LogGroupName: !Ref {Id}LogGroup
      FilterPattern: '\"{stopped}\"'
      MetricTransformations:
        - MetricNamespace: Switchyard
          MetricName: !Sub ${AWS::StackName}-stopped-chains
          MetricValue: '1'
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, RoutedBy, Schedule};

    fn declaration() -> Declaration {
        Declaration {
            name: "baseline-validation".into(),
            subscribes: vec!["model.evaluated".into(), "clock.ticked".into()],
            routed_by: RoutedBy::Aggregate,
            max_attempts: 4,
            schedule: Schedule::DEFAULT,
            limits: Limits { timeout_secs: 20, ..Limits::DEFAULT },
            lanes: Lanes::One,
        }
    }

    #[test]
    fn the_block_carries_what_the_agent_declares_and_leaves_no_gap() {
        let block = declaration().template_block();
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
        let known = ["${AWS::StackName}", "{ numeric: ['<', 8] }", "{ numeric: ['>=', 8] }"];
        let rest = known.iter().fold(block.to_owned(), |block, known| block.replace(known, ""));
        assert!(!rest.contains(['{', '}']), "a placeholder was not filled in");
    }

    #[test]
    fn an_agent_that_asks_for_an_express_lane_hears_each_priority_on_one_queue_and_one_that_does_not_has_one_queue() {
        let express = Declaration { lanes: Lanes::EXPRESS, ..declaration() }.template_block();
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
            "both hear the same types"
        );
        filled_in(&express);
        let one = declaration().template_block();
        assert!(!one.contains("Express") && !one.contains("HasLanes"), "{one}");
    }

    #[test]
    fn every_queue_of_an_agent_is_of_fifo_where_the_topology_is() {
        let block = declaration().template_block();
        let (queues, fifo) = ("Type: AWS::SQS::Queue\n", "FifoQueue: !If [IsFifo, true, !Ref AWS::NoValue]");
        assert_eq!(block.matches(queues).count(), block.matches(fifo).count());
    }

    #[test]
    fn a_queue_says_whose_it_is_and_where_undelivered_messages_go() {
        let block = declaration().template_block();
        let queue = block.split("  BaselineValidationDeadLetterQueue:").next().unwrap_or_default();
        for tag in [
            "Key: switchyard:agent\n          Value: baseline-validation\n",
            "Key: switchyard:subscription-dead-letters\n          Value: !Ref BaselineValidationSubscriptionDeadLetterQueue\n",
        ] {
            assert!(queue.contains(tag), "{tag}");
        }
    }

    #[test]
    fn the_words_that_the_metric_filter_looks_for_are_those_that_the_runtime_logs() {
        assert!(declaration().template_block().contains(&format!("FilterPattern: '\"{STOPPED_CHAIN}\"'")));
    }
}
