"""What a batch costs: the fit, and what it is fed."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from service.scheduling.costs import (
    Costs,
    Measured,
    Pace,
    _read_waiting,
    fit_costs,
    measure_costs,
)

TRUE = Costs(fixed_s=0.001, token_s=8e-5, cell_s=3e-8)
SHAPES = [(8, 8), (64, 8), (64, 64), (256, 64), (384, 32), (256, 256), (512, 256)]


def test_a_fit_finds_the_costs_that_made_the_times() -> None:
    chance = random.Random(5)
    measured = [
        Measured(tokens, width, TRUE.batch_s(tokens, width) * chance.uniform(0.97, 1.03))
        for tokens, width in SHAPES
    ]
    found = fit_costs(measured)
    for tokens, width in [(16, 16), (128, 32), (480, 128)]:
        assert found.batch_s(tokens, width) == pytest.approx(TRUE.batch_s(tokens, width), rel=0.1)
    assert found.share_s(128, 32) == found.batch_s(128, 32) - found.fixed_s


@pytest.mark.parametrize(
    "seconds",
    [
        lambda tokens, width: 1e-4 * tokens,  # nothing fixed, attention for nothing
        lambda tokens, width: 0.5,  # the same whatever it is
        lambda tokens, width: 1e-3 / tokens,  # nonsense
        lambda tokens, width: 1e-7 * tokens * width,
    ],
)
def test_no_cost_is_negative(seconds: object) -> None:
    assert callable(seconds)
    measured = [Measured(tokens, width, seconds(tokens, width)) for tokens, width in SHAPES]
    found = fit_costs(measured)
    assert min(found.fixed_s, found.token_s, found.cell_s) >= 0
    assert found.batch_s(100, 10) > 0


def test_few_measurements_give_a_cost_too() -> None:
    found = fit_costs([Measured(8, 8, 0.01)])
    assert found.batch_s(8, 8) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("max_tokens", "max_batch_tokens"), [(512, 512), (8192, 64), (2, 1), (1, 9)]
)
def test_measuring_stays_within_what_the_model_takes(
    max_tokens: int, max_batch_tokens: int
) -> None:
    ran: list[list[int]] = []
    found = measure_costs(
        lambda lengths: ran.append(list(lengths)),
        max_tokens=max_tokens,
        max_batch_tokens=max_batch_tokens,
    )
    assert found.batch_s(8, 8) > 0
    assert all(0 < length <= max_tokens for lengths in ran for length in lengths)
    # Batches of one text and of several, so that tokens and width are told apart.
    assert {len(lengths) for lengths in ran} > {1}


def test_measuring_a_slow_model_ends_soon() -> None:
    runs = 0

    def run(lengths: object) -> None:
        nonlocal runs
        runs += 1
        time.sleep(0.15)

    measure_costs(run, max_tokens=512, max_batch_tokens=512)
    assert runs < 8


def test_the_pace_follows_what_batches_take() -> None:
    pace = Pace(0.0)
    assert pace.factor == 1.0
    for _ in range(200):
        pace.learn(0.01, 0.03)
    assert pace.factor == pytest.approx(3.0, rel=0.01)
    # A machine that stood still for a minute says little about the next batch.
    pace.learn(0.01, 60.0)
    assert pace.factor < 5.0


def test_the_pace_knows_how_busy_the_trunk_is() -> None:
    pace = Pace(0.0)
    assert pace.busy(0.0) == 0.0
    now = 0.0
    for _ in range(100):
        pace.work(now, now + 0.05, interactive=True)
        now += 0.1
    assert pace.busy(now) == pytest.approx(0.5, abs=0.05)
    # Bulk work is put off for whoever comes: it fills nothing.
    for _ in range(100):
        pace.work(now, now + 0.1, interactive=False)
        now += 0.1
    assert pace.busy(now) < 0.01
    pace.work(now, now + 1.0, interactive=True)
    assert pace.busy(now + 1.0) > 0.5
    assert pace.busy(now + 11.0) < 0.01


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="no scheduler statistics")
def test_a_busy_machine_costs_nobody_the_shape_of_the_costs() -> None:
    """For how long it waited for a core, which another process keeps, does not count."""
    core = min(os.sched_getaffinity(0))
    script = f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    before = os.sched_getaffinity(0)
    rivals = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(3)]

    def run(lengths: Sequence[int]) -> None:
        end = time.thread_time() + 2e-5 * sum(lengths) + 1e-3
        while time.thread_time() < end:
            pass

    try:
        os.sched_setaffinity(0, {core})
        time.sleep(0.5)
        began = time.perf_counter()
        run([384])
        # The core is shared: it takes longer than what is computed.
        assert time.perf_counter() - began > 1.5 * (2e-5 * 384 + 1e-3)
        found = measure_costs(run, max_tokens=256, max_batch_tokens=512)
    finally:
        os.sched_setaffinity(0, before)
        for rival in rivals:
            rival.kill()
            rival.wait()
    assert found.batch_s(384, 32) == pytest.approx(2e-5 * 384 + 1e-3, rel=0.5)


def test_what_a_device_computes_counts_whole() -> None:
    """A thread that sleeps meanwhile waits for no core."""
    found = measure_costs(
        lambda lengths: time.sleep(1e-4 * sum(lengths)), max_tokens=64, max_batch_tokens=128
    )
    assert found.batch_s(128, 32) > 0.01


def test_without_the_kernels_statistics_nothing_is_known_of_waiting(tmp_path: Path) -> None:
    assert _read_waiting(tmp_path / "none") == 0
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "schedstat").write_text("5 2500000000 7\n")
    assert _read_waiting(tmp_path) == 2.5
