"""How long requests took, exact to one percent, by task and stage; mergeable across workers.

locust rounds to two digits and does not know what a server says about itself; a verdict needs
both. Times are counted in buckets that grow by one percent, so memory does not grow with a test.
"""

import math
from collections.abc import Mapping
from typing import Any

_GROWTH = math.log(1.01)
_LEAST_MS = 0.01


class Histogram:
    """Counts of milliseconds in buckets one percent wide."""

    def __init__(self, counts: Mapping[int, int] | None = None, total_ms: float = 0.0) -> None:
        self.counts: dict[int, int] = dict(counts or {})
        self.total_ms = total_ms

    @property
    def count(self) -> int:
        """How many were added."""
        return sum(self.counts.values())

    @property
    def mean_ms(self) -> float:
        """Their mean, exact; 0 without any."""
        return self.total_ms / self.count if self.counts else 0.0

    def add(self, ms: float) -> None:
        """Count one."""
        bucket = round(math.log(max(ms, _LEAST_MS)) / _GROWTH)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.total_ms += ms

    def merge(self, other: "Histogram") -> None:
        """Count all of another one's."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.total_ms += other.total_ms

    def find_percentile(self, share: float) -> float:
        """The milliseconds that a share of them, 0 to 1, does not exceed; 0 without any."""
        left = math.ceil(share * self.count)
        for bucket in sorted(self.counts):
            left -= self.counts[bucket]
            if left <= 0:
                return math.exp(bucket * _GROWTH)
        return 0.0

    def dump(self) -> dict[str, Any]:
        """Plain types, to be sent or written."""
        return {"counts": {str(k): v for k, v in self.counts.items()}, "total_ms": self.total_ms}

    @classmethod
    def load(cls, content: Mapping[str, Any]) -> "Histogram":
        """What dump gave."""
        return cls({int(k): v for k, v in content["counts"].items()}, content["total_ms"])


def read_server_timing(header: str | None) -> dict[str, float]:
    """The stages of a Server-Timing header and their milliseconds (W3C Server Timing).

    Metrics without a duration, and parameters other than it, are passed over.
    """
    stages: dict[str, float] = {}
    for metric in (header or "").split(","):
        name, *parameters = (part.strip() for part in metric.split(";"))
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip().lower() == "dur" and name:
                try:
                    stages[name] = float(value.strip().strip('"'))
                except ValueError:
                    continue
    return stages
