"""The function that the tests deploy: a small Lambda runtime that does what the event says.

It is put behind a `#!` line and becomes a function's `bootstrap`. An event's field `do` names what happens; SQS events
are answered by the rules in the environment (FAIL, ANSWER, MEET). With JOURNAL set, every event is written there.
"""

import http.client
import json
import os
import signal
import sys
import threading
import time

API = os.environ["AWS_LAMBDA_RUNTIME_API"]
RUNTIME = "/2018-06-01/runtime"


def call(method, path, body=None, headers=None, chunked=False):
    connection = http.client.HTTPConnection(API)
    connection.request(method, RUNTIME + path, body=body, headers=headers or {}, encode_chunked=chunked)
    response = connection.getresponse()
    return response, response.read()


def until(condition):
    """Waits for other processes; the invocation's own deadline bounds it."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.01)


def meet(folder, count):
    """Returns when so many processes are here at the same time."""
    with open(f"{folder}/here-{os.getpid()}", "w"):
        pass
    until(lambda: sum(name.startswith("here-") for name in os.listdir(folder)) >= count)


def write_down(event, headers):
    folder = os.environ.get("JOURNAL")
    if folder:
        name = f"{folder}/{time.time_ns()}-{os.getpid()}"
        with open(name + ".draft", "w") as file:
            json.dump(
                {"event": event, "pid": os.getpid(), "request_id": headers["Lambda-Runtime-Aws-Request-Id"]}, file
            )
        os.rename(name + ".draft", name + ".json")


def records(event):
    """The answer to a batch from a queue."""
    if "MEET" in os.environ:
        meet(os.environ["JOURNAL"], int(os.environ["MEET"]))
    if "GATE" in os.environ:
        until(lambda: os.path.exists(os.environ["GATE"]))
    if "ANSWER" in os.environ:
        return os.environ["ANSWER"]
    failing = [r["messageId"] for r in event["Records"] if os.environ.get("FAIL") and os.environ["FAIL"] in r["body"]]
    return json.dumps({"batchItemFailures": [{"itemIdentifier": each} for each in failing]})


def answer(event, request_id, headers):
    base = f"/invocation/{request_id}"
    do = event.get("do")
    if "Records" in event:
        call("POST", base + "/response", records(event))
    elif do == "wait":
        until(lambda: False)
    elif do == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif do == "exit":
        print("about to exit", flush=True)
        os._exit(event["code"])
    elif do == "error":
        call("POST", base + "/error", json.dumps({"errorType": "Bad", "errorMessage": "it was bad"}))
    elif do == "print":
        for line in event["lines"]:
            print(line)
        sys.stdout.flush()
        print("to standard error", file=sys.stderr, flush=True)
        call("POST", base + "/response", "null")
    elif do == "chunks":
        text = json.dumps("".join(event["pieces"]), ensure_ascii=False).encode()
        pieces = [text[:3], text[3:10], text[10:]]
        call("POST", base + "/response", iter(pieces), {"Transfer-Encoding": "chunked"}, chunked=True)
    elif do == "large":
        response, _ = call("POST", base + "/response", json.dumps("x" * event["size"]))
        print("status", response.status, flush=True)
    elif do == "meet":
        meet(event["folder"], event["count"])
        call("POST", base + "/response", str(os.getpid()))
    elif do == "child":
        child = os.fork()
        if child == 0:
            until(lambda: False)
        call("POST", base + "/response", str(child))
    elif do == "stale":
        response, body = call("POST", "/invocation/no-such-id/response", "1")
        call("POST", base + "/response", json.dumps([response.status, json.loads(body)]))
    else:
        seen = {"event": event, "environment": dict(os.environ), "headers": dict(headers), "pid": os.getpid()}
        call("POST", base + "/response", json.dumps({**seen, "now_ms": time.time() * 1000, "folder": os.getcwd()}))


def main():
    if os.environ.get("INIT") == "error":
        print("cannot start", flush=True)
        call("POST", "/init/error", json.dumps({"errorType": "NoConfig", "errorMessage": "DATABASE_URL is missing"}))
        sys.exit(1)
    if os.environ.get("INIT") == "exit":
        print("giving up", flush=True)
        sys.exit(3)
    while True:
        response, body = call("GET", "/invocation/next")
        event = json.loads(body)
        write_down(event, response.headers)
        answer(event, response.headers["Lambda-Runtime-Aws-Request-Id"], response.headers)


main()
