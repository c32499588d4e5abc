"""What an export takes: seconds and memory, by the size of the model, its proof included.

MiniLM as it is, and BERTs of the usual sizes with random weights, each exported in fp32 by a
process of its own, as at the prompt. Memory is the most that was resident, against the size of the
weights in fp32.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.minilm import ROOT, find_checkpoint
from benchmarks.results import RESULTS, Target, save_results, say, show_table
from benchmarks.sizing import make_checkpoint
from models.bundle.bundle import Bundle

MEMORY_TARGET = Target(3.5, most=True)


@dataclass(frozen=True, slots=True)
class Case:
    """A checkpoint, how long its export may take, and whether its memory has a target."""

    name: str
    find: Callable[[], Path]
    seconds: Target | None
    memory: Target | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What an export took."""

    name: str
    weights_mb: float
    seconds: float
    memory_mb: float

    @property
    def ratio(self) -> float:
        """The most memory, in sizes of the weights."""
        return self.memory_mb / self.weights_mb


CASES = (
    Case("all-MiniLM-L6-v2", find_checkpoint, Target(40, most=True)),
    Case("like BERT-base", lambda: make_checkpoint("base", 12, 768), Target(90, most=True)),
    Case("like BERT-large", lambda: make_checkpoint("large", 24, 1024), None, MEMORY_TARGET),
)


def measure(case: Case) -> Cost:
    """Export once. Exits where that fails."""
    out = RESULTS / "exporting"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "export", str(case.find()), str(out), "--pooling", "mean"]
    began = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"the export of {case.name} ended with {process.returncode}")
    entry = Bundle.open(out).manifest.files["trunk.fp32.onnx"]
    shutil.rmtree(out)
    weights = (entry.loaded_bytes or entry.bytes) / 1e6
    return Cost(case.name, weights, seconds, usage.ru_maxrss * 1024 / 1e6)


def run() -> None:
    """Measure every size, show the table, write the results."""
    costs = [(case, measure(case)) for case in CASES]
    show_table(
        "Exports in fp32, proof included",
        ("model", "weights MB", "seconds", "target", "memory MB", "sizes", "target"),
        [
            (
                cost.name,
                f"{cost.weights_mb:.0f}",
                f"{cost.seconds:.1f}",
                case.seconds.judge(cost.seconds) if case.seconds else "",
                f"{cost.memory_mb:.0f}",
                f"{cost.ratio:.2f}",
                case.memory.judge(cost.ratio) if case.memory else "",
            )
            for case, cost in costs
        ],
    )
    content = {"exports": [asdict(cost) | {"ratio": cost.ratio} for _, cost in costs]}
    say(f"written to {save_results('exporting', content)}")


def main() -> None:
    """Run the command line."""
    argparse.ArgumentParser(
        prog="python -m benchmarks.exporting",
        description="Seconds and memory that exports take, by the size of the model.",
    ).parse_args()
    run()


if __name__ == "__main__":
    main()
