"""Token buckets: what they let through, on a clock of the test's own."""

from hypothesis import given
from hypothesis import strategies as st

from service.limits import rate_limit
from service.limits.rate_limit import RateLimiter


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_and_then_the_rate() -> None:
    clock = Clock()
    limiter = RateLimiter(10, 3, clock)
    assert [limiter.take("a") == 0 for _ in range(5)] == [True, True, True, False, False]
    # The seconds until the next are told.
    wait_s = limiter.take("a")
    assert abs(wait_s - 0.1) < 1e-6
    clock.now += wait_s
    assert limiter.take("a") == 0
    assert limiter.take("a") > 0
    clock.now += 60
    assert [limiter.take("a") == 0 for _ in range(4)] == [True, True, True, False]


def test_callers_do_not_touch_each_other() -> None:
    limiter = RateLimiter(1, 1, Clock())
    assert limiter.take("a") == 0
    assert limiter.take("a") > 0
    assert limiter.take("b") == 0


def test_the_burst_is_twice_the_rate_unless_told() -> None:
    for rate, burst in ((5, 10), (0.1, 1), (0.6, 2)):
        limiter = RateLimiter(rate, clock=Clock())
        assert [limiter.take("a") == 0 for _ in range(burst + 1)] == [True] * burst + [False]


@given(
    # Whole numbers: with ONNX Runtime in the process, denormals count as zero.
    millihertz=st.integers(10, 10_000_000),
    burst=st.integers(1, 50),
    steps=st.lists(st.integers(0, 10_000), max_size=200),
)
def test_never_more_than_rate_and_burst(millihertz: int, burst: int, steps: list[int]) -> None:
    rate = millihertz / 1000
    clock = Clock()
    limiter = RateLimiter(rate, burst, clock)
    taken = 0
    for step in steps:
        clock.now += step / 1000
        taken += limiter.take("a") == 0
    assert taken <= burst + rate * (clock.now - 1000) + 1e-3


def test_memory_is_bounded_whoever_comes() -> None:
    clock = Clock()
    limiter = RateLimiter(1, 1, clock)
    most = rate_limit._MAX_CALLERS
    for number in range(most + 10):
        limiter.take(str(number))
    assert len(limiter._full_at) <= most
    # The latest are still known.
    assert limiter.take(str(most + 9)) > 0
    clock.now += 3600
    for number in range(most):
        limiter.take(f"new {number}")
    assert len(limiter._full_at) <= most
