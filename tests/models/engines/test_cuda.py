"""The engine CUDA, with the processor as its device, and on a GPU where there is one.

What a processor has no kernel for, attention in the packed form, tests/export/graphs/test_packed.py
holds against its definition.
"""

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime import OrtValue

from models import Pipeline
from models.bundle.bundle import Bundle
from models.choice import choose_engine, list_candidates
from models.engines import HostOutput, cuda
from models.engines.cuda import Device, DeviceSession, find_lacking, lay_cells
from models.engines.device_output import DeviceOutput, Gatherer
from models.errors import BundleDamaged, OperatorError, RunStopped
from models.golden import check_golden
from tests.helpers.endless import make_endless, run_until_stopped
from tests.helpers.oracle import write_texts

HOST = Device("CPUExecutionProvider", "cpu")
GATHERER = Gatherer(HOST.open)
TEXTS = write_texts(40, seed=23)
needs_gpu = pytest.mark.skipif(find_lacking() is not None, reason=str(find_lacking()))


def put(rows: np.ndarray) -> DeviceOutput:
    return DeviceOutput(OrtValue.ortvalue_from_numpy(rows, HOST.memory, 0), GATHERER)


@given(
    stretches=st.lists(st.tuples(st.integers(1, 40), st.integers(0, 9)), max_size=12),
    how=st.sampled_from(["mean", "max", "weightedmean"]),
    seed=st.integers(0, 99),
    placed=st.booleans(),
)
def test_rows_are_pooled_as_on_the_host(
    stretches: list[tuple[int, int]], how: str, seed: int, *, placed: bool
) -> None:
    """Whatever lies beside a stretch, numbers that are not finite too."""
    lengths = np.array([length for length, _ in stretches], np.int64)
    ahead = np.array([before for _, before in stretches], np.int64) if placed else None
    starts = np.cumsum(lengths) - lengths + 1
    rows = np.random.default_rng(seed).normal(size=(2 + int(lengths.sum()), 6)).astype(np.float32)
    rows[0] = np.nan
    rows[-1] = np.inf
    found = put(rows).pool(how, starts, lengths, ahead)  # type: ignore[arg-type]
    wanted = HostOutput(rows).pool(how, starts, lengths, ahead)  # type: ignore[arg-type]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_rows_are_taken_and_are_the_callers_own() -> None:
    rows = np.random.default_rng(1).normal(size=(9, 4)).astype(np.float32)
    output = put(rows.copy())
    assert output.shape == (9, 4)
    taken = output.take(np.array([8, 0, 8]))
    np.testing.assert_array_equal(taken, rows[[8, 0, 8]])
    taken[:] = 0
    np.testing.assert_array_equal(output.whole(), rows)
    assert output.take(np.zeros(0, np.int64)).shape == (0, 4)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20))
def test_every_cell_is_told_once_tokens_first(lengths: list[int]) -> None:
    starts = np.concatenate([[0], np.cumsum(lengths)])
    offsets, ends = lay_cells(starts)
    longest = max(lengths)
    assert offsets.shape == (len(lengths), longest)
    assert offsets.dtype == ends.dtype == np.int32
    assert ends.tolist() == starts.tolist()
    told = offsets.ravel().tolist()
    assert sorted(told) == list(range(len(lengths) * longest))
    tokens = [row * longest + place for row, size in enumerate(lengths) for place in range(size)]
    assert told[: sum(lengths)] == tokens


def on_the_host(bundle: Path) -> Pipeline:
    """A pipeline whose trunk and heads run as on a GPU."""
    pipeline = Pipeline.open(bundle, engine="onnxruntime", threads=1)
    pipeline.trunk = DeviceSession(pipeline.bundle.file(pipeline.choice.trunk), HOST)
    for head in pipeline.heads:
        if head.entry.file:
            head._session = DeviceSession(pipeline.bundle.file(head.entry.file), HOST)
    return pipeline


def test_every_task_answers_as_it_should(pretraining_bundle: Path) -> None:
    pipeline = on_the_host(pretraining_bundle)
    assert {each.task for each in check_golden(pipeline)} == set(pipeline.manifest.tasks)
    plain = Pipeline.open(pretraining_bundle, engine="onnxruntime", threads=1)
    np.testing.assert_allclose(
        pipeline.embed(TEXTS, overflow="truncate"),
        plain.embed(TEXTS, overflow="truncate"),
        atol=1e-6,
    )
    pipeline.probe()


def test_a_real_models_vectors_are_the_same(minilm_bundle: Path) -> None:
    pipeline = on_the_host(minilm_bundle)
    plain = Pipeline.open(minilm_bundle, engine="onnxruntime", threads=1)
    np.testing.assert_allclose(pipeline.embed(TEXTS), plain.embed(TEXTS), atol=1e-6)


def test_threads_share_a_session_and_outputs_stay(pretraining_bundle: Path) -> None:
    pipeline = on_the_host(pretraining_bundle)
    plans = [
        [pipeline.encoder.encode(text, overflow="truncate") for text in write_texts(6, seed=seed)]
        for seed in range(6)
    ]
    first = [pipeline.run_trunk(plan)[0] for plan in plans]
    wanted = [each.whole().copy() for each in first]
    wrong: list[int] = []

    def run(place: int) -> None:
        for _ in range(5):
            found = pipeline.run_trunk(plans[place])[0].whole()
            if np.abs(found - wanted[place]).max() > 1e-6:
                wrong.append(place)

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(plans))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for output, rows in zip(first, wanted, strict=True):
        np.testing.assert_array_equal(output.whole(), rows)


def test_a_run_that_is_stopped_ends_and_later_ones_work(tmp_path: Path) -> None:
    session = DeviceSession(make_endless(tmp_path / "loop.onnx", counted=True), HOST)
    error = run_until_stopped(lambda: session.run({"count": np.array(1 << 60)}), session.stop)
    assert type(error) is RunStopped
    np.testing.assert_array_equal(session.run({"count": np.array(3)}).whole(), np.eye(8))


def test_a_graph_is_loaded_anew_and_a_damaged_one_refused(
    minilm_bundle: Path, tmp_path: Path
) -> None:
    file = Path(shutil.copy(minilm_bundle / "trunk.fp32.onnx", tmp_path))
    session = DeviceSession(file, HOST)
    assert (session.width, session.threads, session.spin) == (384, 1, False)
    session.reopen()
    file.write_bytes(file.read_bytes()[: 1 << 20])
    with pytest.raises(BundleDamaged, match=r"trunk.fp32.onnx cannot be loaded"):
        session.reopen()


@pytest.mark.skipif(find_lacking() is None, reason="there is a GPU")
def test_without_a_gpu_it_says_what_is_lacking(minilm_bundle: Path) -> None:
    with pytest.raises(OperatorError, match=r"cannot be run by cuda: .*onnxruntime-gpu"):
        Pipeline.open(minilm_bundle, engine="cuda")
    with pytest.raises(OperatorError, match=r"cannot be run by CUDA: .*onnxruntime-gpu"):
        cuda.open_session(minilm_bundle / "trunk.fp32.onnx", "trunk", threads=0, spin="auto")


def test_a_provider_that_does_not_load_is_no_processor(pretraining_bundle: Path) -> None:
    """ONNX Runtime would go on with the processor, and say so on a terminal alone."""
    file = pretraining_bundle / "head.next-sentence.onnx"
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(OperatorError, match="does not load"),
    ):
        Device("CUDAExecutionProvider", "cuda").open(str(file))


def test_a_gpu_is_taken_first_where_there_is_one(
    minilm_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.open(minilm_bundle)
    assert choose_engine(bundle, "fp16").engine == "onnxruntime"
    monkeypatch.setattr(cuda, "find_lacking", lambda: None)
    choice = choose_engine(bundle, "fp16")
    assert (choice.engine, choice.trunk) == ("cuda", "trunk.fp16.packed.onnx")
    assert choice.streams
    assert choice.batch_tokens == 16_384
    choice = choose_engine(bundle, "fp32")
    assert (choice.engine, choice.trunk, choice.streams) == ("cuda", "trunk.fp32.onnx", False)
    assert list_candidates(bundle, "fp32") == [choice]
    # Bytes are for processors.
    assert choose_engine(bundle, "int8").engine != "cuda"
    assert choose_engine(bundle, "int8").batch_tokens == 512
    with pytest.raises(OperatorError, match="int8 is for processors; choose one of fp16, fp32"):
        choose_engine(bundle, "int8", "cuda")


@needs_gpu
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_on_a_gpu(minilm_bundle: Path, precision: str) -> None:
    pipeline = Pipeline.open(minilm_bundle, precision=precision, engine="cuda")
    check_golden(pipeline)
    plain = Pipeline.open(minilm_bundle, engine="onnxruntime")
    cosines = (pipeline.embed(TEXTS) * plain.embed(TEXTS)).sum(axis=1)
    assert cosines.min() > 0.9995
