"""What an export shows at the prompt: progress on stderr while it runs, a summary at the end."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import rich.box
from rich.console import Console as Terminal
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from export.writing.request import Result
from models.bundle.bundle import Bundle
from models.bundle.manifest import HeadEntry, Parity
from models.derived.zero_shot import find_entailment
from models.engines import ENGINE, KERNELS
from models.engines.library import NoKernels, find_kernels

# The figures of a proof stand in one line, however narrow the terminal says it is.
_WIDTH = 132
# Of tasks whose heads differ in nothing.
_ANSWERS = {
    "fill-mask": "words of the vocabulary",
    "next-sentence": "whether one text follows another",
    "answer": "spans of a context",
}


class Console:
    """A reporter with a line for each step."""

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            console=Terminal(stderr=True),
        )
        self._step: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()
        self._progress.stop()

    def begin(self, step: str, total: int | None = None) -> None:
        """Show a new step, and the one before it as done."""
        self._finish()
        self._step = self._progress.add_task(step, total=total)

    def advance(self) -> None:
        """Show that a part of the step is done."""
        if self._step is not None:
            self._progress.advance(self._step)

    def summarise(self, result: Result) -> None:
        """Print what was made, how large, how exact, how long."""
        show_bundle(result.bundle, seconds=result.seconds)
        for note in result.notes:
            Terminal().print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)

    def _finish(self) -> None:
        if self._step is not None:
            self._progress.update(self._step, total=1, completed=1)


def show_bundle(bundle: Bundle, *, seconds: float | None = None) -> None:
    """Print a bundle's contents as tables on stdout."""
    manifest = bundle.manifest
    size = sum(entry.bytes for entry in manifest.files.values())
    # What a checkpoint names is text, not rich's markup.
    terminal = Terminal(markup=False, emoji=False)
    terminal.print(f"{manifest.name}  {bundle.path}", style="bold", soft_wrap=True)
    rows = [
        ("source", f"{manifest.source.name} ({manifest.source.architecture})"),
        ("revision", manifest.source.revision or "-"),
        ("family", f"{manifest.family}, {manifest.layout} layout"),
        ("size", f"{manifest.layers} layers of {manifest.hidden_size}, {size / 1e6:.1f} MB"),
        ("vocabulary", f"{manifest.vocabulary_size:,} tokens, texts up to {manifest.max_tokens}"),
        ("precisions", ", ".join(manifest.precisions)),
        ("engines", _list_engines(bundle)),
        ("fingerprint", bundle.fingerprint),
    ]
    if manifest.fused_attention is not None:
        fused = f"{manifest.fused_attention} fused nodes, one a layer"
        plain = "the model's own, one text a row"
        rows.append(("attention", fused if manifest.fused_attention else plain))
    if seconds is not None:
        rows.append(("time", f"{seconds:.1f} s"))
    facts = Table(box=None, show_header=False)
    for row in rows:
        facts.add_row(*row)
    terminal.print(facts)
    heads = Table(box=rich.box.SIMPLE)
    for column in ("task", "head", "answers"):
        heads.add_column(column)
    for entry in manifest.heads:
        heads.add_row(entry.task, entry.name or "-", _name_answers(entry))
    terminal.print(heads)
    show_parity(manifest.parity)
    if manifest.proof:
        proof = manifest.proof
        company = ", ".join(f"{name} {least:.6f}" for name, least in proof.company_cosine.items())
        terminal.print(
            f"proven on {proof.processor} ({', '.join(proof.features)}), {proof.threads} threads, "
            f"in {proof.seconds} s; worst cosine of a text among strangers to itself alone: "
            f"{company}",
            soft_wrap=True,
        )


def _name_answers(entry: HeadEntry) -> str:
    """What a head gives, in a few words."""
    if entry.labels:
        count = len(entry.labels)
        entailment = find_entailment(entry) if entry.task == "classify" else None
        free = "" if entailment is None else f", zero-shot by {entry.labels[entailment]}"
        return f"{count} label{'' if count == 1 else 's'}, {entry.function}{free}"
    match entry.representation:
        case "sparse":
            return f"weights of {entry.dimensions:,} words, {entry.aggregation} of tokens"
        case "tokens":
            return f"a vector of {entry.dimensions} for each token"
    if entry.pooling:
        return f"{entry.pooling} pooling ({entry.pooling_source})"
    return _ANSWERS.get(entry.task, "-")


def _list_engines(bundle: Bundle) -> str:
    """The engines that there are graphs for, and why there is none for the kernels."""
    names = [ENGINE]
    if any(name.endswith(f".{KERNELS}.onnx") for name in bundle.manifest.files):
        return ", ".join([*names, KERNELS])
    found = find_kernels()
    why = "not built here" if isinstance(found, NoKernels) else "no graph"
    return f"{ENGINE} ({KERNELS}: {why})"


def _name_precision(row: Parity) -> str:
    named = row.precision if row.engine == ENGINE else f"{row.precision} {row.engine}"
    return f"{named}, accepted loss" if row.lossy else named


def show_parity(figures: Sequence[Parity]) -> None:
    """Print the figures of a proof as a table on stdout.

    Where a projection makes vectors of what the trunk gives, both are told, each by its name.
    """
    rows = [(row.task, row.head, row.precision, row.engine) for row in figures]
    named: set[tuple[str, str | None, str, str]] = set()
    table = Table(box=rich.box.SIMPLE)
    for column in (
        "task",
        "head",
        "precision",
        "texts",
        "tokens",
        "largest difference",
        "limit",
        "cosine, worst and mean",
        "best answer",
    ):
        table.add_column(column, no_wrap=True)
    for row in figures:
        key = (row.task, row.head, row.precision, row.engine)
        task = row.task
        if rows.count(key) > 1:
            task += ", its vectors" if key in named else ", the trunk's rows"
        named.add(key)
        agreement = row.label_agreement if row.top1_agreement is None else row.top1_agreement
        table.add_row(
            task,
            row.head or "-",
            _name_precision(row),
            str(row.texts),
            str(row.tokens),
            f"{row.largest_difference:.1e}",
            "-" if row.limit is None else f"{row.limit:.1e}",
            "-"
            if row.worst_cosine is None or row.mean_cosine is None
            else f"{row.worst_cosine:.5f} {row.mean_cosine:.5f}",
            "-" if agreement is None else f"{agreement:.2%}",
        )
    width = max(_WIDTH, Terminal().width)
    Terminal(markup=False, emoji=False, width=width).print(table)
