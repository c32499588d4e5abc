"""Of a long text only what stays is read, and its tokens are those of the whole text."""

import random
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece.sentencepiece_model_pb2 import ModelProto
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from models.errors import CallerError, EmptyInput, InputTooLong, InvalidValue
from models.text import encoder as encoder_module
from models.text import reader as reader_module
from models.text import truncation
from models.text.boundaries import Boundaries
from models.text.encoded import Encoded
from models.text.encoder import Encoder
from models.text.reader import Reader
from models.text.truncation import Overflow, Side, cut_longest_first, is_settled
from models.text.words import Words
from tests.helpers.checkpoints import FAMILIES, WORDS, make_tokenizer
from tests.helpers.oracle import ODD_WORDS, write_text

MAX_TOKENS = 12
# What normalizers drop, join, compose, or make blanks of, and what added tokens are made of.
_ODD = (
    *("\0", "\x1f", "\x85", "\u00a0", "\u00ad", "\u200b", "\u200d", "\u2028", "\u3000", "\ufeff"),
    *("\u0301", "\u0323", "\u3099", "\u0345", "\u093c", "\u0e33", "\u0d4e", "\u0600", "\u302e"),
    *("\ufdfa", "\ufc5e", "\u1e9b\u0323", "\u212b", "\uff76\uff9e", "\u1112\u1161", "\uac00"),
    *(
        "。",
        "、",
        "，日",
        "！",
        "雨。今",
        "日本",
        "今",
        "日",
        "雨",
        "😀",
        "👨\u200d👩",
        "\U0001f1e9\U0001f1ea",
        "\U0001f3fb",
        "é",
        "ß",
    ),
    *("``", "''", "▁", "Ġ", "##", ",", "(", "'s", "1", "x" * 120, "\n", "\r\n", "\t", "  ", " "),
    *("[MASK]", "<mask>", "[SEP]", "</s>", "[UNK]", "<unk>", "[mask", "mask>"),
)
PIECES = st.sampled_from([*_ODD, *_ODD, *WORDS[:40], *ODD_WORDS, *[" "] * 60])
SIGNS = st.text("日本今雨。、，！？：?,雪も ", min_size=10, max_size=60)
TEXTS = st.lists(PIECES, min_size=1, max_size=60).map("".join)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of a few words are long ones."""
    monkeypatch.setattr(reader_module, "_SHORT_CHARACTERS", 6)
    monkeypatch.setattr(reader_module, "_CHARACTERS_A_TOKEN", 1)
    monkeypatch.setattr(reader_module, "_COUNTED_CHARACTERS", 6)
    monkeypatch.setattr(reader_module, "_GROWTH", 2)


class Pair:
    """An encoder that reads what it needs, and the same one that reads whole texts."""

    def __init__(self, file: Path, size: int, max_tokens: int = MAX_TOKENS) -> None:
        self.lazy, self.whole = (
            Encoder(file, max_tokens=max_tokens, vocabulary_size=size, segments=True)
            for _ in range(2)
        )
        # Computed once it is asked for: this one reads every text whole.
        self.whole._reader.__dict__["boundaries"] = None

    def check(self, text: str, pair: str | None, side: Side) -> None:
        for origins in (False, True):
            found, wanted = (
                self._ask(one, text, pair, side, origins=origins) for one in (self.lazy, self.whole)
            )
            assert found == wanted, (text, pair, side)

    def _ask(self, encoder: Encoder, *parts: Any, origins: bool) -> Any:
        text, pair, side = parts
        try:
            found = encoder.encode(text, pair, overflow="truncate", side=side, origins=origins)
        except (InvalidValue, ValueError) as error:
            return str(error)
        except Exception as error:
            return type(error), str(error)
        told: list[Any] = [found.ids.tolist(), found.type_ids.tolist(), found.truncated_at]
        if origins:
            assert found.origins is not None
            told += [found.origins.texts.tolist(), found.origins.offsets.tolist()]
            # Words are counted from where reading began.
            words, texts = found.origins.words, found.origins.texts
            same = (words[1:] >= 0) & (words[:-1] >= 0) & (texts[1:] == texts[:-1])
            told.append((np.diff(words) * same).tolist())
        return told


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    tokenizer: Any = make_tokenizer(request.param)
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.backend_tokenizer.save(str(file))
    return Pair(file, len(tokenizer))


@pytest.fixture(scope="module")
def minilm(minilm_source: Path) -> Pair:
    return Pair(minilm_source / "tokenizer.json", 30_522)


def test_every_family_has_boundaries(family: Pair, minilm: Pair) -> None:
    for pair in (family, minilm):
        assert Boundaries.of(pair.lazy.tokenizer) is not None


@pytest.mark.parametrize("side", ["right", "left"])
def test_texts_cut_before_they_are_read(family: Pair, side: Side) -> None:
    @settings(max_examples=60, deadline=None)
    @given(TEXTS)
    def check(text: str) -> None:
        family.check(text, None, side)

    check()


@pytest.mark.parametrize("side", ["right", "left"])
def test_pairs_cut_before_they_are_read(family: Pair, side: Side) -> None:
    @settings(max_examples=40, deadline=None)
    @given(TEXTS, TEXTS)
    def check(text: str, pair: str) -> None:
        family.check(text, pair, side)

    check()


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_real_tokenizer(minilm: Pair, side: Side) -> None:
    @settings(max_examples=120, deadline=None)
    @given(TEXTS, st.none() | TEXTS)
    def check(text: str, pair: str | None) -> None:
        minilm.check(text, pair, side)

    check()


@pytest.mark.parametrize("side", ["right", "left"])
def test_no_more_is_read_than_is_needed(
    family: Pair, side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    whole = Reader.tokenize

    def tokenize(reader: Reader, *parts: str, **options: Any) -> Any:
        read.extend(map(len, parts))
        return whole(reader, *parts, **options)

    monkeypatch.setattr(Reader, "tokenize", tokenize)
    long = write_text(random.Random(4), 20_000)
    for text, pair in ((long, None), (long, "the king"), ("the king", long)):
        found = family.lazy.encode(text, pair, overflow="truncate", side=side)
        assert len(found.ids) == MAX_TOKENS
        with pytest.raises(InputTooLong, match=r"the text has more than \d\d tokens, and"):
            family.lazy.encode(text, pair, overflow="error")
    assert max(read) < 2_000
    with pytest.raises(InvalidValue, match="surrogate"):
        family.lazy.encode(f"{long}\ud800{long}", overflow="truncate", side=side)


@pytest.mark.parametrize("text", ["a", "the  king", "Ab+/9", "12", "日本", "😀", "\u0301", "aab"])
def test_a_word_without_an_end_is_not_read_to_its_end(
    family: Pair, minilm: Pair, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    whole = Reader.tokenize

    def tokenize(reader: Reader, *parts: str, **options: Any) -> Any:
        read.extend(map(len, parts))
        return whole(reader, *parts, **options)

    monkeypatch.setattr(Reader, "tokenize", tokenize)
    for encoders in (family, minilm):
        found = encoders.lazy.encode(f"the {text * 20_000}", overflow="truncate", side="right")
        assert 0 < len(found.ids) <= MAX_TOKENS
    assert max(read) < 4_000


LETTERS = {letter: place for place, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}
SMALL: dict[str, tuple[Any, Any]] = {
    "unigram": (
        models.Unigram(
            [("<unk>", 0.0), ("▁", -2.0), ("a", -3.0), ("aa", -3.1), ("aaa", -3.2), ("▁b", -3.0)],
            unk_id=0,
        ),
        pre_tokenizers.Metaspace(),
    ),
    "bytes": (
        models.BPE({**LETTERS, "aa": 300, "aaaa": 301}, [("a", "a"), ("aa", "aa")]),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ),
}


@pytest.mark.parametrize("kind", SMALL)
def test_every_place_in_a_word_keeps_what_is_before_it(kind: str) -> None:
    tokenizer = Tokenizer(SMALL[kind][0])
    tokenizer.pre_tokenizer = SMALL[kind][1]
    words = Words.of(tokenizer)
    assert words is not None
    found = 0
    for size in range(20, 40):
        for sign in (" b", " bb", "  b", "b", "\n"):
            text = "a" * size + sign + "b" * 50
            ids = tokenizer.encode(text).ids
            for end in range(8, size + 6):
                place = words.find_stop(text, end)
                if place is not None:
                    found += 1
                    before = tokenizer.encode(text[:place]).ids
                    assert ids[: len(before)] == before, (text, end, place)
    assert found > 500


def test_merges_out_of_order_have_no_such_places() -> None:
    letters = [*pre_tokenizers.ByteLevel.alphabet()]
    for merges in ([("a", "b"), ("ab", "c")], [("ab", "c"), ("a", "b")], [("a", "b"), ("a", "€")]):
        made = [*letters, "ab", "abc", "€", "a€"]
        model = models.BPE({piece: place for place, piece in enumerate(made)}, merges)
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        assert (Words.of(tokenizer) is None) == (merges[0] != ("a", "b") or "€" in merges[1])


def make_variant(**parts: Any) -> Tokenizer:
    """A tokenizer of words with other parts."""
    words = {word: place for place, word in enumerate(["[UNK]", *WORDS, *"abcdefghijklm▁Ġ"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    for name, part in parts.items():
        if name == "added":
            tokenizer.add_tokens([part])
        else:
            setattr(tokenizer, name, part)
    return tokenizer


BLANKS = pre_tokenizers.WhitespaceSplit()
SAFE: list[dict[str, Any]] = [
    {"pre_tokenizer": pre_tokenizers.Whitespace()},
    {"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=True)},
    {"pre_tokenizer": pre_tokenizers.Metaspace(prepend_scheme="always")},
    {"pre_tokenizer": pre_tokenizers.Metaspace(prepend_scheme="first")},
    {"pre_tokenizer": pre_tokenizers.Metaspace(prepend_scheme="never")},
    {
        "pre_tokenizer": pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel()]
        )
    },
    {
        "pre_tokenizer": pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), BLANKS]),
        "normalizer": normalizers.Sequence(
            [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
        ),
    },
    {"pre_tokenizer": BLANKS, "added": AddedToken("king", single_word=True)},
    {"pre_tokenizer": BLANKS, "added": AddedToken("King,", lstrip=True, normalized=True)},
]
UNSAFE: list[dict[str, Any]] = [
    {},
    {"pre_tokenizer": pre_tokenizers.Metaspace(split=False)},
    {"pre_tokenizer": pre_tokenizers.ByteLevel(use_regex=False)},
    {"pre_tokenizer": pre_tokenizers.Split(" ", "isolated")},
    {"pre_tokenizer": pre_tokenizers.Digits()},
    {
        "pre_tokenizer": pre_tokenizers.Sequence(
            [pre_tokenizers.Punctuation("merged_with_next"), BLANKS]
        )
    },
    {"pre_tokenizer": BLANKS, "normalizer": normalizers.Replace(Regex("a b"), "c")},
    {"pre_tokenizer": BLANKS, "normalizer": normalizers.Replace(" ", "▁")},
    {"pre_tokenizer": BLANKS, "normalizer": normalizers.Strip(left=True)},
    {"pre_tokenizer": BLANKS, "normalizer": normalizers.Prepend("▁")},
    {"pre_tokenizer": BLANKS, "added": AddedToken("new york")},
    {"pre_tokenizer": BLANKS, "added": AddedToken("king", rstrip=True)},
]


@pytest.mark.parametrize("parts", SAFE, ids=str)
@pytest.mark.parametrize("side", ["right", "left"])
def test_other_tokenizers(parts: dict[str, Any], side: Side, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    make_variant(**parts).save(str(file))
    pair = Pair(file, 300)
    assert pair.lazy._reader.boundaries is not None

    @settings(max_examples=60, deadline=None)
    @given(TEXTS)
    def check(text: str) -> None:
        pair.check(text, None, side)

    check()


def test_what_is_dropped_ahead_shifts_nothing(tmp_path: Path) -> None:
    """The tokenizers library counts words from 0 then; the ids are the same."""
    file = tmp_path / "tokenizer.json"
    tokenizer = make_sentencepiece()
    tokenizer.save(str(file))
    encoder = Encoder(file, max_tokens=40, vocabulary_size=40_000, segments=True)
    for ahead in ("\x1c", "\x7f\x01\x02", "\x1c" * 5_000):
        text = f"{ahead}the king"
        assert tokenizer.encode(text).offsets[0] == (0, 3)  # as if they were not there
        found = encoder.encode(text, overflow="error", origins=True)
        (windowed,) = encoder.split(text, overlap_tokens=1, overflow="error")
        for each in (found, windowed):
            assert each.origins is not None
            assert each.ids.tolist() == tokenizer.encode(text).ids
            slices = [text[start:end] for start, end in each.origins.offsets.tolist()]
            assert "".join(slices) == "the king"
    pair = encoder.encode("\x1cthe king", "\x1c\x1cthe", overflow="error", origins=True)
    assert pair.origins is not None
    assert pair.origins.offsets[pair.origins.texts == 1].tolist() == [[2, 5]]
    with pytest.raises(EmptyInput, match="no tokens the model knows"):
        encoder.encode("\x01\x01", overflow="error")


def make_sentencepiece() -> Tokenizer:
    """As transformers makes it of a sentencepiece model (XLM-R, e5, bge-m3): with its real map."""
    model = BytesIO()
    lines = [write_text(random.Random(number), 20) for number in range(60)]
    lines += ["日本今雨。今日、雨！", "雨今日本。日本、今", "naïve café 😀 e\u0301tude"] * 5
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=330,
        hard_vocab_limit=False,
        character_coverage=1.0,
        minloglevel=2,
    )
    proto = ModelProto()
    proto.ParseFromString(model.getvalue())
    tokenizer = Tokenizer(
        models.Unigram([(piece.piece, piece.score) for piece in proto.pieces], unk_id=0)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap),
            normalizers.Strip(left=False, right=True),
            normalizers.Replace(Regex(" {2,}"), "▁"),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True), AddedToken("</s>")])
    return tokenizer


@pytest.mark.parametrize("side", ["right", "left"])
def test_sentencepiece_with_its_map(side: Side, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    make_sentencepiece().save(str(file))
    encoders = Pair(file, 1_000)
    boundaries = encoders.lazy._reader.boundaries
    assert boundaries is not None
    assert boundaries._at_signs is not None

    @settings(max_examples=120, deadline=None)
    @given(TEXTS | SIGNS, st.none() | TEXTS)
    def check(text: str, pair: str | None) -> None:
        encoders.check(text, pair, side)

    check()


PIECES_OF_CJK = [
    "[UNK]",
    "▁",
    *"日本今雨。！,:",
    "日本",
    "、",
    "、日",
    "今日",
    "▁今",
    "雨。",
    "本今",
    "?,",
]
KINDS: dict[str, tuple[dict[str, Any], str]] = {
    # Of the commas one goes on with a word, the other is written as another one.
    "unigram": (
        {
            "model": models.Unigram(
                [(piece, -float(len(piece) * place)) for place, piece in enumerate(PIECES_OF_CJK)],
                unk_id=0,
            ),
            "normalizer": normalizers.NFKC(),
            "pre_tokenizer": pre_tokenizers.Sequence([BLANKS, pre_tokenizers.Metaspace()]),
        },
        "。，：",
    ),
    "bytes": ({"pre_tokenizer": pre_tokenizers.ByteLevel()}, "。、，！？；："),
    "words": ({"pre_tokenizer": BLANKS}, ""),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["right", "left"])
def test_texts_that_have_signs_for_blanks(kind: str, side: Side, tmp_path: Path) -> None:
    parts, signs = KINDS[kind]
    file = tmp_path / "tokenizer.json"
    make_variant(**parts).save(str(file))
    pair = Pair(file, 300)
    boundaries = pair.lazy._reader.boundaries
    assert boundaries is not None
    found = boundaries._at_signs
    assert signs == (
        "" if found is None else "".join(s for s in "。、，！？；：" if s in found.pattern)
    )

    @settings(max_examples=120, deadline=None)
    @given(SIGNS)
    def check(text: str) -> None:
        pair.check(text, None, side)

    check()


@pytest.mark.parametrize("parts", UNSAFE, ids=str)
def test_what_is_not_known_to_be_safe_is_read_whole(parts: dict[str, Any]) -> None:
    assert Boundaries.of(make_variant(**parts)) is None


@settings(max_examples=400)
@given(st.tuples(*[st.integers(0, 12)] * 2), st.tuples(*[st.booleans()] * 2), st.integers(0, 15))
def test_a_pair_is_settled_when_nothing_unread_changes_it(
    read: tuple[int, int], whole: tuple[bool, bool], room: int
) -> None:
    firsts, seconds = (
        [count] if known else range(count, count + 40)
        for count, known in zip(read, whole, strict=True)
    )
    every = {cut_longest_first(first, second, room) for first in firsts for second in seconds}
    settled = len(every) == 1 and sum(read) > room
    # What stays has been read.
    settled = settled and all(kept <= count for kept, count in zip(*every, read, strict=True))
    assert is_settled(read, whole, room) == settled


@pytest.mark.parametrize("overflow", ["error", "truncate"])
def test_no_more_is_read_than_there_are_windows_for(
    family: Pair, overflow: Overflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is told, and what is refused, is as where all of it is read."""
    for module in (encoder_module, truncation):
        monkeypatch.setattr(module, "MAX_WINDOWS", 3)

    def ask(call: Callable[[], list[Encoded]]) -> Any:
        try:
            return [
                (each.ids.tolist(), each.origins.offsets.tolist(), each.truncated_at)
                for each in call()
                if each.origins is not None
            ]
        except CallerError as error:
            return type(error)

    def split(encoder: Encoder, text: str, overlap: int) -> Any:
        return ask(lambda: encoder.split(text, overlap_tokens=overlap, overflow=overflow))

    def read_windows(encoder: Encoder, texts: tuple[str, str], size: int, overlap: int) -> Any:
        return ask(
            lambda: encoder.encode_windows(
                *texts, window_tokens=size, overlap_tokens=overlap, overflow=overflow
            )
        )

    @settings(max_examples=40, deadline=None)
    @given(TEXTS, TEXTS, st.integers(4, 40), st.integers(0, 8))
    def check(first: str, second: str, size: int, overlap: int) -> None:
        lazy, whole = family.lazy, family.whole
        assert split(lazy, second, overlap) == split(whole, second, overlap)
        texts = first, second
        found, wanted = (read_windows(each, texts, size, overlap) for each in (lazy, whole))
        assert found == wanted

    check()


def test_all_tokens_are_told_or_more_than_may_be(family: Pair) -> None:
    @settings(max_examples=40, deadline=None)
    @given(TEXTS, st.integers(0, 60))
    def check(text: str, most: int) -> None:
        found, wanted = (
            each.read(text, most=most, special=True) for each in (family.lazy, family.whole)
        )
        if len(wanted.encoding) > most:
            assert len(found.encoding) > most
        else:
            assert found.encoding.ids == wanted.encoding.ids
            assert found.trace().offsets.tolist() == wanted.trace().offsets.tolist()

    check()


@pytest.mark.parametrize("text", ["." * 1_000_000, "a b " * 400_000])
def test_of_a_text_of_megabytes_little_is_read(minilm: Pair, text: str) -> None:
    read = minilm.lazy.read(text, most=1000)
    assert 1000 < len(read.encoding) <= 2100
    with pytest.raises(InputTooLong, match=r"more than .* windows"):
        minilm.lazy.split(text, overlap_tokens=0, overflow="error")
