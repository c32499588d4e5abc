"""Work by the time it is due, against a plain sum over all of it."""

import random

import pytest

from service.scheduling.due_times import _STEP_S, DueTimes


def test_it_is_the_sum_of_what_is_due_by_then_give_or_take_a_step() -> None:
    chance = random.Random(5)
    dues, waiting = DueTimes(), []
    for _ in range(2_000):
        if waiting and chance.random() < 0.45:
            found = waiting.pop(chance.randrange(len(waiting)))
            dues.remove(*found)
        else:
            waiting.append((chance.uniform(0.0, 20.0), chance.uniform(0.0, 0.1)))
            dues.add(*waiting[-1])
        due = chance.uniform(0.0, 25.0)
        least = sum(work for when, work in waiting if when <= due)
        most = sum(work for when, work in waiting if when <= due + _STEP_S)
        assert least - 1e-6 <= dues.before(due) <= most + 1e-6
    for found in waiting:
        dues.remove(*found)
    assert dues.before(float("inf")) == 0.0


def test_texts_that_are_due_together_are_told_apart_by_their_number() -> None:
    dues = DueTimes()
    for _ in range(3):
        dues.add(1.0, 0.5)
    dues.remove(1.0, 0.5)
    assert dues.before(1.0) == pytest.approx(1.0)
    assert dues.before(0.9) == 0.0
