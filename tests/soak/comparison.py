"""Whether an answer is the known one: numbers to within rounding, rankings up to ties."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Of the largest value that stands beside it. Batches of other shapes round otherwise.
LIMIT = 1e-4


@dataclass(frozen=True, slots=True)
class Ranking:
    """A known ranking: more than the `count` that are told, for ties."""

    count: int
    known: Sequence[Mapping[str, Any]]


def find_difference(found: Any, wanted: Any, place: str = "answer") -> str | None:
    """Where the two differ and how, or None where they are the same."""
    if isinstance(wanted, Mapping):
        return _compare_mappings(found, wanted, place)
    if isinstance(wanted, list):
        return _compare_lists(found, wanted, place)
    if isinstance(wanted, float):
        near = LIMIT * max(1.0, abs(wanted))
        close = isinstance(found, int | float) and abs(found - wanted) <= near
        return None if close else f"{place} is {found!r}, not {wanted!r}"
    same = found == wanted and type(found) is type(wanted)
    return None if same else f"{place} is {found!r}, not {wanted!r}"


def _compare_mappings(found: Any, wanted: Mapping[str, Any], place: str) -> str | None:
    if not isinstance(found, Mapping) or found.keys() != wanted.keys():
        return f"{place} has the fields {list(found)!r}, not {list(wanted)!r}"
    near = "is_next" in wanted and abs(wanted["score"] - 0.5) <= LIMIT
    for key, value in wanted.items():
        if key == "is_next" and near:
            continue
        name = f"{place}.{key}"
        if key == "embedding":
            difference = _compare_vectors(found[key], value, name)
        elif isinstance(value, Ranking):
            difference = _compare_rankings(found[key], value, name)
        else:
            difference = find_difference(found[key], value, name)
        if difference is not None:
            return difference
    return None


def _compare_lists(found: Any, wanted: Sequence[Any], place: str) -> str | None:
    if not isinstance(found, list) or len(found) != len(wanted):
        return f"{place} is not a list of {len(wanted)}"
    for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
        difference = find_difference(one, other, f"{place}[{number}]")
        if difference is not None:
            return difference
    return None


def _compare_vectors(found: Any, wanted: Sequence[float], place: str) -> str | None:
    """Floats, or in base64 the bytes of float32s."""
    if isinstance(found, str):
        vector = np.frombuffer(base64.b64decode(found), "<f4")
    else:
        vector = np.asarray(found, np.float32)
    known = np.asarray(wanted, np.float32)
    if vector.shape != known.shape:
        return f"{place} has the shape {vector.shape}, not {known.shape}"
    # NaN is not within any limit.
    off = float(np.max(np.abs(vector - known))) / float(np.max(np.abs(known)))
    return None if off <= LIMIT else f"{place} is off by {off:.1e} of its largest value"


def _compare_rankings(found: Any, wanted: Ranking, place: str) -> str | None:
    """The best of the known: each with its own score, in the right order."""
    if not isinstance(found, list) or len(found) != wanted.count:
        return f"{place} is not a list of {wanted.count}"
    limit = LIMIT * max(each["score"] for each in wanted.known)
    known = {_name(each): each for each in wanted.known}
    if len({_name(each) for each in found}) < len(found):
        return f"{place} names one twice"
    for number, (one, other) in enumerate(zip(found, wanted.known, strict=False)):
        same = known.get(_name(one), {"score": math.inf})
        apart = max(abs(one["score"] - same["score"]), abs(one["score"] - other["score"]))
        if not apart <= limit or {**one, "score": 0} != {**same, "score": 0}:
            return f"{place}[{number}] is {one!r}, not {other!r}"
    return None


def _name(entry: Mapping[str, Any]) -> Any:
    return entry.get("token_id", entry.get("label"))
