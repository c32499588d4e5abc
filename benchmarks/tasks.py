"""Requests a second of each task: the service against FastAPI around transformers' pipelines.

Fill-mask, classification, token classification and question answering on the trunk of
all-MiniLM-L6-v2, under heads with random weights: what an answer says costs nothing. One text a
request, short ones, wrk asking over 16 connections, and over one. Before any load the scores of
both are compared. Only one server runs at a time; ratios are taken within a round, and the median
over the rounds is the figure. benchmarks/pipelines_app.py says what the baseline is.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from benchmarks.load import Load, load, require_wrk, write_requests
from benchmarks.minilm import ensure_bundle, find_checkpoint
from benchmarks.pipelines_app import FOLDER_VARIABLE
from benchmarks.results import RESULTS, Target, divide, save_results, say, show_table
from benchmarks.servers import (
    BASELINE_PYTHON,
    HOST,
    Server,
    baseline_app,
    cloze,
    serve,
    stop_on_terminate,
)
from benchmarks.texts import KINDS, draw_texts, list_words
from models.pipeline import Pipeline

CONNECTIONS = (16, 1)
TARGET = Target(3.0)
FOLDER = RESULTS / "tasks"
# The class under which each task's checkpoint is saved, and its labels.
CLASSES: Mapping[str, tuple[str, Sequence[str]]] = {
    "fill-mask": ("BertForMaskedLM", ()),
    "classify": ("BertForSequenceClassification", ("negative", "neutral", "positive")),
    "token-classify": ("BertForTokenClassification", ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")),
    "question-answering": ("BertForQuestionAnswering", ()),
}
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
_WARM_UP_S = 3
_PAUSE_S = 1.0
_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Plan:
    """How often and how long is measured, and by which Python the baseline runs."""

    rounds: int = 3
    seconds: int = 6
    baseline_python: Path = BASELINE_PYTHON


def make_checkpoints() -> Path:
    """A checkpoint and a bundle of each task; where they lie."""
    import torch
    import transformers

    from export.writing.exporter import export_bundle
    from export.writing.request import ExportRequest

    for number, (task, (name, labels)) in enumerate(CLASSES.items()):
        source, bundle = FOLDER / "checkpoints" / task, FOLDER / "bundles" / task
        if bundle.exists():
            continue
        torch.manual_seed(number)
        named = dict(enumerate(labels))
        options: dict[str, Any] = {"id2label": named} if named else {}
        kind = getattr(transformers, name)
        model = kind.from_pretrained(find_checkpoint(), **options)
        model.save_pretrained(source)
        for file in _TOKENIZER:
            # As the checkpoint has it: an older transformers reads what this one was made by.
            if (find_checkpoint() / file).exists():
                (source / file).write_bytes((find_checkpoint() / file).read_bytes())
        say(f"exporting {name}")
        export_bundle(ExportRequest(str(source), bundle))
    return FOLDER


def make_requests() -> dict[str, list[dict[str, Any]]]:
    """The bodies of each task, of short texts."""
    encoder = Pipeline.open(ensure_bundle()).encoder
    short = next(kind for kind in KINDS if kind.name == "short")
    texts = draw_texts(short, list_words(encoder))
    questions = [" ".join(text.split()[:6]) for text in texts]
    return {
        "fill-mask": [{"inputs": f"{text} [MASK]"} for text in texts],
        "classify": [{"inputs": text} for text in texts],
        "token-classify": [{"inputs": text} for text in texts],
        "question-answering": [
            {"inputs": {"question": question, "context": text}}
            for question, text in zip(questions, texts[1:] + texts[:1], strict=True)
        ],
    }


def _ask(port: int, task: str, body: Any) -> list[float]:
    """The scores in an answer, in their order."""
    (result,) = httpx.post(f"http://{HOST}:{port}/v1/{task}", json=body).json()["results"]
    found = result.get("masks", [result])[0]
    (entries,) = (value for value in found.values() if isinstance(value, list))
    return [entry["score"] for entry in entries]


def verify(servers: Sequence[Server], requests: Mapping[str, Sequence[Any]]) -> float:
    """The largest difference between the servers' scores. Exits where they are not the same."""
    found = []
    for server in servers:
        with serve(server) as running:
            found.append(
                [
                    score
                    for task, bodies in requests.items()
                    for body in bodies[:4]
                    for score in _ask(running.port, task, body)
                ]
            )
    if len(found[0]) != len(found[1]):
        raise SystemExit("the servers give other numbers of answers; nothing to compare")
    worst: float = max(abs(one - other) for one, other in zip(*found, strict=True))
    if not worst <= _TOLERANCE:
        raise SystemExit(f"the servers' scores differ by {worst:.1e}; nothing to compare")
    return worst


def measure(server: Server, seconds: int) -> dict[tuple[str, int], Load]:
    """Start, warm up and measure one server with every task, and stop it."""
    found = {}
    with serve(server) as running:
        for task in CLASSES:
            url = f"http://{HOST}:{running.port}/v1/{task}"
            bodies = FOLDER / f"{task}.jsonl"
            load(url, bodies, connections=16, seconds=_WARM_UP_S)
            for connections in CONNECTIONS:
                time.sleep(_PAUSE_S)
                found[task, connections] = load(
                    url, bodies, connections=connections, seconds=seconds
                )
    return found


def run(plan: Plan) -> None:
    """Verify, measure in rounds, show the table, write the results."""
    require_wrk()
    folder = make_checkpoints()
    requests = make_requests()
    for task, bodies in requests.items():
        write_requests(FOLDER / f"{task}.jsonl", [json.dumps(body).encode() for body in bodies])
    ours = cloze(folder / "bundles")
    environment = {FOLDER_VARIABLE: str(folder / "checkpoints"), "HF_HUB_OFFLINE": "1"}
    theirs = baseline_app(
        "pipelines", plan.baseline_python, "benchmarks.pipelines_app", environment
    )
    difference = verify((theirs, ours), requests)
    say(f"scores equal within {difference:.1e}; {plan.rounds} rounds of {plan.seconds} s a figure")
    loads: dict[str, list[dict[tuple[str, int], Load]]] = {ours.name: [], theirs.name: []}
    for turn in range(plan.rounds):
        for server in (theirs, ours) if turn % 2 == 0 else (ours, theirs):
            say(f"round {turn + 1}: {server.name}")
            loads[server.name].append(measure(server, plan.seconds))
    results = []
    for case in loads[ours.name][0]:
        rates = {
            name: [found[case].requests_per_second for found in rounds]
            for name, rounds in loads.items()
        }
        ratio = divide(rates[ours.name], rates[theirs.name])
        results.append(
            {
                "task": case[0],
                "connections": case[1],
                "ratio": ratio,
                "requests_per_second": {name: median(each) for name, each in rates.items()},
                "rounds": {
                    name: [asdict(found[case]) for found in rounds]
                    for name, rounds in loads.items()
                },
            }
        )
    _show(results, ours.name, theirs.name)
    say(f"written to {save_results('tasks', {'rounds': plan.rounds, 'results': results})}")


def _show(results: Sequence[Mapping[str, Any]], ours: str, theirs: str) -> None:
    show_table(
        f"Requests a second, {ours} / {theirs}: medians of the rounds",
        ("task, connections", ours, theirs, "ratio", "least to most", "target"),
        [
            (
                f"{result['task']}, {result['connections']}",
                f"{result['requests_per_second'][ours]:,.0f}",
                f"{result['requests_per_second'][theirs]:,.0f}",
                f"{result['ratio']['median']:.2f}",
                f"{result['ratio']['least']:.2f} to {result['ratio']['most']:.2f}",
                TARGET.judge(result["ratio"]["median"]) if result["connections"] == 16 else "-",
            )
            for result in results
        ],
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tasks", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--seconds", type=int, default=6, help="a figure; default: 6")
    parser.add_argument("--baseline-python", type=Path, default=BASELINE_PYTHON)
    given = parser.parse_args()
    stop_on_terminate()
    run(Plan(given.rounds, given.seconds, given.baseline_python))


if __name__ == "__main__":
    main()
