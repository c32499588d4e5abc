"""The labels of a classifier, as its config.json numbers them: each label once, none left out."""

from pathlib import Path
from typing import Any

from export.errors import SourceError
from export.reading.files import read_object


def check_labels(file: Path) -> None:
    """Raise SourceError where labels do not tell classes apart, or contradict each other.

    `label2id` is often left at transformers' own LABEL_0, LABEL_1: only a label that both maps
    name can contradict itself.
    """
    raw = read_object(file)
    numbered = raw.get("id2label")
    if numbered is None:
        return
    if not isinstance(numbered, dict):
        raise SourceError(f"{file} has an id2label that is not an object of numbers and labels")
    if sorted(numbered) != sorted(str(number) for number in range(len(numbered))):
        raise SourceError(
            f"{file} numbers its labels {', '.join(map(str, list(numbered)[:5]))} in id2label; "
            f"number them 0 to {len(numbered) - 1}"
        )
    seen: dict[str, str] = {}
    for number, label in numbered.items():
        if not isinstance(label, str | int) or str(label).strip() == "":
            raise SourceError(f"{file} has no label for class {number} in id2label; give it one")
        if str(label) in seen:
            raise SourceError(
                f"{file} calls both class {seen[str(label)]} and class {number} {label!r} in "
                "id2label; give each its own label"
            )
        seen[str(label)] = number
    count = raw.get("num_labels")
    if count is not None and count != len(numbered):
        raise SourceError(f"{file} has num_labels {count}, and {len(numbered)} labels in id2label")
    _check_inverse(file, raw.get("label2id"), seen)


def _check_inverse(file: Path, numbers: Any, seen: dict[str, str]) -> None:
    if numbers is None:
        return
    if not isinstance(numbers, dict):
        raise SourceError(f"{file} has a label2id that is not an object of labels and numbers")
    for label, number in numbers.items():
        if label in seen and str(number) != seen[label]:
            raise SourceError(
                f"{file} calls class {seen[label]} {label!r} in id2label, and says in label2id "
                f"that {label!r} is class {number}; correct one of them"
            )
