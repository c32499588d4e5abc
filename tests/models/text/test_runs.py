"""Long runs of one kind of character are shortened, and nobody can tell."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers

from models.text import reader as reader_module
from models.text import runs as runs_module
from models.text.boundaries import _PATTERNS
from models.text.runs import Runs
from models.text.truncation import Side
from tests.helpers.checkpoints import make_tokenizer
from tests.models.text.test_boundaries import PIECES, Pair, make_sentencepiece

STEP = 600
FAMILIES = [
    *("bert", "mpnet", "minilm", "xlm-roberta", "albert", "deberta-v2", "sentencepiece"),
    *("roberta", "modernbert", "modernbert-real", "nfkc", "llama"),
]
# Kinds that are shortened, some that are not, and odd ones that lie beside them.
ENDLESS = st.tuples(
    st.sampled_from(
        (
            *(" ", "\n", " \t", "\0", "\u200b", "\0\ufeff", "\u0301", "\u0323\u0301", "a", "a1B"),
            *("😀", "\u3000", "\x1c", "日", "ing", "\0 ", ",", "a\u0301", "é", "[MASK]"),
            *(
                "the  king",
                "the\tking,",
                "Ab+/9",
                "aab",
                "😀🎉",
                "雨日",
                "12",
                "~",
                "\r\n",
                "Æ",
                "``",
            ),
        )
    ),
    st.integers(1, 2 * STEP),
).map(lambda run: run[0] * run[1])
TEXTS = st.lists(PIECES | PIECES | ENDLESS, min_size=1, max_size=14).map("".join)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_module, "_STEP", STEP)
    monkeypatch.setattr(reader_module, "_SHORT_CHARACTERS", 6)
    monkeypatch.setattr(reader_module, "_CHARACTERS_A_TOKEN", 1)


# As the real ModernBERT has it, another form of Unicode, and words as Llama 3 has them.
OTHERS = ("modernbert-real", "nfkc", "llama")


def make_other(kind: str) -> Tokenizer:
    found: Tokenizer = make_tokenizer("modernbert").backend_tokenizer
    if kind == "llama":
        found.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_PATTERNS[1]), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        return found
    found.normalizer = normalizers.NFC() if kind == "modernbert-real" else normalizers.NFKC()
    if kind == "modernbert-real":
        found.add_tokens([AddedToken(" " * size, normalized=True) for size in range(2, 25)])
        found.add_tokens([AddedToken("|||IP_ADDRESS|||", normalized=True)])
    return found


def find_runs(tokenizer: Tokenizer) -> Runs:
    runs = Runs.of(tokenizer)
    assert runs is not None
    return runs


@pytest.fixture(
    scope="module",
    params=FAMILIES,
)
def tokenizer(request: pytest.FixtureRequest, minilm_source: Path) -> Tokenizer:
    if request.param == "minilm":
        return Tokenizer.from_file(str(minilm_source / "tokenizer.json"))
    if request.param == "sentencepiece":
        return make_sentencepiece()
    if request.param in OTHERS:
        return make_other(request.param)
    made: Tokenizer = make_tokenizer(request.param).backend_tokenizer
    return made


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("max_tokens", [5, 40])
def test_texts_of_long_runs(
    tokenizer: Tokenizer, side: Side, max_tokens: int, tmp_path: Path
) -> None:
    file = tmp_path / "tokenizer.json"
    tokenizer.save(str(file))
    encoders = Pair(file, 40_000, max_tokens)

    @settings(max_examples=30, deadline=None)
    @given(TEXTS, st.none() | TEXTS)
    def check(text: str, pair: str | None) -> None:
        encoders.check(text, pair, side)

    check()


@settings(max_examples=50, deadline=None)
@given(TEXTS)
def test_what_is_left_out(text: str) -> None:
    runs = find_runs(make_tokenizer("bert").backend_tokenizer)
    found = runs.shorten(text)
    places = found.locate(np.arange(len(found.text) + 1))
    assert found.length == len(text)
    for here, place in enumerate(places[:-1].tolist()):
        # At a seam either side of what was left out will do: no token begins or ends there.
        assert text[place] == found.text[here] or here in found.seams
    assert int(places[-1]) == len(text)


def test_megabytes_become_little() -> None:
    runs = find_runs(make_tokenizer("bert").backend_tokenizer)
    for character in (" ", "\n", "\0", "\u0301", "a", "😀"):
        text = f"the{character * 100_000} king {character * 100_000}"
        found = runs.shorten(text)
        assert len(found.text) < 1_200
        place = np.array(found.text.index("king"))
        # Inside of the runs nobody asks.
        assert int(found.locate(place)) == text.index("king")


def test_tokenizers_that_could_tell() -> None:
    for family in ("roberta", "modernbert"):
        assert Runs.of(make_tokenizer(family).backend_tokenizer) is None
    for family in ("xlm-roberta", "albert", "deberta-v2", "camembert"):
        runs = find_runs(make_tokenizer(family).backend_tokenizer)
        # Blanks, and what is unknown where the word ends: what else there is are tokens.
        shortened = (" " * 5_000, "🎈" * 5_000, "🎈" * 5_000 + " a")
        assert max(len(runs.shorten(run).text) for run in shortened) < 600
        kept = ("a" * 5_000, "🎈" * 5_000 + "a")
        assert min(len(runs.shorten(run).text) for run in kept) >= 5_000
    cased = make_tokenizer("bert").backend_tokenizer
    cased.normalizer = normalizers.BertNormalizer(lowercase=False)
    # Accents count, blanks do not.
    text = "\u0301" * 5_000 + " " * 5_000
    assert 5_000 < len(find_runs(cased).shorten(text).text) < 6_000
    for content in ("aaa", "a" * 300 + "-", "AB12"):
        tokenizer = make_tokenizer("bert").backend_tokenizer
        tokenizer.add_tokens([AddedToken(content, normalized=False)])
        assert Runs.of(tokenizer) is None, content
