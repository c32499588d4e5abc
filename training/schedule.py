"""How long a run lasts and how fast it learns: a budget in minutes (or steps), spent to its end.

In the spirit of Geiping & Goldstein 2022 ("Cramming", arXiv:2212.14034): what is fixed is the
time; how many steps fit into it is measured, and the learning rate follows: it rises over the
first part, falls in a line over the rest and is zero when the time is up.
"""

from dataclasses import asdict, dataclass

_WARM_UP = 0.05  # of the budget
_FIRST_FIT = 20  # steps before the first measurement counts; earlier ones warm caches up
_SHARE_OF_LAST_SPEED = 0.2  # how much the newest measurement moves the estimate


@dataclass
class Schedule:
    """The state of a run against its budget. Exactly one of minutes and steps is the budget.

    Between two calls of `fit` it depends on the number of steps done alone, so that a run
    resumed from a saved schedule takes the same steps again.
    """

    learning_rate: float
    minutes: float | None
    steps: int | None
    done: int = 0
    spent_s: float = 0.0
    step_s: float = 0.0
    expected: int = 0

    def __post_init__(self) -> None:
        if self.steps is not None:
            self.expected = self.steps

    @property
    def progress(self) -> float:
        """The part of the budget that is used, 0 to 1."""
        return min(1.0, self.done / self.expected) if self.expected else 0.0

    @property
    def is_over(self) -> bool:
        """Whether the budget is used up."""
        return bool(self.expected) and self.done >= self.expected

    @property
    def needs_fit(self) -> bool:
        """Whether enough is measured for a first estimate that is not made yet."""
        return not self.expected and self.done >= _FIRST_FIT

    @property
    def left_s(self) -> float:
        """Seconds left, as far as can be told."""
        return max(0, self.expected - self.done) * self.step_s

    def find_rate(self) -> float:
        """The learning rate of the next step."""
        if not self.expected:  # nothing measured yet: the first steps of a rise of unknown length
            return self.learning_rate * min(1.0, (self.done + 1) / (10 * _FIRST_FIT))
        now = (self.done + 0.5) / self.expected
        return self.learning_rate * max(0.0, min(now / _WARM_UP, (1 - now) / (1 - _WARM_UP)))

    def count_step(self, seconds: float) -> None:
        """One step more, which took so long."""
        self.done += 1
        self.spent_s += seconds
        share = _SHARE_OF_LAST_SPEED if self.done > 2 else 1.0
        self.step_s += share * (seconds - self.step_s)

    def fit(self) -> None:
        """Refits the number of steps to the time that is left and the speed measured so far."""
        if self.minutes is None or self.done < _FIRST_FIT:
            return
        left_s = self.minutes * 60 - self.spent_s
        mean_s = self.spent_s / self.done
        self.expected = max(self.done, self.done + int(left_s / mean_s))

    def state_dict(self) -> dict[str, float | int | None]:
        """All that a resumed run needs."""
        return asdict(self)
