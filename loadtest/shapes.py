"""How many users there are at each moment: one function of time for every shape."""

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """What a shape is made from: the most users, seconds in all, and for how long a step holds."""

    users: int
    duration_s: float
    step_s: float = 15.0

    @property
    def levels(self) -> tuple[int, ...]:
        """The users of each step: doubled, and half-way points between, up to the most."""
        found = {1, self.users}
        level = 1
        while level < self.users:
            found |= {level, min(self.users, level + level // 2)}
            level *= 2
        return tuple(sorted(found))


def constant(plan: Plan, _: float) -> int:
    """The same all the time."""
    return plan.users


def steps(plan: Plan, now_s: float) -> int | None:
    """One level after another, to find where more users no longer get more answers."""
    step = int(now_s / plan.step_s)
    return plan.levels[step] if step < len(plan.levels) else None


def spike(plan: Plan, now_s: float) -> int:
    """A tenth of the users, and in the middle fifth of the time all of them at once."""
    middle = 0.4 <= now_s / plan.duration_s < 0.6
    return plan.users if middle else max(1, plan.users // 10)


def soak(plan: Plan, now_s: float) -> int:
    """A rise over the first tenth, and then the same for as long as it takes."""
    return max(1, round(plan.users * min(1.0, now_s / (0.1 * plan.duration_s))))


def day(plan: Plan, now_s: float) -> int:
    """A day in the time there is: a fifth of the users at night, all of them in the afternoon."""
    share = 0.6 - 0.4 * math.cos(2 * math.pi * now_s / plan.duration_s)
    return max(1, round(plan.users * share))


SHAPES: dict[str, Callable[[Plan, float], int | None]] = {
    "constant": constant,
    "steps": steps,
    "spike": spike,
    "soak": soak,
    "day": day,
}


def find_users(shape: str, plan: Plan, now_s: float) -> int | None:
    """The users at a moment; None when the test is over."""
    if shape != "steps" and now_s >= plan.duration_s:
        return None
    return SHAPES[shape](plan, now_s)
