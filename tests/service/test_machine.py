"""What the service takes of the machine: its trunk's threads, whether they spin, and no others."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.engines.onnx_runtime import decide_spin
from models.machine.limits import count_cores
from tests.helpers.server import serve

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("settings", "threads", "spin"),
    [
        ({}, count_cores(), decide_spin("auto", count_cores())),
        ({"threads": 2, "spin": "on"}, 2, True),
        ({"threads": 2, "spin": "off"}, 2, False),
        ({"threads": count_cores() + 1}, count_cores() + 1, False),
    ],
)
def test_the_settings_reach_the_trunk(
    settings: dict[str, Any],
    threads: int,
    pretraining_bundle: Path,
    *,
    spin: bool,
) -> None:
    with serve(pretraining_bundle, **settings) as server:
        (model,) = server.models
        assert (model.pipeline.trunk.threads, model.pipeline.trunk.spin) == (threads, spin)
        server.answer("/v1/embeddings", {"input": "rain"})


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_numpy_starts_no_threads() -> None:
    code = "import os, service, numpy; print(len(os.listdir('/proc/self/task')))"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert found.stdout.strip() == "1"


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_tokenizers_start_no_threads(pretraining_bundle: Path) -> None:
    code = (
        "import os, sys, service; from tokenizers import Tokenizer; "
        "tokenizer = Tokenizer.from_file(sys.argv[1]); tokenizer.encode_batch(['rain'] * 1000); "
        "print(len(os.listdir('/proc/self/task')))"
    )
    command = [sys.executable, "-c", code, str(pretraining_bundle / "tokenizer.json")]
    found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "1"
