"""The commands of training over the small world: run here, or in a process to be stopped."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import training.finetune
import training.pretrain

ROOT = Path(__file__).parents[2]
PRETRAIN_STEPS, FINETUNE_STEPS = 150, 150
RARELY, ALWAYS = "1000", "1e-9"  # seconds between two saves
# However fast the machine is, the step that is asked for lasts until the test lets it go.
HELD = """
import runpy, sys
from training.loop import Loop

module, step, *arguments = sys.argv[1:]
take_step = Loop._take_step

def take_step_when_let(loop):
    if loop.schedule.done == int(step):
        print("held", flush=True)
        sys.stdin.read()
    take_step(loop)

Loop._take_step = take_step_when_let
sys.argv = [module, *arguments]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def pretrain_arguments(
    data: Path, out: Path, vocabulary: Path, steps: int = PRETRAIN_STEPS, *, save: str = RARELY
) -> list[str]:
    """A run of a tiny model; the options that its tests share."""
    options: dict[str, object] = {
        "data": data, "out": out, "vocabulary": vocabulary, "steps": steps, "save-every": save,
        "layers": 1, "hidden-size": 64, "width": 64, "long-width": 128,
        "rows-per-batch": 8, "batches-per-step": 1, "learning-rate": 0.01,
    }  # fmt: skip
    return _spell(options)


def finetune_arguments(
    data: Path, run: Path, out: Path, steps: int, *, save: str = RARELY
) -> list[str]:
    """A finetune run over a pretrain run."""
    return _spell(
        {"data": data, "run": run, "out": out, "steps": steps, "save-every": save}
        | {"learning-rate": 2e-3}
    )


def pretrain(data: Path, out: Path, vocabulary: Path, steps: int = PRETRAIN_STEPS) -> Path:
    """Run to the end, or go on to it."""
    assert training.pretrain.main(pretrain_arguments(data, out, vocabulary, steps)) == 0
    return out


def finetune(data: Path, run: Path, out: Path, *, steps: int) -> Path:
    """Run to the end, or go on to it."""
    assert training.finetune.main(finetune_arguments(data, run, out, steps)) == 0
    return out


@contextmanager
def hold(module: str, arguments: list[str], step: int) -> Iterator[subprocess.Popen[str]]:
    """A command in a process of its own, which stands in that step until its stdin is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HELD, module, str(step), *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "COLUMNS": "200"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n", process.communicate()
        yield process
    finally:
        process.kill()
        process.communicate()


def read_log(run: Path) -> list[dict[str, Any]]:
    """The whole records of a run's log."""
    log = run / "log.jsonl"
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def count_steps(run: Path) -> int:
    """The steps in a run's saved state."""
    state = torch.load(run / "state.pt", weights_only=True)
    return int(state["schedule"]["done"])


def read_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """All weights of a checkpoint, those of its heads by their folder."""
    files = sorted(checkpoint.rglob("*.safetensors"))
    assert files
    return {
        f"{file.parent.name if file.parent != checkpoint else ''}/{name}": weight
        for file in files
        for name, weight in load_file(file).items()
    }


def assert_same_weights(one: Path, other: Path) -> None:
    """The checkpoints hold the same weights to the last bit."""
    first, second = read_weights(one), read_weights(other)
    assert first.keys() == second.keys()
    for name, weight in first.items():
        assert torch.equal(weight, second[name]), name


def _spell(options: dict[str, object]) -> list[str]:
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]
