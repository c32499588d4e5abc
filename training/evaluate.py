"""`python -m training.evaluate`: every figure of the model card, asked of the bundle itself."""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from models.pipeline import Pipeline
from training.finetuning.sets import read_sets
from training.judging import (
    Figure,
    judge_classify,
    judge_entities,
    judge_fill_mask,
    judge_next_sentence,
    judge_positions,
    judge_similarity,
    read_sentences,
)
from training.run import run_command
from training.text.documents import find_files


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command line, with what each option means."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("bundle", type=Path, help="the bundle to judge")
    parser.add_argument("--data", type=Path, required=True, help="folder of the training data")
    parser.add_argument("--texts", nargs="+", metavar="GLOB", default=["wiki/validation.jsonl.xz"])
    parser.add_argument("--passages", type=int, default=2000, help="to judge fill-mask by")
    parser.add_argument(
        "--long-passages", type=int, default=400, help="to judge later positions by"
    )
    parser.add_argument("--pairs", type=int, default=4000, help="to judge next-sentence by")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Prints the figures; 1 and one sentence where the bundle or the data cannot be read."""
    return run_command(evaluate, parse_arguments(arguments))


def evaluate(given: argparse.Namespace, console: Console) -> None:
    """Everything between the arguments and the table."""
    files = find_files(given.data, tuple(given.texts))
    _, held_out = read_sets(given.data)
    pipeline = Pipeline.open(given.bundle)
    table = Table("figure", "value", "over", title=f"{pipeline.manifest.name}", box=None)
    figures = []

    def judge() -> Iterator[list[Figure]]:
        documents = read_sentences(files)
        yield judge_fill_mask(pipeline, documents, given.passages)
        yield judge_positions(pipeline, documents, given.long_passages)
        yield judge_next_sentence(pipeline, documents, given.pairs)
        for entry in pipeline.manifest.heads:
            data = held_out.heads.get(entry.name or "")
            if entry.task == "classify" and data is not None:
                several = entry.problem_type == "multi_label_classification"
                yield judge_classify(pipeline, str(entry.name), data, several=several)
            if entry.task == "token-classify" and held_out.entities is not None:
                yield judge_entities(pipeline, str(entry.name), held_out.entities)
        yield judge_similarity(pipeline, held_out.similarity)

    with console.status("asking the bundle"):
        for group in judge():
            figures += group
    for figure in figures:
        table.add_row(figure.name, f"{figure.value:.4f}", figure.over)
    Console().print(table)
    if given.json:
        content = json.dumps([asdict(figure) for figure in figures], indent=1)
        given.json.write_text(content + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
