"""One way to ask, with its known answers: computed beforehand by models.Pipeline, item by item.

An answer does not depend on who shares the request or the batch, so a request is any items of a
kind, and its answer theirs in the same order. Knows no task.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from models.heads import Job, spread
from models.pipeline import Pipeline, form_batches, prepare
from tests.soak.bundles import OTHER


@dataclass(frozen=True, slots=True)
class Known:
    """One item as it is sent, and its answer as it stands in the result, as JSON."""

    item: Any
    answer: dict[str, Any]
    tokens: int


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to ask: a route, its options, and items with answers for each version of the model.

    `model` is the name that answers; `named` whether requests must name it. `field` is the name of
    the items in a request, `plain` whether any of them may be exchanged for another text.
    """

    name: str
    path: str
    model: str
    options: Mapping[str, Any]
    versions: Sequence[Sequence[Known]]
    named: bool = False
    field: str = "inputs"
    plain: bool = False

    def body(self, places: Sequence[int], *, named: bool) -> dict[str, Any]:
        """A request for the items at these places."""
        items = [self.versions[0][place].item for place in places]
        model = {"model": self.model} if named or self.named else {}
        return {self.field: items, **self.options, **model}


@dataclass(frozen=True, slots=True)
class Refused:
    """What is wrong with a bad request, as the service must say it."""

    status: int
    code: str


# Bodies that a route refuses, each with the refusal.
Bad = Sequence[tuple[Any, Refused]]


@dataclass(frozen=True, slots=True)
class Asked:
    """How a route is asked, and a pipeline for the same.

    `wrap` makes of an answer what the route says, and `finish` of that what it says of this item.
    `items` is the name that it has for the items, `pair` are those for two texts.
    """

    path: str
    task: str
    options: Any
    wrap: Callable[[Any], dict[str, Any]]
    head: str | None = None
    items: str = "inputs"
    pair: tuple[str, str] = ("text", "text_pair")
    sent: Mapping[str, Any] = field(default_factory=dict)
    plain: bool = False
    finish: Callable[[dict[str, Any], Any], dict[str, Any]] = lambda answer, item: answer


def make_kind(name: str, pipelines: Sequence[Pipeline], items: Sequence[Any], asked: Asked) -> Kind:
    """Have every version answer the items."""
    model = pipelines[0].manifest.name
    return Kind(
        name=name,
        path=asked.path,
        model=model,
        options=asked.sent,
        versions=[_answer(pipeline, items, asked) for pipeline in pipelines],
        named=model == OTHER,
        field=asked.items,
        plain=asked.plain,
    )


def _answer(pipeline: Pipeline, items: Sequence[Any], asked: Asked) -> list[Known]:
    head = pipeline.find_head(asked.task, asked.head)
    jobs: list[Job] = prepare(head, items, head.resolve(asked.options))
    for batch in form_batches(spread(jobs)):
        pipeline.compute(batch)
    return [
        Known(
            _write_item(item, asked),
            _finish(asked.finish(asked.wrap(_simplify(head.decode(job))), item), job),
            sum(window.tokens for window in spread([job])),
        )
        for item, job in zip(items, jobs, strict=True)
    ]


def _write_item(item: Any, asked: Asked) -> Any:
    """The item as its route takes it."""
    return dict(zip(asked.pair, item, strict=True)) if isinstance(item, tuple) else item


def _finish(answer: dict[str, Any], job: Job) -> dict[str, Any]:
    at = job.encoded.truncated_at
    return answer if at is None else {**answer, "truncated": True, "truncated_at": at}


def _simplify(answer: Any) -> Any:
    """Only what JSON has."""
    return orjson.loads(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY))
