"""What a path is to those above its route: its kind, its dialect, who may see it.

A route says this of itself (service/api/route.py); keys, rates, admission, drain, traces, logs and
the OpenAPI document ask it, and never look at how a path is written.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from starlette.types import Receive, Scope, Send

from service.error_response import Problem, shape_error

# A word for all paths that nothing is at: what was asked for has no bound.
UNKNOWN = "unknown"

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
# The setting that says who may see it.
Page = Literal["docs", "metrics"]


class Kind(StrEnum):
    """What is asked for at a path, which decides who may ask.

    Work asks for an API key, is rated, admitted and drained. Admin asks for an admin key and is
    drained. Operation is asked by what surrounds the service, without a trace. Documents are for
    people.
    """

    WORK = "work"
    ADMIN = "admin"
    OPERATION = "operation"
    DOCUMENT = "document"


@dataclass(frozen=True, slots=True)
class Dialect:
    """A way of asking: other servers' clients differ in these, and in the schemas of their routes.

    `prefixes` are the paths that are its own: what is below one and leads nowhere is work of an
    unknown path, refused in its shape. `items` names the fields that hold a request's items. With
    `unknown_fields` ignored, what no schema has at the top of a body is dropped. `declared` bodies
    must come with the Content-Type of JSON. `statuses` are those of the codes that its clients know
    by another one than ours, of 400 to 499. `cut_it` is how its callers have long texts cut, where
    our field for it is none of its own.
    """

    name: str
    prefixes: tuple[str, ...]
    kind: Kind = Kind.WORK
    items: tuple[str, ...] = ("inputs",)
    unknown_fields: Literal["refuse", "ignore"] = "refuse"
    declared: bool = True
    shape_error: Callable[[Problem], Any] = shape_error
    statuses: Mapping[str, int] = field(default_factory=dict, hash=False)
    cut_it: str = ""


# Also of whatever no dialect has for its own.
NATIVE = Dialect("native", prefixes=("/v1",))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a path leads: `handlers` by method, none where it leads nowhere.

    `path` is that of the routes, by which requests are counted, never the one that was asked for.
    A `probe` is asked again and again until it succeeds, so its failures are no news.
    """

    path: str = UNKNOWN
    kind: Kind | None = None
    dialect: Dialect = NATIVE
    page: Page | None = None
    probe: bool = False
    handlers: Mapping[str, Handler] = field(default_factory=dict)
    # Where another method of the same path is something else: asked for at / a page, sent work.
    others: Mapping[str, "Endpoint"] = field(default_factory=dict)
    # The name of the dialect in which work is asked for here, empty where none is; asked often.
    spoken: str = field(init=False)

    def __post_init__(self) -> None:
        spoken = self.dialect.name if self.kind is Kind.WORK else ""
        object.__setattr__(self, "spoken", spoken)


NOWHERE = Endpoint()
