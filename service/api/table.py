"""Which path leads where: made once of all routes, which say of themselves what they are."""

import re
from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from typing import Any

from fastapi import FastAPI

from service.api.route import Route
from service.endpoint import NOWHERE, Dialect, Endpoint, Handler

_SLASHES = re.compile(r"/{2,}")
# What others call a route, where it is written otherwise.
_KNOWN_AS = {
    "answer": "/v1/question-answering",
    "qa": "/v1/question-answering",
    "ner": "/v1/token-classify",
    "entities": "/v1/token-classify",
    "nsp": "/v1/next-sentence",
    "mlm": "/v1/fill-mask",
    "embed": "/v1/embeddings",
    "detokenize": "/v1/detokenize",
}
# Of a path that leads nowhere so much is compared with those that there are, and as near are they.
_MOST_COMPARED = 64
_ALIKE = 0.8


class EndpointTable(dict[str, Endpoint]):
    """The endpoint of every path; `table[path]` never fails, and costs a look into a dictionary.

    Paths with parameters come after those without, then what is below a dialect's prefix, and at
    last NOWHERE. None of these is kept: there is no end of them.
    """

    def __init__(self, routes: Iterable[Any], app: FastAPI, root: str = "") -> None:
        """`root` is what a gateway may leave before each path.

        Raises TypeError for a route that does not say what it is.
        """
        super().__init__()
        self._app = app
        self._root = root
        self._patterns: dict[str, re.Pattern[str]] = {}
        dialects: dict[Dialect, None] = {}
        for route in routes:
            if not isinstance(route, Route) or not hasattr(route, "kind"):
                raise TypeError(f"{route!r} does not say of what kind it is; see declare()")
            self._add(route)
            dialects[route.dialect] = None
        self._prefixes = sorted(
            ((prefix, dialect) for dialect in dialects for prefix in dialect.prefixes),
            key=lambda found: -len(found[0]),
        )

    def __missing__(self, path: str) -> Endpoint:
        for template, pattern in self._patterns.items():
            # What a parameter stands for ends with no slash: the path without it is looked for.
            if not path.endswith("/") and pattern.match(path):
                return self[template]
        for prefix, dialect in self._prefixes:
            if path == prefix or path.startswith(f"{prefix}/"):
                return Endpoint(kind=dialect.kind, dialect=dialect)
        return NOWHERE

    def resolve(self, path: str) -> str:
        """The path as its route has it: without the root, and without slashes too many.

        For what leads nowhere as it was asked for. Every layer goes by what this gives.
        """
        plain = _SLASHES.sub("/", path)
        if self._root and f"{plain}/".startswith(f"{self._root}/"):
            plain = plain[len(self._root) :]
        return plain.rstrip("/") or "/"

    def suggest(self, path: str) -> str | None:
        """A path that there is and that is written almost as this one."""
        asked = path[:_MOST_COMPARED].lower()
        known = _KNOWN_AS.get(asked.removeprefix("/v1").strip("/"))
        if known is not None:
            return known
        for each in (asked, f"/v1{asked}"):
            found = get_close_matches(each, self, n=1, cutoff=_ALIKE)
            if found:
                return found[0]
        return None

    def _add(self, route: Route) -> None:
        handlers: dict[str, Handler] = dict.fromkeys(
            route.methods or (), partial(route.answer, self._app)
        )
        known = self.get(route.path)
        told = Endpoint(
            path=route.path,
            kind=route.kind,
            dialect=route.dialect,
            page=route.page,
            probe=route.probe,
            handlers={**(known.handlers if known is not None else {}), **handlers},
        )
        if known is not None and replace(known, handlers=told.handlers, others={}) != told:
            if handlers.keys() & (known.handlers.keys() | known.others.keys()):
                raise TypeError(f"the routes of {route.path} do not agree on what they are")
            apart = replace(told, handlers=handlers)
            others = {**known.others, **dict.fromkeys(handlers, apart)}
            told = replace(known, others=others)
        self[route.path] = told
        if route.param_convertors:
            self._patterns[route.path] = route.path_regex
