"""A bound holds, fails, or is refused with a sentence; a task never asked has held nothing."""

from pathlib import Path

import pytest

from loadtest.measurements import Measurements
from loadtest.report import Report
from loadtest.verdict import Bound, WrongBound, judge, parse_bound, read_bounds

TASKS = ("embed", "fill-mask")


def measure() -> Measurements:
    """A hundred requests, one of them failed, from second 1000 to 1010."""
    measurements = Measurements()
    for number in range(100):
        failure = "500" if number == 0 else None
        ended_s = 1000.01 + number * 9.99 / 99
        measurements.add("embed", 10.0 + number, "queue;dur=1", failure, ended_s)
    return measurements


@pytest.mark.parametrize(
    ("bound", "held"),
    [
        ("embed.p50_ms=61", True),
        ("embed.p50_ms=58", False),
        ("p99_ms=110", True),
        ("p99_ms=100", False),
        ("error_rate=0.01", True),
        ("error_rate=0.009", False),
        ("throughput=9.89", True),
        ("throughput=9.91", False),
        ("fill-mask.p50_ms=1000", False),
        ("fill-mask.error_rate=1", False),
    ],
)
def test_bounds_hold_or_fail(bound: str, held: bool) -> None:  # noqa: FBT001
    (judgement,) = judge(measure(), [parse_bound(bound, TASKS)])
    assert judgement.held is held


def test_a_file_of_bounds(tmp_path: Path) -> None:
    file = tmp_path / "slo.toml"
    file.write_text("[all]\nerror_rate = 0\n[fill-mask]\np95_ms = 20.5\n")
    assert read_bounds(file, TASKS) == [
        Bound("all", "error_rate", 0.0),
        Bound("fill-mask", "p95_ms", 20.5),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("embed.p95_ms", "has no limit; write it like"),
        ("embed.p42_ms=1", "'p42_ms' is no figure; there are p50_ms"),
        ("rerank.p95_ms=1", "'rerank' is no task; there are all, embed"),
        ("p95_ms=fast", "'fast' is no limit"),
        ("p95_ms=-1", "'-1' is no limit"),
        ("p95_ms=nan", "'nan' is no limit"),
    ],
)
def test_a_bound_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(WrongBound, match=message):
        parse_bound(text, TASKS)


@pytest.mark.parametrize(
    ("content", "message"),
    [("[all", "is not TOML"), ("p95_ms = 3", "stands outside a table"), (None, "is not there")],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "slo.toml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(WrongBound, match=message):
        read_bounds(file, TASKS)


@pytest.mark.parametrize(("failed", "passed"), [(0, True), (1, False)])
def test_without_bounds_nothing_may_fail(failed: int, passed: bool) -> None:  # noqa: FBT001
    measurements = Measurements()
    for number in range(3):
        measurements.add("embed", 5.0, None, "no answer" if number < failed else None, 1000.0)
    assert Report({}, measurements, []).passed is passed


def test_nothing_asked_or_nothing_answered_has_not_passed() -> None:
    bound = parse_bound("error_rate=1", TASKS)
    nothing, refused = Measurements(), Measurements()
    refused.add("embed", 5.0, None, "no answer", 1000.0)
    for measurements in (nothing, refused):
        assert not Report({}, measurements, []).passed
        assert not Report({}, measurements, judge(measurements, [bound])).passed
