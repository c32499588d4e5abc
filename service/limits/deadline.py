"""What the headers of a request say of time: until when it wants its answer, and who goes first."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from models.errors import InvalidValue
from service.errors import InvalidRequest
from service.scheduling.ticket import Lane

LONGEST_TIMEOUT_S = 3600.0
_DECIMAL = re.compile(rb"[0-9]{1,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?")
_LANES = {lane.encode(): lane for lane in Lane}


@dataclass(frozen=True, slots=True)
class Terms:
    """Within how many seconds a request wants its answer, and in which lane it waits.

    It began by time.perf_counter(). Without a lane, the number of its items decides.
    """

    began: float
    timeout_s: float
    lane: Lane | None = None

    @property
    def deadline(self) -> float:
        """Until when, by the same clock."""
        return self.began + self.timeout_s


def read_terms(headers: Iterable[tuple[bytes, bytes]], began: float, timeout_s: float) -> Terms:
    """The terms of a request; without a header, `timeout_s`. Raises InvalidRequest.

    Read from the raw headers: FastAPI's own way takes longer than all of the edge.
    """
    lane: Lane | None = None
    for name, value in headers:
        if name == b"x-request-timeout":
            timeout_s = _read_timeout(value)
        elif name == b"x-priority":
            if value not in _LANES:
                raise _refuse_header("X-Priority", f"write one of {', '.join(Lane)}")
            lane = _LANES[value]
    return Terms(began, timeout_s, lane)


def _read_timeout(value: bytes) -> float:
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


def _refuse_header(name: str, remedy: str) -> InvalidRequest:
    return InvalidRequest(
        f"the header is not what it may be; {remedy}", param=name, code=InvalidValue.code
    )
