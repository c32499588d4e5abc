"""Where the trunk's memory comes from: the session's own choice, beside what ONNX Runtime offers.

Each choice runs the same batches of up to 512 tokens of all-MiniLM-L6-v2, hardly two of one shape.
Memory is what a process of its own holds after 500 of them. For speed all sessions take turns in
one process, and a ratio is the median over the batches of the time of one over that of ours.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.minilm import ROOT, ensure_bundle
from benchmarks.results import save_results, say, show_table
from benchmarks.startup import read_memory
from benchmarks.texts import SEED
from models.bundle.manifest import trunk_file
from models.choice import MAX_BATCH_TOKENS
from models.engines.onnx_runtime import make_options
from models.machine.allocator import return_large_blocks
from models.machine.limits import count_cores
from models.text.encoded import Encoded
from models.text.packing import pack

OURS = "ours: an arena, no patterns"
CHOICES = (
    OURS,
    "patterns kept, the default",
    "no arena",
    "an arena that grows as asked",
    "an arena that shrinks after a run",
)
_SHAPES = 500
_MOST_TOKENS = 256


class Trunk:
    """The trunk with one of the choices."""

    def __init__(self, choice: str) -> None:
        options = make_options(count_cores(), spin=True)
        self._run_options = onnxruntime.RunOptions()
        if choice == CHOICES[1]:
            options.enable_mem_pattern = True
        elif choice == CHOICES[2]:
            options.enable_cpu_mem_arena = False
        elif choice == CHOICES[3]:
            options.add_session_config_entry("session.use_env_allocators", "1")
        elif choice == CHOICES[4]:
            self._run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._session = onnxruntime.InferenceSession(
            str(ensure_bundle() / trunk_file("fp32")),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["SkipLayerNormFusion"],
        )

    def run(self, feeds: dict[str, Any]) -> float:
        """Milliseconds of one run."""
        began = time.perf_counter()
        self._session.run(None, feeds, self._run_options)
        return 1e3 * (time.perf_counter() - began)


def draw_batches(count: int) -> Iterator[dict[str, Any]]:
    """Feeds of so many batches, of lengths log-uniform from the shortest to the longest."""
    chance = np.random.default_rng(SEED)
    for _ in range(count):
        room, texts = MAX_BATCH_TOKENS, []
        for drawn in chance.uniform(np.log(3), np.log(_MOST_TOKENS), chance.integers(1, 33)):
            length = min(room, int(np.exp(drawn)))
            if length:
                ids = np.full(length, 1000, np.int64)
                texts.append(Encoded(ids=ids, type_ids=np.zeros_like(ids)))
            room -= length
        yield pack(texts).feeds


def prepare() -> None:
    """What must be there before the first session: the allocator's threshold, a shared arena."""
    return_large_blocks()
    as_asked = onnxruntime.OrtArenaCfg(0, 1, -1, -1)
    place = onnxruntime.OrtMemoryInfo(
        "Cpu",
        onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
        0,
        onnxruntime.OrtMemType.DEFAULT,
    )
    onnxruntime.create_and_register_allocator(place, as_asked)


def weigh(choice: str) -> float:
    """The MB that a process of its own holds after all shapes."""
    command = [sys.executable, "-m", "benchmarks.arenas", "--weigh", choice]
    finished = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return float(finished.stdout)


def run_weighed(choice: str) -> None:
    """Run all shapes with one choice, and print what is held."""
    prepare()
    trunk = Trunk(choice)
    for feeds in draw_batches(_SHAPES):
        trunk.run(feeds)
    print(read_memory(os.getpid(), "RssAnon"))


def run(batches: int) -> None:
    """Measure both, show the table, write the results."""
    prepare()
    trunks = {choice: Trunk(choice) for choice in CHOICES}
    times: dict[str, list[float]] = {choice: [] for choice in CHOICES}
    for turn, feeds in enumerate(draw_batches(batches)):
        first = turn % len(CHOICES)
        for choice in (*CHOICES[first:], *CHOICES[:first]):
            times[choice].append(trunks[choice].run(feeds))
    ratios = {
        choice: median(one / ours for one, ours in zip(some, times[OURS], strict=True))
        for choice, some in times.items()
    }
    held = {choice: weigh(choice) for choice in CHOICES}
    show_table(
        f"Memory of the trunk: {batches} batches in turn, {_SHAPES:,} shapes held",
        ("choice", "ms a batch", "of ours", "MB held"),
        [
            (choice, f"{median(times[choice]):.1f}", f"{ratios[choice]:.2f}", f"{held[choice]:.0f}")
            for choice in CHOICES
        ],
    )
    say(f"written to {save_results('arenas', {'ratios': ratios, 'held_mb': held})}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.arenas",
        description="Speed and memory of the trunk by where its memory comes from.",
    )
    parser.add_argument("--batches", type=int, default=100, help="for speed; default: 100")
    parser.add_argument("--weigh", choices=CHOICES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.weigh:
        run_weighed(options.weigh)
    else:
        run(options.batches)


if __name__ == "__main__":
    main()
