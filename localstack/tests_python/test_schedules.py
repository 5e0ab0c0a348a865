"""Rules on a schedule invoke their functions."""

import unittest

from lab import Function, Journal, eventually, server


class Schedules(unittest.TestCase):
    def test_a_rule_of_one_minute_fires_within_a_minute_or_so(self) -> None:
        account, journal = server().account(), Journal()
        Function(account, JOURNAL=str(journal.folder))
        events = account.client("events")
        rule = events.put_rule(Name="every-minute", ScheduleExpression="rate(1 minute)")["RuleArn"]
        function = f"arn:aws:lambda:us-east-1:{account.account}:function:subject"
        account.client("lambda").add_permission(
            FunctionName="subject", StatementId="rule", Action="lambda:InvokeFunction",
            Principal="events.amazonaws.com", SourceArn=rule,
        )  # fmt: skip
        events.put_targets(Rule="every-minute", Targets=[{"Id": "subject", "Arn": function}])
        (entry, *_) = eventually("it has fired", journal.entries, seconds=100)
        self.assertEqual(entry["event"]["detail-type"], "Scheduled Event")


if __name__ == "__main__":
    unittest.main()
