"""What the headers of a request say of time: until when it wants its answer, and who goes first."""

import re
from dataclasses import dataclass

from models.errors import InvalidValue
from service.errors import InvalidRequest
from service.scheduling.ticket import Lane

LONGEST_TIMEOUT_S = 3600.0
_DECIMAL = re.compile(rb"[0-9]{1,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?")
_LANES = {lane.encode(): lane for lane in Lane}


@dataclass(frozen=True, slots=True)
class Deadline:
    """Until when a request wants its answer, by time.perf_counter(), and in which lane it waits.

    Without a lane, the number of its items decides. `asked` says whether there was room for it in
    a queue when its headers had come.
    """

    at: float
    timeout_s: float
    lane: Lane | None = None
    asked: bool = False


def read_timeout(value: bytes) -> float:
    """The seconds of X-Request-Timeout. Raises InvalidRequest."""
    try:
        timeout_s = float(value) if _DECIMAL.fullmatch(value) else 0.0
    except ValueError:
        timeout_s = 0.0
    if not 0 < timeout_s <= LONGEST_TIMEOUT_S:
        raise _refuse_header(
            "X-Request-Timeout",
            f"write seconds above 0, at most {LONGEST_TIMEOUT_S:g}, decimals allowed, like 0.5",
        )
    return timeout_s


def read_lane(value: bytes) -> Lane:
    """The lane of X-Priority. Raises InvalidRequest."""
    if value not in _LANES:
        raise _refuse_header("X-Priority", f"write one of {', '.join(Lane)}")
    return _LANES[value]


def _refuse_header(name: str, remedy: str) -> InvalidRequest:
    return InvalidRequest(
        f"the header is not what it may be; {remedy}", param=name, code=InvalidValue.code
    )
