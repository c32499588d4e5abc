"""What can be asked of a trunk, a row a task. Owns no computation: each task's head does that."""

from dataclasses import dataclass
from enum import StrEnum

from models.errors import InvalidValue


class Rows(StrEnum):
    """Which rows of the hidden states a head reads, of those that belong to its text."""

    ALL = "all"
    FIRST = "first"
    MASK = "mask"


@dataclass(frozen=True, slots=True)
class Task:
    """One thing a trunk can be asked.

    `name` is its word in bundles, routes and flags, `weights` says whether its head has any
    (and so a graph of its own), `rows` what its head reads.
    """

    name: str
    rows: Rows
    weights: bool

    @property
    def stem(self) -> str:
        """The name of its module in models/heads, service/api and tests."""
        return self.name.replace("-", "_")


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("embed", rows=Rows.ALL, weights=False),
        Task("fill-mask", rows=Rows.MASK, weights=True),
        Task("next-sentence", rows=Rows.FIRST, weights=True),
        Task("classify", rows=Rows.FIRST, weights=True),
        Task("token-classify", rows=Rows.ALL, weights=True),
        Task("answer", rows=Rows.ALL, weights=True),
    )
}


def find_task(name: str) -> Task:
    """The task of that name; InvalidValue lists the names there are."""
    try:
        return TASKS[name]
    except KeyError:
        raise InvalidValue(f"{name!r} is not a task; choose from {', '.join(TASKS)}") from None
