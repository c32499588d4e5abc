"""Long runs of one kind of character, shortened where a tokenizer cannot tell.

Owns what is left out of them, and where the rest stands in the text as it was sent. Megabytes of
blanks are one or none, of accents BERT drops all, and a word of that length is one unknown token.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import Unigram, WordPiece

from models.text.encoded import Indices
from models.text.parts import PLAIN_RANGES, RUNS_OF_BLANKS, is_local, list_parts, list_replaced

# So many characters of a run stay at each end: more than a word may have, or an added token has.
_KEPT = 256
# A run of twice as many is found, looking at one character in so many.
_STEP = 2048

_BLANKS = " \t\n\r"
# What BertNormalizer may drop, blanks of any kind not among it: those count where a token strips.
_DROPPED = [
    *(range(0x09), range(0x0E, 0x1C), range(0x7F, 0x85), range(0x86, 0xA0)),
    *(range(0xAD, 0xAE), range(0x200B, 0x2010), range(0x202A, 0x202F), range(0x2060, 0x2065)),
    *(range(0xFEFF, 0xFF00), range(0xFFFD, 0xFFFE)),
]
# Marks above a letter, which stay in order; those of other classes would go before them.
_ACCENTS = [range(0x0300, 0x0315), range(0x033D, 0x0340), range(0x0363, 0x0370)]
# Beside these no dropped run is a part of a longer one.
_STARTS = frozenset(map(chr, range(0x20, 0x7F))) | frozenset("\t\n\r")
# What it may take for a part of a word, each for one.
_LETTERS = [range(0x30, 0x3A), range(0x41, 0x5B), range(0x61, 0x7B)]
_EMOJI = [range(0x1F300, 0x1F3FB), range(0x1F400, 0x1F650), range(0x1F680, 0x1F700)]


@dataclass(frozen=True, slots=True)
class Shortened:
    """A text without the middle of its long runs, and its length as it was sent.

    `seams` are where something was left out, `removed` how many characters were before the first
    one that is here, and then up to each seam.
    """

    text: str
    length: int
    seams: tuple[int, ...] = ()
    removed: tuple[int, ...] = (0,)

    def locate(self, characters: Indices) -> Indices:
        """Where these characters stand in the text as it was sent."""
        before = np.searchsorted(np.array(self.seams, np.int64), characters, side="left")
        found: Indices = characters + np.array(self.removed, np.int64)[before]
        return found


class Runs:
    """The kinds of characters of which a tokenizer's texts may have less."""

    def __init__(self, kinds: Sequence[str], dropped: str, unknown: str) -> None:
        self._dropped = frozenset(dropped)
        self._unknown = frozenset(unknown)
        self._kinds = {
            character: (pattern, kind)
            for kind, pattern in zip(kinds, map(_compile, kinds), strict=True)
            for character in kind
        }

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Self | None:
        """Those of the tokenizer; None where it is not known to have any."""
        normalizer = tokenizer.normalizer
        unknown = ""
        normalizers = list(list_parts(normalizer, "normalizers"))
        splitters = [part["type"] for part in list_parts(tokenizer.pre_tokenizer, "pretokenizers")]
        if _is_bert(tokenizer.model, normalizers, splitters):
            blanks, dropped, words = _find_kinds(normalizer, tokenizer.pre_tokenizer)
        elif _joins_blanks(normalizers, splitters):
            blanks, dropped, unknown = _find_other_kinds(tokenizer)
            words = [unknown]
        else:
            return None
        kinds = [kind for kind in (*blanks, *dropped, *words) if kind]
        for token in tokenizer.get_added_tokens_decoder().values():
            written = [token.content]
            if normalizer is not None:
                written.append(normalizer.normalize_str(token.content))
            # One of such characters alone could stand in what is left out.
            for text in written:
                if len(text) > _KEPT or any(not set(text) - set(kind) for kind in kinds):
                    return None
        return cls(kinds, "".join(dropped), unknown)

    def shorten(self, text: str, ahead: int = 0) -> Shortened:
        """The text, before which so many characters were left out, with the ends of its runs."""
        parts: list[str] = []
        seams: list[int] = []
        removed = [ahead]
        begin = size = 0
        for start, end in self._find(text):
            parts.append(text[begin : start + _KEPT])
            size += len(parts[-1])
            begin = end - _KEPT
            seams.append(size)
            removed.append(ahead + begin - size)
        parts.append(text[begin:])
        return Shortened("".join(parts), ahead + len(text), tuple(seams), tuple(removed))

    def _find(self, text: str) -> Iterator[tuple[int, int]]:
        last = place = 0
        while place < len(text):
            pattern, kind = self._kinds.get(text[place], (None, ""))
            match = None if pattern is None else pattern.match(text, place)
            if match is None or match.end() - place < _STEP:
                place += _STEP
                continue
            ahead = text[max(last, place - _STEP) : place]
            start, last = place - len(ahead) + len(ahead.rstrip(kind)), match.end()
            place = -(-last // _STEP) * _STEP
            if self._stands_alone(text, start, last):
                yield start, last

    def _stands_alone(self, text: str, start: int, end: int) -> bool:
        """Whether what lies beside does not tell how much was left out.

        What is dropped may belong to more marks, which would be put in order. The best way through
        a word is told by sums, which are rounded: a run of unknown ones has to be its end.
        """
        if text[end - 1] in self._unknown:
            return text[end : end + 1] in ("", " ")
        if text[end - 1] not in self._dropped:
            return True
        beside = text[max(start - 1, 0) : start] + text[end : end + 1]
        return all(character in _STARTS for character in beside)


def _is_bert(
    model: Any, normalizers: Sequence[Mapping[str, Any]], splitters: Sequence[str]
) -> bool:
    """Whether what is dropped is dropped first, and a word that is too long is one token."""
    types = {part["type"] for part in normalizers}
    return (
        isinstance(model, WordPiece)
        and model.max_input_chars_per_word <= _KEPT
        and "BertNormalizer" in types
        and types <= {"BertNormalizer", "Lowercase"}
        and splitters == ["BertPreTokenizer"]
    )


def _joins_blanks(normalizers: Sequence[Mapping[str, Any]], splitters: Sequence[str]) -> bool:
    """Whether of many blanks as much is left as of few, and nothing else changes by it."""
    if not all(map(is_local, normalizers)):
        return False
    joined = any(part.get("pattern", {}).get("Regex") in RUNS_OF_BLANKS for part in normalizers)
    return splitters == ["WhitespaceSplit", "Metaspace"] or (
        joined and splitters in (["Metaspace"], ["Punctuation", "Metaspace"])
    )


def _find_kinds(normalizer: Any, splitter: Any) -> tuple[list[str], list[str], list[str]]:
    """What BertNormalizer takes for blanks, what it drops, and what are parts of words."""

    def is_blank(characters: str) -> bool:
        return bool(normalizer.normalize_str(f"a{characters}b") == f"a{' ' * len(characters)}b")

    def is_dropped(characters: str) -> bool:
        return bool(normalizer.normalize_str(f"a{characters}b") == "ab")

    def is_word(characters: str) -> bool:
        lower = normalizer.normalize_str(characters).lower() == characters.lower()
        return lower and len(splitter.pre_tokenize_str(characters)) == 1

    blanks = [range(ord(blank), ord(blank) + 1) for blank in _BLANKS]
    return (
        [_pick(blanks, is_blank)],
        [_pick(_DROPPED, is_dropped), _pick(_ACCENTS, is_dropped)],
        [_pick(_LETTERS, is_word), _pick(_EMOJI, is_word)],
    )


def _find_other_kinds(tokenizer: Tokenizer) -> tuple[list[str], list[str], str]:
    """What a tokenizer of sentencepiece takes for blanks, what it drops, and does not know."""
    normalizer, splitter = tokenizer.normalizer, tokenizer.pre_tokenizer

    def normalize(text: str) -> str:
        return text if normalizer is None else str(normalizer.normalize_str(text))

    def split(text: str) -> list[str]:
        return [word for word, _ in splitter.pre_tokenize_str(normalize(text))]

    def is_blank(characters: str) -> bool:
        return split(f"a{characters * 3}b") == split("a b")

    def is_dropped(characters: str) -> bool:
        return normalize(f"a{characters}b") == "ab"

    def is_kept(characters: str) -> bool:
        return normalize(characters) == characters

    blanks = _pick([range(ord(blank), ord(blank) + 1) for blank in " \t\n"], is_blank)
    controls, accents = _pick(_DROPPED, is_dropped), _pick(_ACCENTS, is_dropped)
    unknown = ""
    if isinstance(tokenizer.model, Unigram):
        known = set().union(*tokenizer.get_vocab(with_added_tokens=False))
        codes = (code for codes in (*_DROPPED, *_ACCENTS, *PLAIN_RANGES) for code in codes)
        known |= list_replaced(normalizer) | {*controls, *accents}
        other = sorted(map(ord, set(map(chr, codes)) - known))
        unknown = _pick([other], is_kept)
    return [blanks], [controls, accents], unknown


def _pick(ranges: Iterable[Iterable[int]], wanted: Callable[[str], bool]) -> str:
    """Those of the characters that are wanted, asked for all together where all of them are."""
    every = "".join(chr(code) for codes in ranges for code in codes)
    return every if wanted(every) else "".join(filter(wanted, every))


def _compile(kind: str) -> re.Pattern[str]:
    """As many of them as there are. Written as ranges, which are ten times as fast."""
    codes = set(map(ord, kind))
    starts = sorted(code for code in codes if code - 1 not in codes)
    ends = sorted(code for code in codes if code + 1 not in codes)
    ranges = (f"\\U{start:08x}-\\U{end:08x}" for start, end in zip(starts, ends, strict=True))
    return re.compile(f"[{''.join(ranges)}]+")
