"""Each operator of ours against double precision, over shapes of every kind, and refusals."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from export.graphs.kernels_bf16 import lay_out
from models.engines.library import Kernels, find_kernels
from models.errors import OperatorError
from tests.kernels.operators import attend, open_operator, run_operator, using

KERNELS = find_kernels()
pytestmark = pytest.mark.skipif(
    not isinstance(KERNELS, Kernels), reason=str(getattr(KERNELS, "reason", ""))
)
INSTRUCTIONS = ["avx512", "avx2", "neon"]
Floats = NDArray[np.float32]


@pytest.fixture(scope="module", params=INSTRUCTIONS, autouse=True)
def instructions(request: pytest.FixtureRequest) -> Iterator[str]:
    try:
        with using(request.param):
            yield request.param
    except OperatorError as error:
        pytest.skip(str(error))


def draw(seed: int, *shape: int, scale: float = 1.0) -> Floats:
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


SEEDS = st.integers(0, 1 << 20)
SOME = settings(max_examples=40, deadline=None, derandomize=True)


@SOME
@given(
    seed=SEEDS,
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    heads=st.sampled_from([1, 2, 3, 12]),
    size=st.sampled_from([1, 7, 16, 20, 32, 64, 96, 128]),
    window=st.sampled_from([-1, -1, 0, 3, 16]),
    reach=st.sampled_from([None, None, 0, 5, 64]),
    apart=st.booleans(),
    biased=st.booleans(),
    scaled=st.booleans(),
)
def test_attention(
    seed: int,
    lengths: list[int],
    heads: int,
    size: int,
    *,
    window: int,
    reach: int | None,
    apart: bool,
    biased: bool,
    scaled: bool,
) -> None:
    width, starts = heads * size, np.cumsum([0, *lengths]).astype(np.int64)
    tokens = int(starts[-1])
    whole = draw(seed, tokens, 3 * width)
    bias = draw(seed + 1, 3 * width) if biased else None
    scales = np.abs(draw(seed + 2, tokens, 1)) + 0.1 if scaled else None
    distance = None if reach is None else draw(seed + 3, heads, 2 * reach + 1)
    q, k, v = np.split(whole, 3, axis=1)
    inputs = {
        "q": np.ascontiguousarray(q) if apart else whole,
        "k": np.ascontiguousarray(k) if apart else None,
        "v": np.ascontiguousarray(v) if apart else None,
        "row_scale": scales,
        "bias": bias,
        "starts": starts,
        "distance": distance,
    }
    options: dict[str, Any] = {"num_heads": heads, "scale": size**-0.5, "window": window}
    sides = whole.astype(np.float64) * (1 if scales is None else scales)
    sides += 0 if bias is None else bias
    wanted = attend(
        *np.split(sides, 3, axis=1), starts.tolist(), heads, size**-0.5, window, distance
    )
    (found,) = run_operator("Attention", inputs, ["float32"], **options)
    np.testing.assert_allclose(found, wanted, atol=2e-5, rtol=1e-4)
    (half,) = run_operator("AttentionHalf", inputs, ["bfloat16"], **options)
    np.testing.assert_allclose(half, found, rtol=2**-8, atol=1e-6)
    rows, scale = run_operator("AttentionBytes", inputs, ["uint8", "float32"], **options)
    check_bytes(rows, scale, found)


@pytest.mark.parametrize("window", [-1, 64, 700])
def test_texts_longer_than_a_tile(window: int) -> None:
    heads, size = 2, 32
    starts = np.array([0, 1500, 1501, 2013, 2526], np.int64)
    whole = draw(5, int(starts[-1]), 3 * heads * size, scale=2.0)
    options: dict[str, Any] = {"num_heads": heads, "scale": size**-0.5, "window": window}
    inputs = {"q": whole, "k": None, "v": None, "s": None, "b": None, "starts": starts}
    (found,) = run_operator("Attention", inputs, ["float32"], **options)
    wanted = attend(*np.split(whole, 3, axis=1), starts.tolist(), heads, size**-0.5, window)
    np.testing.assert_allclose(found, wanted, atol=5e-5)


@SOME
@given(
    seed=SEEDS,
    others=st.lists(st.integers(1, 90), min_size=1, max_size=5),
    length=st.integers(1, 90),
    place=st.integers(0, 5),
    threads=st.sampled_from([1, 2, 3]),
)
def test_a_text_has_the_same_bits_in_any_company(
    seed: int, others: list[int], length: int, place: int, threads: int
) -> None:
    heads, width = 4, 64
    lengths = [*others[:place], length, *others[place:]]
    at = min(place, len(others))
    starts = np.cumsum([0, *lengths]).astype(np.int64)
    whole = draw(seed, int(starts[-1]), 3 * width)
    mine = slice(int(starts[at]), int(starts[at + 1]))
    inputs = {"q": whole, "k": None, "v": None, "s": None, "b": None, "starts": starts}
    alone = inputs | {"q": whole[mine].copy(), "starts": np.array([0, length], np.int64)}
    options: dict[str, Any] = {"num_heads": heads, "scale": 0.25}
    (together,) = run_operator("Attention", inputs, ["float32"], threads=threads, **options)
    (by_itself,) = run_operator("Attention", alone, ["float32"], threads=1, **options)
    np.testing.assert_array_equal(together[mine], by_itself)


@SOME
@given(
    seed=SEEDS,
    rows=st.integers(0, 70),
    columns=st.sampled_from([1, 2, 15, 16, 33, 64, 384, 1000]),
    scaled=st.booleans(),
    biased=st.booleans(),
    added=st.booleans(),
    shifted=st.booleans(),
    smoothed=st.booleans(),
)
def test_add_norm(
    seed: int,
    rows: int,
    columns: int,
    *,
    scaled: bool,
    biased: bool,
    added: bool,
    shifted: bool,
    smoothed: bool,
) -> None:
    y = draw(seed, rows, columns, scale=3.0)
    scales = np.abs(draw(seed + 1, rows, 1)) + 0.1 if scaled else None
    bias = draw(seed + 2, columns) if biased else None
    residual = draw(seed + 3, rows, columns) if added else None
    gamma, beta = draw(seed + 4, columns), draw(seed + 5, columns) if shifted else None
    smooth = np.abs(draw(seed + 6, columns)) + 0.1 if smoothed else None
    inputs = dict(zip("ysbrgez", (y, scales, bias, residual, gamma, beta, smooth), strict=True))
    total = y.astype(np.float64) * (1 if scales is None else scales)
    total += (0 if bias is None else bias) + (0 if residual is None else residual)
    apart = total - total.mean(axis=1, keepdims=True)
    wanted = apart / np.sqrt(np.square(apart).mean(axis=1, keepdims=True) + 1e-6) * gamma
    wanted += 0 if beta is None else beta
    (found,) = run_operator("AddNorm", inputs, ["float32"], epsilon=1e-6)
    np.testing.assert_allclose(found, wanted, atol=2e-5, rtol=1e-4)
    whole, half = run_operator("AddNormHalf", inputs, ["float32", "bfloat16"], epsilon=1e-6)
    np.testing.assert_array_equal(whole, found)
    np.testing.assert_allclose(half, found, rtol=2**-8, atol=1e-30)
    whole, rows_, scale = run_operator(
        "AddNormBytes", inputs, ["float32", "uint8", "float32"], epsilon=1e-6
    )
    np.testing.assert_array_equal(whole, found)
    check_bytes(rows_, scale, found if smooth is None else found * smooth)


@SOME
@given(
    seed=SEEDS,
    rows=st.integers(0, 70),
    columns=st.sampled_from([1, 5, 16, 40, 1536]),
    scaled=st.booleans(),
    biased=st.booleans(),
    tanh=st.booleans(),
    size=st.sampled_from([0.01, 1.0, 5.0, 50.0]),
)
def test_gelu(
    seed: int, rows: int, columns: int, size: float, *, scaled: bool, biased: bool, tanh: bool
) -> None:
    y = draw(seed, rows, columns, scale=size)
    scales = np.abs(draw(seed + 1, rows, 1)) + 0.1 if scaled else None
    bias = draw(seed + 2, columns) if biased else None
    inputs = {"y": y, "s": scales, "b": bias}
    x = y.astype(np.float64) * (1 if scales is None else scales) + (0 if bias is None else bias)
    if tanh:
        wanted = x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    else:
        wanted = x / 2 * (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2)))
    (found,) = run_operator("Gelu", inputs, ["float32"], approximate=int(tanh))
    np.testing.assert_allclose(found, wanted, atol=2e-6, rtol=2e-6)
    (half,) = run_operator("GeluHalf", inputs, ["bfloat16"], approximate=int(tanh))
    np.testing.assert_allclose(half, found, rtol=2**-8, atol=1e-30)
    rows_, scale = run_operator("GeluBytes", inputs, ["uint8", "float32"], approximate=int(tanh))
    check_bytes(rows_, scale, found)


def check_bytes(rows: NDArray[np.uint8], scale: Floats, wanted: Floats) -> None:
    """Each row's largest magnitude is its scale, and its numbers are rounded to 127ths of that."""
    largest = np.abs(wanted).max(axis=1, keepdims=True, initial=1e-10)
    np.testing.assert_allclose(scale, largest, rtol=1e-5)
    back = (rows.astype(np.float32) - 128) * scale / 127
    assert (np.abs(back - wanted) <= 0.5001 * scale / 127 + 1e-4 * np.abs(wanted)).all()


def test_bytes_are_the_nearest() -> None:
    x = draw(3, 200, 384)
    rows, scale = run_operator("Quantize", {"x": x, "z": None}, ["uint8", "float32"])
    np.testing.assert_array_equal(scale[:, 0], np.abs(x).max(axis=1))
    np.testing.assert_array_equal(rows, np.rint(x * (np.float32(127) / scale)) + 128)


@SOME
@given(
    seed=SEEDS,
    rows=st.integers(0, 30),
    inner=st.sampled_from([2, 6, 64, 384]),
    columns=st.sampled_from([1, 16, 63, 64, 65, 200]),
    biased=st.booleans(),
)
def test_products_in_bfloat16(
    seed: int, rows: int, inner: int, columns: int, *, biased: bool
) -> None:
    if not (isinstance(KERNELS, Kernels) and KERNELS.half):
        pytest.skip("this processor has no units for it")
    import ml_dtypes

    a = draw(seed, rows, inner).astype(ml_dtypes.bfloat16)
    weights = draw(seed + 1, inner, columns)
    bias = draw(seed + 2, columns) if biased else None
    with using("avx512"):
        found = multiply(a, weights, bias)
    rounded = weights.astype(ml_dtypes.bfloat16).astype(np.float64)
    wanted = a.astype(np.float64) @ rounded + (0 if bias is None else bias)
    np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=1e-4)


def multiply(a: Any, weights: Floats, bias: Floats | None) -> Any:
    """By ProductHalf, whose weights are a constant in panels."""
    from onnx import TensorProto, helper, numpy_helper

    from models.engines.library import DOMAIN, require_kernels

    panels = numpy_helper.from_array(lay_out(weights), "w")
    names = ["h", "w", "b"] if bias is not None else ["h", "w"]
    constants = [panels]
    if bias is not None:
        constants.append(numpy_helper.from_array(bias, "b"))
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["a"], ["h"], to=TensorProto.BFLOAT16),
            helper.make_node("ProductHalf", names, ["y"], domain=DOMAIN, columns=weights.shape[1]),
        ],
        "one",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, [None, None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        constants,
    )
    import onnxruntime

    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 1)],
        ir_version=10,
    )
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(require_kernels().path))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {"a": a.astype(np.float32)})[0]


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_what_is_no_number_is_seen(odd: float) -> None:
    """It may not vanish where numbers are compared or rounded."""
    x = draw(4, 6, 48)
    x[2, 5] = odd
    starts = np.array([0, 4, 6], np.int64)
    inputs = {"q": x, "k": None, "v": None, "s": None, "b": None, "starts": starts}
    (found,) = run_operator("Attention", inputs, ["float32"], num_heads=2, scale=1.0)
    assert not np.isfinite(found[:4]).all()
    assert np.isfinite(found[4:]).all()
    for name, kinds in (("AddNorm", ["float32"]), ("Gelu", ["float32"])):
        others: dict[str, Any] = {"s": None, "b": None}
        if name == "AddNorm":
            others |= {"r": None, "g": np.ones(48, np.float32)}
        (found,) = run_operator(name, {"y": x} | others, kinds)
        assert [bool(np.isfinite(row).all()) for row in found] == [True] * 2 + [False] + [True] * 3
    _, scale = run_operator("Quantize", {"x": x, "z": None}, ["uint8", "float32"])
    assert np.isfinite(scale[:, 0]).tolist() == [True] * 2 + [False] + [True] * 3


Q = np.zeros((4, 48), np.float32)
NONE = {"k": None, "v": None, "s": None, "b": None}


@pytest.mark.parametrize(
    ("inputs", "heads", "sentence"),
    [
        (Q, 0, "q has no columns"),
        (Q, 5, "so many heads"),
        (np.zeros((4, 49), np.float32), 1, "so many heads"),
    ],
)
def test_heads_that_do_not_fit(inputs: Floats, heads: int, sentence: str) -> None:
    starts = np.array([0, 4], np.int64)
    with pytest.raises(Exception, match=sentence):
        run_operator(
            "Attention", {"q": inputs, **NONE, "starts": starts}, ["float32"], num_heads=heads
        )


@pytest.mark.parametrize(
    "starts", [[], [0], [0, 3], [1, 4], [0, 5], [0, 3, 2, 4], [0, -1, 4], [0, 1 << 62, 4]]
)
def test_starts_that_are_not_those_of_the_stream(starts: list[int]) -> None:
    inputs = {"q": Q, **NONE, "starts": np.array(starts, np.int64)}
    with pytest.raises(Exception, match="starts are not those of the stream"):
        run_operator("Attention", inputs, ["float32"], num_heads=2)


@pytest.mark.parametrize("name", ["k", "v", "s", "b", "distance", "z"])
@pytest.mark.parametrize("size", [0, 1, 47, 1000])
def test_sizes_that_lie(name: str, size: int) -> None:
    starts = np.array([0, 4], np.int64)
    inputs: dict[str, Any] = {
        "q": Q[:, :16].copy(),
        **NONE,
        "starts": starts,
        "distance": None,
        "z": None,
    }
    inputs |= {"k": inputs["q"], "v": inputs["q"]}
    wrong = np.zeros((1, size), np.float32) if name == "distance" else np.zeros(size, np.float32)
    inputs[name] = np.zeros((4, size), np.float32) if name in "kv" else wrong
    with pytest.raises(Exception, match=r"ai\.cloze\.Attention"):
        run_operator("AttentionBytes", inputs, ["uint8", "float32"], num_heads=2)


@pytest.mark.parametrize("place", range(1, 7))
def test_sizes_that_lie_to_a_norm(place: int) -> None:
    inputs: list[Any] = [
        np.zeros((4, 8), np.float32),
        *[None] * 3,
        np.ones(8, np.float32),
        None,
        None,
    ]
    inputs[place] = np.zeros(9, np.float32)
    with pytest.raises(Exception, match=r"ai\.cloze\.AddNorm"):
        run_operator(
            "AddNormBytes",
            dict(zip("ysbrgez", inputs, strict=True)),
            ["float32", "uint8", "float32"],
        )


def test_a_stream_of_nothing() -> None:
    inputs = {"q": Q[:0], **NONE, "starts": np.array([0], np.int64)}
    (found,) = run_operator("Attention", inputs, ["float32"], num_heads=2)
    assert found.shape == (0, 16)


def test_sessions_of_several_threads_at_once() -> None:
    import threading

    starts = np.array([0, 300, 600], np.int64)
    whole = draw(9, 600, 96)
    inputs = {"q": whole, **NONE, "starts": starts}
    session = open_operator("Attention", inputs, ["float32"], num_heads=2, scale=0.2)
    feeds = {"q": whole, "starts": starts}
    wanted = session.run(None, feeds)[0]
    wrong: list[Any] = []

    def work() -> None:
        for _ in range(20):
            found = session.run(None, feeds)[0]
            if not np.array_equal(found, wanted):
                wrong.append(found)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong
