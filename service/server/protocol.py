"""The connection as a server's protocol: what all connections of one service share."""

import sys

from uvicorn.server import ServerState

from service.limits.body_budget import Budget
from service.server.connection import RESERVE, Connection
from service.server.refusals import Refused
from service.server.timers import Clock
from service.settings import Settings

# What a connection knows of the state of its server.
_KNOWN = ("connections", "default_headers", "tasks", "total_requests")
# Bundles, libraries, logs.
_OTHER_FILES = 256


def make_protocol(
    settings: Settings, budget: Budget, refused: Refused = lambda *_: None
) -> type[Connection]:
    """The protocol for uvicorn's `http`, whose requests hold what the budget has room for.

    `refused` hears of what it answers itself. Raises RuntimeError where uvicorn is not as the
    connection knows it: then nothing is served, rather than something that is counted wrongly.
    """
    unknown = [name for name in _KNOWN if not hasattr(ServerState(), name)]
    if unknown:
        raise RuntimeError(
            f"the state of uvicorn's server has no {', '.join(unknown)}; "
            "install the versions of constraints.txt"
        )
    held, told = budget, refused

    class Bounded(Connection):
        budget = held
        bounds = settings
        refused = staticmethod(told)
        clock = Clock.of(settings)

    return Bounded


def allow_files(settings: Settings) -> bool:
    """Let the process open a file for each connection; False if the system does not let it."""
    if sys.platform == "win32":
        return True
    import resource  # noqa: PLC0415 - not on Windows

    wanted = settings.max_connections + RESERVE + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        highest = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
        return highest == wanted
    return True
