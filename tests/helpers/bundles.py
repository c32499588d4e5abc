"""Bundles made into others under hashes that are right, for tests of what takes whose place."""

import json
from pathlib import Path

import numpy as np
import onnx

from models.bundle.bundle import hash_file
from models.engines.library import Kernels, find_kernels
from tests.helpers.checkpoints import change_json

# Flat families that see texts in windows, by distance, or outside of attention, too.
WITHOUT_PACKED = ("jina_bert", "mobilebert", "modernbert", "mpnet")


def list_trunks(*precisions: str) -> list[str]:
    """The files of a flat trunk in these precisions, by name: for our kernels where they run.

    And in fp16 for a GPU, as families have them whose attention sees all of a text.
    """
    names = [f"trunk.{precision}.onnx" for precision in precisions if precision != "bf16"]
    if isinstance(find_kernels(), Kernels):
        forms = [precision for precision in precisions if precision != "fp16"]
        names += [f"trunk.{precision}.kernels.onnx" for precision in forms]
    names += ["trunk.fp16.packed.onnx"] * ("fp16" in precisions)
    return sorted(names)


def mark(bundle: Path, text: str) -> Path:
    """The bundle with another file in it: the same answers under another fingerprint."""
    file = bundle / "mark.txt"
    file.write_text(text)
    return sign(bundle, file)


def break_trunk(bundle: Path) -> Path:
    """The bundle with other weights in one layer: other answers than it was proven with."""
    file = bundle / "trunk.fp32.onnx"
    model = onnx.load(file)
    weights = next(each for each in model.graph.initializer if len(each.dims) == 2)
    numbers = onnx.numpy_helper.to_array(weights)
    weights.CopyFrom(onnx.numpy_helper.from_array(numbers * np.float32(0.97), weights.name))
    onnx.save(model, file)
    return sign(bundle, file)


def break_head(bundle: Path) -> Path:
    """The bundle with a head that is loaded and cannot be run: it wants rows of another width."""
    file = bundle / "head.next-sentence.onnx"
    model = onnx.load(file)
    (hidden,) = model.graph.input
    hidden.type.tensor_type.shape.dim[-1].dim_value -= 1
    onnx.save(model, file)
    return sign(bundle, file)


def sign(bundle: Path, file: Path) -> Path:
    """The bundle with the hash of that file in its manifest."""
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    entry = files.get(file.name, {})
    files[file.name] = entry | {"sha256": hash_file(file), "bytes": file.stat().st_size}
    change_json(bundle / "manifest.json", files=files)
    return bundle
