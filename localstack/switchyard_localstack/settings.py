"""The environment LocalStack is started with: host mode, loopback only, everything below one folder."""

import os
import shutil
from pathlib import Path

# Read by LocalStack itself or by the libraries in it. Whatever the user's shell holds of these would change what
# is served here (another region, a profile with real keys, persistence, an own log level), so it is dropped.
_FOREIGN_PREFIXES = ("AWS_", "LAMBDA_", "SQS_", "SNS_", "CFN_", "DNS_", "LS_", "LOCALSTACK_", "GATEWAY_", "PROVIDER_")
_FOREIGN_NAMES = ("SERVICES", "DEBUG", "PERSISTENCE", "CONFIG_PROFILE", "CONFIG_DIR", "DATA_DIR", "IN_MEMORY_CLIENT")

# Services the bundle uses. Each costs its import at its first call: loading them at the start, before anybody
# waits for an answer, makes the first deployment as quick as the later ones.
PRELOADED = (
    "sts", "iam", "s3", "sqs", "sns", "lambda", "logs", "events", "cloudwatch", "secretsmanager", "ssm",
    "cloudformation",
)  # fmt: skip


def apply(port: int, data: Path) -> None:
    """Sets the environment of this process. Call it before anything of LocalStack is imported.

    `data` gets three folders: ``files`` (LocalStack's own), ``tmp`` (emptied now: whatever it holds belongs to a
    run that is over) and ``bootstraps`` (one file for each running process, also emptied).
    """
    for name in list(os.environ):
        if name.startswith(_FOREIGN_PREFIXES) or name in _FOREIGN_NAMES:
            del os.environ[name]
    temporary = data / "tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(data / "bootstraps", ignore_errors=True)
    for folder in (temporary, data / "files", data / "bootstraps"):
        folder.mkdir(parents=True, exist_ok=True)
    os.environ.update(
        {
            "FILESYSTEM_ROOT": str(data / "files"),
            "CONFIG_DIR": str(data / "files"),
            # Without these two, all instances on a machine share /tmp/localstack and /tmp/lambda. The second is
            # needed since inside any container LocalStack takes itself for its own image and ignores the first.
            "TMPDIR": str(temporary),
            "OVERRIDE_IN_DOCKER": "0",
            "GATEWAY_LISTEN": f"127.0.0.1:{port}",
            # By name, not by address: routing by the Host header (function URLs) goes by domain names.
            "LOCALSTACK_HOST": f"localhost:{port}",
            "SQS_ENDPOINT_STRATEGY": "path",
            "LAMBDA_RUNTIME_EXECUTOR": "process",
            # A function is ready when its creation returns: CloudFormation has nothing to poll for.
            "LAMBDA_SYNCHRONOUS_CREATE": "1",
            # Between two looks of a mapping. Looking is a wait on the queue itself, see polling.py.
            "LAMBDA_EVENT_SOURCE_MAPPING_POLL_INTERVAL_SEC": "0.01",
            # LocalStack's own calls from one service to another are function calls, not requests over HTTP.
            "IN_MEMORY_CLIENT": "1",
            "DNS_ADDRESS": "0",
            "DISABLE_EVENTS": "1",
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
    )
