"""Each shape has the users it promises at each moment, and ends."""

import pytest

from loadtest.shapes import SHAPES, Plan, find_users

PLAN = Plan(users=100, duration_s=100, step_s=10)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_stays_within_its_users_and_ends(shape: str) -> None:
    last = PLAN.duration_s if shape != "steps" else PLAN.step_s * len(PLAN.levels)
    users = [find_users(shape, PLAN, second) for second in range(int(last))]
    assert all(count is not None and 1 <= count <= 100 for count in users)
    assert max(count or 0 for count in users) >= 99
    assert find_users(shape, PLAN, last) is None


def test_steps_go_up_to_all_users_without_skipping_far() -> None:
    assert Plan(12, 60).levels == (1, 2, 3, 4, 6, 8, 12)
    assert Plan(1, 60).levels == (1,)


def test_a_spike_is_sudden_and_a_day_has_a_night() -> None:
    assert [find_users("spike", PLAN, s) for s in (39, 40, 59, 60)] == [10, 100, 100, 10]
    assert [find_users("day", PLAN, s) for s in (0, 25, 50, 75)] == [20, 60, 100, 60]
    assert [find_users("soak", PLAN, s) for s in (0, 5, 10, 99)] == [1, 50, 100, 100]
