"""The knee is where more users stop getting more answers."""

from loadtest.knee import find_knee, list_levels
from loadtest.measurements import Measurements


def test_the_knee_of_a_server_that_answers_100_a_second() -> None:
    """Closed loop of users that each ask 25 times a second until the server is full."""
    measurements = Measurements()
    now = 1000
    for users in (1, 2, 3, 4, 6, 8):
        rate = min(25 * users, 100)
        for _ in range(8):
            measurements.users[now] = users
            for _ in range(rate):
                measurements.add("embed", 1000 * users / rate, None, None, now)
            now += 1
    levels = list_levels(measurements)
    assert [level.users for level in levels] == [1, 2, 3, 4, 6, 8]
    assert [round(level.throughput) for level in levels] == [25, 50, 75, 100, 100, 100]
    knee = find_knee(levels)
    assert knee is not None
    assert knee.users == 4
    assert abs(knee.p95_ms - 40) < 0.5


def test_refusals_are_no_answers() -> None:
    """They come fast, when a server has enough."""
    measurements = Measurements()
    now = 1000
    for users, answers, refusals in ((4, 100, 0), (8, 150, 0), (16, 40, 900)):
        for _ in range(8):
            measurements.users[now] = users
            for number in range(answers + refusals):
                failure = "429 overloaded" if number < refusals else None
                measurements.add("embed", 20, None, failure, now)
            now += 1
    levels = list_levels(measurements)
    assert [level.throughput for level in levels] == [100, 150, 40]
    knee = find_knee(levels)
    assert knee is not None
    assert knee.users == 8


def test_no_levels_have_no_knee() -> None:
    assert find_knee([]) is None
    assert list_levels(Measurements()) == []
