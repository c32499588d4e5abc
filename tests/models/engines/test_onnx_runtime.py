"""A session runs real graphs, and says which file it cannot run."""

import os
import re
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from models import Pipeline
from models.engines.onnx_runtime import OnnxRuntimeSession, decide_spin
from models.errors import BundleDamaged, RunStopped
from models.text.encoded import Encoded
from models.text.packing import pack
from tests.helpers.endless import make_endless, run_until_stopped
from tests.helpers.groups import make_groups
from tests.helpers.oracle import Exported, write_texts

CORES = 8


def test_feeds_without_an_input_are_left_out(pretraining_bundle: Path) -> None:
    session = OnnxRuntimeSession(pretraining_bundle / "head.next-sentence.onnx", threads=1)
    hidden = np.ones((2, 32), np.float32)
    alone = session.run({"hidden": hidden}).whole()
    assert alone.shape == (2, 2)
    assert alone.dtype == np.float32
    more = session.run({"hidden": hidden, "flat_index": np.zeros(3, np.int64)}).whole()
    np.testing.assert_array_equal(alone, more)


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x07" * 40])
def test_a_file_that_is_no_graph(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "trunk.fp32.onnx"
    file.write_bytes(content)
    with pytest.raises(BundleDamaged, match=r"trunk\.fp32\.onnx cannot be loaded") as caught:
        OnnxRuntimeSession(file, threads=1)
    assert "\n" not in caught.value.message
    with pytest.raises(BundleDamaged, match=r"no\.onnx"):
        OnnxRuntimeSession(tmp_path / "no.onnx", threads=1)


def test_half_a_graph(pretraining_bundle: Path, tmp_path: Path) -> None:
    content = (pretraining_bundle / "trunk.fp32.onnx").read_bytes()
    file = tmp_path / "trunk.fp32.onnx"
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(BundleDamaged):
        OnnxRuntimeSession(file, threads=1)


def test_threads_share_a_session(pretraining: Exported) -> None:
    head = pretraining.pipeline.find_head("embed")
    plans = [
        pack([head.encoder.encode(text, overflow="truncate") for text in write_texts(6, seed=seed)])
        for seed in range(8)
    ]
    trunk = Pipeline.open(pretraining.bundle, threads=1, engine="onnxruntime").trunk
    wanted = [trunk.run(plan.feeds).whole() for plan in plans]
    found: dict[int, np.ndarray] = {}

    def run(place: int) -> None:
        for _ in range(5):
            found[place] = trunk.run(plans[place].feeds).whole()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(plans))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place, states in enumerate(wanted):
        np.testing.assert_allclose(found[place], states, atol=1e-6)


def test_spinning_or_not_the_answer_is_the_same(pretraining_bundle: Path) -> None:
    file = pretraining_bundle / "trunk.fp32.onnx"
    feeds = {
        "input_ids": np.array([2, 5, 6, 3]),
        "token_type_ids": np.zeros(4, np.int64),
        "position_ids": np.arange(4),
        "row_index": np.array([[0, 1, 2, 3]]),
        "row_sequence": np.array([[1, 1, 1, 1]]),
        "flat_index": np.arange(4),
    }
    still = OnnxRuntimeSession(file, threads=1).run(feeds).whole()
    spinning = OnnxRuntimeSession(file, threads=2, spin=True).run(feeds).whole()
    np.testing.assert_allclose(still, spinning, atol=1e-6)
    assert still.shape == (4, 32)


@pytest.mark.parametrize(
    ("threads", "quota", "spin"),
    [
        (2, "max 100000", True),
        (CORES, "max 100000", True),
        (CORES, "800000 100000", True),  # all there are: it cannot run out
        (2, "790000 100000", False),
        (4, "400000 100000", False),
        (1, "max 100000", False),
        (CORES + 1, "max 100000", False),
    ],
)
def test_threads_spin_where_the_cores_are_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int, quota: str, *, spin: bool
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(CORES)), raising=False)
    root = make_groups(tmp_path, "0::/\n", {"cpu.max": quota})
    assert decide_spin("auto", threads, root) is spin
    assert decide_spin("on", threads, root) is True
    assert decide_spin("off", threads, root) is False


def test_a_run_that_is_stopped_ends_and_later_ones_work(tmp_path: Path) -> None:
    """The loop would go on for years, and it is cut between two of its nodes."""
    session = OnnxRuntimeSession(make_endless(tmp_path / "loop.onnx", counted=True), threads=1)
    error = run_until_stopped(lambda: session.run({"count": np.array(1 << 60)}), session.stop)
    assert type(error) is RunStopped
    np.testing.assert_array_equal(session.run({"count": np.array(3)}).whole(), np.eye(8))


def test_every_run_under_way_is_stopped(tmp_path: Path) -> None:
    session = OnnxRuntimeSession(make_endless(tmp_path / "loop.onnx"), threads=2, spin=True)

    def run_beside() -> None:
        other = threading.Thread(target=pytest.raises, args=[RunStopped, session.run, {}])
        other.start()
        try:
            session.run({})
        finally:
            other.join()

    assert type(run_until_stopped(run_beside, session.stop)) is RunStopped


def test_stopped_before_it_runs_nothing_happens(pretraining_bundle: Path) -> None:
    session = OnnxRuntimeSession(pretraining_bundle / "head.next-sentence.onnx", threads=1)
    session.stop()
    assert session.run({"hidden": np.ones((1, 32), np.float32)}).shape == (1, 2)


def test_a_run_that_fails_by_itself_is_not_taken_for_a_stopped_one(
    pretraining_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    session = OnnxRuntimeSession(pretraining_bundle / "head.next-sentence.onnx", threads=1)
    with pytest.raises(Exception, match="invalid dimensions") as caught:
        session.run({"hidden": np.ones((1, 31), np.float32)})
    assert type(caught.value) is not RunStopped
    # The error says it all; the log of the service is JSON, without lines of another shape.
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read in /proc")
def test_nothing_is_kept_for_a_shape(pretraining_bundle: Path) -> None:
    """Shapes that hardly come twice: neither their plans stay, nor anything of their runs."""
    session = OnnxRuntimeSession(pretraining_bundle / "trunk.fp32.onnx", threads=1)
    assert not session._session.get_session_options().enable_mem_pattern
    chance = np.random.default_rng(0)

    def run(count: int) -> int:
        for _ in range(count):
            lengths = chance.integers(1, 60, size=chance.integers(1, 8)).tolist()
            texts = [np.full(length, 5, np.int64) for length in lengths]
            session.run(pack([Encoded(ids, np.zeros_like(ids)) for ids in texts]).feeds)
        return read_held()

    before = run(500)
    # An output is 14 kB on average: kept, they would be 40 MB.
    assert run(3_000) - before < 10_000_000


def read_held() -> int:
    """The bytes that are this process's own."""
    held = re.search(r"^RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert held is not None
    return int(held[1]) * 1024
