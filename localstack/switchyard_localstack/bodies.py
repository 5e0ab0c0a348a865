"""Message bodies reach a function byte for byte.

LocalStack parses every SQS body as JSON for its filters and prints it anew for the function: ``1.0,  "é"`` becomes
``1.0, "\\u00e9"``, ``1e400`` becomes ``Infinity``. Here the filters get a copy, and the function gets the body.
"""

import json
from typing import Any

from localstack.utils.event_matcher import matches_event


def matching(patterns: list[dict[str, Any]], events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events that at least one of the mapping's filter patterns accepts; without patterns, all of them."""
    if not patterns:
        return events
    return [event for event in events if any(matches_event(pattern, _parsed(event)) for pattern in patterns)]


def _parsed(event: dict[str, Any]) -> dict[str, Any]:
    try:
        return {**event, "body": json.loads(event["body"])}
    except json.JSONDecodeError:
        # Plain text: patterns about the body's fields do not match it, patterns about attributes may.
        return event
