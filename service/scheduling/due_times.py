"""How much of the work that waits is due by a time, without looking at each text."""

import math
from bisect import insort

# Texts that are due within so long of each other are not told apart.
_STEP_S = 0.01


class DueTimes:
    """Seconds of work by the time they are due, in steps of ten milliseconds."""

    def __init__(self) -> None:
        # By step: how many texts, and their seconds.
        self._steps: dict[int, tuple[int, float]] = {}
        self._order: list[int] = []

    def add(self, due: float, work_s: float) -> None:
        """Count a text that waits."""
        step = math.floor(due / _STEP_S)
        found = self._steps.get(step)
        if found is None:
            insort(self._order, step)
            found = (0, 0.0)
        self._steps[step] = (found[0] + 1, found[1] + work_s)

    def remove(self, due: float, work_s: float) -> None:
        """Count it no more."""
        step = math.floor(due / _STEP_S)
        texts, total_s = self._steps[step]
        if texts > 1:
            self._steps[step] = (texts - 1, total_s - work_s)
        else:
            del self._steps[step]
            self._order.remove(step)

    def before(self, due: float) -> float:
        """Seconds of the work that is due by then, give or take a step."""
        last = due / _STEP_S
        total_s = 0.0
        for step in self._order:
            if step > last:
                break
            total_s += self._steps[step][1]
        return total_s
