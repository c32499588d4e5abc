"""What one text of thousands of tokens takes: seconds, and memory beside the weights.

A model of ModernBERT-base's size (22 layers of 768, every third of which sees the whole text and
the others a window of 128), with random weights, whose speed is a trained one's. Each precision by
each engine runs in a process of its own on all cores; seconds are the least of the runs, memory the
most that was resident (VmHWM) less what was before the first text.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.minilm import ROOT, find_checkpoint
from benchmarks.results import RESULTS, save_results, say, show_table
from benchmarks.startup import read_memory
from models.bundle.bundle import Bundle
from models.choice import PROVEN, list_choices
from models.pipeline import Pipeline
from models.text.encoded import Encoded

LENGTHS = (1_000, 4_000, 8_000)
RUNS = 2
_NAME = "like-modernbert-base"


def make_bundle() -> Path:
    """The bundle in fp32, int8 and bf16, exported once."""
    bundle = RESULTS / "long-texts" / _NAME
    if bundle.exists():
        return bundle
    import transformers

    checkpoint = RESULTS / "long-texts" / "checkpoint"
    config = transformers.ModernBertConfig(
        vocab_size=30_522,
        max_position_embeddings=8192,
        pad_token_id=0,
        bos_token_id=101,
        eos_token_id=102,
        cls_token_id=101,
        sep_token_id=102,
    )
    transformers.ModernBertModel(config).save_pretrained(checkpoint)
    tokenizer = transformers.AutoTokenizer.from_pretrained(find_checkpoint())
    tokenizer.model_max_length = 8192
    tokenizer.save_pretrained(checkpoint)
    command = [sys.executable, "-m", "export", str(checkpoint), str(bundle), "--pooling", "mean"]
    options = ["--precision", "fp32,int8,bf16", "--accept-loss"]
    subprocess.run([*command, *options], cwd=ROOT, check=True)
    return bundle


def measure(bundle: Path, precision: str, engine: str) -> list[dict[str, float]]:
    """For each length, in this process: seconds, and megabytes beside the weights."""
    pipeline = Pipeline.open(bundle, precision=precision, engine=engine)
    # Loading took more for a moment: the most counts from here on (proc_pid_clear_refs(5)).
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = read_memory(os.getpid(), "VmRSS")
    found = []
    for length in LENGTHS:
        ids = np.random.default_rng(length).integers(1_000, 30_000, length)
        text = Encoded(ids=ids, type_ids=np.zeros(length, np.int64))
        taken = []
        for _ in range(RUNS):
            began = time.perf_counter()
            pipeline.run_trunk([text])
            taken.append(time.perf_counter() - began)
        more = read_memory(os.getpid(), "VmHWM") - before
        found.append({"tokens": length, "seconds": min(taken), "memory_mb": more})
    return found


def run() -> None:
    """Measure every precision by every engine, show the table, write the results."""
    bundle = make_bundle()
    results, rows = {}, []
    for precision, engine in list_choices(Bundle.open(bundle), PROVEN):
        command = [sys.executable, "-m", "benchmarks.long_texts", "--one", precision, engine]
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        found = results[f"{precision} {engine}"] = json.loads(done.stdout)
        rows += [
            (
                f"{precision} {engine}",
                f"{each['tokens']:,.0f}",
                f"{each['seconds']:.2f}",
                f"{each['memory_mb']:,.0f}",
            )
            for each in found
        ]
    show_table("One long text", ("what", "tokens", "seconds", "memory MB"), rows)
    say(f"written to {save_results('long-texts', {'found': results})}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.long_texts", description="One text of thousands of tokens."
    )
    parser.add_argument("--one", nargs=2, metavar=("PRECISION", "ENGINE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        sys.stdout.write(json.dumps(measure(make_bundle(), *options.one)) + "\n")
    else:
        run()


if __name__ == "__main__":
    main()
