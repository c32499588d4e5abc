"""The bundles that a soak serves: a copy of the default one, and a small one in two versions.

The copy is replaced by itself with another fingerprint, so its answers stay; the versions of the
small one answer differently, so that an answer of the wrong one shows.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from models.bundle.bundle import GOLDEN, MANIFEST, TOKENIZER
from models.bundle.manifest import trunk_file
from service.settings import DEFAULT_BUNDLE

MAIN = DEFAULT_BUNDLE.name
OTHER = "lacuna-other"
# What the small one keeps: a task without weights, and one head, which reads tokens too: whether
# each is bad or good, and whether an answer begins or ends there.
_KEPT = ((None, "embed"), ("sentiment", "classify"))
_READERS = ("token-classify", "answer")
_SCALES = (1.6, 0.5)
_TRUNK = trunk_file("fp32")


class Bundles:
    """A folder of bundles to serve, and what is put there in place of them."""

    def __init__(self, folder: Path) -> None:
        self.served = folder / "bundles"
        self._versions = [folder / f"version-{number}" for number in range(len(_SCALES))]
        self._folder = folder
        self._swaps = 0
        self.version = 0  # of the small one, on disk

    def make(self) -> None:
        """Write them."""
        shutil.copytree(DEFAULT_BUNDLE, self.served / MAIN)
        for version, scale in zip(self._versions, _SCALES, strict=True):
            shutil.copytree(DEFAULT_BUNDLE, version)
            _make_small(version, scale)
        shutil.copytree(self._versions[0], self.served / OTHER)

    def path(self, name: str) -> Path:
        """Where a bundle lies."""
        return self.served / name

    def version_path(self, version: int) -> Path:
        """A version of the small one, wherever it lies while it is served."""
        return self._versions[version]

    def swap(self, name: str) -> None:
        """Put the next version of a bundle in its place, as `mv` does it."""
        self._swaps += 1
        coming = self._folder / f"coming-{self._swaps}"
        going = self._folder / f"going-{self._swaps}"
        if name == OTHER:
            self.version = (self.version + 1) % len(self._versions)
            shutil.copytree(self._versions[self.version], coming)
        else:
            shutil.copytree(DEFAULT_BUNDLE, coming)
        _touch(coming, self._swaps)
        place = self.path(name)
        place.rename(going)
        coming.rename(place)
        shutil.rmtree(going)


def _make_small(bundle: Path, scale: float) -> None:
    """Turn a copy into the small one: words weigh otherwise, and most heads are gone."""
    file = bundle / _TRUNK
    model = onnx.load(file)
    (words,) = [each for each in model.graph.initializer if "word_embeddings" in each.name]
    scaled = numpy_helper.to_array(words).astype(np.float32) * scale
    kind = numpy_helper.to_array(words).dtype
    words.CopyFrom(numpy_helper.from_array(scaled.astype(kind), words.name))
    onnx.save(model, file)

    def change(manifest: dict[str, Any]) -> None:
        heads = [head for head in manifest["heads"] if (head["name"], head["task"]) in _KEPT]
        heads += [_read_tokens(bundle, heads[-1], task) for task in _READERS]
        graphs = (head["file"] for head in heads if head["file"])
        kept = {_TRUNK, TOKENIZER, GOLDEN, *graphs}
        # Proven was the original; these answers are compared with a pipeline's own.
        (bundle / GOLDEN).write_text('{"format_version": 1, "tasks": []}\n', encoding="utf-8")
        entries = {name: entry for name, entry in manifest["files"].items() if name in kept}
        made = (_TRUNK, GOLDEN, *(head["file"] for head in heads if head["task"] in _READERS))
        files = entries | {name: _describe(bundle / name) for name in made}
        manifest |= {
            "name": OTHER,
            "heads": heads,
            "tasks": [head["task"] for head in heads],
            "files": files,
            "parity": [],
        }
        for each in bundle.iterdir():
            if each.name not in {*kept, MANIFEST}:
                each.unlink()

    _change_manifest(bundle, change)


def _read_tokens(bundle: Path, head: dict[str, Any], task: str) -> dict[str, Any]:
    """The same head as one that reads each token, in a file of its own."""
    file = f"head.{task}.onnx"
    shutil.copyfile(bundle / head["file"], bundle / file)
    labels = head["labels"] if task == "token-classify" else None
    return head | {"task": task, "name": None, "file": file, "labels": labels}


def _touch(bundle: Path, times: int) -> None:
    """Give it another fingerprint, and the same answers."""
    golden = bundle / GOLDEN
    golden.write_bytes(golden.read_bytes() + times * b"\n")
    _change_manifest(bundle, lambda manifest: manifest["files"].update({GOLDEN: _describe(golden)}))


def _describe(file: Path) -> dict[str, Any]:
    """A file as the manifest lists it."""
    content = file.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def _change_manifest(bundle: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    file = bundle / MANIFEST
    manifest = json.loads(file.read_text(encoding="utf-8"))
    change(manifest)
    changed = file.with_suffix(".changed")
    changed.write_text(json.dumps(manifest), encoding="utf-8")
    changed.replace(file)
