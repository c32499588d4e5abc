"""Each operator of ours against double precision, over shapes of every kind, and refusals."""

import math
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from export.graphs.products import lay_out
from models.engines.library import Kernels, find_kernels
from models.errors import OperatorError
from tests.kernels.operators import attend, open_operator, run_operator, using

KERNELS = find_kernels()
pytestmark = pytest.mark.skipif(
    not isinstance(KERNELS, Kernels), reason=str(getattr(KERNELS, "reason", ""))
)
INSTRUCTIONS = ["avx512", "avx512-plain", "avx2", "neon"]
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
) -> None:
    width, starts = heads * size, np.cumsum([0, *lengths]).astype(np.int64)
    tokens = int(starts[-1])
    whole = draw(seed, tokens, 3 * width)
    bias = draw(seed + 1, 3 * width) if biased else None
    distance = None if reach is None else draw(seed + 3, heads, 2 * reach + 1)
    q, k, v = np.split(whole, 3, axis=1)
    inputs = {
        "q": np.ascontiguousarray(q) if apart else whole,
        "k": np.ascontiguousarray(k) if apart else None,
        "v": np.ascontiguousarray(v) if apart else None,
        "bias": bias,
        "starts": starts,
        "distance": distance,
    }
    options: dict[str, Any] = {"num_heads": heads, "scale": size**-0.5, "window": window}
    sides = whole.astype(np.float64) + (0 if bias is None else bias)
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
    inputs = {"q": whole, "k": None, "v": None, "b": None, "starts": starts}
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
    inputs = {"q": whole, "k": None, "v": None, "b": None, "starts": starts}
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
    biased: bool,
    added: bool,
    shifted: bool,
    smoothed: bool,
) -> None:
    y = draw(seed, rows, columns, scale=3.0)
    bias = draw(seed + 2, columns) if biased else None
    residual = draw(seed + 3, rows, columns) if added else None
    gamma, beta = draw(seed + 4, columns), draw(seed + 5, columns) if shifted else None
    smooth = np.abs(draw(seed + 6, columns)) + 0.1 if smoothed else None
    inputs = dict(zip("ybrgez", (y, bias, residual, gamma, beta, smooth), strict=True))
    total = y.astype(np.float64) + (0 if bias is None else bias)
    total += 0 if residual is None else residual
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
    biased=st.booleans(),
    tanh=st.booleans(),
    size=st.sampled_from([0.01, 1.0, 5.0, 50.0]),
)
def test_gelu(seed: int, rows: int, columns: int, size: float, *, biased: bool, tanh: bool) -> None:
    y = draw(seed, rows, columns, scale=size)
    bias = draw(seed + 2, columns) if biased else None
    inputs = {"y": y, "b": bias}
    x = y.astype(np.float64) + (0 if bias is None else bias)
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


def check_bytes(rows: NDArray[np.uint8], steps: Floats, wanted: Floats) -> None:
    """All of a row's bytes are used from its least number to its largest, zero among them."""
    step, zero = steps[:, :1], steps[:, 1:]
    least = np.minimum(wanted.min(axis=1, keepdims=True, initial=0), 0)
    most = np.maximum(wanted.max(axis=1, keepdims=True, initial=0), 0)
    np.testing.assert_allclose(step, np.maximum(most - least, 1e-10) / 255, rtol=1e-5)
    np.testing.assert_array_equal(zero, np.rint(zero))
    assert ((zero >= 0) & (zero <= 255)).all()
    back = (rows.astype(np.float32) - zero) * step
    # Half a step for the number, and half a one for the zero, which is whole, too.
    assert (np.abs(back - wanted) <= 1.0002 * step + 1e-4 * np.abs(wanted)).all()


def test_bytes_are_the_nearest() -> None:
    x = draw(3, 200, 384)
    rows, steps = run_operator("Quantize", {"x": x, "z": None}, ["uint8", "float32"])
    low, high = x.min(axis=1), x.max(axis=1)
    np.testing.assert_array_equal(steps[:, 0], (high - low) / np.float32(255))
    inverse = np.float32(1) / steps[:, :1]
    exact = x.astype(np.float64) * inverse + steps[:, 1:]
    assert (np.abs(rows - np.clip(exact, 0, 255)) <= 0.50001).all()


def test_bytes_on_one_side_of_zero() -> None:
    x = np.stack([np.full(20, 3.0), np.full(20, -3.0), np.zeros(20)]).astype(np.float32)
    rows, steps = run_operator("Quantize", {"x": x, "z": None}, ["uint8", "float32"])
    assert rows[:, 0].tolist() == [255, 0, 0]
    assert steps[:, 1].tolist() == [0, 255, 0]


INNER = st.sampled_from([4, 8, 64, 384])
COLUMNS = st.sampled_from([1, 16, 63, 64, 65, 200])
AFTER = st.sampled_from(["", "Gelu", "Norm"])
# Below and above the number from which on rows are spread rather than panels.
ROWS = st.sampled_from([0, 1, 5, 6, 7, 30, 95, 96, 97, 230])


@SOME
@given(seed=SEEDS, rows=ROWS, inner=INNER, columns=COLUMNS, after=AFTER, biased=st.booleans())
def test_products(
    seed: int, rows: int, inner: int, columns: int, after: str, *, biased: bool
) -> None:
    a, weights = draw(seed, rows, inner), draw(seed + 1, inner, columns)
    inputs = {"a": a, "w": lay_out(weights, 1)}
    more = follow(seed, rows, columns, after, biased=biased)
    (found,) = run_operator(f"Product{after}", inputs | more, ["float32"], columns=columns)
    check_product(found, a.astype(np.float64) @ weights, after, more)


@SOME
@given(seed=SEEDS, rows=ROWS, inner=INNER, columns=COLUMNS, after=AFTER, biased=st.booleans())
def test_products_in_bfloat16(  # noqa: PLR0917 - those of the others, and the instructions
    instructions: str, seed: int, rows: int, inner: int, columns: int, after: str, *, biased: bool
) -> None:
    if instructions != "avx512" or not (isinstance(KERNELS, Kernels) and KERNELS.half):
        pytest.skip("these instructions have no units for it")
    a = draw(seed, rows, inner).astype(ml_dtypes.bfloat16)
    weights = draw(seed + 1, inner, columns).astype(ml_dtypes.bfloat16)
    more = follow(seed, rows, columns, after, biased=biased)
    inputs = {"a": a, "w": lay_out(weights, 2)} | more
    kinds = {"": ["float32"], "Gelu": ["bfloat16"], "Norm": ["float32", "bfloat16"]}[after]
    found = run_operator(f"Product{after}Half", inputs, kinds, columns=columns)
    wanted = a.astype(np.float64) @ weights.astype(np.float64)
    check_product(found[0], wanted, after, more, rtol=2**-8 if after == "Gelu" else 1e-4)
    if after == "Norm":
        np.testing.assert_allclose(found[1], found[0], rtol=2**-8, atol=1e-30)


@SOME
@given(seed=SEEDS, rows=ROWS, inner=INNER, columns=COLUMNS, after=AFTER, biased=st.booleans())
def test_products_of_bytes(
    seed: int, rows: int, inner: int, columns: int, after: str, *, biased: bool
) -> None:
    chance = np.random.default_rng(seed)
    a = chance.integers(0, 256, (rows, inner), np.uint8)
    steps = np.stack([chance.random(rows) / 100, chance.integers(0, 256, rows)], axis=1)
    weights = chance.integers(-127, 128, (inner, columns), np.int8)
    scales = (chance.random(columns) / 100).astype(np.float32)
    more = follow(seed, rows, columns, after, biased=biased)
    inputs = {
        "a": a,
        "t": steps.astype(np.float32),
        "w": lay_out(weights, 4),
        "s": scales,
        "u": weights.sum(axis=0, dtype=np.int32),
    }
    whole = (a.astype(np.int64) - steps[:, 1:].astype(np.int64)) @ weights.astype(np.int64)
    wanted = whole * steps[:, :1].astype(np.float32).astype(np.float64) * scales
    kinds = {"": [], "Gelu": [], "Norm": ["float32"]}[after]
    kinds += ["float32"] if after == "" else ["uint8", "float32"]
    found = run_operator(f"Product{after}Bytes", inputs | more, kinds, columns=columns)
    (plain,) = run_operator("ProductBytes", inputs, ["float32"], columns=columns)
    check_product(plain, wanted, "", {})
    # With what comes after taken in, it is to the last bit what it would be by itself.
    name = {"": "", "Gelu": "GeluBytes", "Norm": "AddNormBytes"}[after]
    apart = run_operator(name, {"y": plain} | more, kinds) if name else [plain]
    for one, other in zip(found, apart, strict=True):
        np.testing.assert_array_equal(one, other)


def follow(seed: int, rows: int, columns: int, after: str, *, biased: bool) -> dict[str, Any]:
    """What the operator after a product is given beside its rows."""
    bias = draw(seed + 2, columns) if biased else None
    if after == "Norm":
        residual = draw(seed + 3, rows, columns)
        return {
            "b": bias,
            "r": residual,
            "g": draw(seed + 4, columns),
            "e": draw(seed + 5, columns),
        }
    return {"b": bias} if after else {}


def finish(y: NDArray[np.float64], after: str, more: dict[str, Any]) -> NDArray[np.float64]:
    """What comes after, in double precision."""
    y = y + (0 if more.get("b") is None else more["b"])
    if after == "Gelu":
        return y / 2 * (1 + np.vectorize(math.erf, otypes=[float])(y / math.sqrt(2)))
    if after == "Norm":
        y = y + more["r"]
        apart = y - y.mean(axis=1, keepdims=True)
        inverse = 1 / np.sqrt(np.square(apart).mean(axis=1, keepdims=True) + 1e-12)
        return apart * inverse * more["g"] + more["e"]
    return y


def check_product(
    found: Floats, y: NDArray[np.float64], after: str, more: dict[str, Any], rtol: float = 1e-4
) -> None:
    # A row of one column is the normalisation of rounding errors alone.
    if after != "Norm" or y.shape[1] > 1:
        np.testing.assert_allclose(found, finish(y, after, more), atol=3e-4, rtol=rtol)


@pytest.mark.parametrize("name", ["Product", "ProductHalf", "ProductBytes"])
def test_rows_have_the_same_bits_in_any_company(instructions: str, name: str) -> None:
    if name == "ProductHalf" and instructions != "avx512":
        pytest.skip("these instructions have no units for it")
    types = {"Product": np.float32, "ProductHalf": ml_dtypes.bfloat16, "ProductBytes": np.uint8}
    beside = {"Product": 1, "ProductHalf": 2, "ProductBytes": 4}[name]
    a = (draw(1, 230, 64) * 40 + 128).clip(0, 255).astype(types[name])
    weights = draw(2, 64, 200) * 40
    weights = weights.astype(np.int8 if name == "ProductBytes" else types[name])
    inputs: dict[str, Any] = {"a": a, "w": lay_out(weights, beside)}
    if name == "ProductBytes":
        steps = np.tile(np.array([0.01, 128], np.float32), (230, 1))
        sums = weights.sum(axis=0, dtype=np.int32)
        inputs = {"a": a, "t": steps, "w": inputs["w"], "s": np.ones(200, np.float32), "u": sums}
    (together,) = run_operator(name, inputs, ["float32"], columns=200)
    for some in (1, 5, 40, 97):
        few = inputs | {"a": a[:some]} | ({"t": inputs["t"][:some]} if "t" in inputs else {})
        for threads in (1, 2, 3):
            (alone,) = run_operator(name, few, ["float32"], threads=threads, columns=200)
            np.testing.assert_array_equal(alone, together[:some])


A, W = np.zeros((3, 8), np.float32), np.zeros((2, 8, 64, 1), np.float32)


@pytest.mark.parametrize(
    ("a", "weights", "columns"),
    [
        (A, W, 64),
        (A, W, 129),
        (A, W, 0),
        (A, W, -5),
        (A[:, :7].copy(), W, 100),
        (A, W[:, :7].copy(), 100),
        (A, W[..., 0].copy(), 100),
        (A, W[:, :, :32].copy(), 100),
        (A[:, :0].copy(), W[:, :0].copy(), 100),
    ],
)
def test_weights_that_lie_about_their_size(a: Floats, weights: Floats, columns: int) -> None:
    with pytest.raises(Exception, match=r"ai\.cloze\.Product: the weights are not those"):
        run_operator("Product", {"a": a, "w": weights}, ["float32"], columns=columns)


@pytest.mark.parametrize("name", ["t", "s", "u", "b", "z"])
def test_sizes_that_lie_to_a_product_of_bytes(name: str) -> None:
    inputs: dict[str, Any] = {
        "a": np.zeros((3, 8), np.uint8),
        "t": np.zeros((3, 2), np.float32),
        "w": np.zeros((2, 2, 64, 4), np.int8),
        "s": np.zeros(100, np.float32),
        "u": np.zeros(100, np.int32),
        "b": None,
        "z": None,
    }
    inputs[name] = np.zeros(99, np.int32 if name == "u" else np.float32)
    with pytest.raises(Exception, match=r"ai\.cloze\."):
        run_operator("ProductGeluBytes", inputs, ["uint8", "float32"], columns=100)


def test_a_row_too_long_for_the_sums() -> None:
    inner = (1 << 15) + 4
    inputs = {
        "a": np.zeros((1, inner), np.uint8),
        "t": np.zeros((1, 2), np.float32),
        "w": np.zeros((1, inner // 4, 64, 4), np.int8),
        "s": np.zeros(4, np.float32),
        "u": np.zeros(4, np.int32),
    }
    with pytest.raises(Exception, match="the weights are not those"):
        run_operator("ProductBytes", inputs, ["float32"], columns=4)


@pytest.mark.parametrize("zero", [math.nan, math.inf, -1.0, 1e30])
def test_a_zero_that_is_no_byte(zero: float) -> None:
    """A graph may bring any; nothing is read by it."""
    inputs = {
        "a": np.ones((1, 8), np.uint8),
        "t": np.array([[1.0, zero]], np.float32),
        "w": np.ones((1, 2, 64, 4), np.int8),
        "s": np.ones(4, np.float32),
        "u": np.full(4, 8, np.int32),
    }
    (found,) = run_operator("ProductBytes", inputs, ["float32"], columns=4)
    assert found.tolist() == [[8.0] * 4]


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_what_is_no_number_is_seen(odd: float) -> None:
    """It may not vanish where numbers are compared or rounded."""
    x = draw(4, 6, 48)
    x[2, 5] = odd
    starts = np.array([0, 4, 6], np.int64)
    inputs = {"q": x, "k": None, "v": None, "b": None, "starts": starts}
    (found,) = run_operator("Attention", inputs, ["float32"], num_heads=2, scale=1.0)
    assert not np.isfinite(found[:4]).all()
    assert np.isfinite(found[4:]).all()
    for name, kinds in (("AddNorm", ["float32"]), ("Gelu", ["float32"])):
        others: dict[str, Any] = {"b": None}
        if name == "AddNorm":
            others |= {"r": None, "g": np.ones(48, np.float32)}
        (found,) = run_operator(name, {"y": x} | others, kinds)
        assert [bool(np.isfinite(row).all()) for row in found] == [True] * 2 + [False] + [True] * 3
    _, scale = run_operator("Quantize", {"x": x, "z": None}, ["uint8", "float32"])
    assert np.isfinite(scale[:, 0]).tolist() == [True] * 2 + [False] + [True] * 3


Q = np.zeros((4, 48), np.float32)
NONE = {"k": None, "v": None, "b": None}


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


@pytest.mark.parametrize("name", ["k", "v", "b", "distance", "z"])
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


@pytest.mark.parametrize("place", range(1, 6))
def test_sizes_that_lie_to_a_norm(place: int) -> None:
    inputs: list[Any] = [
        np.zeros((4, 8), np.float32),
        *[None] * 2,
        np.ones(8, np.float32),
        None,
        None,
    ]
    inputs[place] = np.zeros(9, np.float32)
    with pytest.raises(Exception, match=r"ai\.cloze\.AddNorm"):
        run_operator(
            "AddNormBytes",
            dict(zip("ybrgez", inputs, strict=True)),
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
