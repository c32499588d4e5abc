"""Everything a test measures, in one object: by task, by second, by number of users.

A worker's is sent to the master piece by piece; the master's is the whole.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loadtest.timing import Histogram, read_server_timing

ALL = "all"


@dataclass
class Figures:
    """What was counted of one task, or of one second."""

    response: Histogram = field(default_factory=Histogram)
    stages: dict[str, Histogram] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        """Requests that ended, failed ones among them."""
        return self.response.count

    @property
    def failed(self) -> int:
        """Requests that failed."""
        return sum(self.failures.values())

    @property
    def error_rate(self) -> float:
        """The part that failed, 0 to 1."""
        return self.failed / self.requests if self.requests else 0.0

    def add(self, response_ms: float, stages: Mapping[str, float], failure: str | None) -> None:
        """Count one request."""
        self.response.add(response_ms)
        for stage, ms in stages.items():
            self.stages.setdefault(stage, Histogram()).add(ms)
        if failure is not None:
            self.failures[failure] = self.failures.get(failure, 0) + 1

    def merge(self, other: "Figures") -> None:
        """Count all of another one's."""
        self.response.merge(other.response)
        for stage, histogram in other.stages.items():
            self.stages.setdefault(stage, Histogram()).merge(histogram)
        for failure, count in other.failures.items():
            self.failures[failure] = self.failures.get(failure, 0) + count

    def dump(self) -> dict[str, Any]:
        """Plain types, to be sent."""
        return {
            "response": self.response.dump(),
            "stages": {stage: histogram.dump() for stage, histogram in self.stages.items()},
            "failures": self.failures,
        }

    @classmethod
    def load(cls, content: Mapping[str, Any]) -> "Figures":
        """What dump gave."""
        return cls(
            Histogram.load(content["response"]),
            {stage: Histogram.load(each) for stage, each in content["stages"].items()},
            dict(content["failures"]),
        )


@dataclass
class Measurements:
    """Figures by task and by second, and the users there were in each second."""

    tasks: dict[str, Figures] = field(default_factory=dict)
    seconds: dict[int, Figures] = field(default_factory=dict)
    users: dict[int, int] = field(default_factory=dict)
    began_s: float = math.inf
    ended_s: float = -math.inf

    @property
    def total(self) -> Figures:
        """All tasks together."""
        whole = Figures()
        for figures in self.tasks.values():
            whole.merge(figures)
        return whole

    @property
    def duration_s(self) -> float:
        """Seconds from the start of the first request to the end of the last, at least 1."""
        return max(1.0, self.ended_s - self.began_s)

    def add(
        self,
        task: str,
        response_ms: float,
        timing: str | None,
        failure: str | None,
        ended_s: float,
    ) -> None:
        """Count one request that ended then, with the Server-Timing header of its answer."""
        stages = read_server_timing(timing)
        self.tasks.setdefault(task, Figures()).add(response_ms, stages, failure)
        self.seconds.setdefault(int(ended_s), Figures()).add(response_ms, stages, failure)
        self.began_s = min(self.began_s, ended_s - response_ms / 1000)
        self.ended_s = max(self.ended_s, ended_s)

    def take(self) -> dict[str, Any]:
        """All there is, as plain types, leaving nothing behind: what a worker sends."""
        content = {
            "tasks": {task: figures.dump() for task, figures in self.tasks.items()},
            "seconds": {str(second): figures.dump() for second, figures in self.seconds.items()},
            # No number is infinite in JSON: who has counted nothing has no times.
            "times": [self.began_s, self.ended_s] if self.seconds else [],
        }
        self.tasks, self.seconds = {}, {}
        return content

    def receive(self, content: Mapping[str, Any]) -> None:
        """Count what a worker sent."""
        for task, figures in content["tasks"].items():
            self.tasks.setdefault(task, Figures()).merge(Figures.load(figures))
        for second, figures in content["seconds"].items():
            self.seconds.setdefault(int(second), Figures()).merge(Figures.load(figures))
        if content["times"]:
            began_s, ended_s = content["times"]
            self.began_s = min(self.began_s, began_s)
            self.ended_s = max(self.ended_s, ended_s)

    def clear(self) -> None:
        """Begin anew."""
        self.tasks, self.seconds, self.users = {}, {}, {}
        self.began_s, self.ended_s = math.inf, -math.inf
