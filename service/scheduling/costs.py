"""What a batch costs: seconds, predicted from its tokens and the width of its rows.

    seconds = fixed + token * tokens + cell * tokens * width

The linear layers see tokens; in attention each of them meets the `width` cells of its row. The
three numbers are measured on this machine when a model is loaded; from then on the pace follows
what batches really take, whatever else runs beside them.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

# How much of what a batch shows about the pace is believed.
_LEARNING = 0.05
_MEMORY_S = 1.0
# One batch in the middle of a page fault or of a paused machine says nothing about the next.
_FASTEST, _SLOWEST = 0.05, 20.0
_BUDGET_S = 0.3
# No batch takes less.
_LEAST_S = 1e-6
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds: for a batch, for a token of it, and for a token and a cell of its row."""

    fixed_s: float
    token_s: float
    cell_s: float

    def batch_s(self, tokens: int, width: int) -> float:
        """A batch of so many tokens in rows so wide."""
        return self.fixed_s + tokens * (self.token_s + self.cell_s * width)

    def share_s(self, tokens: int, width: int) -> float:
        """What a text of so many tokens adds to a batch in rows so wide."""
        return tokens * (self.token_s + self.cell_s * width)


@dataclass(frozen=True, slots=True)
class Measured:
    """A batch that was run: its tokens, the width of its rows, and its seconds."""

    tokens: int
    width: int
    seconds: float


class Pace:
    """What the work takes at present, all overhead included, and how much of the time it fills."""

    __slots__ = ("_busy", "_until", "factor")

    def __init__(self, now: float) -> None:
        # How many times its predicted seconds work takes: the mean over the last few dozen batches.
        self.factor = 1.0
        self._busy = 0.0
        self._until = now

    def learn(self, predicted_s: float, seconds: float) -> None:
        """Learn the factor from a batch."""
        if predicted_s > 0:
            found = min(max(seconds / predicted_s, _FASTEST), _SLOWEST)
            self.factor += _LEARNING * (found - self.factor)

    def work(self, began: float, ended: float, *, interactive: bool) -> None:
        """Count a batch; times by time.perf_counter()."""
        passed = max(1e-9, ended - self._until)
        kept = math.exp(-passed / _MEMORY_S)
        part = min(1.0, (ended - began) / passed) if interactive else 0.0
        self._busy = kept * self._busy + (1.0 - kept) * part
        self._until = ended

    def busy(self, now: float) -> float:
        """The part of the last second that interactive work has filled."""
        return self._busy * math.exp(-max(0.0, now - self._until) / _MEMORY_S)


def measure_costs(
    run: Callable[[Sequence[int]], None],
    *,
    max_tokens: int,
    max_batch_tokens: int,
    threads: int = 1,
) -> Costs:
    """Run a few batches, given as the lengths of their texts, and fit the costs to their times.

    Takes about 0.3 s, or the few runs that a large model needs. For how long its `threads` waited
    for cores that others had does not count: how busy the machine is, the pace finds out, and
    forgets.
    """
    began = time.perf_counter()
    found: list[Measured] = []
    for lengths in _choose_shapes(max_tokens, max_batch_tokens):
        tokens, width = sum(lengths), max(lengths)
        times = []
        for _ in range(_ROUNDS):
            started, spent = time.perf_counter(), time.process_time()
            waited = _read_waiting()
            run(lengths)
            passed = time.perf_counter() - started
            # Other threads may have waited, too: what was computed took its time at least.
            least = min(passed, (time.process_time() - spent) / threads)
            times.append(max(passed - (_read_waiting() - waited) / threads, least, _LEAST_S))
            if time.perf_counter() - began > _BUDGET_S:
                break
        found.append(Measured(tokens, width, min(times)))
        if time.perf_counter() - began > _BUDGET_S and len(found) > 2:
            break
    return fit_costs(found)


def _read_waiting(tasks: Path = Path("/proc/self/task")) -> float:
    """Seconds that the threads of this process have waited for a core, together.

    By the kernel's scheduler statistics (Documentation/scheduler/sched-stats.rst); 0 without them.
    """
    total = 0
    with suppress(OSError):
        for task in tasks.iterdir():
            with suppress(OSError, ValueError, IndexError):  # it has ended meanwhile
                total += int((task / "schedstat").read_bytes().split()[1])
    return total / 1e9


def fit_costs(measured: Iterable[Measured]) -> Costs:
    """The costs, none of them negative, with the least squares of relative errors.

    Three numbers have seven subsets that may be above zero: each is solved, and the best kept
    (what Lawson and Hanson's NNLS finds by search).
    """
    rows = list(measured)
    features = np.array(
        [(1.0, row.tokens, row.tokens * row.width) for row in rows], np.float64
    ) / np.array([[row.seconds] for row in rows])
    best, least = np.zeros(3), math.inf
    for count in (1, 2, 3):
        for chosen in combinations(range(3), count):
            part = features[:, chosen]
            solution = np.linalg.lstsq(part, np.ones(len(rows)), rcond=None)[0]
            error = float(np.square(part @ solution - 1.0).sum())
            if (solution >= 0).all() and error < least:
                best, least = np.zeros(3), error
                best[list(chosen)] = solution
    return Costs(*best.tolist())


def _choose_shapes(max_tokens: int, max_batch_tokens: int) -> Iterator[list[int]]:
    """Batches, given by the lengths of their texts, that tell the three numbers apart."""
    short, long = min(8, max_tokens), min(256, max_tokens)
    middle = max(short, long // 4)
    most = min(max_batch_tokens, 384)
    for length, texts in ((short, 1), (middle, 1), (short, 8), (long, 1)):
        yield [length] * texts
    for length in (short, middle, long):
        yield [length] * max(1, most // length)
