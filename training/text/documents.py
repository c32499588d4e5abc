"""Reads documents from xz-compressed JSON lines, one document a line, paragraphs in order."""

import json
import lzma
from collections.abc import Iterator
from pathlib import Path

from training.errors import DataDamaged, DataMissing


def find_files(directory: Path, patterns: tuple[str, ...]) -> tuple[Path, ...]:
    """The files that match the patterns below a directory, sorted; each pattern must match.

    Raises DataMissing, naming the pattern without a match.
    """
    found: list[Path] = []
    for pattern in patterns:
        if Path(pattern).is_absolute():
            raise DataMissing(f"{pattern}: give it relative to the folder of --data.")
        matches = sorted(directory.glob(pattern))
        if not matches:
            raise DataMissing(
                f"{directory / pattern}: no such file. Give the folder of the training data "
                "with --data; training/README.md says what it holds."
            )
        found += matches
    return tuple(found)


def read_documents(path: Path) -> Iterator[list[str]]:
    """The paragraphs of each document of a file.

    Raises DataMissing, or DataDamaged with the line for a file that is cut short or not JSON
    lines of {"paragraphs": [text, ...]}.
    """
    line = 0
    try:
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            for line, text in enumerate(lines, start=1):  # noqa: B007 - told in the error
                paragraphs = json.loads(text)["paragraphs"]
                if not isinstance(paragraphs, list):
                    raise TypeError(paragraphs)
                yield [str(paragraph) for paragraph in paragraphs]
    except FileNotFoundError as missing:
        raise DataMissing(f"{path}: no such file.") from missing
    except EOFError as short:
        raise DataDamaged(
            f"{path}: ends in the middle after line {line}; the file was cut short. Copy it again."
        ) from short
    except (lzma.LZMAError, UnicodeDecodeError) as damage:
        raise DataDamaged(
            f"{path}: damaged after line {line} ({damage}). Copy it again."
        ) from damage
    except (ValueError, KeyError, TypeError) as form:
        raise DataDamaged(
            f'{path}: line {line} is not JSON of the form {{"paragraphs": [text, ...]}}.'
        ) from form
