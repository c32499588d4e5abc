"""What is known of a tokenizer's normalizers and pre-tokenizers, part by part.

Owns how tokenizer.json names them, and which of them look no further than at one character.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

# Characters that no normalizer known here drops, joins to a blank beside them, or makes one: ASCII
# without blanks, and letters, signs and emoji that neither combine nor are combined with.
PLAIN_RANGES = [
    *(range(0x21, 0x7F), range(0xC0, 0x250), range(0x391, 0x3AA), range(0x3B1, 0x3CA)),
    *(range(0x400, 0x483), range(0x48A, 0x500), range(0x5D0, 0x5EB), range(0x621, 0x63B)),
    *(range(0x641, 0x64B), range(0x905, 0x93A), range(0xE01, 0xE2F), range(0x3041, 0x3097)),
    *(range(0x30A1, 0x30FB), range(0x4E00, 0xA000), range(0xAC00, 0xD7A4)),
    *(range(0x1F300, 0x1F3FB), range(0x1F400, 0x1F650), range(0x1F680, 0x1F700)),
]
PLAIN = "".join(f"\\U{codes[0]:08x}-\\U{codes[-1]:08x}" for codes in PLAIN_RANGES).join("[]")
_ONE_PLAIN = re.compile(PLAIN)

# Those that look at a character alone, or no further than a letter's own marks (Unicode's forms,
# and sentencepiece's maps, which are asked for one grapheme at a time).
_LOCAL_NORMALIZERS = frozenset(
    {"NFC", "NFD", "NFKC", "NFKD", "BertNormalizer", "Lowercase", "StripAccents", "Nmt"}
    | {"Precompiled"}
)
# Those that find runs of blanks: one blank between two characters that are none is no such run.
RUNS_OF_BLANKS = frozenset((r"\s{2,}|[\n\r\t]", r"\s{2,}", " {2,}"))
# What they put there; either is where a word begins, for Metaspace.
_BLANK = (" ", "\u2581")


def is_plain(character: str) -> bool:
    """Whether no normalizer known here would write it otherwise for what stands beside it."""
    return _ONE_PLAIN.fullmatch(character) is not None


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


def list_replaced(part: Any) -> set[str]:
    """The characters of which a normalizer makes something else, of several of them perhaps."""
    parts = list_parts(part, "normalizers")
    return set().union(*(each.get("pattern", {}).get("String", "") for each in parts))


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
