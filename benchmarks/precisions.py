"""What int8 brings and costs: texts a second against fp32, and how near its answers are.

MiniLM and the default model are exported in fp32 and int8 (the latter with --accept-loss, so that
a threshold that is missed is seen rather than hidden). Both precisions compute the same batches of
up to 512 tokens in turns, in one process, on all cores; cosines are of 500 sentences' vectors, of
loadtest's words or of a file's lines. Agreements of heads are those of the bundle's own proof.
"""

import argparse
import random
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks.minilm import ROOT, find_checkpoint
from benchmarks.results import RESULTS, Target, divide, save_results, say, show_table
from loadtest.texts import Mix
from models.bundle.bundle import Bundle
from models.heads import EmbedOptions
from models.pipeline import Pipeline, form_batches, prepare

SENTENCES = 500
ROUNDS = 9
TARGETS = {
    "speed": Target(1.6),
    "worst cosine": Target(0.985),
    "mean cosine": Target(0.997),
    "agreement": Target(0.99),
}
_SEED = 20181011
_DEFAULT = ROOT / "training" / "checkpoints" / "lacuna-mini"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One model's int8 against its fp32."""

    name: str
    ratio: dict[str, float]
    texts_per_second: dict[str, float]
    worst_cosine: float
    mean_cosine: float
    agreements: dict[str, float]
    company_cosine: float


def export(source: Path, name: str) -> Bundle:
    """The bundle in both precisions, made anew: the proof in it is of this machine."""
    out = RESULTS / "precisions" / name
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "export", str(source), str(out)]
    options = ["--precision", "fp32,int8", "--accept-loss"]
    subprocess.run([*command, *options], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return Bundle.open(out)


def compare(bundle: Bundle, sentences: list[str], rounds: int) -> Comparison:
    """Vectors, speed in turns, and what the proof says of the heads."""
    pipelines = {name: Pipeline(bundle, precision=name) for name in ("fp32", "int8")}
    vectors: dict[str, NDArray[np.float32]] = {
        name: pipeline.embed(sentences, overflow="truncate") for name, pipeline in pipelines.items()
    }
    cosines = (vectors["fp32"] * vectors["int8"]).sum(axis=1)
    head = pipelines["fp32"].find_head("embed")
    jobs = prepare(head, sentences, head.resolve(EmbedOptions(overflow="truncate")))
    batches = [[job.encoded for job in batch] for batch in form_batches(jobs)]
    rates: dict[str, list[float]] = {name: [] for name in pipelines}
    for _ in range(rounds):
        for name, pipeline in pipelines.items():
            began = time.perf_counter()
            for batch in batches:
                pipeline.run_trunk(batch)
            rates[name].append(len(sentences) / (time.perf_counter() - began))
    agreements = {
        f"{row.task} {row.head or ''}".strip(): agreement
        for row in bundle.manifest.parity
        if row.precision == "int8"
        and (agreement := row.label_agreement or row.top1_agreement) is not None
    }
    proof = bundle.manifest.proof
    return Comparison(
        name=bundle.manifest.name,
        ratio=divide(rates["int8"], rates["fp32"]),
        texts_per_second={name: median(found) for name, found in rates.items()},
        worst_cosine=float(cosines.min()),
        mean_cosine=float(cosines.mean()),
        agreements=agreements,
        company_cosine=proof.company_cosine["int8"] if proof else float("nan"),
    )


def run(rounds: int = ROUNDS, texts: Path | None = None) -> None:
    """Measure both models, show the tables, write the results."""
    if texts is None:
        mix = Mix("sentences", random.Random(_SEED))
        sentences = [mix.draw() for _ in range(SENTENCES)]
    else:
        sentences = [line for line in texts.read_text("utf-8").splitlines() if line.strip()]
        sentences = sentences[:SENTENCES]
    results = []
    for source, name in ((find_checkpoint(), "all-MiniLM-L6-v2"), (_DEFAULT, "lacuna-mini")):
        found = compare(export(source, name), sentences, rounds)
        results.append(found)
        rates = found.texts_per_second
        figures: list[tuple[str, str, float]] = [
            ("speed", f"int8 {rates['int8']:.0f}, fp32 {rates['fp32']:.0f}", found.ratio["median"]),
            ("worst cosine", f"{len(sentences)} sentences", found.worst_cosine),
            ("mean cosine", "", found.mean_cosine),
            *(("agreement", task, value) for task, value in found.agreements.items()),
        ]
        show_table(
            f"int8 against fp32: {name}, {rounds} rounds in turns",
            ("what", "of", "figure", "target"),
            [(what, of, f"{value:.4f}", TARGETS[what].judge(value)) for what, of, value in figures],
        )
    content = {"models": [asdict(found) for found in results]}
    say(f"written to {save_results('precisions', content)}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.precisions",
        description="Speed and exactness of int8, against fp32.",
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    parser.add_argument("--texts", type=Path, help="a file of sentences, a line each")
    options = parser.parse_args()
    run(options.rounds, options.texts)


if __name__ == "__main__":
    main()
