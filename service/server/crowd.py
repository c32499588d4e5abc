"""Room for one more connection where there are as many as may be: who has many gives one up.

An idle one is closed first, of the client that holds the most, and of these the one that is idle
for longest. Where none is, and one client holds more than its share, its request that has been
arriving for longest is given up with a 408. So nobody is shut out by who only holds connections.
"""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.server.connection import Connection

# A connection that was just opened, or answered, is about to ask: it would be lost.
_LEAST_IDLE_S = 1.0
# Of all connections so many may be those of one client before others ask for room.
_SHARE = 0.5


def make_room(newcomer: "Connection", connections: Iterable["Connection"]) -> bool:
    """Close a connection for a new one; whether there was one to close."""
    others = [
        each
        for each in connections
        if each is not newcomer and not each.transport.is_closing() and not each.refusals.closing
    ]
    if len(others) < newcomer.bounds.max_connections:
        return True
    held = Counter(map(_find_host, others))
    now = newcomer.loop.time()
    idle = [
        (held[_find_host(each)], seconds, place)
        for place, each in enumerate(others)
        if (seconds := _find_idle_s(each, now)) >= _LEAST_IDLE_S
    ]
    if idle:
        others[max(idle)[2]].transport.close()
        return True
    ((host, most),) = held.most_common(1)
    if host == _find_host(newcomer) or most <= _SHARE * newcomer.bounds.max_connections:
        return False
    slow = [
        (each.timers.arrival, place)
        for place, each in enumerate(others)
        if _find_host(each) == host and not each.whole and not each.is_answering()
    ]
    if not slow:
        return False
    late = others[min(slow)[1]]
    late.refusals.refuse_slow(late)
    return True


def _find_host(connection: "Connection") -> str:
    return connection.client[0] if connection.client else ""


def _find_idle_s(connection: "Connection", now: float) -> float:
    """For how long nothing has been asked over it, below 0 where something is."""
    if connection.due or not connection.whole:
        return -1.0
    timers, bounds = connection.timers, connection.bounds
    asked, opened = timers.idle - bounds.idle_timeout_s, timers.arrival - bounds.receive_timeout_s
    return now - min(asked, opened)
