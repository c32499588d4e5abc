"""A short load test against the service itself: report and verdict on disk, exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers.process import find_free_port

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def host(default_service: httpx.Client) -> str:
    """Where the service listens with the model that comes with it."""
    return str(default_service.base_url)


COMMAND = [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless"]


def load(host: str, *options: str) -> tuple[int, str]:
    """Run locust as its users do; exit code and what it said."""
    done = subprocess.run(
        [*COMMAND, "--host", host, "--only-summary", *options],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stderr


def read_report(folder: Path) -> Any:
    return json.loads((folder / "report.json").read_text())


def test_a_sound_server_passes_and_the_report_splits_queueing_from_computing(
    host: str, tmp_path: Path
) -> None:
    options = ["--users", "12", "--run-time", "10s", "--slo-file", "loadtest/slo.toml"]
    derived = ("rerank", "similarity", "score", "attention")
    options += [part for name in derived for part in (f"--{name}", "1")]
    code, said = load(host, *options, "--mix", "queries", "--report", str(tmp_path))
    assert code == 0, said
    report = read_report(tmp_path)
    assert report["passed"]
    assert {"embed", "fill-mask", "next-sentence", "classify", *derived} <= set(report["tasks"])
    for task in report["tasks"].values():
        assert task["requests"] > 0
        assert task["failed"] == 0
        assert {"tokenize", "queue", "infer", "decode"} <= set(task["mean_stages_ms"])
        assert 0 < task["p50_ms"] <= task["p95_ms"] <= task["p99_ms"]
    assert "PASS" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "time.png").read_bytes().startswith(b"\x89PNG")


def test_a_bound_too_tight_fails(host: str, tmp_path: Path) -> None:
    options = ("--users", "2", "--run-time", "3s", "--slo", "embed.p50_ms=0.1")
    code, said = load(host, *options, "--report", str(tmp_path))
    assert code == 1, said
    (judgement,) = read_report(tmp_path)["verdict"]
    assert not judgement["held"]
    assert judgement["measured"] > 0.1


def test_failures_are_counted_by_their_code(host: str, tmp_path: Path) -> None:
    options = ("--users", "2", "--run-time", "3s", "--model", "nobody", "--think", "0.2")
    load(host, *options, "--slo", "error_rate=0", "--report", str(tmp_path))
    report = read_report(tmp_path)
    assert not report["passed"]
    assert list(report["tasks"]["all"]["failures"]) == ["404 model_not_found"]


def test_a_bound_that_is_none_is_refused_before_anything_is_asked(host: str) -> None:
    code, said = load(host, "--users", "1", "--run-time", "3s", "--slo", "embed.p42=1")
    assert code == 2
    assert "'p42' is no figure" in said


def test_a_master_told_to_end_when_it_is_over_writes_its_verdict_first(
    host: str, tmp_path: Path
) -> None:
    """As compose tells it when the first worker has ended."""
    port = str(find_free_port())
    worker = [*COMMAND[:-1], "--worker", "--master-port", port]
    master = [*COMMAND, "--master", "--master-bind-port", port, "--expect-workers", "1"]
    options = ["--users", "2", "--run-time", "2s", "--slo", "embed.p50_ms=0.1"]
    with (
        subprocess.Popen(worker, cwd=ROOT, stderr=subprocess.DEVNULL) as helper,
        subprocess.Popen(
            [*master, "--host", host, *options, "--report", str(tmp_path)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stderr is not None
        said = process.stderr.readline()
        while said and "test completed" not in said:
            said = process.stderr.readline()
        # From the end of the test on it is not to be disturbed, and it lingers half a second.
        process.terminate()
        rest = process.stderr.read()
    assert process.returncode == 1, rest
    assert helper.returncode == 0
    assert (tmp_path / "report.md").exists()
