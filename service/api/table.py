"""Which path leads where: made once of all routes, which say of themselves what they are."""

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import FastAPI

from service.api.route import Route
from service.endpoint import NOWHERE, Dialect, Endpoint, Handler


class EndpointTable(dict[str, Endpoint]):
    """The endpoint of every path; `table[path]` never fails, and costs a look into a dictionary.

    Paths with parameters come after those without, then what is below a dialect's prefix, and at
    last NOWHERE. None of these is kept: there is no end of them.
    """

    def __init__(self, routes: Iterable[Any], app: FastAPI) -> None:
        """Raises TypeError for a route that does not say what it is."""
        super().__init__()
        self._app = app
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
            if pattern.match(path):
                return self[template]
        for prefix, dialect in self._prefixes:
            if path == prefix or path.startswith(f"{prefix}/"):
                return Endpoint(kind=dialect.kind, dialect=dialect)
        return NOWHERE

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
