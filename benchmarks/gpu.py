"""What a GPU reaches, of a BERT of the usual size and of MiniLM's, in fp16 in the packed form.

Texts a second of four lengths in batches of 16,384 tokens: by the trunk alone, whose hidden states
stay on the device, and from texts to vectors in this process. Weights are random, whose speed is a
trained one's. Where there is no GPU it says what is lacking, and ends with 1.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.minilm import ROOT
from benchmarks.results import RESULTS, save_results, say, show_table
from benchmarks.sizing import make_checkpoint
from models.choice import GPU_BATCH_TOKENS
from models.engines.cuda import find_lacking
from models.pipeline import Pipeline
from models.text.encoded import Encoded

SIZES = {"like-minilm": (6, 384), "like-bert-base": (12, 768)}
LENGTHS = {"short": 15, "mixed": 43, "long": 178, "documents": 400}
SECONDS = 2.0


def make_bundle(name: str) -> Path:
    """The bundle in fp16, exported once."""
    bundle = RESULTS / "gpu" / name
    if not bundle.exists():
        checkpoint = make_checkpoint(name, *SIZES[name])
        command = [sys.executable, "-m", "export", str(checkpoint), str(bundle)]
        options = ["--pooling", "mean", "--precision", "fp16", "--accept-loss"]
        subprocess.run([*command, *options], cwd=ROOT, check=True)
    return bundle


def measure(pipeline: Pipeline, length: int) -> dict[str, float]:
    """Texts a second of that many tokens each."""
    count = GPU_BATCH_TOKENS // length
    draw = np.random.default_rng(length)
    ids = draw.integers(1000, pipeline.manifest.vocabulary_size, (count, length))
    texts = [Encoded(ids=row, type_ids=np.zeros(length, np.int64)) for row in ids]
    words = ["a"] * (length - 2)
    strings = [" ".join(words)] * count

    def compute() -> None:
        pipeline.run_trunk(texts)

    def embed() -> None:
        pipeline.embed(strings)

    found = {}
    for name, run in (("trunk", compute), ("embed", embed)):
        run()
        turns, began = 0, time.perf_counter()
        while time.perf_counter() - began < SECONDS:
            run()
            turns += 1
        found[name] = turns * count / (time.perf_counter() - began)
    return found


def run() -> int:
    """Measure every size, show the table, and keep the figures."""
    lacking = find_lacking()
    if lacking is not None:
        say(f"there is no GPU: {lacking}")
        return 1
    figures, rows = {}, []
    for name in SIZES:
        pipeline = Pipeline.open(make_bundle(name), precision="fp16", engine="cuda")
        figures[name] = {kind: measure(pipeline, length) for kind, length in LENGTHS.items()}
        for how in ("trunk", "embed"):
            rates = [f"{figures[name][kind][how]:,.0f}" for kind in LENGTHS]
            rows.append((f"{name}, {how}", *rates))
    show_table("texts a second", ("model", *LENGTHS), rows)
    say(save_results("gpu", figures))
    return 0


def main() -> int:
    """The command."""
    argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__).parse_args()
    return run()


if __name__ == "__main__":
    sys.exit(main())
