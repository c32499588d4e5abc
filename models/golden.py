"""The golden answers of a bundle computed again, to see that this machine answers as it should.

A bundle carries a few dozen inputs a task with the original model's answers. They cost little, run
every kernel, and come out wrong where a kernel does (one that saturates on an old processor, a
broken build): the service computes them as its warm-up. Owns the form of the file; how an item is
read, and how far an answer is from another, the head of its task knows.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.bundle.bundle import GOLDEN
from models.errors import AnswersWrong, BundleDamaged, CallerError
from models.heads import Head, Job, spread
from models.pipeline import Pipeline, prepare

# Of probabilities and of the parts of vectors of length 1, in fp32, between kinds of processors.
LIMIT = 1e-4
_MALFORMED = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    RecursionError,
    OverflowError,
)


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far one task's answers are from the golden ones, and how far they may be."""

    task: str
    head: str | None
    texts: int
    tokens: int
    largest: float
    limit: float


def check_golden(pipeline: Pipeline) -> list[Deviation]:
    """Compute the golden answers again.

    Raises AnswersWrong, or BundleDamaged for a bad file and for graphs that cannot be run.
    """
    deviations = measure_golden(pipeline, read_golden(pipeline))
    for each in deviations:
        # NaN compares as false with everything.
        if not each.largest <= each.limit:
            raise AnswersWrong(
                f"{pipeline.bundle.path} answers otherwise on this machine than where it was "
                f"proven: {each.task} differs from the golden answers by {each.largest:.2e}, more "
                f"than {each.limit:.1e}, in {pipeline.precision}; serve another precision, or "
                "export it on this machine"
            )
    return deviations


def read_golden(pipeline: Pipeline) -> Mapping[str, Any]:
    """The content of golden.json."""
    file = pipeline.bundle.file(GOLDEN)
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BundleDamaged(f"{file} cannot be read ({error}); export the bundle again") from None
    if not isinstance(content, dict):
        raise BundleDamaged(f"{file} is not a JSON object; export the bundle again")
    return content


def measure_golden(pipeline: Pipeline, content: Mapping[str, Any]) -> list[Deviation]:
    """The deviation of each task.

    Raises BundleDamaged where the content is not of its form, or a graph cannot be run.
    """
    with _of_form(pipeline):
        return [_measure(pipeline, head, task) for head, task in _match(pipeline, content)]


def list_golden_batches(pipeline: Pipeline) -> list[list[Job]]:
    """The golden inputs of every task, in the batches that they were proven in.

    Raises BundleDamaged where the file is not of its form.
    """
    content = read_golden(pipeline)
    with _of_form(pipeline):
        return [
            spread(jobs[place] for place in batch)
            for head, task in _match(pipeline, content)
            for jobs in [_prepare(head, task)]
            for batch in task["batches"]
        ]


def _match(
    pipeline: Pipeline, content: Mapping[str, Any]
) -> Iterator[tuple[Head[Any, Any, Any], Mapping[str, Any]]]:
    """Each task of the file with its head; one of a later version has none here."""
    known = {(head.task.name, head.entry.name): head for head in pipeline.heads}
    for task in content.get("tasks", ()):
        head = known.get((task["task"], task["head"]))
        if head is not None:
            yield head, task


@contextmanager
def _of_form(pipeline: Pipeline) -> Iterator[None]:
    """Whatever the file holds in another form than the exporter gives it is BundleDamaged."""
    try:
        yield
    except (*_MALFORMED, CallerError) as error:
        raise BundleDamaged(
            f"{pipeline.bundle.file(GOLDEN)} is not of its form ({error!r}); "
            "export the bundle again"
        ) from None


def _prepare(head: Head[Any, Any, Any], task: Mapping[str, Any]) -> list[Job]:
    items = [head.read_item(case["input"]) for case in task["cases"]]
    return prepare(head, items, head.resolve(head.golden_options))


def _measure(pipeline: Pipeline, head: Head[Any, Any, Any], task: Mapping[str, Any]) -> Deviation:
    jobs = _prepare(head, task)
    for batch in task["batches"]:
        together = spread(jobs[place] for place in batch)
        with pipeline.bundle.blamed():
            pipeline.compute(together)
    worst = [
        head.difference(head.decode(job), case["answer"])
        for job, case in zip(jobs, task["cases"], strict=True)
    ]
    return Deviation(
        task=head.task.name,
        head=head.entry.name,
        texts=len(jobs),
        tokens=sum(job.tokens for job in jobs),
        largest=float(np.max(worst, initial=0.0)),
        limit=float(task.get("limits", {}).get(pipeline.precision, LIMIT)),
    )
