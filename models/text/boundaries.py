"""Where a long text may be cut before it is tokenised, so that neither side's tokens change.

Owns what is known of normalizers, pre-tokenizers and added tokens. A tokenizer with any part that
is not known here has no boundaries: its texts are read whole.
"""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Self

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import Unigram

from models.text.parts import PLAIN, is_local, list_parts
from models.text.truncation import Side
from models.text.words import Words

_IDEOGRAPH = "[\u4e00-\u9fff]"
# What such texts have instead of blanks, and what may stand behind it without joining it.
_SIGNS = "\u3002\u3001\uff0c\uff01\uff1f\uff1b\uff1a"
_FULL_WIDTH = "[\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff]"
# A cut is before the second character of a match.
_AT_BLANKS = f"{PLAIN} +{PLAIN}"
_AT_LINES = f"{PLAIN}[ \\n\\t]+{PLAIN}"
_AT_IDEOGRAPHS = f"{_IDEOGRAPH}{_IDEOGRAPH}"
# Before these a word of BERT ends.
_PUNCTUATION = "!#$%&()*+,./:;<=>?@^_|~-"

_SPLIT_AT_BLANKS = frozenset(("BertPreTokenizer", "Whitespace", "WhitespaceSplit"))
_SPLIT_AT_LINES = _SPLIT_AT_BLANKS | {"ByteLevel"}
# Those of Llama 3 and its like: a blank only ever begins a word, of letters or of signs, but a
# line's end may end one.
_PATTERNS = tuple(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    + digits
    + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    for digits in ("", "{1,3}")
)
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
        if any(_reaches(token, normalize(token.content)) for token in added):
            return None
        if normalize("a b") != "a b":
            return None
        kinds = {part["type"] for part in splitters}
        lines = {normalize(f"a{blank}b").replace(blank, "\n") for blank in "\n\t"}
        at_lines = lines == {"a b"} or (lines == {"a\nb"} and kinds & _SPLIT_AT_LINES)
        if "Split" in kinds or not at_lines:
            return cls(_AT_BLANKS, tokenizer)
        # Blanks are put around each ideograph, and nothing is made of blanks.
        pattern = _AT_LINES
        if kinds == {"BertPreTokenizer"}:
            inside = "".join(token.content + normalize(token.content) for token in added)
            signs = "".join(sign for sign in _PUNCTUATION if sign not in inside)
            pattern += f"|{PLAIN}(?=[{re.escape(signs)}])" if signs else ""
            apart = any(part.get("handle_chinese_chars") for part in normalizers)
            single = any(token.single_word for token in added)
            if apart and not single and not re.search(_IDEOGRAPH, inside):
                pattern += f"|{_AT_IDEOGRAPHS}"
        return cls(pattern, tokenizer)

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
        elif "ByteLevel" not in splitters or "Split" in splitters:
            return None
        signs = [sign for sign, form in forms.items() if form in (*_SIGNS, *",!?;:")]
        added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        known = "".join(sign for sign in signs if not any(sign in content for content in added))
        return re.compile(f"[{known}]{_FULL_WIDTH}") if known else None

    @cached_property
    def _words(self) -> Words | None:
        return Words.of(self._tokenizer)

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
            if (found or 0) < characters // 2 and self._words is not None:
                found = self._words.find_stop(text, characters) or found
            return None if found is None else (0, found)
        match = self._pattern.search(text, size - characters, size - characters + _WINDOW * 8)
        return None if match is None else (match.start() + 1, size)


def _reaches(token: AddedToken, written: str) -> bool:
    """Whether an added token may lie across one blank between two words, or reach over it."""
    both = token.content + written
    # Two blanks and more are none where there is one.
    blanks = len(token.content) > 1 and not both.strip(" ") and not token.single_word
    return token.rstrip or not token.content or bool(re.search(r"\s", both) and not blanks)


def _find_last(pattern: re.Pattern[str], text: str, end: int) -> int | None:
    """The last place at about `end` or before where the pattern has a boundary."""
    for stop in range(end, max(end - _WINDOW * _WINDOWS, 0), -_WINDOW):
        last = None
        for match in pattern.finditer(text, max(stop - _WINDOW, 0), stop + 2):
            last = match.start() + 1
        if last is not None:
            return last
    return None


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
            case "Split":
                written = part["pattern"].get("Regex")
                splits = part["behavior"] == "Isolated" and not part["invert"]
                if not splits or written not in _PATTERNS:
                    return False
            case "Digits":
                pass
            case _:
                return False
    return splits
