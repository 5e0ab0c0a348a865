"""Clients for one account of a LocalStack: an access key of twelve digits is the account it stands for."""

import os
from typing import Any

import boto3
from botocore.config import Config


class Account:
    """An account and region behind an endpoint on this machine."""

    def __init__(self, endpoint: str, account: str, region: str) -> None:
        self.endpoint = endpoint
        self.account = account
        self.region = region
        for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
            os.environ.pop(name, None)
        # The user's real keys and settings have no business here, and nothing here has any with the real AWS.
        os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
        os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
        self._session = boto3.Session(aws_access_key_id=account, aws_secret_access_key="test", region_name=region)

    def sibling(self, account: str) -> "Account":
        """Another account of the same LocalStack."""
        return Account(self.endpoint, account, self.region)

    def client(self, service: str) -> Any:
        """A client that goes to the endpoint, whatever proxy the environment names, and does not retry."""
        config = Config(
            retries={"total_max_attempts": 1}, proxies={}, s3={"addressing_style": "path"}, parameter_validation=True
        )
        return self._session.client(service, endpoint_url=self.endpoint, config=config)
