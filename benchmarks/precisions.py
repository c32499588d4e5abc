"""What each precision and engine brings and costs: texts a second, and how near answers are.

MiniLM and the default model are exported in fp32, int8 and bf16 (with --accept-loss, so that a
threshold that is missed is seen rather than hidden), with --base a BERT of the usual size with
random weights, whose speed is a trained one's. All that this machine can run, by OpenVINO too where
it is installed, compute the same texts in turns, in one process, on all cores: in batches of up to
512 tokens, and one at a time. Ratios are to fp32 by ONNX Runtime alone, within a round. Cosines are
of 500 sentences' vectors, of loadtest's words or of a file's lines. Agreements of heads are those
of the bundle's own proof.
"""

import argparse
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.minilm import ROOT, find_checkpoint
from benchmarks.results import RESULTS, Target, divide, save_results, say, show_table
from benchmarks.sizing import make_checkpoint
from benchmarks.texts import KINDS, Kind, draw_texts, list_words
from loadtest.texts import Mix
from models.bundle.bundle import Bundle
from models.choice import PROVEN, list_choices
from models.engines import OPENVINO
from models.heads import EmbedOptions
from models.pipeline import Pipeline, form_batches, prepare

SENTENCES = 500
ROUNDS = 9
# Of all-MiniLM-L6-v2, over fp32 by ONNX Runtime alone: short, mixed and long texts.
SPEEDS: Mapping[tuple[str, str], tuple[float, float, float]] = {
    ("fp32 kernels", "batches"): (1.25, 1.25, 1.3),
    ("int8 kernels", "batches"): (3.3, 3.3, 3.1),
    ("int8 kernels", "one"): (4, 4, 2.9),
    ("bf16 kernels", "batches"): (2.4, 2.3, 2.2),
    ("bf16 kernels", "one"): (3.2, 2.7, 2.0),
}
# Worst and mean cosine to fp32 by ONNX Runtime alone, then what each head's agreement should be.
COSINES = {"fp32": (0.99999, 0.99999), "int8": (0.998, 0.9993), "bf16": (0.9999, 0.9999)}
AGREEMENT = Target(0.99)
# A large model should have so much of MiniLM's ratios.
_OF_A_LARGE_ONE = 0.9
_PLAIN = "fp32 onnxruntime"
_ONES = {"short": 64, "mixed": 48, "long": 16}
_SEED = 20181011
_DEFAULT = ROOT / "training" / "checkpoints" / "lacuna-mini"


@dataclass(slots=True)
class Comparison:
    """One model in each precision by each engine: by kind of texts and how, a figure a round."""

    name: str
    rates: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    cosines: dict[str, tuple[float, float]] = field(default_factory=dict)
    agreements: dict[str, float] = field(default_factory=dict)
    company_cosines: dict[str, float] = field(default_factory=dict)


def export(source: Path, name: str) -> Bundle:
    """The bundle in all precisions, made anew: the proof in it is of this machine."""
    out = RESULTS / "precisions" / name
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "export", str(source), str(out), "--pooling", "mean"]
    options = ["--precision", "fp32,int8,bf16", "--accept-loss"]
    subprocess.run([*command, *options], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return Bundle.open(out)


def compare(bundle: Bundle, sentences: Sequence[str], rounds: int) -> Comparison:
    """Vectors, speed in turns, and what the proof says of the heads."""
    pipelines = {
        f"{precision} {engine}": Pipeline(bundle, precision=precision, engine=engine)
        for precision, engine in list_choices(bundle, (*PROVEN, OPENVINO))
    }
    found = Comparison(bundle.manifest.name)
    plain = pipelines[_PLAIN].embed(sentences, overflow="truncate")
    for name, pipeline in pipelines.items():
        cosines = (pipeline.embed(sentences, overflow="truncate") * plain).sum(axis=1)
        found.cosines[name] = float(cosines.min()), float(cosines.mean())
    for kind in KINDS:
        for how, batches in _form(kind, pipelines[_PLAIN]).items():
            found.rates[f"{kind.name}, {how}"] = _measure(pipelines, batches, rounds)
    for row in bundle.manifest.parity:
        agreement = row.label_agreement or row.top1_agreement
        if row.precision != "fp32" and agreement is not None:
            place = f"{row.precision} {row.engine or 'onnxruntime'}, {row.task} {row.head or ''}"
            found.agreements[place.strip()] = agreement
    if bundle.manifest.proof is not None:
        found.company_cosines = dict(bundle.manifest.proof.company_cosine)
    return found


def _form(kind: Kind, pipeline: Pipeline) -> dict[str, list[list[Any]]]:
    """The texts of a kind in full batches, and some of them one at a time."""
    head = pipeline.find_head("embed")
    texts = draw_texts(kind, list_words(pipeline.encoder))
    jobs = prepare(head, texts, head.resolve(EmbedOptions(overflow="truncate")))
    batches = [[job.encoded for job in batch] for batch in form_batches(jobs)]
    return {"batches": batches, "one": [[job.encoded] for job in jobs[: _ONES[kind.name]]]}


def _measure(
    pipelines: Mapping[str, Pipeline], batches: Sequence[Sequence[Any]], rounds: int
) -> dict[str, list[float]]:
    """Texts a second of each, a figure a round; who comes first turns from round to round."""
    names, count = list(pipelines), sum(map(len, batches))
    rates: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            began = time.perf_counter()
            for batch in batches:
                pipelines[name].run_trunk(batch)
            rates[name].append(count / (time.perf_counter() - began))
    return rates


def show(found: Comparison, *, part: float | None) -> None:
    """Print the figures, and beside them that part of the targets of speed."""
    rows = []
    for case, rates in found.rates.items():
        kind, how = case.split(", ")
        place = [each.name for each in KINDS].index(kind)
        for name, figures in rates.items():
            ratio = divide(figures, rates[_PLAIN])
            bounds = SPEEDS.get((name, how)) if part else None
            target = Target(bounds[place] * part) if bounds and part else None
            rows.append(
                (
                    f"{case}, {name}",
                    f"{median(figures):,.0f}",
                    f"{ratio['median']:.2f}",
                    f"{ratio['least']:.2f} to {ratio['most']:.2f}",
                    target.judge(ratio["median"]) if target else "",
                )
            )
    show_table(
        f"{found.name}: texts a second, and over {_PLAIN}",
        ("texts, how, what", "texts/s", "ratio", "least to most", "target"),
        rows,
    )
    nearness = []
    for name, (worst, mean) in found.cosines.items():
        least = COSINES[name.split()[0]]
        for what, value, bound in zip(("worst", "mean"), (worst, mean), least, strict=True):
            nearness.append((f"{name}, {what} cosine", f"{value:.6f}", Target(bound).judge(value)))
    for head, value in found.agreements.items():
        nearness.append((f"{head}, best answers", f"{value:.4f}", AGREEMENT.judge(value)))
    show_table(f"{found.name}: how near", ("what", "figure", "target"), nearness)


def run(rounds: int = ROUNDS, texts: Path | None = None, *, base: bool = False) -> None:
    """Measure both models or the large one, show the tables, write the results."""
    if texts is None:
        mix = Mix("sentences", random.Random(_SEED))
        sentences = [mix.draw() for _ in range(SENTENCES)]
    else:
        sentences = [line for line in texts.read_text("utf-8").splitlines() if line.strip()]
    results = []
    models: list[tuple[Path, str, float | None]] = [
        (find_checkpoint(), "all-MiniLM-L6-v2", 1.0),
        (_DEFAULT, "lacuna-mini", None),
    ]
    if base:
        models = [(make_checkpoint("base", 12, 768), "like BERT-base", _OF_A_LARGE_ONE)]
    for source, name, part in models:
        results.append(compare(export(source, name), sentences, rounds))
        show(results[-1], part=part)
    content = {"models": [asdict(found) for found in results]}
    say(f"written to {save_results('precisions-base' if base else 'precisions', content)}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.precisions",
        description="Speed and exactness of each precision and engine.",
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    parser.add_argument("--texts", type=Path, help="a file of sentences, a line each")
    parser.add_argument("--base", action="store_true", help="a model of BERT-base's size instead")
    options = parser.parse_args()
    run(options.rounds, options.texts, base=options.base)


if __name__ == "__main__":
    main()
