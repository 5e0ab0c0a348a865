"""The command line: ``python -m switchyard_localstack serve | deploy | undeploy``."""

import argparse
import sys
from pathlib import Path


def main() -> int:
    arguments = _parser().parse_args()
    if arguments.command == "serve":
        from .serve import PortBusy, serve

        try:
            serve(arguments.port, arguments.data.resolve(), arguments.exit_with_stdin)
        except PortBusy as e:
            print(e, file=sys.stderr)
            return 1
        return 0
    from . import deploy
    from .account import Account

    account = Account(arguments.endpoint, arguments.account, arguments.region)
    try:
        if arguments.command == "deploy":
            parameters, secrets = dict(arguments.parameter), dict(arguments.secret)
            deploy.deploy(account, arguments.stack, arguments.template, arguments.artifacts, parameters, secrets)
        else:
            deploy.undeploy(account, arguments.stack)
    except deploy.DeployError as e:
        print(e, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="switchyard_localstack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="run LocalStack in the foreground")
    serve.add_argument("--port", type=int, required=True, help="the port on 127.0.0.1")
    serve.add_argument("--data", type=Path, required=True, help="a folder of its own for this instance")
    serve.add_argument(
        "--exit-with-stdin", action="store_true", help="end when standard input ends, so with the parent process"
    )
    stacks = argparse.ArgumentParser(add_help=False)
    stacks.add_argument("--endpoint", required=True, help="http://127.0.0.1:PORT")
    stacks.add_argument("--account", default="000000000001", help="12 digits: each account is a world of its own")
    stacks.add_argument("--region", default="us-east-1")
    stacks.add_argument("--stack", required=True, help="the name of the stack")
    deploy = commands.add_parser("deploy", parents=[stacks], help="create or update a stack from a SAM template")
    deploy.add_argument("--template", type=Path, required=True)
    deploy.add_argument("--artifacts", type=Path, required=True, help="holds NAME/bootstrap for each function")
    deploy.add_argument("--parameter", type=_pair, action="append", default=[], metavar="KEY=VALUE")
    deploy.add_argument(
        "--secret", type=_pair, action="append", default=[], metavar="NAME=JSON", help="created or set before the stack"
    )
    commands.add_parser("undeploy", parents=[stacks], help="delete a stack and wait until it is gone")
    return parser


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, not {text!r}")
    return name, value


if __name__ == "__main__":
    sys.exit(main())
