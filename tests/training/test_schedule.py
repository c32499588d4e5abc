"""A budget is spent to its end, and the learning rate follows it."""

import itertools
import json
from collections.abc import Callable

import pytest

from training.schedule import Schedule


def spend(schedule: Schedule, speed: Callable[[float], float], save_every_s: float) -> list[float]:
    """Run out the budget with steps of so many seconds at each time; the rates there were."""
    rates, saved_s = [], 0.0
    while not schedule.is_over:
        rates.append(schedule.find_rate())
        schedule.count_step(speed(schedule.spent_s))
        if schedule.needs_fit or schedule.spent_s - saved_s >= save_every_s:
            schedule.fit()
            saved_s = schedule.spent_s
    return rates


@pytest.mark.parametrize("steps", [1, 7, 100, 5000])
def test_the_rate_rises_then_falls_to_nothing(steps: int) -> None:
    rates = spend(Schedule(0.01, None, steps), lambda _: 0.1, 1e9)
    assert len(rates) == steps
    assert all(0 < rate <= 0.01 for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    if steps >= 100:
        assert top / steps == pytest.approx(0.05, abs=0.01)
        assert max(rates) > 0.0098
        assert rates[-1] < 0.01 / steps


def test_the_rate_has_no_jumps() -> None:
    """Not even where the number of steps is first estimated, or estimated anew."""
    rates = spend(Schedule(1.0, 60, None), lambda at: 0.5 if at < 1800 else 0.7, 120)
    jumps = [abs(after - before) for before, after in itertools.pairwise(rates)]
    assert max(jumps) < 0.05
    assert rates[-1] < 0.05


@pytest.mark.parametrize(
    ("speed", "within"),
    [
        (lambda _: 0.7, 0.001),
        (lambda _: 11.0, 0.01),
        (lambda at: 0.5 if at < 1800 else 1.0, 0.03),
        (lambda at: 1.0 if at < 1800 else 0.5, 0.03),
        (lambda at: 9.0 if at < 1 else 0.5, 0.01),
        (lambda at: 0.5 + at / 3600, 0.03),
    ],
)
def test_minutes_are_kept_whatever_the_speed(
    speed: Callable[[float], float], within: float
) -> None:
    schedule = Schedule(0.01, 60, None)
    rates = spend(schedule, speed, 120)
    assert schedule.spent_s == pytest.approx(3600, rel=within)
    assert rates[-1] < 0.05 * 0.01


def test_the_first_estimate_comes_after_some_steps() -> None:
    schedule = Schedule(0.01, 10, None)
    for _ in range(19):
        schedule.count_step(3.0)
        schedule.fit()
        assert not schedule.needs_fit
        assert not schedule.is_over
        assert schedule.progress == 0
    schedule.count_step(3.0)
    assert schedule.needs_fit
    schedule.fit()
    assert not schedule.needs_fit
    assert schedule.expected == 200
    assert schedule.progress == pytest.approx(0.1)
    assert schedule.left_s == pytest.approx(540)


def test_too_few_minutes_end_at_the_first_estimate() -> None:
    schedule = Schedule(0.01, 0.001, None)
    spend(schedule, lambda _: 1.0, 120)
    assert schedule.done == 20
    assert schedule.progress == 1


def test_steps_take_as_many_as_they_are() -> None:
    schedule = Schedule(0.01, None, 50)
    assert len(spend(schedule, lambda at: 0.1 + at, 0.0)) == 50
    assert (schedule.expected, schedule.is_over, schedule.left_s) == (50, True, 0)


def test_a_saved_schedule_goes_on_as_it_was() -> None:
    schedule = Schedule(0.01, 60, None)
    for _ in range(30):
        schedule.count_step(0.7)
    schedule.fit()
    again = Schedule(**json.loads(json.dumps(schedule.state_dict())))
    assert again == schedule
    rates = [spend(one, lambda _: 0.7, 120) for one in (schedule, again)]
    assert rates[0] == rates[1]
    assert again == schedule


def test_between_two_estimates_the_rate_depends_on_steps_alone() -> None:
    """So a run killed and resumed from the last save repeats its steps exactly."""
    schedule = Schedule(0.01, 60, None)
    for _ in range(30):
        schedule.count_step(0.7)
    schedule.fit()
    slow, fast = (Schedule(**schedule.state_dict()) for _ in range(2))
    for _ in range(10):
        slow.count_step(3.0)
        fast.count_step(0.1)
        assert slow.find_rate() == fast.find_rate()
        assert slow.progress == fast.progress
