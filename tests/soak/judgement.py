"""What became of one request: right, refused properly, lost or wrong, and why."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from tests.soak.asks import TIMEOUT_S, Answered, Ask, Poisoned
from tests.soak.client import Reply
from tests.soak.comparison import find_difference
from tests.soak.kinds import Known, Refused
from tests.soak.tasks import embed

# A refusal for want of room is due where so many texts were under way.
_BUSY_TEXTS = 20
# Whoever wants an answer that soon may be told that there will be none.
_HURRY_S = 5.0
# The clocks of two processes, and the way between them.
_SLACK_S = 0.05
_ERROR = {"message", "type", "code", "param"}
_TYPES = {401: "authentication_error", 429: "overloaded_error", 503: "unavailable_error"}
_TYPES |= {500: "server_error", 504: "timeout_error"}


class Outcome(StrEnum):
    """What became of a request."""

    RIGHT = "answered right"
    REFUSED = "refused properly"
    ABANDONED = "abandoned"
    LOST = "lost"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the driver knows of the time between a request and its answer.

    `replacing`: a session or bundle was being replaced. `full`: a burst was under way. `texts`:
    the most texts of other requests under way. `versions`: those of each model that could answer.
    """

    seconds: float
    replacing: bool = False
    full: bool = False
    texts: int = 0
    versions: frozenset[int] = frozenset({0})


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome, and for a bad one what is wrong."""

    outcome: Outcome
    reason: str = ""


def judge(ask: Ask, reply: Reply, found: Circumstances) -> Verdict:
    """The verdict on an answer that came back whole."""
    echoed = reply.headers.get("x-request-id", ask.id)
    if echoed != ask.id:
        return Verdict(Outcome.WRONG, f"the answer is that of {echoed}")
    try:
        content = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        return Verdict(Outcome.WRONG, "the answer is not JSON")
    reason = (
        _judge_answer(ask, content, found)
        if reply.status == 200
        else _judge_error(ask, reply, content, found)
    )
    if reason is not None:
        lost = reply.status == 504 and reason.startswith("no answer")
        return Verdict(Outcome.LOST if lost else Outcome.WRONG, reason)
    return Verdict(Outcome.RIGHT if reply.status == 200 else Outcome.REFUSED)


def _judge_answer(ask: Ask, content: Any, found: Circumstances) -> str | None:
    if not isinstance(ask.expected, Answered):
        return f"answered, where {ask.expected} was due"
    kind, places = ask.expected.kind, ask.expected.places
    reasons = []
    for version, known in enumerate(kind.versions):
        reason = _compare(ask, content, [known[place] for place in places])
        if reason is None and (len(kind.versions) == 1 or version in found.versions):
            return None
        reasons.append(reason or f"answered by version {version}, which is gone or not there yet")
    return "; or ".join(reasons)


def _compare(ask: Ask, content: Any, known: list[Known]) -> str | None:
    """The whole body against that of one version."""
    assert isinstance(ask.expected, Answered)
    results: list[dict[str, Any]] = [each.answer for each in known]
    tokens = sum(each.tokens for each in known)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    wanted: dict[str, Any] = {"model": ask.expected.kind.model, "usage": usage}
    if ask.path == embed.PATH:
        data = [result | {"index": index} for index, result in enumerate(results)]
        wanted |= {"object": "list", "data": data}
    else:
        wanted["results"] = results
    return find_difference(content, wanted)


def _judge_error(ask: Ask, reply: Reply, content: Any, found: Circumstances) -> str | None:
    """Why this refusal is not proper, or None."""
    status = reply.status
    error = content.get("error") if isinstance(content, dict) and len(content) == 1 else None
    if not isinstance(error, dict) or error.keys() != _ERROR or not error["message"]:
        return f"{status} without the shape of an error"
    if error["type"] != _TYPES.get(status, "invalid_request_error"):
        return f"{status} of the type {error['type']}"
    if isinstance(ask.expected, Refused) and status == ask.expected.status:
        same = error["code"] == ask.expected.code
        return None if same else f"{status} with the code {error['code']}, not {ask.expected.code}"
    said = f"{status} {error['code']} ({error['message']}) after {found.seconds:.2f} s"
    if status in (429, 503) and not _is_count(reply.headers.get("retry-after", "")):
        return f"{said} without Retry-After"
    match status, error["code"]:
        case 429, "overloaded":
            due = found.full or found.replacing or ask.timeout_s < _HURRY_S
            due = due or found.texts >= _BUSY_TEXTS
        case 503, "not_ready":
            due = found.replacing
        case 504, "deadline_passed":
            if ask.timeout_s >= TIMEOUT_S:
                return f"no answer within {ask.timeout_s:g} s"
            due = found.seconds >= ask.timeout_s - _SLACK_S
        case 500, "internal_error":
            due = isinstance(ask.expected, Poisoned) and error["param"] == ask.expected.param
        case _:
            due = False
    return None if due else f"{said}, which was not due"


def _is_count(text: str) -> bool:
    return text.isdecimal() and int(text) > 0
