"""The log: a line of JSON an event, and nothing of what callers sent in any of them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.process import ROOT, start_service
from tests.helpers.server import JSON, PATIENCE_S

ROUTE = "/v1/embeddings"
SECRET = "a-very-private-thought"
KEY = "a-key-that-nobody-may-read"
UNBUFFERED = "PYTHONUNBUFFERED"
# A service whose tokenizer and whose trunk fail, with the text in their message, on a sign.
SPOILED = """
import sys
from models.text.encoder import Encoder
from models.pipeline import Pipeline
from service.__main__ import main

encode, compute = Encoder.encode, Pipeline.compute

def encode_or_fail(self, text, *args, **options):
    if "tokenizer-fails" in text:
        try:
            int(text)
        except ValueError as error:
            raise RuntimeError(f"cannot tokenise {text!r}") from error
    return encode(self, text, *args, **options)

def compute_or_fail(self, jobs):
    for job in jobs:
        if "trunk-fails" in str(job.item):
            raise RuntimeError(f"cannot compute {job.item}")
    compute(self, jobs)

Encoder.encode, Pipeline.compute = encode_or_fail, compute_or_fail
sys.exit(main())
"""


def run(program: str) -> list[dict[str, Any]]:
    """The lines that a program logs."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stderr.splitlines()]


def ask_for_every_error(bundle: Path, **environment: str) -> str:
    """All that a service writes while callers send a secret in every way that fails."""
    with start_service(
        "--bundle", str(bundle), program=("-c", SPOILED), CLOZE_API_KEYS=KEY, **environment
    ) as (process, client):
        known = {"authorization": f"Bearer {KEY}"}
        bodies: list[Any] = [
            {"input": SECRET},
            {"input": [SECRET, 5]},
            {"input": {SECRET: SECRET}},
            {"input": SECRET, SECRET: SECRET},
            {"input": SECRET, "model": SECRET},
            {"input": SECRET, "pooling": SECRET},
            {"input": SECRET, "dimensions": SECRET},
            {"input": f"{SECRET} " * 2_000},
            {"input": f"{SECRET} tokenizer-fails"},
            {"input": [f"{SECRET} tokenizer-fails"] * 30},
            {"input": f"{SECRET} trunk-fails"},
        ]
        statuses = [
            client.post(ROUTE, json=body, headers=known | {"x-request-id": f"request-{place}"})
            for place, body in enumerate(bodies)
        ]
        assert [one.status_code for one in statuses] == [
            200,
            400,
            400,
            400,
            404,
            400,
            400,
            400,
            500,
            500,
            500,
        ]
        assert client.post("/v1/fill-mask", json={"inputs": SECRET}, headers=known)
        for content in (f'{{"input": "{SECRET}"', f'"{SECRET}"', f"[NaN, {SECRET}]"):
            assert client.post(ROUTE, content=content, headers=JSON | known).is_error
        assert client.post(ROUTE, content=SECRET, headers=known).is_error
        wrong = {"authorization": f"Bearer {SECRET}"}
        assert client.post(ROUTE, json={"input": SECRET}, headers=wrong).status_code == 401
        assert client.get(f"/{SECRET}?{SECRET}={SECRET}").status_code == 404
        assert client.request("DELETE", f"{ROUTE}?{SECRET}", headers=known).status_code == 405
        assert client.get("/health/live", headers={SECRET: SECRET}).status_code == 200
        process.terminate()
        out, error = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
    assert out == ""
    return str(error)


def test_no_line_has_what_a_caller_sent(pretraining_bundle: Path) -> None:
    written = ask_for_every_error(pretraining_bundle, CLOZE_ACCESS_LOG="all")
    assert SECRET not in written
    assert KEY not in written
    assert "127.0.0.1:" not in written.replace("http://127.0.0.1:", "")
    lines = [json.loads(line) for line in written.splitlines()]
    asked = {line["request_id"]: line for line in lines if line["event"] == "request"}
    assert (asked["request-0"]["status"], asked["request-0"]["outcome"]) == (200, "ok")
    assert asked["request-0"]["model"]
    assert asked["request-0"]["tokens"] > 0
    assert asked["request-0"]["infer_ms"] > 0
    assert (asked["request-1"]["status"], asked["request-1"]["outcome"]) == (400, "invalid")
    # An error is still told: where, of what type, and for which requests.
    unexpected = {line["request_id"]: line for line in lines if line["event"] == "unexpected error"}
    assert unexpected.keys() == {"request-8", "request-9"}
    first, cause = unexpected["request-8"]["exception"]
    assert (first["exc_type"], cause["exc_type"]) == ("RuntimeError", "ValueError")
    assert "CLOZE_LOG_TEXTS" in first["exc_value"]
    assert first["frames"][-1]["name"] == "encode_or_fail"
    (failed,) = [line for line in lines if line["event"] == "batch failed"]
    assert failed["requests"] == ["request-10"]
    assert failed["exception"][0]["frames"][-1]["name"] == "compute_or_fail"


def test_texts_are_logged_where_the_operator_asks_for_them(pretraining_bundle: Path) -> None:
    written = ask_for_every_error(
        pretraining_bundle, CLOZE_ACCESS_LOG="off", CLOZE_LOG_TEXTS="true"
    )
    assert KEY not in written
    lines = [json.loads(line) for line in written.splitlines()]
    asked = {line["request_id"]: line for line in lines if line["event"] == "request"}
    assert "request-0" not in asked  # it was answered
    assert asked["request-10"]["texts"] == [f"{SECRET} trunk-fails"]
    assert len(asked["request-9"]["texts"]) == 16
    assert [len(text) for text in asked["request-7"]["texts"]] == [200]
    (failed,) = [line for line in lines if line["event"] == "batch failed"]
    assert failed["exception"][0]["exc_value"] == f"cannot compute {SECRET} trunk-fails"


def test_by_default_only_failures_have_a_line(pretraining_bundle: Path) -> None:
    written = ask_for_every_error(pretraining_bundle)
    lines = [json.loads(line) for line in written.splitlines()]
    asked = [line["request_id"] for line in lines if line["event"] == "request"]
    assert asked == ["request-8", "request-9", "request-10"]
    assert SECRET not in written


def test_a_bug_is_logged_whole_but_for_variables() -> None:
    (entry,) = run(
        "import structlog\n"
        "from service.observability.logging import configure_logging\n"
        "configure_logging()\n"
        "def compute(text):\n"
        "    raise RuntimeError('the reason')\n"
        "try:\n"
        "    compute('pri' + 'vate')\n"
        "except RuntimeError:\n"
        "    structlog.get_logger().exception('broken')\n"
    )
    assert (entry["event"], entry["level"]) == ("broken", "error")
    (cause,) = entry["exception"]
    assert (cause["exc_type"], cause["exc_value"]) == ("RuntimeError", "the reason")
    assert [frame["name"] for frame in cause["frames"]] == ["<module>", "compute"]
    assert "private" not in json.dumps(entry)


def test_onnxruntime_tells_its_reason_even_of_a_request() -> None:
    (entry,) = run(
        "import structlog, onnxruntime\n"
        "from service.observability.logging import configure_logging\n"
        "configure_logging()\n"
        "try:\n"
        "    onnxruntime.InferenceSession(b'no graph')\n"
        "except Exception:\n"
        "    structlog.get_logger().exception('broken', request_id='one')\n"
    )
    assert "ONNXRuntimeError" in entry["exception"][0]["exc_value"]


def test_libraries_log_through_the_same_lines() -> None:
    first, second, third, fourth, fifth = run(
        "import logging, threading, warnings\n"
        "from service.observability.logging import configure_logging\n"
        "configure_logging()\n"
        "logging.getLogger('uvicorn.error').warning('one\\ntwo')\n"
        "logging.getLogger('library').warning('one\\ntwo %s', 'three')\n"
        "logging.getLogger('library').info('too little')\n"
        "for _ in range(100):\n"
        "    logging.getLogger('opentelemetry.exporter').error('down %s', 'again')\n"
        "warnings.warn('careful')\n"
        "def fail():\n"
        "    raise RuntimeError('private')\n"
        "thread = threading.Thread(target=fail, name='worker')\n"
        "thread.start()\n"
        "thread.join()\n"
    )
    # What uvicorn and asyncio say below the first line may show a request.
    assert (first["event"], first["logger"], first["level"]) == ("one", "uvicorn.error", "warning")
    assert second["event"] == "one\ntwo three"
    assert third["event"] == "down again"
    assert "careful" in fourth["event"]
    assert (fifth["event"], fifth["thread"]) == ("a thread has ended", "worker")
    assert fifth["exception"][0]["exc_type"] == "RuntimeError"
    assert "private" not in json.dumps(fifth)


@pytest.mark.parametrize("buffered", [True, False])
def test_a_line_is_one_write(*, buffered: bool) -> None:
    """Whoever else writes to the same file, another process say, can only write between lines."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    program = (
        "import logging, structlog\n"
        "from service.observability.logging import configure_logging\n"
        "configure_logging()\n"
        "log = structlog.get_logger()\n"
        "log.info('short')\n"
        "log.warning('long', value='x' * 50_000)\n"
        "logging.getLogger('library').warning('theirs')\n"
        "try:\n"
        "    raise RuntimeError\n"
        "except RuntimeError:\n"
        "    log.exception('broken')\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != UNBUFFERED}
    with ours, its:
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=environment | ({} if buffered else {UNBUFFERED: "1"}),
            stderr=its,
        )
        its.close()
        # Each write is a packet of its own; after the last there are none.
        ours.settimeout(PATIENCE_S)
        packets = list(iter(lambda: ours.recv(1 << 20), b""))
        assert process.wait(PATIENCE_S) == 0
    assert all(packet.endswith(b"\n") for packet in packets)
    assert [json.loads(packet)["event"] for packet in packets] == [
        "short",
        "long",
        "theirs",
        "broken",
    ]


@pytest.mark.parametrize("value", ["\n\r", "\u2028\u0085\x1b[31m", "\ud800", '"}', "\x00"])
def test_no_value_ends_its_line(value: str) -> None:
    (entry,) = run(
        "import structlog\n"
        "from service.observability.logging import configure_logging\n"
        "configure_logging()\n"
        f"structlog.get_logger().info({value!a}, name={value!a})\n"
    )
    assert (entry["event"], entry["name"]) == (value, value)
