"""Where a long text may be cut before it is tokenised, so that neither side's tokens change.

Owns what is known of normalizers, pre-tokenizers and added tokens. A tokenizer with any part that
is not known here has no boundaries: its texts are read whole.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Self

from tokenizers import Tokenizer
from tokenizers.models import Unigram

from models.text.truncation import Side

# Characters that no normalizer known here drops, joins to a blank beside them, or makes one: ASCII
# without blanks, and letters, signs and emoji that neither combine nor are combined with.
_PLAIN = (
    "[!-~\u00c0-\u024f\u0391-\u03a9\u03b1-\u03c9\u0400-\u0482\u048a-\u04ff\u05d0-\u05ea"
    "\u0621-\u063a\u0641-\u064a\u0905-\u0939\u0e01-\u0e2e\u3041-\u3096\u30a1-\u30fa"
    "\u4e00-\u9fff\uac00-\ud7a3\U0001f300-\U0001f3fa\U0001f400-\U0001f64f\U0001f680-\U0001f6ff]"
)
_IDEOGRAPH = "[\u4e00-\u9fff]"
# What such texts have instead of blanks, and what may stand behind it without joining it.
_SIGNS = "\u3002\u3001\uff0c\uff01\uff1f\uff1b\uff1a"
_FULL_WIDTH = "[\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff]"
# A cut is before the second character of a match.
_AT_BLANKS = f"{_PLAIN} {_PLAIN}"
_AT_LINES = f"{_PLAIN}[ \\n]{_PLAIN}"
_AT_IDEOGRAPHS = f"{_AT_LINES}|{_IDEOGRAPH}{_IDEOGRAPH}"

# Those that look at a character alone, or no further than a letter's own marks (Unicode's forms,
# and sentencepiece's maps, which are asked for one grapheme at a time).
_LOCAL_NORMALIZERS = frozenset(
    {"NFC", "NFD", "NFKC", "NFKD", "BertNormalizer", "Lowercase", "StripAccents", "Nmt"}
    | {"Precompiled"}
)
# Those that find runs of blanks: one blank between two characters that are none is no such run.
RUNS_OF_BLANKS = frozenset((r"\s{2,}|[\n\r\t]", r"\s{2,}", " {2,}"))
_SPLIT_AT_BLANKS = frozenset(("BertPreTokenizer", "Whitespace", "WhitespaceSplit"))
_SPLIT_AT_LINES = _SPLIT_AT_BLANKS | {"ByteLevel"}
# What they put there; either is where a word begins, for Metaspace.
_BLANK = (" ", "\u2581")
# How the library splits at a sign without joining it to what may be a blank.
_APART = ("Isolated", "Removed", "Contiguous")

# A boundary is looked for in so many characters at a time, and then in more.
_WINDOW = 512
_WINDOWS = 32


class Boundaries:
    """The places of one tokenizer's texts at which these may be cut."""

    def __init__(self, pattern: str, tokenizer: Tokenizer) -> None:
        self._pattern = re.compile(pattern)
        self._tokenizer = tokenizer

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Self | None:
        """Those of the tokenizer; None where it is not known to have any."""
        normalizers = list(list_parts(tokenizer.normalizer, "normalizers"))
        splitters = list(list_parts(tokenizer.pre_tokenizer, "pretokenizers"))
        local = all(map(is_local, normalizers)) and _splits_at_blanks(splitters)
        if not local or getattr(tokenizer.model, "dropout", None):
            return None

        normalize = cls("", tokenizer)._normalize
        added = list(tokenizer.get_added_tokens_decoder().values())
        for token in added:
            # One that holds a blank could lie across a boundary, one with `rstrip` reach over it.
            written = token.content + normalize(token.content)
            if token.rstrip or not token.content or re.search(r"\s", written):
                return None
        if normalize("a b") != "a b":
            return None
        kinds = {part["type"] for part in splitters}
        line = normalize("a\nb")
        if line != "a b" and not (line == "a\nb" and kinds & _SPLIT_AT_LINES):
            return cls(_AT_BLANKS, tokenizer)
        # Blanks are put around each ideograph, and nothing is made of blanks.
        apart = any(part.get("handle_chinese_chars") for part in normalizers)
        inside = any(token.single_word or re.search(_IDEOGRAPH, token.content) for token in added)
        if apart and kinds == {"BertPreTokenizer"} and not inside:
            return cls(_AT_IDEOGRAPHS, tokenizer)
        return cls(_AT_LINES, tokenizer)

    def _normalize(self, text: str) -> str:
        found = self._tokenizer.normalizer
        return text if found is None else str(found.normalize_str(text))

    @cached_property
    def _at_signs(self) -> re.Pattern[str] | None:
        """Behind which signs of Chinese and Japanese a text ends as well as any, if it is read on.

        Where words are split at signs, behind all of them; of a Unigram model behind those after
        which none of its pieces goes on, so that every way through the text has a stop there.
        """
        tokenizer = self._tokenizer
        splitters = {part["type"] for part in list_parts(tokenizer.pre_tokenizer, "pretokenizers")}
        forms = {sign: self._normalize(sign) for sign in _SIGNS}
        if isinstance(tokenizer.model, Unigram):
            pieces = tokenizer.get_vocab()
            forms = {sign: form for sign, form in forms.items() if form in pieces}
            # Any of these may be followed by more in a piece: then a piece could reach over it.
            inside = re.findall(f"[{_SIGNS},!?;:](?=.)", "\n".join(pieces))
            forms = {sign: form for sign, form in forms.items() if form not in inside}
        elif "ByteLevel" not in splitters:
            return None
        signs = [sign for sign, form in forms.items() if form in (*_SIGNS, *",!?;:")]
        added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        known = "".join(sign for sign in signs if not any(sign in content for content in added))
        return re.compile(f"[{known}]{_FULL_WIDTH}") if known else None

    def cut(self, text: str, characters: int, side: Side) -> tuple[int, int] | None:
        """About so many of the text's first characters, or last: where they begin and end.

        None where there is no boundary near there; all of a text that is not longer.
        """
        size = len(text)
        if size <= characters:
            return 0, size
        if side == "right":
            found = _find_last(self._pattern, text, characters)
            if found is None and self._at_signs is not None:
                found = _find_last(self._at_signs, text, characters)
            return None if found is None else (0, found)
        match = self._pattern.search(text, size - characters, size - characters + _WINDOW * 8)
        return None if match is None else (match.start() + 1, size)


def _find_last(pattern: re.Pattern[str], text: str, end: int) -> int | None:
    """The last place at about `end` or before where the pattern has a boundary."""
    for stop in range(end, max(end - _WINDOW * _WINDOWS, 0), -_WINDOW):
        last = None
        for match in pattern.finditer(text, max(stop - _WINDOW, 0), stop + 2):
            last = match.start() + 1
        if last is not None:
            return last
    return None


def list_parts(part: Any, inside: str) -> Iterator[Mapping[str, Any]]:
    """What a normalizer or pre-tokenizer is made of, as tokenizer.json has it."""
    if part is not None:
        yield from _flatten(json.loads(part.__getstate__()), inside)


def _flatten(part: Mapping[str, Any], inside: str) -> Iterator[Mapping[str, Any]]:
    if part["type"] == "Sequence":
        for each in part[inside]:
            yield from _flatten(each, inside)
    else:
        yield part


def is_local(part: Mapping[str, Any]) -> bool:
    """Whether a normalizer treats what lies on both sides of a boundary as if it stood alone."""
    if part["type"] == "Strip":
        # At the left it would take the blank that a last part begins with.
        return not part["strip_left"]
    if part["type"] != "Replace":
        return part["type"] in _LOCAL_NORMALIZERS
    pattern = part["pattern"]
    if "Regex" in pattern:
        return pattern["Regex"] in RUNS_OF_BLANKS and part["content"] in _BLANK
    written = pattern.get("String", "")
    return bool(written) and not re.search(r"\s", written + part["content"])


def _splits_at_blanks(parts: list[Mapping[str, Any]]) -> bool:
    """Whether no word can reach over a blank, nor be another one for what lies beyond it."""
    splits = False
    for part in parts:
        match part["type"]:
            case kind if kind in _SPLIT_AT_BLANKS:
                splits = True
            case "ByteLevel":
                # GPT-2's pattern: a blank only ever begins a word.
                splits = splits or part.get("use_regex", True)
            case "Metaspace":
                splits = splits or part.get("split", True)
            case "Punctuation":
                if part.get("behavior", "Isolated") not in _APART:
                    return False
            case "Digits":
                pass
            case _:
                return False
    return splits
