"""Where more users no longer get more answers: the knee of a stepped load."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.measurements import Figures, Measurements

_ENOUGH = 0.9  # of the highest throughput
_SETTLE_S = 2  # seconds at the start of a level in which its users are still starting


@dataclass(frozen=True)
class Level:
    """What so many users got."""

    users: int
    throughput: float  # requests a second that were answered as they should be
    p50_ms: float
    p95_ms: float
    error_rate: float


def list_levels(measurements: Measurements) -> list[Level]:
    """Each number of users that was held for a few seconds, the least first."""
    held: dict[int, list[int]] = {}
    for second, users in sorted(measurements.users.items()):
        held.setdefault(users, []).append(second)
    levels = []
    for users, seconds in sorted(held.items()):
        settled = seconds[_SETTLE_S:-1]
        if users < 1 or len(settled) < 2:
            continue
        together = Figures()
        for second in settled:
            together.merge(measurements.seconds.get(second, Figures()))
        response = together.response
        levels.append(
            Level(
                users,
                (together.requests - together.failed) / len(settled),
                response.find_percentile(0.5),
                response.find_percentile(0.95),
                together.error_rate,
            )
        )
    return levels


def find_knee(levels: Sequence[Level]) -> Level | None:
    """The fewest users that got nine tenths of the highest throughput; None without levels."""
    if not levels:
        return None
    enough = _ENOUGH * max(level.throughput for level in levels)
    return next(level for level in levels if level.throughput >= enough)
