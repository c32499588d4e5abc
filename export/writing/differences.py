"""What a bundle says of itself otherwise than its source would have it said now.

Owns which words of a manifest change answers: all of what it says of its heads and of how texts are
read, but for what was chosen when it was made, and for the names of its files.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from export.reading.checkpoint import Checkpoint
from export.reading.heads import SourceHead
from export.writing.manifest import describe_heads, describe_reading
from export.writing.request import ExportRequest
from models.bundle.manifest import HeadEntry, LateInteraction, Manifest

# Which file, and who said how it pools, change no answer; the size of a vector is compared with it.
# What follows from what is said by whoever exported it.
_OF_THE_BUNDLE = {"task", "name", "file", "pooling_source", "dimensions", "entailment"}
_SHOWN = 60


def list_differences(
    manifest: Manifest, checkpoint: Checkpoint, heads: Sequence[SourceHead]
) -> list[str]:
    """A sentence for each word that is not the source's; `heads` are those that both have."""
    differences = list(_compare_reading(manifest, checkpoint))
    entries = {(entry.task, entry.name): entry for entry in manifest.heads}
    request = ExportRequest(checkpoint.name, Path(manifest.name), pooling=_find_option(manifest))
    described, _ = describe_heads(request, checkpoint, heads)
    for head, said in zip(heads, described, strict=True):
        entry = entries[head.task, head.name]
        named = f"{entry.task} {entry.name or ''}".strip()
        differences += [f"of {named}, {sentence}" for sentence in _compare_heads(said, entry)]
        if not head.weights and (entry.file is None) != (checkpoint.read_projection() is None):
            has, lacks = ("source", "bundle") if entry.file is None else ("bundle", "source")
            differences.append(f"of {named}, the {has} projects its vectors, the {lacks} does not")
    return differences


def _find_option(manifest: Manifest) -> Any:
    """The pooling that was asked for when the bundle was made, where its source says none."""
    chosen = ("option", "default")
    asked = (head.pooling for head in manifest.heads if head.pooling_source in chosen)
    return next(asked, None)


def _compare_reading(manifest: Manifest, checkpoint: Checkpoint) -> Iterator[str]:
    for key, value in describe_reading(checkpoint).items():
        found = getattr(manifest, key)
        if value == found:
            continue
        if key == "max_tokens":
            yield f"the source takes {value} tokens, the bundle {found}"
        else:
            yield _say(key, value, found)


def _compare_heads(said: HeadEntry, entry: HeadEntry) -> Iterator[str]:
    for key in HeadEntry.model_fields:
        value, found = getattr(said, key), getattr(entry, key)
        if key in _OF_THE_BUNDLE or value == found:
            continue
        if key == "labels" and value and found:
            yield _compare_labels(value, found)
        elif isinstance(value, LateInteraction) and isinstance(found, LateInteraction):
            for part in LateInteraction.model_fields:
                if getattr(value, part) != getattr(found, part):
                    yield _say(part, getattr(value, part), getattr(found, part))
        else:
            yield _say(key, value, found)


def _compare_labels(value: Sequence[str], found: Sequence[str]) -> str:
    if len(value) != len(found):
        labels = "label" if len(value) == 1 else "labels"
        return f"the source has {len(value)} {labels}, the bundle {len(found)}"
    pairs = enumerate(zip(value, found, strict=True))
    place, (one, other) = next(pair for pair in pairs if pair[1][0] != pair[1][1])
    return f"the source calls class {place} {one!r}, the bundle {other!r}"


def _say(key: str, value: Any, found: Any) -> str:
    return f"the source has {key} {_show(value)}, the bundle {_show(found)}"


def _show(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict):
        value = {
            name: part.model_dump() if isinstance(part, BaseModel) else part
            for name, part in value.items()
        }
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
